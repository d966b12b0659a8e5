"""A running fleet as tables: planners with their revisions, the latest operations, the history."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from s3lora_serve.cli.fleet.operation_view import ordered, took
from s3lora_serve.control.operation_summary import short
from s3lora_serve.safety.exam.exam_facts import exam_line
from s3lora_serve.safety.guard.guard_facts import guard_line
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.tables import cells, fitted, plain_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

_STYLES = {
    "serving": "green",
    "canary": "cyan",
    "shadow": "cyan",
    "failed": "bold red",
    "evicted": "yellow",
    "draining": "yellow",
}
_STEP_STYLES = {"done": "green", "failed": "bold red", "undone": "bold red", "cancelled": "yellow"}


def fleet(
    planners: Sequence[Mapping[str, Any]],
    operations: Sequence[Mapping[str, Any]],
    engine: Mapping[str, Any],
) -> Group:
    """Every planner with all its revisions, what is being tried, and the operations."""
    table = plain_table("planner", "revision", "role", "state", "requests", "slot", "pruned", "source")
    notes: list[str] = []
    for planner in planners:
        for role, deployment in _roles(planner):
            total = deployment["kept_modules"] + deployment["pruned_modules"]
            state = deployment["state"] + (" by the base model" if deployment["served_by"] == "base" else "")
            table.add_row(
                *cells(
                    planner["id"] if role == "active" else "",
                    short(deployment["revision"]),
                    role,
                    Text(printable(state), _STYLES.get(deployment["state"], "")),
                    deployment["leases"],
                    "-" if deployment["slot"] is None else deployment["slot"],
                    f"{deployment['pruned_modules']} of {total}",
                    deployment["source"],
                )
            )
            if deployment["reason"]:
                notes.append(f"{planner['id']} {short(deployment['revision'])}: {deployment['reason']}")
            if exam := deployment.get("exam"):
                notes.append(f"{planner['id']} {short(deployment['revision'])}: {exam_line(exam)}")
        notes += _notes(planner)
    table = fitted(table, "source", "pruned", "slot")
    notes = [*_engine_notes(engine), *notes]
    parts: list[Any] = [table, *(Text(printable(note), "yellow") for note in notes)]
    if operations:
        parts += [Text(), operation_list(operations)]
    return Group(*parts)


def _engine_notes(engine: Mapping[str, Any]) -> list[str]:
    notes = [] if engine["kind"] == "vllm" else [f"engine: {engine['kind']}"]
    if kernels := engine.get("lora_kernels"):  # none from a server of an earlier release
        notes.append(f"engine: {kernels}")
    if restart := engine["restart"]:
        seconds = took(max(0.0, time.time() - restart["began_at"]))
        notes.append(f"the engine restarts, {seconds} so far: {restart['stage']} ({engine['reason']})")
    elif not engine["alive"]:
        notes.append(f"the engine does not run: {engine['reason']}")
    return notes


def operation_list(operations: Iterable[Mapping[str, Any]]) -> Table:
    """Operations, one a line."""
    table = plain_table("operation", "order", "step", "age", "revision", "by", fold=("order", "step"))
    now = time.time()
    for operation in operations:
        fraction = operation.get("fraction")
        share = "" if fraction is None else f" {fraction:.0%}"
        progress = f": {operation['progress']}{share}" if operation.get("progress") else ""
        step = f"{operation['step']}{progress}"
        table.add_row(
            *cells(
                operation["id"],
                ordered(operation),
                Text(printable(step), _STEP_STYLES.get(operation["step"], "cyan")),
                took(max(0.0, now - operation["started_at"])),
                _move(operation["from_digest"], operation["to_digest"]),
                operation["order"]["actor"],
            )
        )
    return fitted(table, "by", "age")


def history(entries: Iterable[Mapping[str, Any]]) -> Table:
    """Entries of the journal, in the order that they are given in."""
    table = plain_table("seq", "at (UTC)", "by", "what", "planner", "revision", "reason", fold=("planner",))
    for entry in entries:
        table.add_row(
            *cells(
                entry["seq"],
                str(entry["at"])[:19].replace("T", " "),
                entry["actor"],
                entry["action"] + (" (dry run)" if (entry.get("details") or {}).get("dry_run") else ""),
                entry["planner"] or "-",
                _move(entry["from_digest"], entry["to_digest"]),
                entry["reason"] or _why(entry.get("details") or {}),
            )
        )
    return fitted(table, "seq", "reason", "by")


def _roles(planner: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    rows = [("active", planner["active"])]
    if planner["candidate"]:
        rollout = planner["rollout"] or {}
        kind = "shadow" if rollout.get("shadow") else "canary"
        rows.append((f"{kind} {rollout.get('share', 0):.3g}", planner["candidate"]))
    for other in planner["others"]:
        rows.append(("previous" if other["revision"] == planner["previous"] else "old", other))
    return rows


def _notes(planner: Mapping[str, Any]) -> list[str]:
    notes = []
    rollout = planner["rollout"] or {}
    if rollout.get("promote_after"):
        notes.append(f"{planner['id']}: promoted by itself after {rollout['promote_after']} good requests")
    if guard := planner.get("guard"):
        notes.append(f"{planner['id']}: {guard_line(guard)}")
    if shadow := planner.get("shadow"):
        notes.append(f"{planner['id']}: {_shadow(shadow)}")
    shown = {other["revision"] for other in planner["others"]} | {planner["revision"]}
    # With a candidate on trial a rollback gives that up, and loads nothing.
    if planner["candidate"] is None and planner["previous"] and planner["previous"] not in shown:
        previous = short(planner["previous"])
        notes.append(f"{planner['id']}: a rollback loads {previous} from the store")
    return notes


def _shadow(stats: Mapping[str, Any]) -> str:
    """How often a shadow agreed, and what it cost beside the answers that were given."""
    runs = stats["runs"]
    parts = [f"shadow ran {runs} of {stats['offered']} requests again"]
    if runs:
        parts.append(f"same text {stats['text_agreement']:.0%}")
        if stats["tool_agreement"] is not None:
            parts.append(f"same tools {stats['tool_agreement']:.0%} of {stats['plans']} plans")
        parts.append(f"tokens {stats['tokens'] / runs:.0f} → {stats['candidate_tokens'] / runs:.0f}")
        parts.append(f"time {took(stats['seconds'] / runs)} → {took(stats['candidate_seconds'] / runs)}")
    parts += [f"{stats[name]} {name}" for name in ("failed", "dropped") if stats[name]]
    return ", ".join(parts) + (f"; last error: {stats['last_error']}" if stats["last_error"] else "")


def _move(old: object, new: object) -> str:
    if new is None:
        return short(old)
    return f"{short(old)} → {short(new)}" if old and old != new else short(new)


def _why(details: Mapping[str, Any]) -> str:
    error = details.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else ""
