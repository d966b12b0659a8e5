"""Server paths do not leave the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from s3lora_serve.runtime.planner import Planner

Redactor = Callable[[str], str]

# An absolute path, or one relative to a home or working directory. Our own routes are not the server's
# files, and a slash inside a word ("text/plain") begins no path.
_PATH = re.compile(
    r"(?<![\w.:/>-])(?:file://)?(?:~|\.{1,2})?/(?!v1/|admin/|livez|readyz|metrics)[^\s'\"`<>|,;:(){}\[\]]+"
)
_MARK = "<path>"


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

    Users, passwords and query strings of URLs can hold credentials (signed S3 links), so they are dropped.
    """
    scheme, found, _ = source.partition("://")
    if not found or scheme == "file":
        return f"local:{Path(source.removeprefix('file://')).name}"
    url = urlsplit(source)
    host = url.netloc.rpartition("@")[2] if scheme != "hf" else url.netloc
    return f"{scheme}://{host}{url.path}"
