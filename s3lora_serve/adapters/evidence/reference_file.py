"""The file that known-good adapters are summed up in, and how unlike them another adapter is."""

from __future__ import annotations

import json
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import ConfigError, PolicyRejection
from s3lora_serve.spectral.anomaly import Anomaly, Reference, anomaly, signature
from s3lora_serve.spectral.statistics import statistics
from s3lora_serve.storage.canonical_json import canonical_digest, excerpt, strict_loads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.spectral.lowrank import LowRank
    from s3lora_serve.spectral.prune_policy import AnomalyBar

MAX_REFERENCE_BYTES = 16 << 20
_HINT = "make one of three or more known-good adapters"
_COMMAND = "s3lora reference ADAPTER... --out FILE"


@dataclass(frozen=True)
class Looks:
    """An adapter's statistics and ranks, by which it is compared with others."""

    signature: Mapping[str, float]  # "q_proj.entropy" → 1.7, averaged over layers
    ranks: Mapping[str, tuple[int, ...]]  # "q_proj" → (8,): those of its modules, each once, ascending


@dataclass(frozen=True)
class KnownGood:
    """What a reference file says: statistics of adapters that all have the same ranks."""

    statistics: Reference
    ranks: Mapping[str, tuple[int, ...]]
    base: tuple[str, str] | None = None  # name and digest of the base model that they were checked against

    @classmethod
    def fit(cls, adapters: Mapping[str, Looks], base: BaseModelSpec | None = None) -> KnownGood:
        """The reference that adapters make, by their names.

        Raises ConfigError for adapters of different ranks, whose spread would hide anything, and for what
        ``Reference.fit`` refuses.
        """
        _check_same_ranks(adapters)
        try:
            statistics = Reference.fit([looks.signature for looks in adapters.values()])
        except ValueError as error:
            raise ConfigError(
                str(error), hint="name adapters of one base model, rank and set of projections"
            ) from error
        ranks = next(iter(adapters.values())).ranks
        return cls(statistics, ranks, None if base is None else (base.name, base.digest))

    @property
    def digest(self) -> str:
        """Of what comparisons depend on: statistics and ranks."""
        return canonical_digest({**self.statistics.to_json(), "ranks": _ranks_json(self.ranks)})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives back an equal one."""
        base = None if self.base is None else {"name": self.base[0], "digest": self.base[1]}
        return {**self.statistics.to_json(), "ranks": _ranks_json(self.ranks), "base": base}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KnownGood:
        """What ``to_json`` described. Raises ``ValueError`` for anything else."""
        statistics = Reference.from_json(data)
        projections = {key.rpartition(".")[0] for key in statistics.mean}
        ranks, base = data.get("ranks"), data.get("base")
        if ranks is None:
            raise ValueError("it does not record the ranks of its adapters")
        if (
            not isinstance(ranks, dict)
            or ranks.keys() != projections
            or not all(map(_ranks_ok, ranks.values()))
        ):
            raise ValueError(f"ranks {excerpt(ranks)} are not those of its projections")
        if base is None:
            return cls(statistics, {name: tuple(of) for name, of in ranks.items()})
        if not isinstance(base, dict) or not all(
            isinstance(base.get(key), str) for key in ("name", "digest")
        ):
            raise ValueError(f"base {excerpt(base)} has no name and digest")
        return cls(
            statistics, {name: tuple(of) for name, of in ranks.items()}, (base["name"], base["digest"])
        )


@dataclass(frozen=True)
class AnomalyOutcome:
    """An adapter against a reference and a bar."""

    found: Anomaly
    bar: AnomalyBar

    @property
    def exceeded(self) -> bool:
        """Whether it is more unlike the known-good adapters than the bar allows."""
        return self.found.score > self.bar.max

    @property
    def sentence(self) -> str:
        """What was found, in words: the score, the bar, and the statistics that stand out most."""
        worst = ", ".join(f"{key} {self.found.z[key]:+.1f}" for key in self.found.worst[:3])
        verb = "exceeds" if self.exceeded else "is within"
        return f"anomaly score {self.found.score:.2f} {verb} {self.bar.max:g} (most unlike, in σ: {worst})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the lineage."""
        return {
            "score": self.found.score,
            "max": self.bar.max,
            "action": self.bar.action,
            "exceeded": self.exceeded,
            "worst": list(self.found.worst),
            "z": dict(self.found.z),
        }


def looks_of(modules: Mapping[str, LowRank]) -> Looks:
    """What an adapter is compared by; modules that change nothing do not count. Raises ``ValueError``."""
    found = statistics(modules)
    ranks: dict[str, set[int]] = {}
    for name, of in found.items():
        if of.norm > 0:
            ranks.setdefault(name.rpartition(".")[2], set()).add(modules[name].rank)
    return Looks(signature(found), {name: tuple(sorted(ranks[name])) for name in sorted(ranks)})


def compare(modules: Mapping[str, LowRank], bar: AnomalyBar, reference: KnownGood) -> AnomalyOutcome:
    """How unlike the reference's adapters this one is.

    Raises PolicyRejection if it cannot be compared with them: other projections, or other ranks.
    """
    try:
        looks = looks_of(modules)
        if other := next(_other_ranks(looks.ranks, reference.ranks), None):
            name, own, theirs = other
            count = reference.statistics.count
            raise ValueError(
                f"{name} has rank {own}, and rank {theirs} in the {count} adapters of the reference"
            )
        return AnomalyOutcome(anomaly(looks.signature, reference.statistics), bar)
    except ValueError as error:
        raise PolicyRejection(
            f"it cannot be compared with the known-good adapters of policy.anomaly: {error}",
            hint="make a reference of adapters of its kind",
            command=_COMMAND,
        ) from error


def compare_with(modules: Mapping[str, LowRank], bar: AnomalyBar) -> AnomalyOutcome:
    """``compare`` with the reference that ``bar`` names. Raises ConfigError, PolicyRejection."""
    return compare(modules, bar, read_reference(Path(bar.reference)))


def read_reference(path: Path) -> KnownGood:
    """What the file says. Raises ConfigError if it is not a reference's."""
    path = path.expanduser()
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"reference {path} is not a regular file", hint=_HINT, command=_COMMAND)
        if status.st_size > MAX_REFERENCE_BYTES:
            raise ConfigError(f"reference {path} has {status.st_size} bytes > {MAX_REFERENCE_BYTES}")
        return KnownGood.from_json(strict_loads(path.read_bytes()))
    except OSError as error:
        raise ConfigError(
            f"cannot read reference {path}: {error.strerror or error}", hint=_HINT, command=_COMMAND
        ) from error
    except ValueError as error:
        raise ConfigError(f"reference {path}: {error!s:.300}", hint=_HINT, command=_COMMAND) from error


def write_reference(path: Path, reference: KnownGood, adapters: Sequence[Mapping[str, str]]) -> None:
    """Write it with the ``source`` and ``sha256`` of each adapter in it, in one step. Raises OSError."""
    text = json.dumps({**reference.to_json(), "made_of": list(adapters)}, indent=2, allow_nan=False)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _check_same_ranks(adapters: Mapping[str, Looks]) -> None:
    """The odd one is named: what most have is taken for right, and the first where there is no majority."""
    if not adapters:
        return
    most = Counter(tuple(looks.ranks.items()) for looks in adapters.values()).most_common(1)[0][0]
    usual = next(source for source, looks in adapters.items() if tuple(looks.ranks.items()) == most)
    for source, looks in adapters.items():
        if other := next(_other_ranks(looks.ranks, dict(most)), None):
            name, own, theirs = other
            raise ConfigError(
                f"{source} has rank {own} in {name}, and {usual} has rank {theirs}",
                hint="a reference is of adapters of one rank; make one for each rank",
            )


def _other_ranks(
    own: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, str, str]]:
    """Projections that both have in different ranks, with those in words."""
    for name in sorted(own.keys() & theirs.keys()):
        if own[name] != theirs[name]:
            yield name, " and ".join(map(str, own[name])), " and ".join(map(str, theirs[name]))


def _ranks_json(ranks: Mapping[str, tuple[int, ...]]) -> dict[str, list[int]]:
    return {name: list(of) for name, of in ranks.items()}


def _ranks_ok(ranks: object) -> bool:
    return (
        isinstance(ranks, list)
        and bool(ranks)
        and all(type(rank) is int and rank > 0 for rank in ranks)
        and ranks == sorted(set(ranks))
    )
