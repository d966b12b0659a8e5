"""Whom a guard judges: of the keys that a server accepts, those that no ``guard.allow`` exempts"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.config.listeners import DEFAULT
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3lora_serve.config import Config, GuardConfig


def judges_nobody(config: Config, keys: Mapping[str, str]) -> Iterator[tuple[GuardConfig, ConfigError]]:
    """Each guard that judges and whose ``allow`` exempts all who hold a key, with what is wrong with that;
    ``keys`` by caller. A server without keys is asked by anyone, whom no guard exempts.
    """
    exempt = ", ".join(keys)
    guards = {"guard": config.guard}
    guards |= {f"planners.{name}.guard": own.guard for name, own in config.planners.items() if own.guard}
    for where, guard in guards.items():
        if guard.asks and keys and keys.keys() <= set(guard.allow):
            yield (
                guard,
                ConfigError(
                    f"{where} judges nobody: its allow exempts every caller that has a key ({exempt})",
                    hint=f"set {config.server.api_key_env} for a caller that is judged, or take {exempt} out"
                    f" of {where}.allow",
                ),
            )


def check_judged(config: Config, keys: Mapping[str, str]) -> list[str]:
    """What to warn of. Raises ConfigError for a guard that is to refuse and can judge nobody."""
    found = list(judges_nobody(config, keys))
    for guard, error in found:
        if guard.action == "refuse":
            raise error
    return [str(error) for _, error in found]


def shown_key(config: Config, planner: str, keys: Mapping[str, str]) -> str | None:
    """The variable with whose key a sample asks the planner: of a caller that its guard judges, if there is
    one. None where no key is needed.
    """
    variables = {DEFAULT: config.server.api_key_env, **config.server.callers}
    exempt = config.guard_of(planner).allow if planner in config.planners else config.guard.allow
    held = [name for name in variables if name in keys]
    return next((variables[name] for name in sorted(held, key=lambda name: name in exempt)), None)
