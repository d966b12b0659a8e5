"""What the sync and the async client have in common: where they ask, with which key, and for how long."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import httpx

from planners.client.asking import Endpoint

if TYPE_CHECKING:
    import ssl

    from planners.client.asking import Question

TIMEOUT = 180.0  # seconds without a byte; a server gives up after 120 unless set otherwise, and says why
RETRIES = 2
EVENTS = "text/event-stream"
JSON = "application/json"
_CONNECT_SECONDS = 5.0


class ClientBase:
    """A server's address, and requests to it. The key is in no repr."""

    def __init__(
        self,
        base_url: str | None,
        api_key: str | None,
        planner: str | None,
        timeout: float | None,
        retries: int,
    ) -> None:
        if retries < 0:
            raise ValueError(f"retries is {retries}; use 0 for none")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"timeout is {timeout} seconds; use a positive number, or None for no limit")
        self._endpoint = Endpoint.of(base_url, api_key)
        try:
            httpx.URL(self._endpoint.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"base_url {self._endpoint.url[:200]!r} is not an address: {error}") from error
        self._planner = planner
        self._retries = retries
        # Waiting for a free connection is not the server's slowness, so it has no limit.
        connect = _CONNECT_SECONDS if timeout is None else min(timeout, _CONNECT_SECONDS)
        self._timeout = httpx.Timeout(timeout, connect=connect, pool=None)

    def __repr__(self) -> str:
        key = "***" if self._endpoint.headers else None
        return f"{type(self).__name__}({self.base_url!r}, api_key={key!r}, planner={self._planner!r})"

    @property
    def base_url(self) -> str:
        """The server's address, without /v1."""
        return self._endpoint.url

    def _options(self) -> dict[str, Any]:
        # On this machine no proxy of the environment comes between: it would be shown the key.
        return {"verify": _tls(), "trust_env": not self._endpoint.local}

    def _listing(self) -> dict[str, Any]:
        url = f"{self._endpoint.url}/v1/planners"
        return {"method": "GET", "url": url, "headers": self._endpoint.headers, "timeout": self._timeout}

    def _planning(self, question: Question, *, stream: bool = False) -> dict[str, Any]:
        accept = {"accept": f"{EVENTS}, {JSON}"} if stream else {}
        return {
            "method": "POST",
            "url": f"{self._endpoint.url}/v1/plans",
            "headers": {**question.headers, **self._endpoint.headers, **accept},
            "json": question.body(stream=stream),
            "timeout": self._timeout,
        }


@cache
def _tls() -> ssl.SSLContext:
    # Reading the certificates takes tens of milliseconds, in which an event loop would stand still each time.
    return httpx.create_ssl_context()
