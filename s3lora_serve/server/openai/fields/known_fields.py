"""Names of fields in chats and completions: those that are known, those that are misspelt, and all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.guarded.guard_fields import (
    HARMLESS,
    JUDGED,
    RESPONSES_ONLY,
    SLIPS,
    UNKNOWN_TO_THE_ENGINE,
)
from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

# vLLM's that only one of the two routes has; every other field of vLLM's is one of both.
CHAT_ONLY = frozenset(
    (
        "add_generation_prompt", "chat_template", "chat_template_kwargs", "continue_final_message",
        "documents", "include_reasoning", "max_completion_tokens", "media_io_kwargs", "messages",
        "mm_processor_kwargs", "parallel_tool_calls", "reasoning_effort", "return_prompt_text",
        "tool_choice", "tools", "top_logprobs",
    )
)  # fmt: skip
TEXT_ONLY = frozenset(("prompt", "prompt_embeds", "suffix"))
_GONE = frozenset(("functions", "function_call", "logits_processors"))  # of the engine's earlier versions
BOTH = (
    (JUDGED | HARMLESS | set(SLIPS) | {"add_special_tokens", "s3lora"})
    - _GONE
    - CHAT_ONLY
    - TEXT_ONLY
    - RESPONSES_ONLY
)
# OpenAI's that do nothing here, with values that ask for nothing.
_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(UNKNOWN_TO_THE_ENGINE, (False, {}, [])),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
    "best_of": (1,),
}
# Fields of the objects in which a slip loses a promise; ``[]`` is any entry of a list.
INSIDE: Mapping[str, frozenset[str]] = {
    "stream_options": frozenset(("include_usage", "continuous_usage_stats", "include_obfuscation")),
    "response_format": frozenset(("type", "json_schema", "format", "structures", "triggers")),
    "response_format.json_schema": frozenset(("name", "description", "schema", "strict")),
    "tools[]": frozenset(("type", "function", "defer_loading")),
    "tools[].function": frozenset(("name", "description", "parameters", "strict", "defer_loading")),
}
MOST_UNKNOWN = 64
_MOST_SHOWN = 8
_MOST_CHARS = 80  # of a name


def unknown_fields(
    fields: Mapping[str, Any], *, chat: bool, strict: bool = False, known: Collection[str] | None = None
) -> tuple[str, ...]:
    """Paths of the fields that do nothing here and ask for something.

    Raises RequestRefused (400) for one that looks like a known one, for any with ``strict``, and for over
    ``MOST_UNKNOWN``: each is compared with every name that is ``known``, by default chats' or completions'.
    """
    elsewhere = TEXT_ONLY if chat else CHAT_ONLY
    known = BOTH | (CHAT_ONLY if chat else TEXT_ONLY) if known is None else known
    names = {*known, *_WITHOUT_EFFECT}
    found: list[tuple[str, str, Collection[str]]] = [
        ("", name, names) for name in fields if name not in known and _asks(name, fields[name])
    ]
    if chat:
        found += _inside(fields)
    if len(found) > MOST_UNKNOWN:
        raise _refused(found[0][0] + found[0][1], f"over {MOST_UNKNOWN} unknown fields, the first one ", "")
    for before, name, others in found:
        here = bool(before) or (name not in elsewhere and name not in _WITHOUT_EFFECT)
        near = meant(name, others) if here else None
        if near is not None:
            raise _refused(before + name, "unknown field ", f"did you mean {before + near!r}?")
    paths = tuple(before + name for before, name, _ in found)
    if strict and paths:
        hint = "leave it out: server.strict_fields of this server refuses what has no effect"
        raise _refused(paths[0], "unknown field ", hint)
    return paths


def warning(paths: Sequence[str]) -> dict[str, str]:
    """The header that names fields without effect; none without any. What clients sent is cut, and ASCII."""
    if not paths:
        return {}
    shown = ", ".join(_plain(path) for path in paths[:_MOST_SHOWN])
    more = f" and {len(paths) - _MOST_SHOWN} more" if len(paths) > _MOST_SHOWN else ""
    return {"warning": f'299 s3lora-serve "fields without effect: {shown}{more}"'}


def meant(name: str, known: Collection[str]) -> str | None:
    """The known name that this one is a slip of: up to two letters off, one if it is short; else None."""
    given = name.casefold().replace("-", "_")
    bare = given.replace("_", "")
    if len(bare) > _MOST_CHARS:
        return None
    near: list[tuple[int, str]] = []
    for other in known:
        other_bare = other.replace("_", "")
        short = min(len(bare), len(other_bare))
        most = 2 if short >= 5 else 1 if short >= 3 else 0
        off = min(distance(given, other, most), distance(bare, other_bare, most))
        if off <= most:
            near.append((off, other))
    return min(near)[1] if near else None


def distance(one: str, other: str, most: int) -> int:
    """Letters to change, add, leave out or swap with the next one; ``most + 1`` for anything above."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, last = last, row
    return min(last[-1], most + 1)


def _asks(name: str, value: Any) -> bool:
    """Whether a field that is not known asks for something."""
    nothing = _WITHOUT_EFFECT.get(name, ())
    return value is not None and not any(type(value) is type(other) and value == other for other in nothing)


def _inside(fields: Mapping[str, Any]) -> Iterator[tuple[str, str, Collection[str]]]:
    """(path before it, name, known names) of each unknown field of the objects that are looked into."""
    for where, known in INSIDE.items():
        for path, value in _at(fields, where):
            unknown = (name for name in value if name not in known and value[name] is not None)
            yield from ((f"{path}.", name, known) for name in unknown)


def _at(fields: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects at a path of ``INSIDE``, each with its own path."""
    first, _, rest = where.partition(".")
    value = fields.get(first.removesuffix("[]"))
    if not first.endswith("[]"):
        each = [(first, value)]
    else:
        entries = value if isinstance(value, list) else []
        each = [(f"{first[:-1]}{index}]", entry) for index, entry in enumerate(entries)]
    for path, found in each:
        inner = found.get(rest) if rest and isinstance(found, dict) else found
        if isinstance(inner, dict):
            yield f"{path}.{rest}" if rest else path, inner


def _plain(path: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-.[]") else "?" for c in path[:40])


def _refused(path: str, what: str, hint: str) -> RequestRefused:
    path = path[:_MOST_CHARS]
    return RequestRefused(
        f"{what}{path!r} would have no effect", reason="ignored_field", param=path, hint=hint
    )
