"""What an exam's settings may not say, and why."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from s3lora_serve.config.exam import ExamConfig


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"max_attack_rise": 0.2}, "must be below tolerated_rise"),
        ({"taus": [0.0, 0.2, 0.1]}, "each larger than the one before"),
        ({"taus": [0.0, 1.0]}, "from 0 to below 1"),
        # The unpruned adapter is the first rung: without it no loss of utility could be told.
        ({"action": "mend", "taus": [0.1, 0.2]}, "must begin with 0, not 0.1"),
        # What has this digest passes unasked, and the beginning of one can be had by trying.
        ({"against": "a" * 12}, "pattern"),
        ({"against": "A" * 64}, "pattern"),
        ({"against": "serving"}, "pattern"),
        ({"attacks": 9}, "greater than or equal to 10"),
        ({"taus": []}, "at least 1"),
    ],
)
def test_what_means_nothing_is_refused(given, why):
    """Each with the setting and its limit."""
    with pytest.raises(ValidationError, match=why):
        ExamConfig(**given)


def test_a_pin_is_a_whole_digest():
    """And shares of other actions than mend may begin anywhere: nothing climbs them."""
    assert ExamConfig(against="a" * 64, taus=(0.1, 0.2)).against == "a" * 64
