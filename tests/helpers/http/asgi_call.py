"""One request to an ASGI application whose client can leave whenever the test says."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class AsgiCall:
    """Begins at once; ``leave`` hangs up, ``await call`` waits for the application to be done with it."""

    def __init__(
        self, app: Any, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        self.messages: list[dict[str, Any]] = []
        self._unread = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        self._left = asyncio.Event()
        sent = {"host": "127.0.0.1", "content-type": "application/json", **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    def __await__(self):
        return self._task.__await__()

    def leave(self) -> None:
        """Hang up."""
        self._left.set()

    @property
    def status(self) -> int | None:
        """Of the answer, once it has begun."""
        return next((m["status"] for m in self.messages if m["type"] == "http.response.start"), None)

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer."""
        start = next(m for m in self.messages if m["type"] == "http.response.start")
        return {name.decode(): value.decode() for name, value in start["headers"]}

    @property
    def text(self) -> str:
        """What has arrived of the body."""
        return b"".join(m.get("body", b"") for m in self.messages).decode()

    @property
    def events(self) -> list[str]:
        """The data of the server-sent events that have arrived."""
        return [line.removeprefix("data: ") for line in self.text.splitlines() if line.startswith("data: ")]

    @property
    def complete(self) -> bool:
        """Whether the answer was ended properly."""
        return bool(self.messages) and not self.messages[-1].get("more_body", False)

    async def _receive(self) -> dict[str, Any]:
        if self._unread:
            return self._unread.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
