"""A client of the admin routes: one method a route, answers as they came, refusals as errors of ours."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Any, Self

from s3lora_serve import __version__
from s3lora_serve.cli.fleet.access import Access, Unreachable
from s3lora_serve.errors import (
    ConfigError,
    Conflict,
    ControlError,
    S3LoRAError,
    StoreError,
    UnknownOperation,
    UnknownPlanner,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

ATTEMPTS = 3
PAUSE = 0.2  # seconds before the second attempt; doubled before the third
READ_SECONDS = 60.0  # a rollback answers after its transaction, a verification after it read every byte
_VERSIONS = (
    f"the server may be of another version than this s3lora ({__version__}), or not the admin listener"
)


class AdminClient:
    """Talks to the server that ``find`` names, which is asked before each attempt: a restart may move it.

    ``same`` are the options with which a command asks the same server, for commands that errors suggest.
    """

    def __init__(
        self, find: Callable[[], Access], transport: httpx.BaseTransport | None = None, *, same: str = ""
    ) -> None:
        self._find = find
        self.same = same
        self._transport = transport
        self._client: httpx.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def engine(self) -> dict[str, Any]:
        """Whether the engine runs; if not, why, and what its restart is at."""
        return self._get("/admin/engine")

    def planners(self) -> list[dict[str, Any]]:
        """Every planner with its deployments."""
        return self._data(self._get("/admin/planners"))

    def planner(self, name: str) -> dict[str, Any]:
        """One planner. Raises UnknownPlanner."""
        return self._get(f"/admin/planners/{_part(name)}")

    def operations(self, limit: int = 50) -> list[dict[str, Any]]:
        """Operations, newest first."""
        return self._data(self._get("/admin/operations", {"limit": limit}))

    def operation(self, id_: str, wait: float = 0.0, seen: str | None = None) -> dict[str, Any]:
        """One operation, with ``wait`` as soon as it changed, or after that many seconds at the latest.

        With ``seen``, the step that the caller knows of, at once if it is at another one.
        """
        params = {"wait": wait or None, "seen": seen if wait else None}
        return self._get(f"/admin/operations/{_part(id_)}", params)

    def history(self, planner: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        """Entries of the journal."""
        params = {"planner": planner, "after": after, "limit": limit}
        return self._data(self._get("/admin/history", params))

    def audit(self, head: str | None = None) -> dict[str, Any]:
        """What the server finds when it compares journal, store and engine; ``head`` was noted earlier."""
        return self._get("/admin/verify", {"head": head}, read_seconds=600)

    def guard(
        self, planner: str | None, since: float | None, until: float | None, limit: int
    ) -> dict[str, Any]:
        """What guards refused, or would have refused."""
        return self._get("/admin/guard", {"planner": planner, "since": since, "until": until, "limit": limit})

    def exams(self, planner: str | None) -> list[dict[str, Any]]:
        """What is kept of the exams of what serves, and of candidates."""
        return self._data(self._get("/admin/exams", {"planner": planner}))

    def order(self, path: str, body: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Give an order; the operation that it began. ``path`` is below ``/admin/``.

        The key makes a repetition safe: the server begins nothing twice under one key.
        """
        headers = {"idempotency-key": key, "x-s3lora-actor": actor()}
        return self._send("POST", f"/admin/{path}", json=dict(body), headers=headers)

    def cancel(self, id_: str, reason: str) -> dict[str, Any]:
        """End an operation; how it ended. Raises UnknownOperation, Conflict. A repetition changes nothing."""
        headers = {"x-s3lora-actor": actor()}
        path = f"/admin/operations/{_part(id_)}/cancel"
        return self._send("POST", path, json={"reason": reason}, headers=headers)

    def _get(
        self, path: str, params: Mapping[str, Any] | None = None, read_seconds: float = READ_SECONDS
    ) -> dict[str, Any]:
        given = {name: value for name, value in (params or {}).items() if value is not None}
        return self._send("GET", path, params=given, read_seconds=read_seconds)

    def _data(self, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        data = answer.get("data")
        if not isinstance(data, list):
            raise ControlError("the server's answer has no list in 'data'", hint=_VERSIONS)
        return data

    def _send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = READ_SECONDS,
        **request: Any,
    ) -> dict[str, Any]:
        import httpx
        import tenacity

        timeout = httpx.Timeout(5.0, read=read_seconds)
        # What is repeated is a reading, or an order under its key: neither has an effect twice.
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential(multiplier=PAUSE),
            retry=tenacity.retry_if_exception_type(httpx.TransportError),
            reraise=True,
        )

        access = self._find()

        def once() -> dict[str, Any]:
            nonlocal access
            access = self._find()
            all_headers = {"authorization": f"Bearer {access.token}", **(headers or {})}
            response = self._http(access).request(
                method, access.url + path, headers=all_headers, timeout=timeout, **request
            )
            try:
                return _checked(response, access)
            except S3LoRAError as error:
                error.command = error.command and error.command + self.same
                raise

        try:
            return retrying(once)
        except httpx.TransportError as error:
            raise _unreachable(access, error) from error

    def _http(self, access: Access) -> httpx.Client:
        import httpx

        if self._client is None:
            # On this machine no proxy of the environment comes between: it would be shown the token.
            self._client = httpx.Client(
                transport=self._transport,
                trust_env=not access.local,
                headers={"user-agent": f"s3lora/{__version__}"},
            )
        return self._client


def actor() -> str:
    """Who orders: user@host, in the characters that a header may have."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = "unknown"
    text = f"{user}@{socket.gethostname()}"
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:100]


def _part(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _checked(response: httpx.Response, access: Access) -> dict[str, Any]:
    """The answer's JSON object, or the error that it stands for."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success and isinstance(body, dict):
        return body
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or response.is_success:
        raise ControlError(
            f"{access.url} answers with status {response.status_code} and not as the admin listener does",
            hint=f"is this its address? {_VERSIONS}",
        )
    if error.get("code") == Conflict.code and (operation := body.get("operation")):
        raise Conflict(
            str(error.get("message", "")), command=f"s3lora cancel {operation}", operation=str(operation)
        )
    raise _refusal(response.status_code, str(error.get("code", "")), str(error.get("message", "")), access)


def _refusal(status: int, code: str, message: str, access: Access) -> Exception:
    if status == 401:
        return Unreachable(
            f"{access.url} does not know the token from {access.token_from}",
            hint="use the token of that server; it may have been restarted with another one",
        )
    if status in (404, 405) and code in ("not_found", "method_not_allowed"):
        return ControlError(f"{access.url}: {message}", hint=_VERSIONS)
    if code in ("invalid_request", "invalid_json"):
        return ConfigError(message)
    if code == UnknownOperation.code:
        return UnknownOperation(message, command="s3lora status")
    for known in (UnknownPlanner, Conflict, StoreError):
        if code == known.code:
            return known(message)
    kind = Unreachable if status >= 500 else ControlError
    refusal = kind(message or f"{access.url} answers with status {status}")
    refusal.code = code or kind.code  # scripts read the same one from --json as from the route
    return refusal


def _unreachable(access: Access, error: Exception) -> Unreachable:
    reason = str(error) or type(error).__name__
    ended = access.pid is not None and not _runs(access.pid)
    return Unreachable(
        f"no server answers at {access.url}: {reason}",
        hint=f"its process {access.pid} has ended; start s3lora-serve again" if ended else "is it running?",
    )


def _runs(pid: int) -> bool:
    import os

    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
