"""The example of the client: as short as it says, and it runs."""

from __future__ import annotations


def test_it_prints_each_level_and_what_the_plan_cost(example, server, writer):
    """A line a step, by level, and one that names the revision."""
    writer.text = writer.text.replace("Calculator", "LLM")  # this example offers none
    *steps, last = example("plan_client.py", "How long is the Nile?").splitlines()
    assert [line.split(" = ")[0] for line in steps] == [
        "level 1: #E1",
        "level 1: #E2",
        "level 2: #E3",
        "level 2: #E4",
        "level 3: #E5",
    ]
    revision = server.fleet.shelf.revisions["hotpot-planner"].digest[:12]
    assert last.startswith(f"revision {revision}, ")
