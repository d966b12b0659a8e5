"""Which request, and which operation, a line of the log belongs to; tasks inherit it from who began them"""

from __future__ import annotations

from contextvars import ContextVar

REQUEST: ContextVar[str] = ContextVar("s3lora_request", default="")
OPERATION: ContextVar[str] = ContextVar("s3lora_operation", default="")


def log_context() -> dict[str, str]:
    """What is known of both where this is called."""
    named = {"request": REQUEST.get(), "operation": OPERATION.get()}
    return {name: value for name, value in named.items() if value}
