"""planners.yaml read again while the server runs: what may change then, and what needs a restart"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.config import load_config
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.resolve import to_desired
from s3lora_serve.launch.source_rules import file_problems

if TYPE_CHECKING:
    from pathlib import Path

    from s3lora_serve.config import Config
    from s3lora_serve.fleet.planner import DesiredPlanner

# All else is used once, at the start.
_CHANGEABLE = frozenset({"planners", "policy"})


def read_again(path: Path, declared: Config) -> dict[str, DesiredPlanner]:
    """What planners.yaml declares now. Raises ConfigError for any problem, and names what needs a restart.

    ``declared`` is what it said at the start, before options like ``--port`` went before it.
    """
    config = load_config(path, file_problems)
    fixed = [name for name in type(config).model_fields if name not in _CHANGEABLE]
    changed = [name for name in fixed if getattr(config, name) != getattr(declared, name)]
    if changed:
        raise ConfigError(
            f"{path}: {', '.join(changed)} changed, which only a restart can do; nothing was applied",
            hint="restart the server, or undo that change and apply the planners alone",
        )
    return to_desired(config)
