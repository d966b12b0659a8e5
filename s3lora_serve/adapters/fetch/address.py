"""Where an adapter lies: a source parsed once, refused if it holds a password, shown without its query."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import quote, unquote

from s3lora_serve.errors import SourceError

LOCAL, DEMO, HUB = "file", "demo", "hf"
PORTS = {"http": 80, "https": 443}
BUCKETS = frozenset({"s3", "gs", "az", "abfs"})  # drivers of fsspec: what stands first is a bucket
ARCHIVES = frozenset({"zip", "tar"})
KNOWN = f"a folder, demo://, hf://, {', '.join(f'{name}://' for name in ('s3', 'gs', 'az', 'abfs', *PORTS))}"

_DRIVER = r"[A-Za-z][A-Za-z0-9+.-]*"
_URL = re.compile(rf"({_DRIVER})://([^/?#\\]*)([^?#]*)(.*)", re.DOTALL)
# What stands before the place itself: an archive's folder, or a driver that wraps another.
_LEADING = re.compile(rf"((?:zip|tar)://[^:?@]*|{_DRIVER})::", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._-]+")
# A slip that would pass for a folder's name, with whatever secret stands in it.
_ALMOST = re.compile(rf"({'|'.join((DEMO, HUB, *PORTS, *sorted(BUCKETS)))}):", re.IGNORECASE)
_QUOTED = re.compile(rf"(?:(?:zip|tar)://[^\s:?@'\"]*::|{_DRIVER}::)*{_DRIVER}://[^\s'\"<>`]+", re.IGNORECASE)
# How the Hub's pages are addressed: https://huggingface.co/org/name, and /tree/REVISION/FOLDER and the like.
_HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_HUB_PAGE = re.compile(
    r"(?:models/)?(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)"
    r"(?:/(?:tree|blob|resolve|raw)/(?P<revision>[\w.-]+)(?:/(?P<folder>[\w./-]*?))?)?/?",
    re.ASCII,
)
_SHORTEST_SECRET = 6  # shorter ones stand in too many words to be replaced by themselves
_LONGEST_SAID = 4000  # characters of a driver's error that are looked at
_MARK = "***"


@dataclass(frozen=True)
class Address:
    """One place. ``host`` is a host in lower case, an IP address without brackets, or a bucket's name."""

    scheme: str
    host: str = ""
    port: int | None = None  # of http and https alone
    path: str = ""  # of a file: the folder as it was given
    query: str = field(default="", repr=False)  # may be a signature

    def __str__(self) -> str:
        """The address without its query."""
        if self.scheme == LOCAL:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


@dataclass(frozen=True)
class Source:
    """An adapter's source. As text it is ``str(source)``, which holds no secret: what is written down.

    ``text`` is what was given. Only fetching and digests may read it: a signed URL's signature is in it.
    """

    text: str = field(repr=False)
    place: Address
    archive: str | None = None  # the driver that opens the file at ``place``: zip or tar
    inside: str = ""  # the folder in the archive

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read a source. Raises SourceError for one with a password, or that no driver of the list reads.

        Nothing is looked at but the text. No message repeats what may be secret.
        """
        archive, inside, rest = None, "", text
        if leading := _LEADING.match(text):
            driver, _, inside = leading[1].partition("://")
            archive, rest = driver.lower(), text[leading.end() :]
            if archive not in ARCHIVES or "://" not in leading[1]:
                raise _unknown(driver)
            if nested := _LEADING.match(rest):
                raise _unknown(f"{driver}::{nested[1].partition(':')[0]}")
        place = _strict(rest)
        if archive and place.scheme in (DEMO, HUB):
            raise SourceError(
                f"an archive is read from a file, a bucket or http(s), not from {place.scheme}://",
                hint="leave the archive's driver out, or copy the archive elsewhere",
            )
        _no_way_up(inside, text)
        return cls(text, place, archive, inside)

    @classmethod
    def of(cls, source: Source | str) -> Source:
        """A source as it is, or parsed if it is a text. Raises as ``parse`` does."""
        return source if isinstance(source, Source) else cls.parse(source)

    def __str__(self) -> str:
        """The source without its query, as it may be stored, logged and shown."""
        if not self.place.query:
            return self.text
        return f"{self.archive}://{self.inside}::{self.place}" if self.archive else str(self.place)

    def to_json(self) -> dict[str, str]:
        """As it is written down: a digest of the original stands beside what was left out of it."""
        shown = str(self)
        if shown == self.text:
            return {"source": shown}
        return {"source": shown, "source_digest": hashlib.sha256(self.text.encode()).hexdigest()}

    def hidden_in(self, text: str) -> str:
        """``text`` without what is secret of this source or of any other address: drivers quote addresses."""
        text = _QUOTED.sub(lambda found: redacted(found[0]), text[:_LONGEST_SAID])
        for secret in _secrets(self.place.query):
            text = text.replace(secret, _MARK)
        return text


def redacted(source: str) -> str:
    """Any text as a source without user, password and query; ``<unreadable>`` where they cannot be told.

    For what was stored or quoted by others: nothing is raised.
    """
    leading, link = leading_and_place(source)
    if (match := _URL.fullmatch(link)) is None:  # a path, or an address with something before it
        return leading + _QUOTED.sub(lambda found: redacted(found[0]), link)
    try:
        place = split(match)
    except SourceError:
        return f"{leading}{match[1].lower()}://<unreadable>"
    return source if place.scheme == LOCAL else f"{leading}{place}"


def leading_and_place(source: str) -> tuple[str, str]:
    """What a chained source says of archives and wrapping drivers, and the place at its end."""
    at = 0
    while found := _LEADING.match(source, at):
        at = found.end()
    return source[:at], source[at:]


def split(url: re.Match[str] | str) -> Address:
    """An address in its parts, user and password dropped. Raises SourceError if they cannot be told apart."""
    match = _URL.fullmatch(url) if isinstance(url, str) else url
    if match is None:
        return Address(LOCAL, path=str(url))
    scheme, authority, path, rest = match[1].lower(), match[2], match[3], match[4]
    if scheme in (LOCAL, "local"):
        return Address(LOCAL, path=f"{authority}{path}{rest}")
    if "@" in path + rest and ("@" in authority or ":" in authority):
        raise SourceError(  # a part of a password with a slash in it may stand in the path
            f"{scheme}://…: its host cannot be told from its path", hint="write %40 for an @ behind the host"
        )
    host = authority if _user(scheme, authority, path) is None else authority.rpartition("@")[2]
    port = None
    if ":" in host:
        host, _, digits = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if digits and not (digits.isascii() and digits.isdigit() and int(digits) < 2**16):
            raise SourceError(
                f"{scheme}://…: what stands behind the host is no port",
                hint=f"write {scheme}://host:443/folder",
            )
        port = int(digits) if digits else None
        if ":" in host or "[" in host:
            if not (host.startswith("[") and host.endswith("]")):
                raise SourceError(
                    f"{scheme}://…: an IPv6 address stands in brackets",
                    hint=f"write {scheme}://[::1]:443/folder",
                )
            host = host[1:-1]
    if scheme in PORTS:
        host, port = _normal(host), port or PORTS[scheme]
    return Address(scheme, host, port, path, rest.partition("#")[0].removeprefix("?"))


def _strict(text: str) -> Address:
    match = _URL.fullmatch(text)
    if match is None and "://" in text:
        raise SourceError("an address begins with its driver, and no path has '://' in it", hint=KNOWN)
    if match is None and (driver := _ALMOST.match(text)):
        raise SourceError(
            f"{driver[1]}:… is no address, and no folder's name begins so", hint=f"write {driver[1]}://…"
        )
    if match is None:
        return Address(LOCAL, path=text)
    if match[1].lower() not in {LOCAL, "local", DEMO, HUB, *PORTS, *BUCKETS}:
        raise _unknown(match[1])
    place = split(match)
    scheme, authority, path, rest = match[1], match[2], match[3], match[4]
    if place.scheme == LOCAL:
        if not place.path.startswith("/"):
            raise SourceError(f"{scheme}://… names no absolute path", hint=f"write {scheme}:///folder")
        return place
    if _user(place.scheme, authority, path) is not None:
        raise SourceError(
            f"{place}: a source must not hold a user or a password, which would be kept in the journal",
            hint=_instead(place.scheme),
        )
    if "#" in rest:
        raise SourceError(f"{place}: a fragment (#…) means nothing to a server", hint="write %23 for #")
    if rest and place.scheme not in PORTS:
        raise SourceError(f"{place}: only http:// and https:// take a query", hint="leave out the ?")
    if place.scheme in PORTS and not (_HOST.fullmatch(place.host) or _is_ip(place.host)):
        raise SourceError(f"{scheme}://…: it has no host", hint="letters, digits, '.' and '-', or [IPv6]")
    if place.scheme in BUCKETS and (not place.host or place.port or "::" in text):
        raise SourceError(
            f"{scheme}://{place.host}…: it names no bucket, or has a port or '::' in it",
            hint=f"write {scheme}://bucket/folder",
        )
    if place.scheme in PORTS or place.scheme in BUCKETS:
        _no_way_up(path, str(place))
    if place.host in _HUB_HOSTS and place.scheme in PORTS:
        raise SourceError(
            f"{place} is a page of the Hub, not a folder of files",
            hint=f"write {hub_address(f'{place.host}{place.path}') or 'hf://org/name'}",
        )
    return place


def hub_address(text: str) -> str | None:
    """The ``hf://`` address that a page of the Hub, or a bare ``org/name``, stands for; None for no such."""
    host, _, rest = text.partition("/")
    path = rest if host in _HUB_HOSTS else text
    match = _HUB_PAGE.fullmatch(path)
    if match is None or path.startswith(("datasets/", "spaces/")):
        return None
    folder = (match["folder"] or "").strip("/")
    last = folder.rpartition("/")[2]
    if "." in last:  # a file: its folder is meant
        folder = folder.rpartition("/")[0]
    if match["revision"] is None:
        return f"hf://{match['repo']}"
    return f"hf://{match['repo']}@{match['revision']}" + (f"/{folder}" if folder else "")


def _no_way_up(path: str, whole: str) -> None:
    """Refuse what a server or a driver may read as another folder than the one that was compared."""
    if {".", ".."} & set(unquote(path).replace("\\", "/").split("/")):
        raise SourceError(
            f"{redacted(whole)}: '.' and '..' name no folder in an address",
            hint="write the folder's whole path",
        )


def _user(scheme: str, authority: str, path: str) -> str | None:
    """What stands before an @ as user and password; None if nothing does, or if it is a part of the name."""
    user, at, _ = authority.rpartition("@")
    if not at:
        return None
    if scheme == HUB and path in ("", "/") and ":" not in authority:
        return None  # name@commit
    if scheme in ("az", "abfs") and ":" not in authority:
        return None  # container@account
    return user


def _instead(scheme: str) -> str:
    if scheme == HUB:
        return "set HF_TOKEN in the server's environment"
    if scheme in PORTS:
        return "put them into ~/.netrc of the server's user, or use a signed URL"
    kind = {"s3": "AWS_…", "gs": "GOOGLE_APPLICATION_CREDENTIALS"}.get(scheme, "AZURE_STORAGE_…")
    return f"set {kind} in the server's environment, or fsspec's own configuration"


def _unknown(driver: str) -> SourceError:
    return SourceError(
        f"{driver}:// is not read: sources are {KNOWN}, and zip:// or tar:// over one of them",
        hint="copy the adapter to one of those",
    )


def _normal(host: str) -> str:
    return str(ip_address(host)) if _is_ip(host) else host.lower()


def _is_ip(host: str) -> bool:
    try:
        return "%" not in host and bool(ip_address(host))
    except ValueError:
        return False


def _secrets(query: str) -> list[str]:
    """The values of a query, long ones first, as they stand there and as drivers may quote them."""
    values = {query, *(pair.partition("=")[2] for pair in query.split("&"))}
    forms = {form for value in values for form in (value, unquote(value), quote(unquote(value), safe=""))}
    return sorted((form for form in forms if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)
