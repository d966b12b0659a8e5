"""What waits for vLLM neither blocks the event loop nor outlives the engine. No engine is needed."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from types import SimpleNamespace

import pytest
from contract import until

from s3lora_serve.engine.vllm.vllm_client import beside, stop_client, while_alive


class Dead(Exception):
    """What the client's ``dead_error`` is."""


@pytest.fixture
def client():
    """An engine client that is alive."""
    return SimpleNamespace(errored=False, dead_error=Dead())


async def test_a_call_to_a_live_engine_is_passed_through(client):
    """Its result and its error are the call's own."""

    async def fails():
        raise ValueError("no")

    assert await while_alive(client, asyncio.sleep(0.15, "done")) == "done"
    with pytest.raises(ValueError, match="no"):
        await while_alive(client, fails())


async def test_a_call_that_the_engine_did_not_live_to_answer_ends(client):
    """vLLM would leave it waiting; it raises the client's own error and is cancelled."""
    call = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(while_alive(client, call))
    await asyncio.sleep(0.01)
    client.errored = True
    with pytest.raises(Dead):
        await asyncio.wait_for(waiting, timeout=20)
    assert call.cancelled()


async def test_a_cancelled_call_is_cancelled(client):
    """A cancelled wait cancels the call that it waited for."""
    call = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(while_alive(client, call))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert call.cancelled()


async def test_work_beside_the_loop_lets_it_turn():
    """The loop goes on until the work has ended, and gets its result or its error."""
    go = threading.Event()
    working = asyncio.create_task(beside(lambda: go.wait(20) and threading.current_thread().name))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not working.done()
    go.set()
    assert await working == "engine-start"

    def fails():
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await beside(fails)


@pytest.mark.parametrize("outcome", ["result", "error"])
async def test_cancelled_work_is_interrupted_and_what_it_made_is_disposed_of(outcome):
    """The cancellation gets through once the work has ended, and nothing that it made is left."""
    stopped, disposed = threading.Event(), []

    def work():
        stopped.wait(20)
        if outcome == "error":
            raise RuntimeError("interrupted")
        return "engine"

    working = asyncio.create_task(beside(work, interrupt=stopped.set, dispose=disposed.append))
    await asyncio.sleep(0.01)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert (stopped.is_set(), disposed) == (True, ["engine"] if outcome == "result" else [])


async def test_a_second_cancellation_does_not_wait():
    """The caller does not wait for work that cannot be interrupted."""
    go = threading.Event()
    interrupts = []
    working = asyncio.create_task(beside(lambda: go.wait(20), interrupt=lambda: interrupts.append(1)))
    await asyncio.sleep(0.01)
    working.cancel()
    await until(lambda: interrupts)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert not go.is_set()
    go.set()


def stopped(**changes):
    """A client to stop, with what stopping asks of it."""
    parts = {
        "shutdown": lambda timeout: None,
        "vllm_config": SimpleNamespace(shutdown_timeout=7),
        "output_handler": None,
        "output_processor": SimpleNamespace(propagate_error=lambda error: None),
        "dead_error": "dead",
    }
    return SimpleNamespace(**{**parts, **changes})


async def test_a_client_is_stopped_in_vllms_own_time():
    """Who waits for an answer is told first; ``shutdown`` runs beside the loop, with vLLM's own timeout."""
    seen, told = [], []
    handler = asyncio.create_task(asyncio.sleep(60))

    def shutdown(timeout):
        seen.append((timeout, threading.current_thread() is threading.main_thread()))

    processor = SimpleNamespace(propagate_error=told.append)
    await stop_client(stopped(shutdown=shutdown, output_handler=handler, output_processor=processor))
    assert (seen, told, handler.cancelled()) == ([(7, False)], ["dead"], True)


async def test_vllm_holds_nothing_of_a_stopped_engines_tokenizers():
    """What vLLM asks about functions of a renderer's tokenizers keeps no tokenizer once its engine ended."""
    supports_kw = pytest.importorskip("vllm.utils.func_utils").supports_kw

    class Tokenizer:
        """Fifty megabytes."""

    def renders():
        tokenizer = Tokenizer()

        def apply_chat_template(**options):
            return tokenizer, options

        assert supports_kw(apply_chat_template, "tools")
        return weakref.ref(tokenizer)

    tokenizer = renders()
    await stop_client(stopped())
    gc.collect()
    assert tokenizer() is None
