"""An interval knows its sign, and a bootstrap's weights are shares."""

import numpy as np
import pytest

from s3lora_serve.evaluation.statistics.intervals import Bootstrap, Interval


@pytest.mark.parametrize(
    ("bounds", "sign"), [((-0.2, -0.1), -1), ((0.1, 0.2), 1), ((-0.1, 0.1), 0), ((0.0, 0.1), 0)]
)
def test_sign_only_beyond_zero(bounds, sign):
    """A difference is shown only when its whole interval is on one side of zero."""
    assert Interval(sum(bounds) / 2, *bounds).sign == sign


def test_settings_that_mean_nothing():
    """No draws and levels outside (0, 1) are refused."""
    for odd in ({"draws": 0}, {"level": 1.0}, {"level": 0.0}):
        with pytest.raises(ValueError, match="draws"):
            Bootstrap(**odd)


def test_weights_are_shares():
    """Every draw's weights add up to 1, the first is uniform, and kinds are independent."""
    bootstrap = Bootstrap(50)
    weights = bootstrap.weights(7, "a")
    assert weights.sum(axis=1) == pytest.approx(np.ones(51))
    assert weights[0] == pytest.approx(np.full(7, 1 / 7))
    assert not np.array_equal(weights, bootstrap.weights(7, "b"))
