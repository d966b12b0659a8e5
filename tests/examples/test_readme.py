"""What the README shows of Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from threaded_server import threaded_server

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8"), re.DOTALL
)


def test_it_shows_the_client_langchain_and_openai():
    """One block each, so that a new one is noticed here."""
    shown = [re.search(r"from (planners\.\w+|openai) import", block)[1] for block in BLOCKS]
    assert shown == ["planners.client", "planners.langchain", "openai"]


@pytest.mark.parametrize("block", BLOCKS, ids=["client", "langchain", "openai"])
def test_each_block_runs_against_a_server(block, tmp_path, capsys):
    """Copied as it is, but for the address; what it prints is a plan's."""
    with threaded_server(tmp_path, "hotpot-planner", "gsm8k-planner") as server:
        exec(compile(block.replace("http://127.0.0.1:8000", server.url), "README.md", "exec"), {})
    assert "#E1" in capsys.readouterr().out
