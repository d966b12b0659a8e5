"""Whether an adapter's modules are the served model's, by the engine's names where it could be asked."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from s3lora_serve.adapters.served.served_class import ServedClass, tail
from s3lora_serve.errors import BaseModelMismatch, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.adapters.peft.peft_format import PeftAdapter
    from s3lora_serve.adapters.served.served_class import Shape

_HEADS = ("lm_head", "embed_tokens", "embed_out", "wte", "wpe", "score", "classifier")
_TOWER = "engine.extra_args.enable_tower_connector_lora"


class Fit:
    """An adapter's fit to a base model: which modules come together, and what an operator should know.

    Raises BaseModelMismatch or UnsupportedError, naming the module that the engine would ignore or refuse.
    """

    def __init__(self, adapter: PeftAdapter, base: BaseModelSpec) -> None:
        self._adapter, self._base = adapter, base
        self.together: tuple[frozenset[str], ...] = ()
        self.notes: tuple[str, ...] = ()
        if base.vouched and not self._odd():
            self._check_plain(base.shapes)
            return
        served = base.served
        if served is None:
            self._check_plain(base.shapes)
            return
        if served.refused:
            raise UnsupportedError(served.refused, hint=served.hint)
        names = {module: self._named(served, module) for module in adapter.modules}
        _check_distinct(served, names)
        if served.shapes is None:
            self._check_plain(self._by_engine(served), names)
            self.notes = (*self._mapped(served, names), _unasked(served))
            return
        for module, name in names.items():
            self._check_served(served, module, name)
        self._check_base_layers(served, names)
        self._find_together(served, names)
        self.notes = tuple(self._mapped(served, names))

    def _odd(self) -> bool:
        """Whether the base model's linear layers alone do not say whether it fits."""
        adapter = self._adapter
        return bool(
            adapter.embeddings
            or adapter.base_layers
            or any(name not in self._base.shapes for name in adapter.modules)
        )

    def _named(self, served: ServedClass, module: str) -> str:
        if (name := served.name(module)) is None:
            raise UnsupportedError(
                f"{served.engine} leaves {module} out of {served.architecture}",
                hint="train it without this module",
            )
        return name

    def _by_engine(self, served: ServedClass) -> dict[str, Shape]:
        """The layers that transformers knows, by the engine's names."""
        return {served.name(name) or name: shape for name, shape in self._base.shapes.items()}

    def _check_plain(self, shapes: Mapping[str, Shape], names: Mapping[str, str] | None = None) -> None:
        """Against the linear layers that transformers knows; embeddings and heads are none."""
        for module, update in self._adapter.modules.items():
            name = module if names is None else names[module]
            expected = None if module in self._adapter.embeddings else shapes.get(name)
            if expected is None:
                if name.rpartition(".")[2] in _HEADS:
                    raise UnsupportedError(
                        f"{module} is an output head or an embedding; only linear layers inside the model"
                        " are served",
                        hint="train it without: leave it out of target_modules",
                    )
                raise self._unknown(module, name, shapes)
            self._check_shape(module, update.shape, expected)

    def _check_served(self, served: ServedClass, module: str, name: str) -> None:
        expected = (served.shapes or {}).get(name)
        if expected is None:
            raise self._unserved(served, module, name)
        if (module in self._adapter.embeddings) != (name in served.embeddings):
            kind = "an embedding" if name in served.embeddings else "a linear layer"
            raise BaseModelMismatch(
                f"{module} is {kind} in {self._base.name}, and its factors are named otherwise",
                hint="PEFT names the factors of embeddings lora_embedding_A and lora_embedding_B",
            )
        self._check_shape(module, self._adapter.modules[module].shape, expected)

    def _unserved(self, served: ServedClass, module: str, name: str) -> BaseModelMismatch | UnsupportedError:
        """Why a module is none of those that the engine gives adapters, with the next step."""
        if served.leaves_out(name):
            hint = "train the adapter without it: leave it out of target_modules"
            if served.towers_can:
                hint = f"{hint}; or set {_TOWER}: true, which vLLM calls experimental"
            return UnsupportedError(
                f"{module} lies in a part of {served.architecture} that {served.engine} gives no adapters,"
                " and would be ignored",
                hint=hint,
            )
        if any(name == parent or name.startswith(f"{parent}.") for parent in served.unread):
            return UnsupportedError(
                f"{module} updates all experts as one parameter, a form that is not read here",
                hint="train and save an update for each expert's projections",
            )
        other = served.by_tail.get(tail(name))
        if other is not None and (served.shapes or {})[other] == self._adapter.modules[module].shape:
            return BaseModelMismatch(
                f"{served.engine} serves {self._base.name} as {served.architecture}, where {module} would be"
                f" ignored: it is {other} there",
                hint="save the adapter from the class that is served, or serve the class that it was trained"
                " on (a checkpoint whose config.json names it)",
            )
        if name.rpartition(".")[2] in _HEADS:
            return UnsupportedError(
                f"{served.engine} gives {module} of {served.architecture} no adapter",
                hint="train it without: leave it out of target_modules",
            )
        return self._unknown(module, name, served.shapes or {})

    def _unknown(self, module: str, name: str, known: Iterable[str]) -> BaseModelMismatch:
        near = difflib.get_close_matches(name, known, n=1)
        return BaseModelMismatch(
            f"{self._base.name} has no linear layer {module}",
            hint=f"nearest: {near[0]}" if near else "is it an adapter of another model?",
        )

    def _check_shape(self, module: str, shape: Shape, expected: Shape) -> None:
        if shape != expected:
            raise BaseModelMismatch(
                f"{module} updates a {shape[0]}×{shape[1]} layer, "
                f"but in {self._base.name} it is {expected[0]}×{expected[1]}",
                hint="it was trained on another base model",
            )

    def _check_base_layers(self, served: ServedClass, names: Mapping[str, str]) -> None:
        """Weights of the base model saved beside an update are left out, if they are this base model's."""
        for module, shape in self._adapter.base_layers.items():
            name = names.get(module)
            known = None if name is None else (served.shapes or {}).get(name)
            expected = known[::-1] if known is not None and name in served.embeddings else known
            if expected is not None and shape != expected:
                raise BaseModelMismatch(
                    f"{module} was resized: its base layer is saved as {shape[0]}×{shape[1]}, "
                    f"but in {self._base.name} it is {expected[0]}×{expected[1]}",
                    hint="serve the base model with that vocabulary",
                )

    def _find_together(self, served: ServedClass, names: Mapping[str, str]) -> None:
        modules = {name: module for module, name in names.items()}
        found = []
        for parts in served.together:
            held = [part for part in parts if part in modules]
            if not held:
                continue
            if missing := [part for part in parts if part not in modules]:
                raise UnsupportedError(
                    f"its update of the {len(parts)} projections of {parts[0].rpartition('.experts.')[0]}'s"
                    f" experts lacks {len(missing)}: {', '.join(missing[:2])}{' …' * (len(missing) > 2)};"
                    f" {served.engine} takes all of them or none",
                    hint="train every projection of every expert, or none",
                )
            self._check_ranks(served, [modules[part] for part in parts])
            found.append(frozenset(modules[part] for part in parts))
        self.together = tuple(found)

    def _check_ranks(self, served: ServedClass, parts: list[str]) -> None:
        """Experts of one layer are stacked by projection, so that their ranks have to agree."""
        ranks: dict[str, int] = {}
        for part in parts:
            projection, rank = part.rpartition(".")[2], self._adapter.modules[part].rank
            if ranks.setdefault(projection, rank) != rank:
                raise UnsupportedError(
                    f"{part} has rank {rank}, other experts' {projection} have {ranks[projection]};"
                    f" {served.engine} stacks them",
                    hint="train all experts of a layer with one rank",
                )

    def _mapped(self, served: ServedClass, names: Mapping[str, str]) -> Iterator[str]:
        moved = [(module, name) for module, name in names.items() if module != name]
        if moved:
            module, name = moved[0]
            yield (
                f"{len(moved)} of its {len(names)} modules have other names in {served.architecture}, and are"
                f" served as those: {module} is {name} there"
            )


def _check_distinct(served: ServedClass, names: Mapping[str, str]) -> None:
    """Of two names for one module the engine would keep the later one, without a word."""
    seen: dict[str, str] = {}
    for module, name in names.items():
        if (other := seen.setdefault(name, module)) != module:
            raise UnsupportedError(
                f"{other} and {module} are one module in {served.architecture}, {name}: one would be lost",
                hint="save the adapter with one name for each module",
            )


def _unasked(served: ServedClass) -> str:
    return (
        f"its modules were compared with the names that transformers knows, as {served.engine} renames them,"
        f" not with its own: those could not be had on this machine ({_short(served.trouble)})"
    )


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
