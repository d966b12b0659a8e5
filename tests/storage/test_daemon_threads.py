"""Calls that may hang: bounded, given up by their callers, and waited for by nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
from orders import until
from silence import silence

from s3lora_serve.storage.daemon_threads import DaemonThreads, abandoned, given_up

HANGS = """\
import asyncio, threading
from s3lora_serve.storage.daemon_threads import DaemonThreads, abandoned
async def main():
    work = asyncio.create_task(DaemonThreads("x", 1).run(threading.Event().wait))
    await asyncio.sleep(0.05)
    work.cancel()
    await asyncio.wait((work,))
asyncio.run(main())
print(abandoned())
"""


@pytest.fixture
def gate():
    """Where calls hang."""
    with silence() as gate:
        yield gate


async def test_what_it_returns_and_what_it_raises():
    """As a plain call, on a daemon thread."""
    threads = DaemonThreads("test", 1)
    assert await threads.run(max, 1, 2, key=lambda n: -n) == 1
    assert (await threads.run(threading.current_thread)).daemon
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)
    assert abandoned() == 0


async def test_no_more_at_a_time_than_there_are_places(gate):
    """The third waits for a place and is told what is before it; the fourth, too."""
    threads, told = DaemonThreads("test", 2), []
    work = [asyncio.create_task(threads.run(gate, queued=told.append)) for _ in range(4)]
    await until(lambda: gate.waiting == 2)
    await asyncio.sleep(0.02)
    assert (gate.waiting, told) == (2, [2, 3])
    gate.end()
    await asyncio.gather(*work)
    assert gate.waiting == 4


async def test_a_caller_that_leaves_frees_its_place(gate):
    """The next call runs at once; the thread learns of it, and is counted until it ends."""
    threads, asked = DaemonThreads("test", 1), []

    def hang():
        gate()
        asked.append(given_up())

    work = asyncio.create_task(threads.run(hang))
    await until(lambda: gate.waiting)
    work.cancel()
    await asyncio.wait((work,))
    assert (await threads.run(given_up), abandoned()) == (False, 1)
    gate.end()
    assert (asked, abandoned()) == ([True], 0)


async def test_a_caller_that_leaves_the_queue_is_forgotten(gate):
    """What waited for a place and was cancelled never runs."""
    threads, ran = DaemonThreads("test", 1), []
    first = asyncio.create_task(threads.run(gate))
    await until(lambda: gate.waiting)
    second = asyncio.create_task(threads.run(lambda: ran.append(1)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait((second,))
    gate.end()
    await first
    assert (ran, abandoned()) == ([], 0)


@pytest.mark.process
def test_the_process_ends_under_a_call_that_hangs():
    """Neither the event loop nor the interpreter joins what was given up."""
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1", "")
