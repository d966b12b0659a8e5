"""An admin listener that answers as it is told, over real HTTP, and remembers what it was asked."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from s3lora_serve.control.operation import Operation
from s3lora_serve.control.operation_summary import summary

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "t-" + "0" * 30
OLD, NEW = "a" * 64, "b" * 64


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict | None


@dataclass
class Stub:
    """What to answer. ``steps`` are handed out one a question; the last one stays."""

    steps: list[dict] = field(default_factory=list)
    routes: dict[str, tuple[int, dict]] = field(default_factory=dict)
    drop: int = 0  # close so many connections without an answer, after the request was read
    asked: list[Asked] = field(default_factory=list)
    keys: dict[str, dict] = field(default_factory=dict)
    url: str = ""
    token: str = TOKEN

    def orders(self) -> list[Asked]:
        """The POSTs."""
        return [asked for asked in self.asked if asked.method == "POST"]

    def answer(self, asked: Asked) -> tuple[int, dict]:
        path = asked.path.split("?")[0]
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return 401, error("invalid_api_key", "a valid admin token is needed")
        if path in self.routes:
            return self.routes[path]
        if asked.method == "POST":
            key = asked.headers["idempotency-key"]
            self.keys.setdefault(key, self.steps[0])
            return (200 if self.steps[0]["ended"] else 202), self.steps[0]
        if path.startswith("/admin/operations/"):
            if len(self.steps) > 1:
                self.steps.pop(0)
            return 200, self.steps[0]
        return 404, error("not_found", f"GET '{path}' is not served")


def error(code: str, message: str) -> dict:
    """OpenAI's shape."""
    return {"error": {"message": message, "type": "x", "param": None, "code": code}}


def operation(step: str = "done", **changes) -> dict:
    """An operation as the admin routes show it: a swap of ``math`` from OLD to NEW."""
    ended = step in ("done", "failed", "undone", "cancelled")
    made = {
        "id": "op-1",
        "kind": "swap",
        "planner": "math",
        "order": {"actor": "me@here (127.0.0.1)", "reason": "", "expected": None, "key": None},
        "step": step,
        "started_at": time.time(),
        "ended_at": time.time() if ended else None,
        "from_digest": OLD,
        "to_digest": NEW,
        "progress": "",
        "fraction": None,
        "seconds": {},
        "cut": [],
        "error": None,
        "details": {},
        **changes,
    }
    shown = summary(Operation.from_json(made))
    return {**made, "object": "operation", "ended": ended, "summary": shown}


def deployment(revision: str, state: str = "serving", **changes) -> dict:
    """A deployment as the admin routes show it."""
    return {
        "key": f"math@{revision[:12]}",
        "revision": revision,
        "state": state,
        "reason": None,
        "served_by": "adapter",
        "slot": 7,
        "leases": 2,
        "source": "hf://org/math@v1",
        "admitted_at": "2026-01-01T00:00:00+00:00",
        "kept_modules": 110,
        "pruned_modules": 10,
        "effect": None,
        "seconds": {},
        **changes,
    }


def planner(name: str = "math", **changes) -> dict:
    """A planner as the admin routes show it."""
    return {
        "id": name,
        "object": "planner",
        "description": "",
        "pinned": False,
        "generation": 1,
        "up": True,
        "revision": OLD,
        "active": deployment(OLD),
        "candidate": None,
        "rollout": None,
        "shadow": None,
        "previous": None,
        "others": [],
        "guard": None,
        **changes,
    }


def write_access(path: Path, url: str, token: str, pid: int | None = None) -> Path:
    """What a running server leaves beside its state."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"url": url, "token": token, "pid": pid or os.getpid()}))
    path.chmod(0o600)
    return path


@contextmanager
def running(stub: Stub):
    """Serve the stub on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            raw = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, json.loads(raw) if raw else None)
            stub.asked.append(asked)
            if stub.drop > 0:
                stub.drop -= 1
                self.close_connection = True
                return
            status, body = stub.answer(asked)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _serve

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that leaves is no news, and stderr is looked at
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
