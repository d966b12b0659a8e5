"""The class that the engine serves a base model with: its names for modules, and those it gives adapters"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Shape = tuple[int, int]  # (out, in)


@dataclass(frozen=True)
class ServedClass:
    """What one release of the engine says of one base model; ``shapes`` is None if it could not say.

    Modules have the engine's names here, ``name`` gives them. ``refused`` is why it serves no adapter of this
    base model at all.
    """

    engine: str  # "vLLM 0.32.0"
    architecture: str
    renames: tuple[tuple[str, str, str | None], ...] = ()
    shapes: Mapping[str, Shape] | None = None
    embeddings: frozenset[str] = frozenset()  # of shapes: read as embeddings, in PEFT's names for those
    together: tuple[tuple[str, ...], ...] = ()  # parts of one module that come all or not at all
    unserved: frozenset[str] = frozenset()  # linear layers that get no adapter
    unread: frozenset[str] = frozenset()  # modules whose updates have a form that is not read here
    towers_can: bool = False  # whether a setting would give towers of other media adapters
    elements: int | None = None  # of the engine's buffers, for each slot and rank
    trouble: str = ""  # why shapes is None
    refused: str = ""
    hint: str = ""
    _patterns: Mapping[str, re.Pattern[str]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, engine: str, facts: Mapping[str, Any]) -> ServedClass:
        """From what ``engine/vllm/module_table`` found. Raises KeyError, TypeError, ValueError, re.error."""
        modules = facts.get("modules") or {}
        parts = {str(name): tuple(found) for name, found in modules.items()}
        trouble = str(facts.get("trouble") or facts.get("failed") or ("" if parts else "it did not say"))
        if facts.get("renames_by_code"):
            trouble = "vLLM maps its names by code"
        architecture = str(facts.get("architecture", ""))
        refused, hint = _refusal(engine, architecture, facts)
        renames = tuple((str(kind), str(old), new) for kind, old, new in facts.get("renames", ()))
        shapes = {str(name): (int(out), int(inner)) for found in parts.values() for name, out, inner in found}
        return cls(
            engine,
            architecture,
            renames,
            None if trouble else shapes,
            frozenset(facts.get("embeddings", ())),
            tuple(tuple(part for part, *_ in parts[name]) for name in facts.get("together", ())),
            frozenset(facts.get("unserved", ())),
            frozenset(facts.get("unread", ())),
            bool(facts.get("towers_can")),
            facts.get("elements"),
            trouble,
            refused,
            hint,
            {old: re.compile(old) for kind, old, _ in renames if kind == "regex"},
        )

    def name(self, module: str) -> str | None:
        """The engine's name of a module that an adapter names ``module``; None if the engine drops it.

        Its rules see the whole name of a tensor, so both factors are asked, and must agree.
        """
        first, second = (self._renamed(f"{module}.lora_{factor}.weight") for factor in "AB")
        if first is None or second is None:
            return None
        plain = first.removesuffix(".lora_A.weight")
        return plain if plain == second.removesuffix(".lora_B.weight") else None

    def _renamed(self, name: str) -> str | None:
        for kind, old, new in self.renames:
            if not self._applies(kind, old, name):
                continue
            if new is None:
                return None
            match kind:
                case "regex":
                    name = self._patterns[old].sub(new, name)
                case "suffix":
                    name = name[: -len(old)] + new
                case _:
                    name = name.replace(old, new, 1)
        return name

    def _applies(self, kind: str, old: str, name: str) -> bool:
        match kind:
            case "regex":
                return self._patterns[old].search(name) is not None
            case "substr":
                return old in name
            case "prefix":
                return name.startswith(old)
            case "suffix":
                return name.endswith(old)
            case _:
                raise ValueError(f"unknown kind of renaming: {kind!r}")

    def leaves_out(self, name: str) -> bool:
        """Whether it is a linear layer that gets no adapter, or a part of one that holds several."""
        return name in self.unserved or name.rpartition(".")[0] in self._without

    @cached_property
    def _without(self) -> frozenset[str]:
        """What holds layers without adapters and none with."""
        served = {name.rpartition(".")[0] for name in self.shapes or ()}
        return frozenset(name.rpartition(".")[0] for name in self.unserved) - served

    @cached_property
    def by_tail(self) -> Mapping[str, str]:
        """From the part of a name that begins with its layer to a served module: for hints."""
        return {tail(name): name for name in self.shapes or ()}


def tail(name: str) -> str:
    """A module's name from its layer on, without what wraps the language model."""
    found = re.search(r"(?:layers|h|blocks)\.\d+\..*", name)
    return found[0] if found else name.rpartition(".")[2]


def _refusal(engine: str, architecture: str, facts: Mapping[str, Any]) -> tuple[str, str]:
    if missing := facts.get("missing"):
        return (
            f"{engine} needs {missing} to serve {architecture}, and it is not installed here",
            f"install {missing} of a release that fits the installed torch, then try again",
        )
    if facts.get("lora") is False:
        return (
            f"{engine} serves {architecture} without adapters: its class has no LoRA",
            "choose a base model that vLLM lists as supporting LoRA",
        )
    if last := facts.get("last_release"):
        return (
            f"{engine} does not serve {architecture} any more; {last} was the last release that did",
            f"install vLLM {last}, or choose another base model",
        )
    return "", ""
