"""The installed engine, asked about base models: at most once for each, and only if an adapter needs it"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.adapters.served.served_class import ServedClass
from s3lora_serve.adapters.served.table_cache import TableCache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from s3lora_serve.adapters.base_model import BaseModelSpec


# Classes whose linear layers are known to have the names of transformers in the engine; a test asks
# it. Only what is none of those layers needs the engine then.
VOUCHED = {"vLLM 0.32": ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")}


@dataclass(frozen=True)
class EngineNames:
    """Whose names decide. ``ask`` is given a config.json and those of the engine's arguments that matter."""

    engine: str | None  # with its release; None if none is installed
    releases: Callable[[], Mapping[str, str]]  # of what else an answer depends on
    deciding: Sequence[str]  # names of arguments
    ask: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]

    def on(self, spec: BaseModelSpec, arguments: Mapping[str, Any]) -> BaseModelSpec:
        """The same base model with this engine behind its names."""
        given = self._deciding(arguments)
        name = f"{self.engine} {given}" if self.engine and given else self.engine
        vouched = spec.vouched or spec.architecture in VOUCHED.get(_minor(self.engine), ())
        return replace(
            spec, engine=name, vouched=vouched and not given, ask=lambda: self._served(spec, given)
        )

    def known(self, spec: BaseModelSpec, arguments: Mapping[str, Any]) -> ServedClass | None:
        """What it said before, if it was asked; it is not asked now."""
        config = spec.read_config()
        if self.engine is None or config is None:
            return None
        return TableCache(self.engine, self.releases()).find(config, self._deciding(arguments))

    def _deciding(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {name: arguments[name] for name in self.deciding if name in arguments}

    def _served(self, spec: BaseModelSpec, given: Mapping[str, Any]) -> ServedClass:
        if self.engine is None:
            return ServedClass("vLLM", spec.name, trouble="vLLM is not installed")
        if (config := spec.read_config()) is None:
            return ServedClass(self.engine, spec.name, trouble="its config.json cannot be read")
        return TableCache(self.engine, self.releases()).get(config, given, self.ask)


def _minor(engine: str | None) -> str:
    """``vLLM 0.32`` of ``vLLM 0.32.0``."""
    return ".".join((engine or "").split(".")[:2])
