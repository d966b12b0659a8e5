"""What a run measures: the suite, the base model and the adapters; the first line of its journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.spectral.scorers import SCORER_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FORMAT = 1


@dataclass(frozen=True)
class MeasuredBase:
    """The base model of a run."""

    name: str
    digest: str  # of its layers' names and shapes
    weights: str | None = None  # digest of its checkpoint; None where there is none that could be hashed


@dataclass(frozen=True)
class MeasuredAlignment:
    """Digests of the two checkpoints that e-diem and safelora compared with."""

    base: str
    aligned: str


@dataclass(frozen=True)
class MeasuredAdapter:
    """One adapter of a run, as it was before pruning."""

    source: str
    sha256: str  # of its weights
    modules: int  # that have a score: what tau is a share of
    group: str | None = None  # adapters that differ in their training seed alone have one group


@dataclass(frozen=True)
class Header:
    """Measurements under unequal headers must not be mixed."""

    suite: str  # Suite.digest
    base: MeasuredBase
    adapters: Mapping[str, MeasuredAdapter]  # by their name in the run
    scorer_version: str = SCORER_VERSION
    alignment: MeasuredAlignment | None = None  # if a scorer needed it

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Names of adapters by group, in order; an adapter without a group is a separate one."""
        found: dict[str, tuple[str, ...]] = {}
        for name, adapter in self.adapters.items():
            group = name if adapter.group is None else adapter.group
            found[group] = (*found.get(group, ()), name)
        return found

    def differences(self, other: Header) -> Iterator[str]:
        """What of ``other`` is not as it is here, in words.

        That ``other`` compared with checkpoints and nothing here does is no difference: their cells keep.
        """
        if self.suite != other.suite:
            yield f"suite {other.suite[:12]} instead of {self.suite[:12]}"
        if self.base != other.base:
            theirs, ours = other.base, self.base
            yield f"base {_named(theirs)} instead of {_named(ours)}"
        if self.scorer_version != other.scorer_version:
            yield f"scores of version {other.scorer_version} instead of {self.scorer_version}"
        if self.alignment is not None and self.alignment != other.alignment:
            yield f"{_checkpoints(other.alignment)} instead of {_checkpoints(self.alignment)}"
        for name in [*self.adapters, *(n for n in other.adapters if n not in self.adapters)]:
            if name not in other.adapters:
                yield f"no adapter {name!r}"
            elif name not in self.adapters:
                yield f"one more adapter, {name!r}"
            elif self.adapters[name] != other.adapters[name]:
                ours_, theirs_ = vars(self.adapters[name]), vars(other.adapters[name])
                odd = next(key for key in ours_ if ours_[key] != theirs_[key])
                yield f"adapter {name!r} with {odd} {theirs_[odd]!r} instead of {ours_[odd]!r}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives back an equal header."""
        return {
            "format": FORMAT,
            "suite": self.suite,
            "scorer_version": self.scorer_version,
            "base": vars(self.base),
            "alignment": None if self.alignment is None else vars(self.alignment),
            "adapters": {name: vars(adapter) for name, adapter in self.adapters.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Header:
        """The header that ``to_json`` described. Raises KeyError, TypeError or ValueError for others."""
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r} is not {FORMAT}")
        adapters = {name: MeasuredAdapter(**fields) for name, fields in data["adapters"].items()}
        alignment = None if data["alignment"] is None else MeasuredAlignment(**data["alignment"])
        return cls(data["suite"], MeasuredBase(**data["base"]), adapters, data["scorer_version"], alignment)


def _named(base: MeasuredBase) -> str:
    weights = "" if base.weights is None else f", weights {base.weights[:12]}"
    return f"{base.name} ({base.digest[:12]}{weights})"


def _checkpoints(alignment: MeasuredAlignment | None) -> str:
    if alignment is None:
        return "no alignment checkpoints"
    return f"alignment checkpoints {alignment.base[:12]} and {alignment.aligned[:12]}"
