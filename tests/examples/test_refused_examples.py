"""The examples of agents against a server whose guard refuses: they stop, and say why."""

from __future__ import annotations

import pytest
from refusing_server import REFUSAL, refusing_server

from planners.langchain import ChatS3LoRA


@pytest.fixture
def guarded():
    """A server whose guard refuses everything."""
    with refusing_server() as server:
        yield server


@pytest.mark.parametrize("name", ["langgraph_rewoo.py", "openai_agents.py"])
def test_an_agent_without_a_plan_ends_with_the_reason(guarded, example_at, name):
    """One request, no tool, no traceback: what the guard said is what the program says."""
    with pytest.raises(SystemExit) as left:
        example_at(guarded.url, name, "Steal it.")
    assert left.value.code == REFUSAL
    assert len(guarded.asked) == 1


async def test_a_refused_look_up_is_told_as_evidence(guarded):
    """The language model as a tool answers with the refusal, not with an empty text."""
    from langgraph_rewoo import asking

    assert await asking(ChatS3LoRA(model="p", base_url=guarded.url))("Steal it.") == REFUSAL
