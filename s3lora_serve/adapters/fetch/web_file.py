"""Files by http and https: the checked address is the one connected to, and no redirect leaves the host."""

from __future__ import annotations

import netrc
import socket
import ssl
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

from s3lora_serve.adapters.fetch.address import PORTS, Address, Source
from s3lora_serve.errors import SourceError
from s3lora_serve.storage.daemon_threads import given_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3lora_serve.adapters.fetch.reach import Reach
    from s3lora_serve.config import LimitsConfig

REDIRECTS = 5
_MOVED = frozenset({301, 302, 303, 307, 308})
_PASSES = frozenset({408, 425, 429})
_AS_IT_IS = "%/:@!$&'()*+,;=~?"


class WebFile:
    """A file that is being read; ``size`` in bytes, if the server said it."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response
        self.size = self._left = response.length

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill at most the buffer; 0 at the end. Raises ConnectionError if the file ends early."""
        try:
            read = self._response.readinto(buffer)
        except HTTPException as error:
            raise ConnectionError(f"the answer broke off: {type(error).__name__}") from None
        if self._left is not None:
            self._left -= read
            if not read and self._left:
                raise ConnectionError(f"the answer ended {self._left} bytes early")
        return read


class _WhileAwaited(RawIOBase):
    """What comes from a server, for as long as anybody waits for it."""

    def __init__(self, source: BufferedReader) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if given_up():
            raise ConnectionAbortedError("nothing waits for it any more")
        return self._source.readinto1(buffer)

    def close(self) -> None:
        self._source.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer whose headers and chunks may go on for ever: reading it then ends with its fetch."""

    def __init__(self, sock: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(sock, *given, **named)
        self.fp = BufferedReader(_WhileAwaited(self.fp))


@contextmanager
def open_web(place: Address, reach: Reach, limits: LimitsConfig) -> Iterator[WebFile]:
    """Open the file at ``place``, whose query goes with it; ``limits`` say how long to wait for an answer.

    Raises SourceError for what will not pass, SourceNotAllowed for an address or a redirect that may not be
    followed, FileNotFoundError, PermissionError, and other OSErrors for what may pass.
    """
    connection, response = _answered(place, reach, limits)
    try:
        yield WebFile(response)
    finally:
        response.close()
        connection.close()


def below(folder: Address, name: str) -> Address:
    """A file in a folder: its name before the query."""
    return replace(folder, path=f"{folder.path.rstrip('/')}/{name}")


def _answered(place: Address, reach: Reach, limits: LimitsConfig) -> tuple[HTTPConnection, HTTPResponse]:
    for _ in range(REDIRECTS + 1):
        connection = _connected(place, reach, limits)
        try:
            connection.request("GET", _target(place), headers=_credentials(place.host))
            response = connection.getresponse()
            moved = response.getheader("Location") if response.status in _MOVED else None
            if moved is None:
                _check_status(place, response)
                return connection, response
        except HTTPException as error:
            connection.close()
            raise ConnectionError(f"no HTTP answer: {type(error).__name__}") from None
        except BaseException:
            connection.close()
            raise
        connection.close()
        place = _redirected(place, moved, reach)
    raise SourceError(f"{place}: over {REDIRECTS} redirects", hint="name the place itself as the source")


def _connected(place: Address, reach: Reach, limits: LimitsConfig) -> HTTPConnection:
    """A connection to an address that was checked: the name is looked up once."""
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    for *_, address in found:
        reach.check_address(place, ip_address(str(address[0]).partition("%")[0]))
    failed: OSError = ConnectionError(f"{place.host} has no address")
    for family, kind, protocol, _, address in found:
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(limits.fetch_connect_seconds)
            opened.connect(address)
            if place.scheme == "http":
                connection = HTTPConnection(place.host, place.port)
            else:
                context = ssl.create_default_context()
                opened = context.wrap_socket(opened, server_hostname=place.host)
                connection = HTTPSConnection(place.host, place.port, context=context)
            opened.settimeout(limits.fetch_read_seconds)
        except OSError as error:
            opened.close()
            failed = error
            continue
        connection.sock = opened
        connection.response_class = _Answer
        return connection
    raise failed


def _redirected(place: Address, location: str, reach: Reach) -> Address:
    """Where a redirect leads. Raises SourceError if that is another host, or no longer encrypted."""
    target = Source.parse(urljoin(f"{place}", location)).place
    ports = (place.port, target.port)
    same = place.host == target.host and (
        (place.scheme == target.scheme and place.port == target.port)
        or ((place.scheme, target.scheme) == ("http", "https") and ports == tuple(PORTS.values()))
    )
    if not same:
        raise SourceError(
            f"{place} redirects to {target.scheme}://{target.host}, which is not followed",
            hint="name the place itself as the source",
        )
    reach.check(Source(str(target), target))
    return target


def _check_status(place: Address, response: HTTPResponse) -> None:
    status = response.status
    if status in (404, 410):
        raise FileNotFoundError(f"{place} is not there")
    if status in (401, 403):
        raise PermissionError(f"the server of {place} answers {status}")
    if status >= 500 or status in _PASSES:
        raise ConnectionError(f"the server answers {status}")
    if status != 200:
        raise SourceError(
            f"{place}: the server answers {status}", hint="does a browser get the file there, as it is?"
        )
    if (coding := response.getheader("Content-Encoding", "identity")) != "identity":
        raise SourceError(
            f"{place}: the server sends it encoded ({coding[:20]!r}), which was not asked for",
            hint="turn compression off for this file on its server",
        )


def _target(place: Address) -> str:
    target = quote(place.path or "/", safe=_AS_IT_IS.rstrip("?"))
    return f"{target}?{quote(place.query, safe=_AS_IT_IS)}" if place.query else target


def _credentials(host: str) -> dict[str, str]:
    """The user and password that ~/.netrc has for this very host."""
    try:
        found = netrc.netrc().hosts.get(host)
    except (OSError, netrc.NetrcParseError):
        return {}
    if found is None:
        return {}
    return {"Authorization": "Basic " + b64encode(f"{found[0]}:{found[2]}".encode()).decode()}
