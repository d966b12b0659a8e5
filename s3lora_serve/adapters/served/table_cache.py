"""What the engine said of base models, kept in the user's cache by release and configuration"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from s3lora_serve.adapters.served.served_class import ServedClass
from s3lora_serve.storage.canonical_json import canonical_digest
from s3lora_serve.storage.durable import replace_synced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

_FORMAT = 1
_MOST_BYTES = 64 << 20
# What decides nothing about names and shapes, and could fail on a machine without the GPU that it needs; and
# what names code of the repository, which is never run.
_LEFT_OUT = ("quantization_config", "compression_config", "auto_map")
_asking = Lock()  # one at a time: each takes half a gigabyte


def cache_folder() -> Path:
    """Where answers are kept: beside the demo's base model."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3lora" / "modules"


@dataclass(frozen=True)
class TableCache:
    """Answers of one release of the engine, beside these releases of what else they depend on.

    Nothing here raises for what the engine said, nor for a folder that cannot be read or written.
    """

    engine: str
    releases: Mapping[str, str]
    folder: Path = field(default_factory=cache_folder)

    def find(self, config: Mapping[str, Any], arguments: Mapping[str, Any]) -> ServedClass | None:
        """What was said of the base model with this config.json; None if nothing is known."""
        path = self._path(_plain(config), arguments)
        try:
            if path.stat().st_size > _MOST_BYTES:
                return None
            return ServedClass.of(self.engine, json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError, AttributeError, re.error):
            log.debug("%s cannot be used", path, exc_info=True)
            return None

    def get(
        self,
        config: Mapping[str, Any],
        arguments: Mapping[str, Any],
        ask: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]],
    ) -> ServedClass:
        """The same; ``ask`` is called if nothing is known, and its answer kept.

        But for one that hung on the moment: a deadline, memory, a package that is not installed.
        """
        with _asking:
            if (known := self.find(config, arguments)) is not None:
                return known
            plain = _plain(config)
            log.info(
                "asking %s which modules an adapter may have; this takes half a minute, once", self.engine
            )
            named = ", ".join(map(str, plain.get("architectures") or ())) or "this model"
            facts = {"architecture": named, **ask(plain, arguments)}
            if not (facts.get("passing") or facts.get("missing")):
                self._keep(self._path(plain, arguments), facts)
        try:
            return ServedClass.of(self.engine, facts)
        except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
            log.debug("the engine's answer cannot be read", exc_info=True)
            return ServedClass(self.engine, named, trouble=f"its answer cannot be read: {error}")

    def _path(self, plain: Mapping[str, Any], arguments: Mapping[str, Any]) -> Path:
        key = canonical_digest(
            {
                "format": _FORMAT,
                "engine": self.engine,
                "releases": dict(self.releases),
                "config": json.dumps(dict(plain), sort_keys=True),
                "arguments": json.dumps(dict(arguments), sort_keys=True, default=str),
            }
        )
        return self.folder / f"{key}.json"

    def _keep(self, path: Path, facts: Mapping[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_synced(path, json.dumps(dict(facts)).encode())
        except OSError as error:  # asked again next time
            log.debug("%s is not kept: %s", path, error)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _LEFT_OUT}
