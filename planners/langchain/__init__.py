"""Planners in LangChain: a Runnable that plans, a chat model, and LangChain's tools as a planner's tools."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planners.langchain.chat import ChatS3LoRA
    from planners.langchain.metadata import plan_of
    from planners.langchain.runnable import S3LoRAPlanner
    from planners.langchain.tool_conversion import tool_specs

__all__ = ["ChatS3LoRA", "S3LoRAPlanner", "plan_of", "tool_specs"]

_HOMES = {
    "ChatS3LoRA": "chat",
    "S3LoRAPlanner": "runnable",
    "plan_of": "metadata",
    "tool_specs": "tool_conversion",
}


def __getattr__(name: str) -> Any:
    """Import on demand: LangChain is an extra, and a missing one is named with the way to get it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith(("langchain", "openai")):
            message = f'{name} needs {missing}: pip install "s3lora-planners[langchain]"'
            raise ImportError(message, name=missing) from error
        raise
