"""What a server answered, as plans or as the errors that they stand for."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from planners.client.errors import (
    ConnectionFailed,
    InvalidPlan,
    Overloaded,
    PlanIncomplete,
    PlannerAPIError,
    PlanRefused,
    RevisionMismatch,
    ServerUnavailable,
    UnknownPlanner,
)
from planners.client.events import EventReader, ServerEvent
from planners.meta import PlanMeta
from planners.plan import Plan, PlanStep, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx

_KINDS: Mapping[str, type[PlannerAPIError]] = {
    "unknown_planner": UnknownPlanner,
    "revision_mismatch": RevisionMismatch,
    "plan_incomplete": PlanIncomplete,
    "invalid_plan": InvalidPlan,
    "refused_by_guard": PlanRefused,
    "guard_undecided": PlanRefused,
    "overloaded": Overloaded,
    "slots_busy": Overloaded,
}
# In the middle of a stream there is no status; OpenAI's ``type`` follows from the one it would have had.
_TYPES: Mapping[str, type[PlannerAPIError]] = {
    "rate_limit_error": Overloaded,
    "server_error": ServerUnavailable,
}
_IS_IT = "is this the address of an s3lora-serve, for clients and not for operators, of a version like yours?"


def plan_in(response: httpx.Response) -> Plan:
    """The plan that the answer is. Raises PlannerAPIError for any other answer."""
    check(response)
    try:
        return Plan.model_validate_json(response.content)
    except ValidationError as error:
        raise _unreadable(response, f"with something that is not a plan ({_first(error)})") from error


def planners_in(response: httpx.Response) -> list[dict[str, Any]]:
    """The list of planners that the answer is. Raises PlannerAPIError for any other answer."""
    check(response)
    body = _object(response.content)
    data = body.get("data")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise _unreadable(response, "without a list of planners in 'data'")
    return data


def check(response: httpx.Response, media: str = "application/json") -> None:
    """Pass over a success of this media type. Raises PlannerAPIError; a stream has to be read before."""
    if response.status_code != 200:
        raise _refusal(response)
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != media:
        raise _unreadable(response, f"in {found or 'no'} format instead of {media}")


def unreachable(url: str, error: Exception) -> ConnectionFailed:
    """The error for a request that got no answer, or not all of it."""
    reason = str(error) or type(error).__name__
    timed_out = "Timeout" in type(error).__name__
    advice = (
        "raise the client's timeout, or ask for fewer steps" if timed_out else "does the server run there?"
    )
    code = "timeout" if timed_out else "connection_failed"
    return ConnectionFailed(f"no answer from {url}: {reason}; {advice}", code=code)


class PlanEvents:
    """A streamed plan, read from its bytes: a chunk a step, then one with only the meta."""

    def __init__(self, request_id: str | None = None) -> None:
        self._reader = EventReader()
        self._request_id = request_id
        self.steps: tuple[PlanStep, ...] = ()
        self.done = False

    def feed(self, data: bytes) -> Iterator[Plan]:
        """Chunks that these bytes complete. Raises PlannerAPIError for an ``error`` event and no events."""
        try:
            events = self._reader.feed(data)
        except ValueError as error:
            raise self._broken(f"the stream is not one of events: {error}") from error
        for event in events:
            if not self.done:
                yield self._chunk(event)

    def finish(self) -> None:
        """The bytes have ended. Raises ConnectionFailed when the plan has not."""
        if not self.done:
            raise self._broken(
                f"the stream ended after {len(self.steps)} steps without saying that it is whole"
            )

    def failed(self, url: str, error: Exception) -> ConnectionFailed:
        """The error for a connection that broke."""
        failure = unreachable(url, error)
        failure.steps, failure.request_id = self.steps, self._request_id
        return failure

    def _chunk(self, event: ServerEvent) -> Plan:
        try:
            if event.name == "step":
                step = PlanStep.model_validate_json(event.data)
                self.steps += (step,)
                return Plan(steps=(step,))
            if event.name == "meta":
                chunk = Plan(steps=(), meta=PlanMeta.model_validate_json(event.data))
                self.done = True
                return chunk
        except ValidationError as error:
            raise self._broken(f"the {event.name} event cannot be read ({_first(error)})") from error
        if event.name == "error":
            raise _error_of(_object(event.data), None, {}, self._request_id, self.steps)
        raise self._broken(f"unknown event {event.name[:40]!r}")

    def _broken(self, why: str) -> ConnectionFailed:
        return ConnectionFailed(
            f"{why}; ask again", code="stream_broken", request_id=self._request_id, steps=self.steps
        )


def _refusal(response: httpx.Response) -> PlannerAPIError:
    body = _object(response.content)
    if not isinstance(body.get("error"), dict):
        if response.status_code < 500:
            return _unreadable(response, f"with status {response.status_code}")
        message = f"{response.url} answers with status {response.status_code}; ask again later"
        body = {"error": {"message": message}}
    return _error_of(body, response.status_code, response.headers, response.headers.get("x-request-id"))


def _error_of(
    body: Mapping[str, Any],
    status: int | None,
    headers: Mapping[str, str],
    request_id: str | None,
    steps: tuple[PlanStep, ...] = (),
) -> PlannerAPIError:
    given = body.get("error")
    error = given if isinstance(given, dict) else {}
    code = str(error.get("code") or "unknown_error")
    kind = _KINDS.get(code) or _TYPES.get(str(error.get("type")), PlannerAPIError)
    if status is not None and code not in _KINDS:
        kind = {429: Overloaded}.get(status, ServerUnavailable if status >= 500 else PlannerAPIError)
    message = str(error.get("message") or "the server gives no reason")
    if status == 401:
        message = f"{message}; give the client api_key, or set S3LORA_API_KEY"
    failure = kind(
        message,
        code=code,
        status=status,
        param=str(error["param"]) if error.get("param") else None,
        problems=_problems(error.get("problems")),
        retry_after=_seconds(headers.get("retry-after")),
        request_id=request_id,
        steps=steps,
    )
    if isinstance(failure, RevisionMismatch):
        revision, generation = body.get("revision"), body.get("generation")
        failure.revision = revision if isinstance(revision, str) else None
        failure.generation = generation if isinstance(generation, int) else None
    if isinstance(failure, PlanRefused):
        failure.part = str(error["part"]) if error.get("part") else None
    return failure


def _problems(given: Any) -> tuple[Problem, ...]:
    # Not validated: a newer server may know kinds of problem that this client does not.
    items: list[Any] = given if isinstance(given, list) else []
    known = {"kind": "unknown", "step": None, "message": ""}
    return tuple(Problem.model_construct(**{**known, **item}) for item in items if isinstance(item, dict))


def _seconds(text: str | None) -> float | None:
    """``Retry-After`` in seconds; it may also be a date."""
    if text is None:
        return None
    try:
        return max(float(text), 0.0) if text.strip().isdigit() else _until(text)
    except (ValueError, TypeError, OverflowError):
        return None


def _until(date: str) -> float:
    return max(parsedate_to_datetime(date).timestamp() - time.time(), 0.0)


def _unreadable(response: httpx.Response, how: str) -> PlannerAPIError:
    return PlannerAPIError(
        f"{response.url} answers {how}; {_IS_IT}",
        code="bad_answer",
        status=response.status_code,
        request_id=response.headers.get("x-request-id"),
    )


def _object(text: bytes | str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
