"""The engine's answer on its way to the client: it names the planner, and its errors get our shape."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders

from s3lora_serve.errors import EngineDead
from s3lora_serve.server.errors import error_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Send

    from s3lora_serve.engine.port import Engine
    from s3lora_serve.errors import S3LoRAError
    from s3lora_serve.server.redact import Redactor

# Inside a JSON text every quote is escaped, so no answer of a model can look like this.
_ERROR_EVENT = b'data: {"error"'


class Answer:
    """Passes the application's messages on. What it refuses is kept back: then ``refusal`` has it."""

    def __init__(self, send: Send, engine: Engine, headers: Mapping[str, str], redact: Redactor) -> None:
        self._send = send
        self._engine = engine
        self._headers = headers
        self._redact = redact
        self._start: Message | None = None
        self._stream = False
        self._body = bytearray()
        self.refused: int | None = None  # the application's status, if it is an error's
        self.begun = False  # whether the client has been sent anything
        self.ended = False  # whether the answer is complete
        self.broken = False  # whether an error came in mid-stream

    @property
    def well(self) -> bool:
        """Whether it is complete, and no error."""
        return self.ended and not self.broken and self.refused is None

    @property
    def refusal(self) -> tuple[str, str | None]:
        """Message and parameter of the application's error."""
        return _engine_error(bytes(self._body).partition(b"\n\n")[0].removeprefix(b"data: "))

    async def send(self, message: Message) -> None:
        """The application's ``send``. Nothing leaves before the first part of the body: until then an error
        can still have a status of its own.
        """
        if self.ended:
            return  # an error has ended it: what else the application sends (``[DONE]``) would belie that
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                self.refused = message["status"]
            self._stream = Headers(raw=message["headers"]).get("content-type", "").startswith(_EVENTS)
            self._start = message
            return
        body = message.get("body", b"")
        if self._stream and not self.begun and self.refused is None and body.startswith(_ERROR_EVENT):
            self.refused = _status(body)  # a stream of nothing but an error, which is told better by a status
        if self.refused is not None:
            self._body += body
        else:
            await self._pass_on(message)

    async def fail(self, error: S3LoRAError) -> None:
        """End the answer with an error. Raises it when nothing was sent, so that it becomes the answer."""
        if self.ended:
            return
        if not self.begun:
            raise error
        self.broken = True
        event = self._event(str(error), None, error.code) if self._stream else b""
        await self._out({"type": "http.response.body", "body": event, "more_body": False})

    async def _pass_on(self, message: Message) -> None:
        body = message.get("body", b"")
        if self._stream and _ERROR_EVENT in body:
            self.broken = True
            body = self._mended(body, dead=not await self._engine.healthy())
            message = {**message, "body": body, "more_body": False}
        await self._out(message)

    async def _out(self, message: Message) -> None:
        if not self.begun and self._start is not None:
            self.begun = True
            MutableHeaders(scope=self._start).update(self._headers)
            await self._send(self._start)
        self.ended = not message.get("more_body", False)
        await self._send(message)

    def _mended(self, body: bytes, *, dead: bool) -> bytes:
        """Server-sent events up to the engine's error, and that in our shape."""
        before, mark, error = body.partition(_ERROR_EVENT)
        if dead:
            return before + self._event(str(engine_dead()), None, EngineDead.code)
        message, param = _engine_error((mark + error).partition(b"\n\n")[0].removeprefix(b"data: "))
        return before + self._event(message, param, "engine_error")

    def _event(self, message: str, param: str | None, code: str) -> bytes:
        error = error_body(500, self._redact(message), code=code, param=param)
        return b"data: " + json.dumps(error).encode() + b"\n\n"


_EVENTS = "text/event-stream"


def engine_dead() -> EngineDead:
    """What a client is told whose engine stopped."""
    return EngineDead("the engine has stopped", hint="it is being restarted; try again soon")


def _status(event: bytes) -> int:
    """The status that an error event stands for."""
    try:
        code = json.loads(event.partition(b"\n\n")[0].removeprefix(b"data: "))["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return 500
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _engine_error(body: bytes) -> tuple[str, str | None]:
    """Message and parameter of an error of the engine's application."""
    try:
        error: Any = json.loads(body)["error"]
        param = error.get("param")
        return str(error["message"]), param if isinstance(param, str) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return "the engine failed; the server's log has it under this request's id", None
