"""Clients that send too slowly, or do not read: some of each at any time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import TYPE_CHECKING

from soak_server import KEY

if TYPE_CHECKING:
    from soak_server import SoakServer

HOLD = 20.0  # seconds after which a client gives up itself
COUNTS = {"half-sent headers": 10, "half-sent bodies": 10, "no reading": 2}


class SlowClients:
    """``ended``: how each kind's connections came to their end."""

    def __init__(self, server: SoakServer) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        self._server = server

    async def run(self) -> None:
        """Until cancelled."""
        kinds = {"half-sent headers": self._headers, "half-sent bodies": self._body, "no reading": self._deaf}
        await asyncio.gather(
            *(self._again(kind, send()) for kind, send in kinds.items() for _ in range(COUNTS[kind]))
        )

    async def _again(self, kind: str, sent: bytes) -> None:
        while True:
            self.ended[kind, await self._one(sent, read=kind != "no reading")] += 1
            await asyncio.sleep(1)

    async def _one(self, sent: bytes, *, read: bool) -> str:
        try:
            reader, writer = await asyncio.open_connection(*self._server.host, limit=1024)
        except OSError as error:
            return type(error).__name__
        try:
            writer.write(sent)
            await writer.drain()
            if not read:
                await asyncio.sleep(HOLD)
                return "held"
            async with asyncio.timeout(HOLD):
                first = await reader.readline()
            return first.decode(errors="replace").partition(" ")[2].strip() or "closed"
        except TimeoutError:
            return f"open after {HOLD:g} s"
        except OSError as error:
            return type(error).__name__
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @staticmethod
    def _headers() -> bytes:
        return b"POST /v1/plans HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: "

    @staticmethod
    def _body() -> bytes:
        head = "POST /v1/plans HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        return f"{head}authorization: Bearer {KEY}\r\ncontent-length: 1000000\r\n\r\n{{".encode()

    @staticmethod
    def _deaf() -> bytes:
        message = {"role": "user", "content": "Tell a long story."}
        body = json.dumps(
            {"model": "gamma", "messages": [message], "max_tokens": 200, "stream": True, "ignore_eos": True}
        )
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        key = f"authorization: Bearer {KEY}\r\n"
        return f"{head}{key}content-length: {len(body)}\r\n\r\n{body}".encode()
