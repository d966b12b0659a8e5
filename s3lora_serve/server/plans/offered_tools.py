"""The tools that a plan is made with: the request's, or the planner's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from planners import ToolSpec


def tools_of(
    given: tuple[ToolSpec, ...] | None, own: tuple[ToolSpec, ...], who: str, param: str
) -> tuple[ToolSpec, ...]:
    """Those given, else the ``own`` ones of ``who`` answers. Raises RequestRefused (400) when there are none.

    ``given`` is None when the request leaves them out.
    """
    if given is None and not own:
        message = f"field {param!r} is required, since {who!r} has no tools configured"
    elif given is not None and not given:
        leave = f"leave it out to use those of {who!r}, or " if own else ""
        message = f"{param}: an empty list leaves nothing to plan with; {leave}offer at least one tool"
    else:
        return own if given is None else given
    raise RequestRefused(message, reason="invalid_request", param=param)
