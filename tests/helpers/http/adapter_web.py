"""A web server on this machine that holds an adapter, asks for a signature, redirects, notes what came."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping


@dataclass
class AdapterWeb:
    """What it serves by path; with ``signature`` only to requests whose whole query that is."""

    files: dict[str, bytes]
    signature: str = ""
    moved: dict[str, str] = field(default_factory=dict)  # path → Location
    short: int = 0  # bytes that are left out of each answer
    asked: list[str] = field(default_factory=list)  # targets of the requests that arrived
    headers: list[Mapping[str, str]] = field(default_factory=list)
    port: int = 0
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """Its address, without a path."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@contextmanager
def adapter_web(files: Mapping[str, bytes], host: str = "127.0.0.1", **terms: object) -> Iterator[AdapterWeb]:
    """Serve until the block is left."""
    web = AdapterWeb(dict(files), host=host, **terms)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append(self.path)
            web.headers.append(dict(self.headers))
            path, _, query = self.path.partition("?")
            if path in web.moved:
                self.send_response(302)
                self.send_header("Location", web.moved[path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = web.files.get(path)
            if web.signature and query != web.signature:
                self.send_error(403)
            elif body is None:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) - web.short])

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Handler) as server:
        web.port = server.server_address[1]
        if web.tls:
            server.socket = web.tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join(10)
