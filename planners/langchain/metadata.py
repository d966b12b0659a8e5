"""What the server says beside an answer: who answered, at what cost, and the plan itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planners.langchain.withheld import plan_refused
from planners.meta import PlanMeta
from planners.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.messages import BaseMessage

# Fields of PlanMeta that the server's "s3lora" object has under the same name.
_SHARED = ("planner", "revision", "role", "base_model", "ssi", "pruned_modules", "guard")


def extras(response: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What goes into a message's response_metadata, and what into its additional_kwargs.

    Read off the top level of an answer or of a stream's last chunk: ``usage`` has both only in a form that
    can be added up.
    """
    metadata = {name: dict(response[name]) for name in ("s3lora", "cost") if response.get(name)}
    plan = metadata.get("s3lora", {}).pop("plan", None)
    return metadata, {"plan": plan} if plan is not None else {}


def plan_of(message: BaseMessage) -> Plan:
    """The plan that a message carries, with its meta.

    Raises PlanRefused when the server's guard withheld it, ValueError when there is none, or it was cut.

    The message has it as plain JSON, so that it survives checkpoints: ``additional_kwargs["plan"]``.
    """
    metadata = message.response_metadata
    served = metadata.get("s3lora", {})
    plan = message.additional_kwargs.get("plan")
    if plan is None:
        if (refused := plan_refused(message)) is not None:
            raise refused
        if problems := served.get("problems"):
            raise ValueError(f"the answer is not a complete plan: {_told(problems)}")
        raise ValueError("the message carries no plan; ask with model.with_plan(tools)")
    meta = None
    if served:
        meta = PlanMeta.model_validate(
            {
                **{name: served[name] for name in _SHARED if name in served},
                "cost": metadata.get("cost"),
                "usage": _usage(message),
                "system_fingerprint": metadata.get("system_fingerprint"),
                "finish_reason": metadata.get("finish_reason"),
                "constraint": "grammar",
            }
        )
    return Plan.model_validate({"steps": plan["steps"], "meta": meta})


def _usage(message: BaseMessage) -> dict[str, Any] | None:
    counted = getattr(message, "usage_metadata", None)
    if counted is None:
        return None
    return {
        "prompt_tokens": counted["input_tokens"],
        "output_tokens": counted["output_tokens"],
        "cached_tokens": counted.get("input_token_details", {}).get("cache_read"),
    }


def _told(problems: list[Any]) -> str:
    return "; ".join(str(one.get("message", one)) if isinstance(one, dict) else str(one) for one in problems)
