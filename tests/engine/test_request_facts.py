"""Who begins an engine request hears what it cost, and nobody else does."""

from __future__ import annotations

import asyncio

from s3lora_serve.engine.request_facts import collect_facts, collected_facts


async def test_blocks_nest():
    """The outer block hears all, the inner one what is begun in it, and neither what comes after."""
    with collected_facts() as outer:
        collect_facts("one")
        with collected_facts() as inner:
            collect_facts("two")
        collect_facts("three")
    collect_facts("four")
    assert (outer, inner) == (["one", "two", "three"], ["two"])


async def test_tasks_are_heard_by_those_who_began_them():
    """Also after the block, as the request of a client that has left; a task hears its own requests only."""

    async def work(name):
        with collected_facts() as own:
            await asyncio.sleep(0)
            collect_facts(name)
        return own

    with collected_facts() as mine:
        begun = [asyncio.create_task(work(name)) for name in "ab"]
    other = asyncio.create_task(work("c"))
    assert await asyncio.gather(*begun, other) == [["a"], ["b"], ["c"]]
    assert mine == ["a", "b"]
