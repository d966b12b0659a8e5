"""planners.yaml read again while the server runs: what may change then, and what needs a restart"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from s3lora_serve.config import load_config
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.resolve import to_desired
from s3lora_serve.launch.source_rules import file_problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3lora_serve.config import Config
    from s3lora_serve.fleet.planner import DesiredPlanner

# All else is used once, at the start.
_CHANGEABLE = frozenset({"planners", "policy"})


def read_again(path: Path, declared: Config) -> dict[str, DesiredPlanner]:
    """What planners.yaml declares now. Raises ConfigError for any problem, and names each setting that was
    changed and needs a restart.

    ``declared`` is what it said at the start, before options like ``--port`` went before it.
    """
    config = load_config(path, file_problems)
    fixed = [name for name in type(config).model_fields if name not in _CHANGEABLE]
    changed = [
        setting
        for name in fixed
        for setting in _differing(name, getattr(declared, name), getattr(config, name))
    ]
    changed += [*_own(declared, config)]
    if changed:
        raise ConfigError(
            f"{path}: {', '.join(changed)} changed, which only a restart can do; nothing was applied",
            hint="restart the server, or undo that change and apply the planners alone",
        )
    return to_desired(config)


def _own(declared: Config, config: Config) -> Iterator[str]:
    """Planners' own guards and exams that are not as at the start: judges and examiners are made then.

    A planner that is added has the fleet's; one of its own needs a restart.
    """
    for name, planner in config.planners.items():
        before = declared.planners.get(name)
        for section in ("guard", "exam"):
            if getattr(planner, section) != (getattr(before, section) if before is not None else None):
                yield f"planners.{name}.{section}"


def _differing(name: str, before: Any, after: Any) -> Iterator[str]:
    """``engine.max_loras``, ``engine.extra_args.seed``: the settings below ``name`` that are not the same."""
    if before == after:
        return
    old, new = _entries(before), _entries(after)
    if old is None or new is None:
        yield name
        return
    for key in (*old, *(key for key in new if key not in old)):
        yield from _differing(f"{name}.{key}", old.get(key), new.get(key))


def _entries(value: Any) -> dict[str, Any] | None:
    """What a section or a mapping consists of; None for a single value."""
    if isinstance(value, BaseModel):
        return {key: getattr(value, key) for key in type(value).model_fields}
    return value if isinstance(value, dict) else None
