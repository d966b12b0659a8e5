"""What is wrong with a planners.yaml: line, path, value and limit of each problem."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel

from s3lora_serve.config.listeners import AdminConfig, ServerConfig
from s3lora_serve.config.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

Loc = tuple[int | str, ...]

MAX_LISTED = 50  # to explain one takes about a millisecond

# Where people look for it; a file that chose a fake engine could be served by mistake.
_ENGINE_KEYS = {("engine", name) for name in ("kind", "name", "type", "backend", "engine", "fake")}
_BEFORE_HOST = re.compile(r"://\S*@")  # also a password with a slash
_AFTER_PATH = re.compile(r"(://[^\s'\"?#]*[?#])[^\s'\"]+")
_SECRET = re.compile(r"(^|_)(api_?key|token|secret|password|credentials?)(_env)?$", re.IGNORECASE)


def explain(error: ErrorDetails) -> str:
    """One pydantic error as a sentence that names the value and the limit; never the value of a secret."""
    kind, loc = error["type"], tuple(error["loc"])
    if _chooses_engine(loc, error["input"]):
        return "which engine serves is not set here: start s3lora-serve with --engine, and leave this out"
    if kind == "extra_forbidden":
        return _unknown_key(loc)
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if loc[-1:] == ("[key]",):
        return f"YAML reads one of its keys as {error['input']!r}; put that key in quotes"
    if kind == "too_short":
        return "is empty; at least one entry is needed"
    if kind in ("model_type", "dict_type"):
        message = "should be a mapping"
    elif kind == "string_type":
        message = "should be text, in quotes if YAML reads it otherwise"
    elif loc[-1:] in (("api_key_env",), ("token_env",)):
        message = "should be the name of an environment variable: letters, digits and '_'"
    else:
        message = str(error["msg"]).removeprefix("Input ").removeprefix("String ").removeprefix("Value ")
    if any(_SECRET.search(str(part)) for part in loc):
        return message  # a key pasted into the wrong place must not reach a log
    return f"{message}, not {_short(error['input'])}"


def listing(path: Path, problems: Sequence[tuple[Loc, str | ErrorDetails]], lines: Mapping[Loc, int]) -> str:
    """A file's problems, by line: ``line 7, engine.max_lora: unknown key; did you mean max_loras?``

    All are counted; the first ``MAX_LISTED`` are explained.
    """

    def line_of(loc: Loc) -> int:
        while loc and loc not in lines:
            loc = loc[:-1]
        return lines.get(loc, 0)

    rows = []
    for loc, problem in sorted(problems, key=lambda p: line_of(p[0]))[:MAX_LISTED]:
        message = problem if isinstance(problem, str) else explain(problem)
        line = [f"line {line_of(loc)}"] if line_of(loc) else []
        parts = loc[:-2] if loc[-1:] == ("[key]",) else loc
        dotted = [".".join(str(part) for part in parts)] if parts else []
        where = ", ".join([*line, *dotted])
        rows.append(f"  {where}: {message}" if where else f"  {message}")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    if len(problems) > MAX_LISTED:
        rows.append(f"  and {len(problems) - MAX_LISTED} more")
    return "\n".join([f"{path} has {count}:", *rows])


def _chooses_engine(loc: Loc, given: object) -> bool:
    """Whether the file tries to choose the kind of engine: ``engine: fake``, or a key for it."""
    if loc == ("engine",):
        return isinstance(given, str)
    return loc in _ENGINE_KEYS


def _unknown_key(loc: Loc) -> str:
    key, known = str(loc[-1]), list(_model_at(loc[:-1]).model_fields)
    if _SECRET.search(key):
        if "admin" in "".join(str(part) for part in loc).lower():
            env, setting = AdminConfig.model_fields["token_env"].default, "admin.token_env"
        else:
            env, setting = ServerConfig.model_fields["api_key_env"].default, "server.api_key_env"
        return (
            f"secrets are read from the environment only; remove it here, set {env} instead"
            f" (another name: {setting})"
        )
    if close := difflib.get_close_matches(key, known, n=1):
        return f"unknown key; did you mean {close[0]}?"
    for dotted in _all_keys(Config):
        if dotted.rsplit(".", 1)[-1] == key:
            return f"unknown key here; did you mean {dotted}?"
    nearest = max(known, key=lambda k: difflib.SequenceMatcher(None, key, k).ratio())
    return f"unknown key; the nearest known one is {nearest} (known: {', '.join(known)})"


def _model_at(loc: Loc) -> type[BaseModel]:
    """The section that a path leads to; in ``dict[str, Section]`` and lists the path names the entry too."""
    model: type[BaseModel] = Config
    parts = iter(loc)
    for part in parts:
        annotation = model.model_fields[str(part)].annotation
        inner = _section_in(annotation)
        if inner is None:
            break
        model = inner
        if get_origin(annotation) in (dict, list):
            next(parts, None)
    return model


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section in ``Section``, ``Section | None``, ``dict[str, Section]`` or ``list[Section]``."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if (section := _section_in(field.annotation)) is not None:
            outer = get_origin(field.annotation)
            entry = "NAME." if outer is dict else "N." if outer is list else ""
            yield from _all_keys(section, f"{prefix}{name}.{entry}")


def _short(value: Any) -> str:
    """The value in at most 60 characters, without what may be a secret in an address."""
    text = _AFTER_PATH.sub(r"\1***", _BEFORE_HOST.sub("://***@", repr(value)))
    return text if len(text) <= 60 else text[:57] + "..."
