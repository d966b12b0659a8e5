"""An operation in one sentence, for every face: the command line, pages and scripts say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.control.operation import Kind, Operation, Step
from s3lora_serve.errors import EngineDead
from s3lora_serve.safety.exam.exam_words import exam_words

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORT = 12  # digits of a digest that are shown, as in the names of slots


def summary(operation: Operation) -> str:
    """What it did, is doing, or why it failed and what serves now; not who ordered it, nor how long."""
    if not operation.step.ended:
        progress = f": {operation.progress}" if operation.progress else ""
        return f"{operation.step}{progress}"
    if operation.step is not Step.DONE:
        return f"{_failure(operation)}{_what_serves(operation)}"
    if operation.kind is Kind.APPLY:
        return _applied(operation)
    old, new, details = short(operation.from_digest), short(operation.to_digest), operation.details
    same = bool(details.get("same"))
    if details.get("dry_run"):
        return f"{new} was admitted, nothing else changed{'; it serves already' if same else ''}"
    if operation.kind is Kind.EXAM:
        return _examined(operation)
    if same:
        return f"{operation.planner} serves {new} already"
    if operation.kind in (Kind.CANARY, Kind.SHADOW):
        new += _mended(operation)
        share = f"{details.get('share', 0):.3g}"
        tried = new if operation.to_digest else "the candidate"
        if operation.kind is Kind.SHADOW:
            return f"{tried} shadows a share of {share} and answers no requests; {old} answers"
        return f"{tried} answers a share of {share}; {old} answers the rest"
    if details.get("gives_up"):
        return f"the candidate {str(details['gives_up']).rpartition('@')[2]} is given up; {old} serves"
    return f"{old} → {new}{_mended(operation)}"


def _mended(operation: Operation) -> str:
    """The policy of what mending let serve; nothing if it was not mended."""
    rungs = (operation.details.get("mending") or {}).get(operation.planner, {}).get("rungs") or ()
    return f" (mended: top {rungs[-1]['top']})" if rungs else ""


def _applied(operation: Operation) -> str:
    changes = operation.details.get("changes") or ()
    if not changes:
        return (
            "nothing to change: planners and policies are declared as they were applied last;"
            " planners that were swapped by order keep their revision"
        )
    if operation.details.get("dry_run"):
        return "nothing was changed"
    return f"{len(changes)} planner{'s' if len(changes) > 1 else ''} changed"


def _examined(operation: Operation) -> str:
    found = operation.details.get("exam") or {}
    before = " (kept from an earlier exam)" if operation.details.get("kept") else ""
    return f"{short(operation.to_digest)} {exam_words(found)}{before}: {found.get('why', '')}"


def _failure(operation: Operation) -> str:
    error: Mapping[str, str] = operation.error or {}
    undone = "the server ended before it was decided, so it was undone"
    return error.get("message") or (undone if operation.step is Step.UNDONE else "it failed")


def _what_serves(operation: Operation) -> str:
    if (operation.error or {}).get("code") == EngineDead.code:
        return "; nothing serves until the engine is back"
    return f"; {short(operation.from_digest)} still serves" if operation.from_digest else ""


def short(digest: object) -> str:
    """The digits of a digest that people compare; ``-`` for none."""
    return str(digest)[:SHORT] if digest else "-"
