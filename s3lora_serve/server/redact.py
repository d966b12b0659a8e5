"""Server paths do not leave the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from s3lora_serve.adapters.fetch.address import LOCAL, leading_and_place, redacted, split
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

    Of chained URLs only the last is shown, which is where it came from. Any text will do, as what is stored
    must be shown: nothing is raised, and nothing unprintable is returned.
    """
    _, link = leading_and_place(printable(source, one_line=True))
    place = split(redacted(link))
    if place.scheme == LOCAL:
        return f"local:{PurePosixPath(place.path).name}"
    if not place.host:  # a path with a scheme before it
        return f"{place.scheme}:{PurePosixPath(place.path).name}"
    return str(place)
