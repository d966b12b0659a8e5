"""What requests for plans may ask for, and the tools that a planner has when a request names none."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from planners.grammar import MAX_TEXT
from planners.request import LEAST_TEXT, MOST_TEXT
from planners.tools import MAX_STEPS, MAX_TOOLS, TOOL_NAME
from s3lora_serve.config.section import Section

_TOOL_NAME = f"^{TOOL_NAME.pattern}$"


class PlansConfig(Section):
    """What one request for a plan may ask for at most."""

    max_tools: int = Field(64, ge=1, le=MAX_TOOLS, description="tools that a request may offer")
    max_steps: int = Field(MAX_STEPS, ge=1, le=MAX_STEPS, description="steps that a request may ask for")
    max_text: int = Field(
        MAX_TEXT,
        ge=LEAST_TEXT,
        le=MOST_TEXT,
        description="characters of a thought or an input: the most that a request may ask for, "
        "and the default",
    )
    seconds: float = Field(120, gt=0, description="a plan that is not whole within this gets 503")


class ToolConfig(Section):
    """One tool of a planner."""

    name: str = Field(
        description="what plans call it: letters, digits, '_', '-' and '.'",
        json_schema_extra={"pattern": _TOOL_NAME},
    )
    description: str = Field("", description="what it does, for the planner to read")
    parameters: dict[str, Any] | None = Field(
        None, description="JSON Schema of its arguments, an object; without it, the tool's input is a text"
    )
