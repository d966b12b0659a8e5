"""One asynchronous client for each event loop: a connection that one loop opened is of no use in another."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import openai

if TYPE_CHECKING:
    from collections.abc import Callable


class LoopClients:
    """Copies of one client, one for each event loop that asks, with a separate connection pool.

    langchain-openai has one pool for all instances and loops. Two ``asyncio.run`` in a row then share
    connections, and the second one fails with "Event loop is closed".
    """

    def __init__(self, template: openai.AsyncOpenAI) -> None:
        self._template = template
        self._made: dict[asyncio.AbstractEventLoop, openai.AsyncOpenAI] = {}
        self._lock = threading.Lock()

    def current(self) -> openai.AsyncOpenAI:
        """The running loop's client; outside of any loop the template, which cannot be awaited there."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._template
        with self._lock:
            if (client := self._made.get(loop)) is None:
                # A client holds its loop alive through its connections, so weak keys would free nothing.
                self._made = {other: kept for other, kept in self._made.items() if not other.is_closed()}
                client = self._template.copy(http_client=openai.DefaultAsyncHttpxClient())
                self._made[loop] = client
        return client


class Late:
    """Stands for an object that is looked up anew for every attribute."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying and pickling ask for these before there is a _find
            raise AttributeError(name)
        return getattr(self._find(), name)
