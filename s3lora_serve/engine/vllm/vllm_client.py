"""vLLM's engine client: built outside the event loop; its calls end when its engine ends."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from s3lora_serve.engine.vllm.vllm_steps import step_logger

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

T = TypeVar("T")

_POLL_SECONDS = 0.1


async def start_client(arguments: Namespace, step: Callable[[], None]) -> Any:
    """An ``AsyncLLM`` whose engine is up, in 10 to 20 s on CPU; other tasks run meanwhile.

    ``step`` is called for each step that the engine makes from then on, in the event loop.

    If cancelled, the engine's processes are killed before this returns. Raises whatever vLLM raises.

    ``AsyncLLM`` may be made in a thread without an event loop: it then starts its tasks with the first call,
    in the loop of that call (v1/engine/async_llm.py, v1/engine/core_client.py; so since 0.26).
    """
    before = set(multiprocessing.active_children())
    return await beside(
        partial(_make, arguments, step),
        interrupt=partial(_kill_new, before),
        dispose=lambda client: client.shutdown(),
    )


async def stop_client(client: Any) -> None:
    """End the engine's processes, at once unless vLLM's ``shutdown_timeout`` says otherwise.

    Requests that still run end with EngineDeadError; vLLM by itself would leave them waiting for ever.
    """
    client.output_processor.propagate_error(client.dead_error)
    if client.output_handler is not None:
        client.output_handler.cancel()  # before it finds the engine gone and logs that as a failure
    await beside(partial(client.shutdown, timeout=client.vllm_config.shutdown_timeout))
    _forget_functions()


def _forget_functions() -> None:
    """Empty vLLM's cache of functions' signatures (utils/func_utils.py).

    A renderer's tokenizers have functions of their own. The cache holds these, and they the tokenizers: 50 MB
    of each engine that ever ran.
    """
    func_utils = sys.modules.get("vllm.utils.func_utils")
    for name in ("_supports_kw", "supports_kw"):  # the second in vLLM 0.26
        clear = getattr(getattr(func_utils, name, None), "cache_clear", None)
        if clear is not None:
            clear()


def kill_client(client: Any) -> None:
    """SIGKILL the engine's processes, the workers first; what runs on it ends with EngineDeadError.

    The workers first, so that none is left behind by a core that is gone. A process that is stopped
    (SIGSTOP) dies of it, too, where it would leave SIGTERM lying.
    """
    from vllm.v1.utils import kill_process_tree

    client.output_processor.propagate_error(client.dead_error)
    manager = client.engine_core.resources.engine_manager
    for core in getattr(manager, "processes", ()):  # none if they are another program's
        try:
            kill_process_tree(core.pid)
        except Exception:  # one of them ended meanwhile
            log.exception("not every process of the engine could be found")
        core.kill()


async def while_alive(client: Any, call: Awaitable[T]) -> T:
    """What the call returns or raises; EngineDeadError if the engine ends first.

    vLLM forgets calls that are under way when its engine dies: a caller of ``add_lora`` would wait for ever
    (v1/engine/core_client.py, ``utility_results``).
    """
    task = asyncio.ensure_future(call)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_POLL_SECONDS)
            if not task.done() and client.errored:
                raise client.dead_error
        return task.result()
    finally:
        task.cancel()


async def beside(
    work: Callable[[], T],
    *,
    interrupt: Callable[[], None] = lambda: None,
    dispose: Callable[[T], None] = lambda _: None,
) -> T:
    """Run ``work`` in a new thread.

    If cancelled, ``interrupt`` is called until the work has ended, and ``dispose`` gets what it still made. A
    second cancellation does not wait; the thread is a daemon, so it keeps no process from ending.
    """
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # from here it cannot be cancelled

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # the waiting caller gets it
            done.set_exception(error)

    threading.Thread(target=run, name="engine-start", daemon=True).start()
    waiting = asyncio.wrap_future(done)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        while not waiting.done():
            interrupt()
            await asyncio.wait({waiting}, timeout=_POLL_SECONDS)
        if waiting.exception() is None:
            dispose(waiting.result())
        raise


def _make(arguments: Namespace, step: Callable[[], None]) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    from s3lora_serve.engine.vllm.vllm_metrics import planner_metrics

    settings = AsyncEngineArgs.from_cli_args(arguments)
    return AsyncLLM.from_engine_args(
        settings,
        usage_context=UsageContext.OPENAI_API_SERVER,
        stat_loggers=[planner_metrics(), step_logger(step)],
    )


def _kill_new(before: set[Any]) -> None:
    """Kill the engine that is being started; vLLM, which waits for it, then gives up."""
    for process in set(multiprocessing.active_children()) - before:
        if process.name.startswith("EngineCore") and process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
