"""The client for threads, made of the one for coroutines (`make clients`)."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import unasync

FOLDER = Path(__file__).parents[2] / "planners" / "client"
SOURCE, MADE = FOLDER / "async_client.py", FOLDER / "client.py"
HEADER = "# Made of async_client.py by `make clients`: change that file, not this one.\n"
NAMES = {
    "AsyncPlannerClient": "PlannerClient",
    "AsyncClient": "Client",
    "aclosing": "closing",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
    "async_retrying": "retrying",
}


def text() -> str:
    """What stands in ``MADE`` unless it is stale."""
    with TemporaryDirectory() as work:
        given, made = (Path(work) / name / MADE.name for name in ("async", "sync"))
        given.parent.mkdir()
        given.write_text(SOURCE.read_text())
        unasync.unasync_files([str(given)], [unasync.Rule("/async/", "/sync/", NAMES)])
        return HEADER + made.read_text()


if __name__ == "__main__":
    MADE.write_text(text())
