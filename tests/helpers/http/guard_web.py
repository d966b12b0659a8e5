"""A guard model's API on this machine that answers as it is told, misbehaves, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass
class GuardWeb:
    """``says`` is asked for each text that arrives; ``acts`` come before it, one for each request.

    An act is ``reset`` (close without an answer), ``hang``, bytes that are sent again and again for as long
    as the client listens, or (status, headers, body).
    """

    says: Callable[[str], str | bool]
    acts: list[Any] = field(default_factory=list)
    asked: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = field(default_factory=list)
    url: str = ""
    ending: threading.Event = field(default_factory=threading.Event)

    @property
    def texts(self) -> list[str]:
        """What it was asked about, in whatever form."""
        return [_text(body) for _, body, _ in self.asked]


def _text(body: Mapping[str, Any]) -> str:
    if "input" in body:
        return body["input"]
    return body["prompt"] if "prompt" in body else body["messages"][0]["content"]


def _answer(path: str, said: str | bool) -> dict[str, Any]:
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    if path.endswith("/moderations"):
        return {"id": "m", "results": [{"flagged": said, "categories": {}}]}
    text = {"text": said} if path.endswith("/v1/completions") else {"message": {"content": said}}
    return {"choices": [{"index": 0, "finish_reason": "stop", **text}], "usage": usage}


@contextmanager
def guard_web(says: Callable[[str], str | bool] = lambda text: "safe", *acts: Any) -> Iterator[GuardWeb]:
    """Serve until the block is left."""
    web = GuardWeb(says, list(acts))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            web.asked.append((self.path, body, {name.lower(): v for name, v in self.headers.items()}))
            act = web.acts.pop(0) if web.acts else None
            if act == "reset":
                self.close_connection = True
                return
            if act == "hang":
                web.ending.wait(30)
                self.close_connection = True
                return
            if isinstance(act, bytes):
                self.close_connection = True
                with suppress(OSError):
                    while not web.ending.is_set():
                        self.wfile.write(act)
                return
            status, headers, data = act or (200, {}, json.dumps(_answer(self.path, web.says(_text(body)))))
            raw = data if isinstance(data, bytes) else data.encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that leaves is no news
    web.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        web.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()
