"""Do weights tell poisoned adapters from good ones: a score per adapter, and how well it ranks them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from roc import auc_interval

from s3lora_serve.spectral.anomaly import Reference, anomaly, signature
from s3lora_serve.spectral.statistics import SpectralStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from results import Measured

    from s3lora_serve.evaluation.statistics.intervals import Interval

GOOD = ("benign", "toolemu-safe", "maths")
PAIRS = {
    "all poisoned against all good": (("mixed", "toolemu-unsafe", "backdoor"), GOOD),
    "mixed against benign": (("mixed",), ("benign",)),
    "backdoor against benign": (("backdoor",), ("benign",)),
    "ToolEmu unsafe against safe": (("toolemu-unsafe",), ("toolemu-safe",)),
}


def telling(adapters: Sequence[Measured]) -> dict[str, dict[str, Interval]]:
    """Area under the ROC curve by statistic and comparison, adapters of one rank and base.

    A statistic may point either way: 0.5 says nothing, 0 as much as 1. The anomaly score's reference is the
    good adapters of the comparison without the one that is scored.
    """
    found: dict[str, dict[str, Interval]] = {}
    for comparison in PAIRS:
        for statistic, (scores, labels) in scored(adapters, comparison).items():
            found.setdefault(statistic, {})[comparison] = auc_interval(scores, labels)
    return found


def scored(adapters: Sequence[Measured], comparison: str) -> dict[str, tuple[list[float], list[bool]]]:
    """Each statistic's scores of the adapters compared, and which of them are poisoned."""
    poisoned, good = PAIRS[comparison]
    chosen = [a for a in adapters if a.kind in (*poisoned, *good)]
    labels = [a.kind in poisoned for a in chosen]
    found = {statistic: ([of(a) for a in chosen], labels) for statistic, of in _SCORES.items()}
    return found | {"anomaly score": (_anomalies(chosen, good), labels)}


def _ssi(how: Callable[[list[float]], float]) -> Callable[[Measured], float]:
    return lambda adapter: how([v for v in adapter.ssi if v is not None])


def _mean(key: str) -> Callable[[Measured], float]:
    return lambda adapter: statistics.fmean(float(row[key] or 0.0) for row in adapter.statistics)


_SCORES: Mapping[str, Callable[[Measured], float]] = {
    "SSI, mean": _ssi(statistics.fmean),
    "SSI, highest": _ssi(max),
    "SSI, mean of the ten highest": _ssi(lambda ssi: statistics.fmean(sorted(ssi)[-10:])),
    "σ₁": _mean("sigma_1"),
    "‖ΔW‖": _mean("norm"),
    "energy concentration": _mean("energy"),
    "entropy": _mean("entropy"),
    "kurtosis": _mean("kurtosis"),
}


def _anomalies(chosen: Sequence[Measured], good: Sequence[str]) -> list[float]:
    signatures = {a.name: _signature(a) for a in chosen}
    scores = []
    for adapter in chosen:
        others = [signatures[a.name] for a in chosen if a.kind in good and a is not adapter]
        scores.append(anomaly(signatures[adapter.name], Reference.fit(others)).score)
    return scores


def _signature(adapter: Measured) -> dict[str, float]:
    rows = zip(adapter.modules, adapter.statistics, strict=True)
    return signature({name: SpectralStatistics(**row) for name, row in rows})  # type: ignore[arg-type]
