"""Bootstrap intervals of plain tables of values, and of the paired difference of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from s3lora_serve.evaluation.statistics.intervals import DRAWS, LEVEL, Bootstrap, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def interval(
    values: ArrayLike | Sequence[ArrayLike],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
    *,
    share: bool = False,
) -> Interval:
    """The mean over units of the mean over prompts, with a bootstrap interval.

    ``values``: [units, prompts], or a list of one sequence per unit. Units (training seeds) are resampled
    when there are several. Units of equal length were asked the same prompts, and get the same draw of them
    (Owen's pigeonhole bootstrap, 2007: drawing them for each unit alone would count one hard prompt as many);
    units of unequal length get their own. With few units it is too narrow, as bootstraps are: simulated with
    100 prompts, 95 % intervals held the true share in 85, 91 and 95 % of cases for 3, 6 and 12 units. Paired
    differences err on the safe side: of equals, at most 2.5 % were told apart.
    ``share``: the values are zeros and ones; see ``Bootstrap.of_share``. Raises ValueError for no values.
    """
    bootstrap = Bootstrap(draws, seed, level)
    rows = _rows(values)
    found = bootstrap.intervals(_figures(rows, bootstrap)[None])[0]
    return bootstrap.of_share(found, max(len(row) for row in rows)) if share else found


def difference(
    a: ArrayLike | Sequence[ArrayLike],
    b: ArrayLike | Sequence[ArrayLike],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """The interval of mean(a) − mean(b), paired: both are of the same units and the same prompts, in order.

    Raises ValueError for no values and for shapes that differ.
    """
    left, right = _rows(a), _rows(b)
    if [len(row) for row in left] != [len(row) for row in right]:
        raise ValueError("a paired difference needs the same units and prompts on both sides")
    return interval([x - y for x, y in zip(left, right, strict=True)], draws, seed, level)


def _rows(values: ArrayLike | Sequence[ArrayLike]) -> list[Floats]:
    rows = [np.atleast_1d(np.asarray(row, dtype=np.float64)) for row in values]  # type: ignore[union-attr]
    if not rows or any(row.ndim != 1 or not row.size for row in rows):
        raise ValueError("an interval needs at least one unit, and at least one prompt in each")
    return rows


def _figures(rows: Sequence[Floats], bootstrap: Bootstrap) -> Floats:
    same = len({len(row) for row in rows}) == 1
    means = np.stack(
        [bootstrap.weights(len(row), "" if same else f"of unit {n}") @ row for n, row in enumerate(rows)],
        axis=1,
    )
    figures: Floats = (means * bootstrap.weights(len(rows), "units")).sum(axis=1)
    return figures
