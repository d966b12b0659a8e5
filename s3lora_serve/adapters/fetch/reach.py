"""What a server may read: the folders, buckets and hosts of its planners.yaml, and no machine's inside."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from s3lora_serve.adapters.fetch.address import DEMO, HUB, LOCAL, Address, Source
from s3lora_serve.errors import SourceNotAllowed

if TYPE_CHECKING:
    from collections.abc import Iterable

_TRANSLATED = IPv6Network("64:ff9b::/96")  # NAT64: the last four bytes are an IPv4 address
# Where clouds hand out credentials to whoever asks from within; the others of them are link-local.
_METADATA = frozenset(
    ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)


@dataclass(frozen=True)
class Reach:
    """What may be read. ``anywhere``: any place, but for special addresses, which ``places`` must name."""

    places: tuple[Address, ...] = ()
    anywhere: bool = False
    unlimited: bool = False  # special addresses too: of commands that people run on their own machine

    def also(self, *sources: str) -> Reach:
        """This, and the folders, buckets and hosts that these sources name."""
        return replace(self, places=(*self.places, *(_whole(Source.parse(source)) for source in sources)))

    def beside(self, source: Source, others: Iterable[str]) -> Reach:
        """This, and what the ``others`` name, if that can matter to the source."""
        always = self.unlimited or source.place.scheme in (DEMO, HUB)
        return self if always else self.also(*others)

    def check(self, source: Source) -> None:
        """Raise SourceNotAllowed for a source that is not to be read. Says nothing of whether it exists."""
        if not (self.unlimited or self._allows(source.place)):
            raise _refused(source)

    def check_address(self, place: Address, ip: IPv4Address | IPv6Address) -> None:
        """Raise SourceNotAllowed if ``place``, whose host has this address, is not to be connected to."""
        if self.unlimited or not (_special(ip) or _own(ip)):
            return
        by_address = (replace(place, host=host) for host in (str(ip), *(["localhost"] * ip.is_loopback)))
        if not any(_within(named, entry) for named in by_address for entry in self.places):
            host = f"[{ip}]" if ip.version == 6 else str(ip)
            raise SourceNotAllowed(
                f"{place}: its host has the address {ip}, which is inside this machine or network",
                hint=f"if that is meant, add {place.scheme}://{host}:{place.port} to sources.allow",
            )

    def _allows(self, place: Address) -> bool:
        if self.anywhere or place.scheme in (DEMO, HUB):
            return True
        return any(_within(place, entry) for entry in self.places)


EVERYWHERE = Reach(unlimited=True)


def _within(place: Address, entry: Address) -> bool:
    if (place.scheme, place.host, place.port) != (entry.scheme, entry.host, entry.port):
        return False
    if place.scheme == LOCAL:
        return _folder_within(place.path, entry.path)
    return _steps(place.path)[: len(_steps(entry.path))] == _steps(entry.path)


def _steps(path: str) -> list[str]:
    return [step for step in unquote(path).split("/") if step]


def _folder_within(folder: str, allowed: str) -> bool:
    """Whether the folder lies in the allowed one, by its name and by where links lead.

    By its name first: of a folder elsewhere nothing is looked at, so that no answer and no delay tells of it.
    """
    given, root = _absolute(folder), _absolute(allowed)
    try:
        real = root.resolve()
        if not (given.is_relative_to(root) or given.is_relative_to(real)):
            return False
        return given.resolve().is_relative_to(real)
    except (OSError, RuntimeError):  # links in a circle
        return False


def _absolute(folder: str) -> Path:
    return Path(os.path.normpath(Path.cwd() / Path(folder).expanduser()))  # by its text alone


def _whole(source: Source) -> Address:
    """What a planner's source makes readable: its folder, or the whole bucket or host."""
    place = replace(source.place, query="")
    return place if place.scheme == LOCAL else replace(place, path="")


def _refused(source: Source) -> SourceNotAllowed:
    place = source.place
    line = place.path if place.scheme == LOCAL else str(replace(place, path="", query=""))
    return SourceNotAllowed(
        f"{source} is not among the sources that this server reads",
        hint=f"add the line '- {line}' under sources.allow in planners.yaml, and restart",
    )


def _own(ip: IPv4Address | IPv6Address) -> bool:
    """Whether this machine has the address: only such a one can be bound."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError:
        return False
    return True


def _special(ip: IPv4Address | IPv6Address) -> bool:
    """Whether an address means this machine, its link, a cloud's metadata, or no machine at all."""
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip in _TRANSLATED and IPv4Address(int(ip) & 0xFFFFFFFF))
        if inner:
            return _special(inner)
    return (
        ip.is_loopback
        or ip.is_link_local
        or ip.is_unspecified
        or ip.is_multicast
        or ip.is_reserved
        or ip in _METADATA
        or (ip.version == 4 and ip.packed[0] == 0)
    )
