"""What the engine said of a base model, asked once: kept in the user's cache by release and configuration."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from s3lora_serve.adapters.served.served_class import ServedClass
from s3lora_serve.storage.canonical_json import canonical_digest
from s3lora_serve.storage.durable import replace_synced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Ask = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]

log = logging.getLogger(__name__)

_FORMAT = 1
_MOST_BYTES = 64 << 20
# What decides nothing about names and shapes, and could fail on a machine without the GPU that it needs; and
# what names code of the repository, which is never run.
_LEFT_OUT = ("quantization_config", "compression_config", "auto_map")
_asking = Lock()  # one at a time: each takes half a gigabyte


def served_class(
    config: Mapping[str, Any],
    arguments: Mapping[str, Any],
    engine: str,
    releases: Mapping[str, str],
    ask: Ask,
    folder: Path | None = None,
) -> ServedClass:
    """What ``engine`` says of the base model with this config.json; ``ask`` is called if it is not known.

    ``releases`` are what else the answer depends on. An answer that hung on the moment (a deadline, memory, a
    package that is not installed) is not kept. Never raises for what the engine says, nor for a folder that
    cannot be written to.
    """
    plain = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    key = canonical_digest(
        {
            "format": _FORMAT,
            "engine": engine,
            "releases": dict(releases),
            "config": json.dumps(plain, sort_keys=True),
            "arguments": json.dumps(dict(arguments), sort_keys=True, default=str),
        }
    )
    path = (folder or cache_folder()) / f"{key}.json"
    with _asking:
        if (known := _read(path, engine)) is not None:
            return known
        given = ", ".join(map(str, plain.get("architectures") or ())) or "this model"
        facts = {"architecture": given, **ask(plain, arguments)}
        found = _of(engine, facts)
        if not (facts.get("passing") or facts.get("missing")):
            _keep(path, facts)
    return found


def cache_folder() -> Path:
    """Where answers are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3lora" / "modules"


def _of(engine: str, facts: Mapping[str, Any]) -> ServedClass:
    try:
        return ServedClass.of(engine, facts)
    except (KeyError, TypeError, ValueError, re.error) as error:
        log.debug("the engine's module table cannot be read", exc_info=True)
        return ServedClass(engine, str(facts["architecture"]), trouble=f"its answer cannot be read: {error}")


def _read(path: Path, engine: str) -> ServedClass | None:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        return ServedClass.of(engine, json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError, re.error):
        log.debug("%s cannot be used; asking anew", path, exc_info=True)
        return None


def _keep(path: Path, facts: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_synced(path, json.dumps(facts).encode())
    except OSError as error:  # asked again next time
        log.debug("%s is not kept: %s", path, error)
