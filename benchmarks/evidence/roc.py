"""How well a score tells bad from good: the ROC curve and the area under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from s3lora_serve.evaluation.statistics.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def roc(
    scores: Sequence[float], labels: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """False and true positive rates from the strictest threshold to the laxest, and the area under them.

    ``labels`` are true for the bad ones, which should score high. Equal scores are one threshold, so that the
    area is the chance that a bad one scores above a good one, a tie counting half (Mann and Whitney's U).
    Raises ValueError unless there is a finite score for each label and both kinds occur.
    """
    bad, good = _histograms(scores, labels)
    fpr = np.concatenate(([0.0], np.cumsum(good[::-1]) / good.sum()))
    tpr = np.concatenate(([0.0], np.cumsum(bad[::-1]) / bad.sum()))
    return fpr, tpr, float(_areas(bad[None], good[None])[0])


def auc_interval(
    scores: Sequence[float], labels: Sequence[bool], *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The area under the ROC curve with its bootstrap percentile interval; the same for the same arguments.

    Bad and good ones are drawn again each among themselves. With few of them, or without any error, the
    interval is too narrow: no draw shows what was never seen. Raises ValueError as ``roc``.
    """
    bad, good = _histograms(scores, labels)
    rng = np.random.default_rng(seed)
    # Drawing n scores again with replacement is a multinomial draw of how often each distinct score comes.
    areas = _areas(*(rng.multinomial(int(h.sum()), h / h.sum(), size=draws) for h in (bad, good)))
    tail = (1 - level) / 2
    low, high = np.quantile(areas, [tail, 1 - tail])
    return Interval(float(_areas(bad[None], good[None])[0]), float(low), float(high))


def _histograms(
    scores: Sequence[float], labels: Sequence[bool]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often each distinct score, ascending, comes among the bad and among the good."""
    values, is_bad = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if values.ndim != 1 or values.shape != is_bad.shape:
        raise ValueError(f"{values.size} scores for {is_bad.size} labels; one of each is needed")
    if not np.isfinite(values).all():
        raise ValueError(f"score {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite")
    if is_bad.all() or not is_bad.any():
        raise ValueError(f"all {is_bad.size} labels are alike; a ROC curve needs both kinds")
    distinct, place = np.unique(values, return_inverse=True)
    bad, good = (np.bincount(place[mask], minlength=len(distinct)) for mask in (is_bad, ~is_bad))
    return bad, good


def _areas(bad: NDArray[np.int64], good: NDArray[np.int64]) -> NDArray[np.float64]:
    """Area of each pair of histograms, [draws, distinct scores]."""
    below = np.cumsum(good, axis=1) - good / 2  # good ones that a bad one of this score beats, ties half
    total: NDArray[np.float64] = (bad * below).sum(axis=1) / (bad.sum(axis=1) * good.sum(axis=1))
    return total
