"""The connections of a planner in LangChain: one client for all threads, one for each event loop."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planners.client import AsyncPlannerClient, PlannerClient

if TYPE_CHECKING:
    import httpx
    from pydantic import SecretStr


@dataclass(frozen=True)
class ClientSettings:
    """What a client is made of. Two runnables with equal settings may share one."""

    base_url: str | None
    api_key: SecretStr | None
    timeout: float | None
    retries: int
    http: httpx.Client | None = None
    async_http: httpx.AsyncClient | None = None

    def options(self, http: Any) -> dict[str, Any]:
        """As both clients take them. The key is the setting's and not looked up again."""
        key = self.api_key.get_secret_value() if self.api_key is not None else ""
        return {
            "base_url": self.base_url,
            "api_key": key,
            "timeout": self.timeout,
            "retries": self.retries,
            "http": http,
        }


class ClientCache:
    """Makes clients when they are first needed. A copy of it, also by pickle, begins empty.

    A connection belongs to the event loop that opened it, so a client that outlived an ``asyncio.run`` would
    fail with "Event loop is closed" in the next.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sync: dict[ClientSettings, PlannerClient] = {}
        self._async: dict[tuple[asyncio.AbstractEventLoop, ClientSettings], AsyncPlannerClient] = {}

    def __reduce__(self) -> tuple[type[ClientCache], tuple[()]]:
        return (ClientCache, ())

    def __eq__(self, other: object) -> bool:
        # Connections are no part of what a runnable is: one that was read back from JSON is the same.
        return isinstance(other, ClientCache) or NotImplemented

    __hash__ = object.__hash__

    def sync(self, settings: ClientSettings) -> PlannerClient:
        """The client for these settings; any thread may use it."""
        with self._lock:
            if (client := self._sync.get(settings)) is None:
                client = self._sync[settings] = PlannerClient(**settings.options(settings.http))
        return client

    def current(self, settings: ClientSettings) -> AsyncPlannerClient:
        """The running loop's client for these settings."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if (client := self._async.get((loop, settings))) is None:
                # A client holds its loop alive through its connections, so weak keys would free nothing.
                self._async = {key: kept for key, kept in self._async.items() if not key[0].is_closed()}
                client = AsyncPlannerClient(**settings.options(settings.async_http))
                self._async[loop, settings] = client
        return client

    def close(self) -> None:
        """Close the connections of sync calls; the next call opens new ones."""
        with self._lock:
            clients, self._sync = self._sync, {}
        for client in clients.values():
            client.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop; other loops' are not this one's to close."""
        loop = asyncio.get_running_loop()
        with self._lock:
            mine = {key: client for key, client in self._async.items() if key[0] is loop}
            self._async = {key: client for key, client in self._async.items() if key[0] is not loop}
        for client in mine.values():
            await client.aclose()
