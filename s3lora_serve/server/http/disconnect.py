"""Work that is cancelled when its client disconnects before the answer is complete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.types import Message, Receive, Send

T = TypeVar("T")


class Client:
    """The client of a request whose body has been read already; anything else that ``receive`` gives is lost.

    Answers that are to be seen as such must go through ``send``: a server reports ``http.disconnect`` also
    when an answer is complete (uvicorn does at once), and what is to be done after it must still be done.
    """

    def __init__(self, receive: Receive, send: Send | None = None) -> None:
        """Without ``send`` the caller sends the answer, once the work has ended."""
        self._receive = receive
        self._send = send
        self._answered = False

    async def send(self, message: Message) -> None:
        """Pass the message on. With the last one the client may leave."""
        assert self._send is not None, "the caller sends this client's answer"
        # Before it is sent: the server may report the disconnect while this waits for the socket.
        self._answered = self._answered or (
            message["type"] == "http.response.body" and not message.get("more_body", False)
        )
        await self._send(message)

    async def unless_gone(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result, or None once the client has left unanswered: the work was cancelled, and has ended."""
        working = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._left())
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and self._answered:
                await asyncio.wait((working,))
            return working.result() if working.done() else None
        finally:
            for task in (working, leaving):
                task.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
