"""A client of a server's planners: a task in, a plan out, whole or step by step.

    with PlannerClient("http://127.0.0.1:8000/v1", planner="hotpotqa") as client:
        plan = client.plan("Who directed Inception?", tools=["Search", "LLM"])

Errors are in ``planners.client.errors``. A request that met 429, 503 or a broken connection is sent again,
but never after the first step of a stream.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Self, Unpack

import httpx

from planners.client.answers import PlanEvents, check, plan_in, planners_in, unreachable
from planners.client.asking import Asking, Question, ToolLike
from planners.client.async_client import AsyncPlannerClient
from planners.client.base import EVENTS, RETRIES, TIMEOUT, ClientBase
from planners.client.errors import PlanIncomplete
from planners.client.retry import retrying

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from planners.plan import Plan
    from planners.tools import PlannerInput

__all__ = ["Asking", "AsyncPlannerClient", "PlannerClient", "ToolLike"]


class PlannerClient(ClientBase):
    """Asks one server for plans; may be shared by threads. Close it, or use it as a context manager.

    ``base_url`` (with or without /v1) and ``api_key`` default to S3LORA_BASE_URL and S3LORA_API_KEY.
    ``timeout``: seconds without a byte, None for ever. ``http``: a client of your own, yours to close.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        planner: str | None = None,
        timeout: float | None = TIMEOUT,
        retries: int = RETRIES,
        http: httpx.Client | None = None,
    ) -> None:
        super().__init__(base_url, api_key, planner, timeout, retries)
        self._http = http if http is not None else httpx.Client(**self._options())
        self._owned = http is None

    def plan(
        self, task: PlannerInput | str, tools: Sequence[ToolLike] | None = None, **asking: Unpack[Asking]
    ) -> Plan:
        """A whole plan. Without ``tools`` the server takes those it has for the planner.

        Raises ValueError before anything is sent, PlannerAPIError after.
        """
        question = Question.of(task, tools, self._planner, asking)
        question, response = self._asked(self._whole, question)
        return question.noted(plan_in(response))

    def stream(
        self, task: PlannerInput | str, tools: Sequence[ToolLike] | None = None, **asking: Unpack[Asking]
    ) -> Generator[Plan, None, None]:
        """The plan in chunks that add up with ``+``: each step as it is made, then the meta.

        Leaving the loop closes the connection, which stops the engine. Raises as ``plan`` does; an error in
        mid-stream has the ``steps`` that came before it.
        """
        return self._stream(Question.of(task, tools, self._planner, asking))

    def planners(self) -> list[dict[str, Any]]:
        """What ``GET /v1/planners`` says of each: id, state, revision, ... Raises PlannerAPIError."""
        return planners_in(retrying(self._retries)(self._send, self._listing()))

    def close(self) -> None:
        """Close the connections."""
        if self._owned:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self, question: Question) -> Generator[Plan, None, None]:
        question, response = self._asked(self._opened, question)
        with closing(response):
            events = PlanEvents(response.headers.get("x-request-id"))
            try:
                for data in response.iter_bytes():
                    for chunk in events.feed(data):
                        yield question.noted(chunk)
            except httpx.RequestError as error:
                raise events.failed(self.base_url, error) from error
            events.finish()

    def _asked(
        self, ask: Callable[[Question], httpx.Response], question: Question
    ) -> tuple[Question, httpx.Response]:
        """The answer, and the question that it is to: shorter than the one given where that was of no use."""
        while True:
            try:
                return question, retrying(self._retries)(ask, question)
            except PlanIncomplete:
                if (shorter := question.shorter()) is None:
                    raise
                question = shorter

    def _whole(self, question: Question) -> httpx.Response:
        return self._send(self._planning(question))

    def _opened(self, question: Question) -> httpx.Response:
        return self._send(self._planning(question, stream=True), media=EVENTS)

    def _send(self, request: dict[str, Any], media: str = "application/json") -> httpx.Response:
        """A successful answer in this format; a stream is open. Raises PlannerAPIError."""
        try:
            response = self._http.send(self._http.build_request(**request), stream=True)
            if response.status_code != 200 or media != EVENTS:
                response.read()
        except httpx.RequestError as error:
            raise unreachable(self.base_url, error) from error
        try:
            check(response, media)
        except BaseException:
            response.close()
            raise
        return response
