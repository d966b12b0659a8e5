"""Nothing that serves may wait behind a source that does not answer: no threads that all share."""

from __future__ import annotations

import re

from source_tree import ROOT

SHARED = re.compile(r"\b(to_thread|run_in_executor|run_in_threadpool)\(")
ALONE = {"evaluation"}  # a command that serves nobody


def test_no_part_that_serves_uses_the_shared_threads():
    """asyncio's own are few, are joined at the exit, and a hung call in each of them stops all others."""
    users = {
        path.relative_to(ROOT / "s3lora_serve").as_posix()
        for path in (ROOT / "s3lora_serve").rglob("*.py")
        if SHARED.search(path.read_text())
    }
    assert {name for name in users if name.partition("/")[0] not in ALONE} == set()
