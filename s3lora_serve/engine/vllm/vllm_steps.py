"""A stat logger of vLLM's that logs nothing: it tells of each step that the engine makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def step_logger(step: Callable[[], None]) -> Callable[..., Any]:
    """What ``stat_loggers`` takes: for each of vLLM's engines a logger that calls ``step`` at each step.

    vLLM records every step, also one without tokens, such as while a grammar is compiled or the KV cache is
    full (v1/core/sched/scheduler.py, ``update_from_output``). Imports vLLM.
    """
    from vllm.v1.metrics.loggers import StatLoggerBase

    class StepLogger(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(self, *stats: Any, **more: Any) -> None:
            step()

        def log_engine_initialized(self) -> None:
            pass

    # Not the class: vLLM takes a class of another kind for one logger of all its engines.
    return lambda vllm_config, engine_index=0: StepLogger(vllm_config, engine_index)
