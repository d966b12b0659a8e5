"""What a request passes through stays what the newest committed table says, within a tenth."""

from __future__ import annotations

import contextvars
import importlib
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks/structure"
sys.path.append(str(FOLDER))
passes, tree_shape = map(importlib.import_module, ("passes", "tree_shape"))

MOST = 1.10  # times the committed figure
MOST_LINES, MOST_ENTRIES = 350, 18


@pytest.fixture(scope="module")
def committed():
    """(files, changes) by request, of the newest table."""
    text = max(FOLDER.glob("20*.md")).read_text()
    rows = re.findall(r"^\| (\w+) \| \d+ \| (\d+) \| \d+ \| (\d+) \|$", text, re.M)
    return {name: passes.Pass(int(files), int(changes)) for name, files, changes in rows}


async def test_no_request_passes_through_more_than_was_measured(committed):
    """A tenth more files, or changes of file, is a reason to look at the way, or to measure it anew."""
    found = await passes.passes()
    assert found.keys() == committed.keys() == {"swap", "rollback", "plan", "chat"}
    over = {
        name: (now, committed[name])
        for name, now in found.items()
        if now.files > MOST * committed[name].files or now.changes > MOST * committed[name].changes
    }
    assert over == {}


def test_the_tree_is_as_flat_and_as_small_as_it_says():
    """No folder of more entries than a reader keeps in mind, no file of more lines, no circle."""
    shape = tree_shape.tree()
    assert shape["largest folder"] <= MOST_ENTRIES
    assert shape["largest file"] <= MOST_LINES
    assert shape["largest circle"] == 0


def test_a_circle_would_be_found():
    """Three modules in a ring are one, a chain of three is none."""
    assert tree_shape.circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert tree_shape.circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_calls_are_noted_by_file():
    """Inside the window and only there, only of the product, and only what is caused there."""
    from s3lora_serve.storage.canonical_json import canonical_bytes

    canonical_bytes({})
    context = contextvars.copy_context()  # as of a task that was there before
    with passes.noted() as calls:
        canonical_bytes({})
        re.compile("x")
        context.run(canonical_bytes, {})
    canonical_bytes({})
    assert ({Path(file).name for file in calls.files}, calls.changes) == ({"canonical_json.py"}, 1)
