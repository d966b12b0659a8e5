"""The engine's answer on its way to the client: stamped with its origin, its errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from s3lora_serve.errors import EngineDead, EngineError
from s3lora_serve.fleet.unless import unless
from s3lora_serve.server.error_responses import error_body
from s3lora_serve.server.openai.engine_refusal import EngineRefusal
from s3lora_serve.server.sse import EVENT_STREAM, SseReader
from s3lora_serve.serving.judged_answer import GUARDS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from s3lora_serve.engine.port import Engine
    from s3lora_serve.errors import S3LoRAError
    from s3lora_serve.safety.guard.guarding import Guarding
    from s3lora_serve.server.openai.stamp import Stamp
    from s3lora_serve.server.redact import Redactor

# Inside a JSON text every quote is escaped, so no answer of a model can look like this.
_ERROR_EVENT = re.compile(rb'(?:event: [^\n]*\n)?data: (?=\{"error")')


class _Left(Exception):
    """Raised where the verdict is waited for, and within this file only."""


class UpstreamAnswer:
    """Passes the application's messages on, stamped. A refusal is kept back: then ``body`` has it.

    With ``guarding``, which was entered, all of them are held until the verdict, and after a refusal none
    leaves. So is an error that may quote the answer. The application works on meanwhile: one that waited for
    its message to leave would not be there to be ended.
    """

    def __init__(
        self,
        send: Send,
        engine: Engine,
        headers: Mapping[str, str],
        redact: Redactor,
        stamp: Stamp,
        guarding: Guarding | None = None,
    ) -> None:
        self._send = send
        self._engine = engine
        self._headers = headers
        self._redact = redact
        self._stamp = stamp
        self._guarding = guarding
        self._held: list[Message] = []
        self._turn = asyncio.Lock()  # messages leave in their order
        self._about_request = False  # whether it is an error from before the engine began
        self.left = asyncio.Event()  # set: nobody waits for it any more
        self.passed = guarding is None or guarding.observes  # whether it may leave
        self._start: Message | None = None
        self._events: SseReader | None = None  # of a stream
        self._body = bytearray()
        self.refused: int | None = None  # the application's status, if it is an error's
        self.spoiled: EngineError | None = None  # why it cannot be passed on any further
        self.begun = False  # whether the client has been sent anything
        self.ended = False  # whether the answer is complete
        self.broken = False  # whether an error came in mid-stream

    @property
    def well(self) -> bool:
        """Whether it is complete, and no error."""
        return self.ended and not self.broken and self.refused is None

    @property
    def body(self) -> bytes:
        """The application's error, as it wrote it."""
        return bytes(self._body)

    async def of(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer. What it raises may quote the answer, and waits for the verdict, too."""
        if self.passed:
            await app(scope, receive, send)
            return
        failure: Exception | None = None
        opening = asyncio.ensure_future(self._open())
        try:
            try:
                await app(scope, receive, send)
            except Exception as error:
                failure = error
            if not self._about_request:
                await opening
        finally:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        if failure is not None and self.passed:
            raise failure

    async def send(self, message: Message) -> None:
        """The application's ``send``. Nothing leaves before the first part of the body: until then an error
        can still have its own HTTP status.
        """
        if self._guarding is None:
            await self._take(message)
            return
        if message["type"] == "http.response.start" and not self._stamp.begun:
            self._about_request = 400 <= message["status"] < 500
        if not self.passed and not self._about_request:
            self._held.append(message)
            return
        async with self._turn:
            await self._take(message)

    async def _open(self) -> None:
        """Let out what is held once the verdict is there; if it is a refusal, the route says so."""
        assert self._guarding is not None, "else all has passed"
        try:
            await unless(self.left, self._guarding.passed(), _Left)
        except (*GUARDS_ERRORS, _Left):
            return
        async with self._turn:
            self.passed = True
            for message in self._held:
                await self._take(message)
            self._held.clear()

    async def _take(self, message: Message) -> None:
        """One message of the application's that may leave."""
        if self.ended or self.spoiled is not None:
            return  # an error has ended it: what else the application sends (``[DONE]``) would belie that
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                self.refused = message["status"]
            elif Headers(raw=message["headers"]).get("content-type", "").startswith(EVENT_STREAM):
                self._events = SseReader()
            self._start = message
            return
        body, last = message.get("body", b""), not message.get("more_body", False)
        if self._events is not None and self.refused is None:
            await self._stream(self._events.feed(body, last=last), last=last)
            return
        self._body += body
        if last and self.refused is None:
            await self._whole()

    async def fail(self, error: S3LoRAError) -> None:
        """End the answer with an error. Raises it when nothing was sent, so that it becomes the answer."""
        if self.ended:
            return
        if not self.begun:
            raise error
        self.broken = True
        event = self._event(str(error), None, error.code) if self._events is not None else b""
        await self._out(event, last=True)

    async def _whole(self) -> None:
        try:
            body = self._stamp.whole(bytes(self._body))
        except EngineError as error:
            self.spoiled = error
            return
        assert self._start is not None, "the application begins with http.response.start"
        MutableHeaders(scope=self._start)["content-length"] = str(len(body))
        await self._out(body, last=True)

    async def _stream(self, events: list[bytes], *, last: bool) -> None:
        out = b""
        for event in events:
            if error := _ERROR_EVENT.match(event):
                told = event[error.end() :]
                if not self.begun and not out:
                    # A stream of nothing but an error is told better by a status.
                    self.refused = _status(told)
                    self._body += told
                    return
                self.broken = last = True
                out += self._stamp.rest() + await self._told(told)
                break
            try:
                out += self._stamp.event(event)
            except EngineError as error:
                self.spoiled = error
                last = False
                break
        if last and not self.broken:
            out += self._stamp.rest()
        if out or last:
            await self._out(out, last=last)

    async def _out(self, body: bytes, *, last: bool) -> None:
        if not self.begun and self._start is not None:
            self.begun = True
            MutableHeaders(scope=self._start).update(self._headers)
            await self._send(self._start)
        self.ended = last
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})

    async def _told(self, error: bytes) -> bytes:
        """An event of the engine's error in our shape."""
        if not await self._engine.healthy():
            return self._event(str(engine_dead()), None, EngineDead.code)
        told = EngineRefusal.of(_status(error), error, self._redact)
        return self._event(told.message, told.param, told.code, told.status)

    def _event(self, message: str, param: str | None, code: str, status: int = 500) -> bytes:
        shown = self._redact(message)
        return self._stamp.error(shown, error_body(status, shown, code=code, param=param))


def engine_dead() -> EngineDead:
    """What a client is told whose engine stopped."""
    return EngineDead("the engine has stopped", hint="it is being restarted; try again soon")


def _status(error: bytes) -> int:
    """The status that an error in a stream stands for."""
    try:
        code = json.loads(error)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return 500
    return code if isinstance(code, int) and 400 <= code < 600 else 500
