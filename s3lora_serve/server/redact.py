"""Server paths do not leave the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from s3lora_serve.fleet.planner import Planner

Redactor = Callable[[str], str]

# An absolute path, or one relative to a home or working directory. Our own routes are not the server's
# files, and a slash inside a word ("text/plain") begins no path.
_PATH = re.compile(
    r"(?<![\w.:/>-])(?:file://)?(?:~|\.{1,2})?/(?!v1/|admin/|livez|readyz|metrics)[^\s'\"`<>|,;:(){}\[\]]+"
)
_MARK = "<path>"

# urllib's parser raises for some addresses; this one takes whatever begins with a scheme.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\\]*)([^?#]*)")
_CHAINED = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_HOST_AND_PORT = re.compile(r"(?:[^:\[\]]*|\[[^\]]*\])(?::\d*)?")


def redactor(roots: Callable[[], Iterable[Path]]) -> Redactor:
    """A function that takes paths out of a message: those under ``roots``, and all that look like one.

    ``roots`` catches paths with spaces, which no pattern can tell from text.
    """

    def redact(text: str) -> str:
        for root in sorted((str(path) for path in roots()), key=len, reverse=True):
            text = text.replace(root, _MARK)
        return re.sub(r"(?:<path>)(?:/[\w.-]+)*", _MARK, _PATH.sub(_MARK, text))

    return redact


def revision_roots(planners: Iterable[Planner]) -> Iterator[Path]:
    """Folders of every revision that a planner holds, and of the store that they lie in."""
    for planner in planners:
        for deployment in (planner.active, planner.candidate, *planner.others):
            if deployment is not None:
                path = deployment.revision.path
                yield path
                if path.parent.name == "revisions":  # a store: one that is gone has no deployment to name it
                    yield path.parent.parent


def public_source(source: str) -> str:
    """Where an adapter came from, for clients: a local folder by its name alone, a URL without secrets.

    Users, passwords and query strings of URLs can hold credentials (signed S3 links), so they are dropped; of
    chained URLs only the last is shown, which is where it came from. Any text will do, as what is stored must
    be shown: nothing is raised, and nothing unprintable is returned.
    """
    source = _CHAINED.split(printable(source, one_line=True))[-1]
    address = _ADDRESS.match(source)
    scheme = address[1].lower() if address else "local"
    if address is None or scheme in ("file", "local"):
        return f"local:{PurePosixPath(source[address.end(1) + 3 :] if address else source).name}"
    authority, path = address[2], address[3]
    if not authority:  # a path with a scheme before it
        return f"{scheme}:{PurePosixPath(path).name}"
    if "@" in source[address.end(2) :] and ("@" in authority or ":" in authority):
        return f"{scheme}://<unreadable>"  # part of a password with a slash in it may stand in the path
    pinned = scheme == "hf" and path in ("", "/") and ":" not in authority  # name@commit
    host = authority if pinned else authority.rpartition("@")[2]
    if ":" in host and not _HOST_AND_PORT.fullmatch(host):
        return f"{scheme}://<unreadable>"
    return f"{scheme}://{host}{path}"
