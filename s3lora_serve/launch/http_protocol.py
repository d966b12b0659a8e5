"""HTTP as it comes from anybody: what no key protects is bounded in bytes, number and time"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# Bytes parsed at a time. The parser joins the pieces of an unfinished header anew with each of them.
_PIECE = 16 * 1024
# A byte of a body may bring so many that are none: the frames of small chunks.
_FRAME = 8
_LINGER_SECONDS = 2.0


@dataclass(frozen=True)
class HttpLimits:
    """Of one listener. ``refused`` is told status and peer of each refusal, which no application sees."""

    header_bytes: int = 64 * 1024  # request line and headers, or trailers
    headers: int = 100
    header_seconds: float = 10.0  # from the first byte, or the connection, to the end of the headers
    connections: int = 2048
    unread_seconds: float = 60.0  # without a byte read of what was sent, at least; twice that at most
    refused: Callable[[int, str | None], None] = lambda status, peer: None


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol within ``HttpLimits``: by itself it takes headers of any size, for any time.

    What is over a limit gets an answer in the shape of every other error, and its connection is closed.
    """

    def __init__(self, *arguments: Any, limits: HttpLimits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._no_body = 0  # bytes of this request that were no part of a body
        self._refusal: tuple[int, str] | None = None
        self._refused = False  # what still comes is not read any more
        self._timer: asyncio.TimerHandle | None = None
        self._cycles: list[RequestResponseCycle] = []  # requests without a whole answer, and at most one more
        self._unread = 0  # bytes that were still to be sent at the last look
        self._looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()
        if len(self.connections) > self._limits.connections:
            most = self._limits.connections
            self._refuse(503, f"{most} connections are open, as many as may be", "overloaded")
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._looking is not None:
            self._looking.cancel()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            if self._refused or self.transport.is_closing():
                return
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._expect_headers()  # the next request on this connection, or line breaks before it
            piece = data[start : start + _PIECE]
            self._no_body += len(piece)
            super().data_received(piece)
            if self._no_body > self._limits.header_bytes and not self._refused:
                kib = self._limits.header_bytes / 1024
                self._refuse(431, f"the headers are over the limit of {kib:g} KiB", "headers_too_large")

    def on_message_begin(self) -> None:
        self._no_body = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= self._limits.headers:
            self._refusal = (431, f"there are more than {self._limits.headers} headers")
            raise ValueError(self._refusal[1])  # ends the parser; what it raises then is answered below
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._unread = 0
        super().on_headers_complete()
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete]
        if self.cycle is not None and self.cycle not in self._cycles:
            self._cycles.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._no_body = max(0, self._no_body - (1 + _FRAME) * len(body))
        super().on_body(body)

    def resume_writing(self) -> None:
        self._unread = 0
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        if self._refusal is not None:
            self._refuse(*self._refusal, "headers_too_large")
        else:
            self._refuse(400, "this is not valid HTTP", "invalid_http")

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: it goes on as HTTP, and anybody could fill the log with it."""

    def _expect_headers(self) -> None:
        self._timer = self.loop.call_later(self._limits.header_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        seconds = self._limits.header_seconds
        self._refuse(408, f"the headers did not arrive within {seconds:g} seconds", "headers_timeout")

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer by hand, since no application is asked, and close. An answer that was begun is cut."""
        self._stop_timer()
        self._limits.refused(status, self.client[0] if self.client else None)
        if not any(cycle.response_started and not cycle.response_complete for cycle in self._cycles):
            from s3lora_serve.server.error_responses import error_body

            body = json.dumps(error_body(status, message, code=code)).encode()
            again = "retry-after: 1\r\n" if status == 503 else ""
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n{again}connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self._leave()
        if len(self.connections) > 2 * self._limits.connections:
            self.transport.close()
            return
        # A connection that is closed with unread bytes is reset, and the client may lose the answer with it.
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _leave(self) -> None:
        """Let every request of this connection know that nothing more is sent, as if its client had left.

        uvicorn tells the last one alone: those before it would go on, or write into what is closed.
        """
        self.pipeline.clear()
        for cycle in self._cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.flow.resume_writing()

    def _look(self) -> None:
        """Close the connection if its client read nothing since the last look; by itself it would stay."""
        waits = (
            self.flow.write_paused
            or self.transport.is_closing()
            or all(cycle.response_complete or cycle.disconnected for cycle in self._cycles)
        )
        unread = self.transport.get_write_buffer_size() if waits else 0
        if unread and unread >= self._unread > 0:
            self.transport.abort()
            return
        self._unread = unread
        self._looking = self.loop.call_later(self._limits.unread_seconds, self._look)
