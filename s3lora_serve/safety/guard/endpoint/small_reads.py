"""Connections that take in a little at a time, and of one answer only so much: no endpoint holds the loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl

# Bytes that are read at once. All that stands in them is taken apart in one go, in which nothing else runs:
# of the shortest things that an endpoint may send without end ("100 Continue", chunks of a byte) some
# hundreds, in a hundredth of a second.
AT_ONCE = 4096


class SmallReads(httpx.AsyncHTTPTransport):
    """A transport for HTTP/1.1 without a proxy; ``tls`` is for addresses that begin with https.

    More than ``most`` bytes after a request is sent, headers and all, end it with httpx.ProtocolError:
    answers before the answer have no other end.
    """

    def __init__(self, limits: httpx.Limits, tls: ssl.SSLContext | None, most: int) -> None:
        super().__init__(limits=limits, verify=tls or False, trust_env=False)
        # httpx has no parameter for it.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Backend(most),
        )


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, most: int) -> None:
        self._most = most
        self._under = httpcore.AnyIOBackend()

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._under.connect_tcp(*args, **options), self._most)

    async def sleep(self, seconds: float) -> None:
        await self._under.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, under: httpcore.AsyncNetworkStream, most: int) -> None:
        self._under = under
        self._most = self._left = most

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._left <= 0:
            raise httpcore.ProtocolError(f"more than {self._most} bytes")
        read = await self._under.read(min(max_bytes, AT_ONCE), timeout)
        self._left -= len(read)
        await asyncio.sleep(0)  # what has come already is read without a pause
        return read

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._left = self._most  # another request
        await self._under.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._under.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._under.start_tls(ssl_context, server_hostname, timeout), self._most)

    def get_extra_info(self, info: str) -> Any:
        return self._under.get_extra_info(info)
