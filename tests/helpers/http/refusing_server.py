"""A server whose guard refuses whatever it is asked, over real HTTP, in the shapes of the real one."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSAL = "The guard refused this request for its task; the answer is withheld."
USAGE = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}
_SAME = {"id": "chatcmpl-1", "created": 1, "model": "p", "system_fingerprint": "fp"}


@dataclass
class Refusing:
    """What it was asked: path and body of each request. ``part`` is None where the guard has no verdict."""

    url: str = ""
    part: str | None = "task"
    status: int = 403
    retry_after: int | None = None
    in_stream: bool = False  # a plan's stream begins, and the refusal is its first event
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def guard(self) -> dict[str, Any]:
        """What answers say of the guard beside the refusal."""
        verdict = "refused" if self.part else "undecided"
        return {"planner": "p", "guard": {"verdict": verdict, "part": self.part, "by": ["base"]}}

    @property
    def error(self) -> dict[str, Any]:
        """The body of a plan that is refused."""
        code = "refused_by_guard" if self.part else "guard_undecided"
        told = {"message": REFUSAL, "type": "invalid_request_error", "param": None, "code": code}
        return {"error": {**told, **({"part": self.part} if self.part else {})}}

    def choice(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        """An answer's one choice, whole (``message``) or of a stream (``delta``)."""
        said = {"role": "assistant", **content, "refusal": REFUSAL}
        return {"index": 0, name: said, "finish_reason": "content_filter"}

    def answer(self) -> dict[str, Any]:
        """A whole chat."""
        kind = {**_SAME, "object": "chat.completion"}
        choices = [self.choice("message", {"content": None})]
        return {**kind, "choices": choices, "usage": USAGE, "s3lora": self.guard}

    def chunks(self) -> list[str]:
        """A streamed chat: the refusal, what it took, the end."""
        kind = {**_SAME, "object": "chat.completion.chunk"}
        refused = {**kind, "choices": [self.choice("delta", {})]}
        last = {**kind, "choices": [], "usage": USAGE, "s3lora": self.guard}
        return [json.dumps(refused), json.dumps(last), "[DONE]"]


@contextmanager
def refusing_server() -> Iterator[Refusing]:
    """One on a free port of this machine."""
    refusing = Refusing()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            refusing.asked.append((self.path, body))
            if self.path == "/v1/plans" and not (refusing.in_stream and body.get("stream")):
                self._send(refusing.status, "application/json", json.dumps(refusing.error))
            elif self.path == "/v1/plans":
                event = f"event: error\ndata: {json.dumps(refusing.error)}\n\n"
                self._send(200, "text/event-stream", event)
            elif body.get("stream"):
                events = "".join(f"data: {chunk}\n\n" for chunk in refusing.chunks())
                self._send(200, "text/event-stream", events)
            else:
                self._send(200, "application/json", json.dumps(refusing.answer()))

        def _send(self, status: int, media: str, text: str) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("content-type", media)
            self.send_header("content-length", str(len(data)))
            if refusing.retry_after is not None:
                self.send_header("retry-after", str(refusing.retry_after))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    refusing.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield refusing
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
