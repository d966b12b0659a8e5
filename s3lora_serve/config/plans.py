"""What requests for plans may ask for, and the tools that a planner has when a request names none."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from s3lora_serve.config.section import Section

# The planner contract's own limits (planners/tools.py, planners/request.py); no setting can go beyond them.
_TOOL_NAME = "^[A-Za-z_][A-Za-z0-9_]{0,63}$"
MOST_TOOLS, MOST_STEPS, LEAST_TEXT, MOST_TEXT, MOST_TASK_CHARS = 256, 32, 16, 1_000, 32_000


class PlansConfig(Section):
    """What one request for a plan may ask for at most."""

    max_tools: int = Field(64, ge=1, le=MOST_TOOLS, description="tools that a request may offer")
    max_steps: int = Field(MOST_STEPS, ge=1, le=MOST_STEPS, description="steps that a request may ask for")
    max_text: int = Field(
        240,
        ge=LEAST_TEXT,
        le=MOST_TEXT,
        description="characters of a thought or an input: the most that a request may ask for, "
        "and the default",
    )
    max_task_chars: int = Field(
        MOST_TASK_CHARS,
        ge=1,
        le=MOST_TASK_CHARS,
        description="characters of a task; the model's context may be shorter",
    )
    seconds: float = Field(120, gt=0, description="a plan that is not whole within this gets 503")


class ToolConfig(Section):
    """One tool of a planner."""

    name: str = Field(
        description="what plans call it: letters, digits and '_'", json_schema_extra={"pattern": _TOOL_NAME}
    )
    description: str = Field("", description="what it does, for the planner to read")
    parameters: dict[str, Any] | None = Field(
        None, description="JSON Schema of its arguments, an object; without it, the tool's input is a text"
    )
