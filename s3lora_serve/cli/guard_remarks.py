"""Who would judge whose requests under a configuration, and what of that will not go as it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from planners.loopback import is_loopback
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.safety.judged_callers import judges_nobody
from s3lora_serve.safety.guard.guard_facts import guard_facts, guard_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3lora_serve.config import Config, GuardConfig

_REFUSES_NOTHING = 0.02  # of the attacks; what the demo's base model was measured to refuse at most
_NO_START = "the server will not start"


def guard_lines(config: Config) -> tuple[str, ...]:
    """One line for planners with the same guard, in the order of the file."""
    lines: dict[str, list[str]] = {}
    for name in config.planners:
        lines.setdefault(guard_line(guard_facts(config.guard_of(name))), []).append(name)
    return tuple(f"{', '.join(names)}: {line}" for line, names in lines.items())


def guard_remarks(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """What goes wrong with guards, or is easily overlooked, each as a sentence that begins with its section.

    Of the base model only what lies in a folder of this machine is looked at.
    """
    guards = {"guard": config.guard}
    for name, planner in config.planners.items():
        if planner.guard is not None:
            guards[f"planners.{name}.guard"] = planner.guard
            if config.guard.asks and not planner.guard.asks:
                yield f"planners.{name}.guard: nothing judges its requests, though the fleet has a guard"
    for where, guard in guards.items():
        if not guard.asks:
            if ignored := sorted(guard.model_fields_set - {"action"}):
                yield f"{where}.action is off: {', '.join(ignored)} has no effect, and nothing is judged"
            continue
        for remark in (*_any(config, guard), *_base(config, guard), *_endpoint(guard)):
            yield f"{where}{remark}"
        try:
            guard.api_key(environ, where)
        except ConfigError as error:
            yield f"{error.message} here; {_NO_START} without it"


def key_remarks(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the keys of callers here, and which guard judges none of those who hold one."""
    callers = config.server.callers
    unset = {name: variable for name, variable in callers.items() if not environ.get(variable, "").strip()}
    for name, variable in unset.items():
        yield (
            f"server.callers: {name!r} has its key in {variable}, which is not set here; {_NO_START} without"
            f" it: set it, or take {name!r} out of server.callers, and of guard.allow where it is named"
        )
    # What would be accepted once these are set.
    once_set = {**environ, **{variable: f"the key of {name}" for name, variable in unset.items()}}
    try:
        keys = config.server.keys(once_set)
    except ConfigError as error:
        yield f"{error.message} here; {_NO_START}: {error.hint}"
        return
    for guard, nobody in judges_nobody(config, keys):
        yield f"{nobody}{f'; {_NO_START}' if guard.action == 'refuse' else ''}"


def _any(config: Config, guard: GuardConfig) -> Iterator[str]:
    if guard.allow:
        yield f".allow: requests of {', '.join(guard.allow)} are not judged"
    if guard.action != "refuse":
        return
    if guard.fail == "open":
        yield (
            ".fail is open: what gets no verdict is served, so whoever overloads the guard, or asks for an"
            " answer that it cannot judge, gets past it"
        )
    if "task" in guard.observe_parts:
        yield ".observe_parts names task: what is asked itself is never refused"
    if guard.seconds >= (least := min(config.plans.seconds, config.server.answer_seconds)):
        yield (
            f".seconds is {guard.seconds:g}, and answers may take {least:g}: a late verdict is told as"
            " a late answer"
        )


def _base(config: Config, guard: GuardConfig) -> Iterator[str]:
    if "base" not in guard.by:
        return
    if _lacks_template(config):
        yield (
            ".by: base asks the base model as a chat, and its folder has no chat template: unless the engine"
            f" brings one, {_NO_START}"
        )
    if guard.min_refusal <= _REFUSES_NOTHING:
        yield f".min_refusal is {guard.min_refusal:g}: a base model that refuses next to nothing may guard"
    elif config.base_model == "demo":
        then = _NO_START if guard.action == "refuse" else "there will be next to nothing to observe"
        yield f".by: base asks the demo's base model, which refuses next to nothing: {then}"


def _endpoint(guard: GuardConfig) -> Iterator[str]:
    endpoint = guard.endpoint
    if endpoint is None:
        return
    if "endpoint" not in guard.by:
        yield f".endpoint is not asked: by is {', '.join(guard.by)}"
    elif (url := urlsplit(endpoint.url)).scheme == "http" and not is_loopback(url.hostname or ""):
        yield f".endpoint.url: every task is sent to {endpoint.host} as plain text, readable on the way"


def _lacks_template(config: Config) -> bool:
    """Whether the engine was given none, and the base model's folder, if it has one here, has none either."""
    if "chat_template" in config.engine.extra_args:
        return False
    folder = Path(config.base_model).expanduser()
    try:
        tokenizer = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False
    has = isinstance(tokenizer, dict) and tokenizer.get("chat_template")
    return not has and not any((folder / f"chat_template.{kind}").is_file() for kind in ("jinja", "json"))
