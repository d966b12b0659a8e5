"""How far an adapter's shape is from that of known-good ones, as one number (after arXiv 2602.15195).

The paper standardises its statistics against a bank of benign adapters and weighs them by a logistic
regression that was trained on poisoned ones too. A server of adapters has none of those, so the z-scores are
averaged here. Whatever is unlike the reference stands out: another rank, learning rate or task does too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from s3lora_serve.spectral.statistics import SpectralStatistics

FORMAT = 1
LEAST = 3  # good adapters; fewer say nothing of a spread
WORST = 5  # keys that an anomaly names
ROUNDING = 1e-9  # a spread below this share of the mean is rounding: all are equal


@dataclass(frozen=True)
class Reference:
    """What known-good adapters of one base model, rank and set of projections look like."""

    count: int  # adapters
    mean: Mapping[str, float]  # of each key of their signatures
    std: Mapping[str, float]  # sample standard deviation; 0 where all have the same value

    @classmethod
    def fit(cls, signatures: Sequence[Mapping[str, float]]) -> Reference:
        """The reference that ``signatures`` make, one an adapter, in whatever order.

        Raises ``ValueError`` for fewer than three, for signatures of different keys, and for adapters that
        are all alike, which leave nothing to measure by.
        """
        if len(signatures) < LEAST:
            raise ValueError(f"{len(signatures)} adapters make no reference; at least {LEAST} are needed")
        keys = sorted(signatures[0])
        for signature in signatures[1:]:
            _check_keys(signature, keys)
        values = {key: sorted(signature[key] for signature in signatures) for key in keys}
        mean = {key: fmean(values[key]) for key in keys}
        std = {key: _spread(stdev(values[key]), mean[key]) for key in keys}
        if not any(std.values()):
            raise ValueError(f"the {len(signatures)} adapters are all alike: they say nothing of a spread")
        return cls(len(signatures), mean, std)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives back an equal reference."""
        return {
            "format": FORMAT,
            "adapters": self.count,
            "statistics": {key: {"mean": self.mean[key], "std": self.std[key]} for key in self.mean},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reference:
        """The reference that ``to_json`` described. Raises ``ValueError`` for anything else."""
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r} is not {FORMAT}")
            rows = data["statistics"]
            mean = {str(key): float(row["mean"]) for key, row in rows.items()}
            std = {str(key): float(row["std"]) for key, row in rows.items()}
            count = int(data["adapters"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a reference of known-good adapters: {error!r}") from None
        for key in mean:
            if not (math.isfinite(mean[key]) and math.isfinite(std[key]) and std[key] >= 0):
                raise ValueError(f"{key}: mean {mean[key]}, std {std[key]} are not a mean and a spread")
        if count < LEAST or not any(std.values()):
            raise ValueError(f"a reference of {count} adapters without a spread says nothing")
        return cls(count, mean, std)


@dataclass(frozen=True)
class Anomaly:
    """An adapter against a reference."""

    score: float  # mean of |z|; about 0.8 for one more adapter like those of a large reference
    z: Mapping[str, float]  # by key; those without a spread in the reference are left out
    worst: tuple[str, ...]  # the keys of largest |z|, at most five, largest first


def signature(stats: Mapping[str, SpectralStatistics]) -> dict[str, float]:
    """Means over layers: ``"q_proj.entropy"`` → mean entropy of all modules whose name ends in ``q_proj``.

    Sorted by key. Inert modules are left out, as if they had been pruned. ``sigma_1`` and ``norm`` are in
    ΔW's units, the others have none. Raises ``ValueError`` if no module is left.
    """
    values: dict[str, list[float]] = defaultdict(list)
    for name, of in stats.items():
        if of.norm > 0:
            projection = name.rpartition(".")[2]
            for statistic, value in asdict(of).items():
                if value is not None:
                    values[f"{projection}.{statistic}"].append(value)
    if not values:
        raise ValueError("no module changes anything: the adapter has no signature")
    return {key: math.fsum(values[key]) / len(values[key]) for key in sorted(values)}


def anomaly(signature: Mapping[str, float], reference: Reference) -> Anomaly:
    """Mean |z| of ``signature`` against ``reference``, with what deviates most.

    Raises ``ValueError`` for a signature of other keys, and for one that differs where all adapters of the
    reference agree (as in the entropy of rank 1): it is of another kind and cannot be measured by them.
    """
    _check_keys(signature, sorted(reference.mean))
    for key, value in signature.items():
        mean = reference.mean[key]
        if reference.std[key] == 0 and abs(value - mean) > ROUNDING * max(abs(mean), abs(value)):
            raise ValueError(
                f"{key} is {value:.4g}, and {mean:.4g} in all {reference.count} adapters of the reference: "
                "not of the same kind"
            )
    z = {
        key: (value - reference.mean[key]) / reference.std[key]
        for key, value in signature.items()
        if reference.std[key]
    }
    worst = sorted(z, key=lambda key: (-abs(z[key]), key))[:WORST]
    return Anomaly(fmean(abs(value) for value in z.values()), z, tuple(worst))


def _check_keys(signature: Mapping[str, float], keys: Sequence[str]) -> None:
    missing, extra = sorted(set(keys) - signature.keys()), sorted(signature.keys() - set(keys))
    if missing or extra:
        parts = [
            f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("adds", extra)) if names
        ]
        raise ValueError(
            f"the adapter's signature has another shape than the reference's: {'; '.join(parts)}"
        )


def _spread(std: float, mean: float) -> float:
    return std if std > ROUNDING * abs(mean) else 0.0
