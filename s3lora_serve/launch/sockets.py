"""The server's address: taken before the engine starts, listened on when planners can answer."""

from __future__ import annotations

import resource
import socket
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


_MOST_FILES = 65_536
_OTHER_FILES = 256  # of the journal, adapters that are read, the engine


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to the address: a port in use must not show half a minute later. Raises ConfigError.

    It does not listen yet: until planners answer, connections are refused rather than kept waiting.
    """
    with ExitStack() as owned:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio sends small pieces at once (TCP_NODELAY) only where the protocol is named. Else the second
        # piece of an answer waits for the client's acknowledgement of the first: 40 ms.
        listening = owned.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        # Without it a server that was just stopped would keep the port for a minute.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            if sys.platform == "linux":
                owned.enter_context(_guard(f"{host}:{listening.getsockname()[1]}"))
        except OSError as error:
            raise _taken(host, port, error) from error
        listening.setblocking(False)
        yield listening


def listen(bound_socket: socket.socket) -> None:
    """Let clients in. Raises ConfigError when another program took the same address and was faster."""
    try:
        bound_socket.listen()
    except OSError as error:
        host, port = bound_socket.getsockname()[:2]
        raise _taken(host, port, error) from error


def room_for_connections() -> int:
    """Let this process hold as many open connections as the system allows it; how many those are.

    The usual soft limit of 1,024 files is for programs that use select(); above it, connections of a burst
    would wait unanswered instead of getting their 429.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a system may refuse; the burst is then answered more slowly
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (_MOST_FILES if soft == resource.RLIM_INFINITY else soft) - _OTHER_FILES


def _guard(address: str) -> socket.socket:
    """Hold the address against a second server of ours that starts at the same time. Raises OSError.

    Linux lets several sockets with SO_REUSEADDR bind one port until the first of them listens (other systems
    refuse the second). A name in its abstract namespace, which belongs to the network namespace as ports do,
    goes to one process only and is free again when that ends.
    """
    guard = socket.socket(socket.AF_UNIX)
    try:
        guard.bind(f"\0s3lora-serve/{address}")
    except OSError:
        guard.close()
        raise
    return guard


def _taken(host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot listen on {host}:{port}: {error.strerror or error}",
        hint="stop what uses it, or choose another server.port or --port (0: any free one)",
    )
