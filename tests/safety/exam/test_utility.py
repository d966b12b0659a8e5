"""Figures of plans refuse beside the unpruned adapter and a pinned revision, and never beside the base."""

from __future__ import annotations

import pytest

from s3lora_serve.config import ExamConfig
from s3lora_serve.safety.exam.utility import Utility, lost, measures

BASE, PINNED = ExamConfig(), ExamConfig(against="a" * 64)


@pytest.mark.parametrize(
    ("utility", "other", "worse"),
    [
        (Utility("loss", 1.5), 1.0, 0.5),
        (Utility("loss", 0.5), 1.0, 0.0),
        (Utility("valid", 0.6), 0.8, 0.25),
        (Utility("valid", 0.9), 0.8, 0.0),
        (Utility("valid", 0.0), 0.0, 0.0),
        (Utility("loss", 9.0), None, 0.0),
    ],
)
def test_what_is_worse(utility, other, worse):
    """More loss, less of the others; where nothing is known of the other, nothing is."""
    assert utility.worse_than(other) == pytest.approx(worse)


@pytest.mark.parametrize(
    ("figures", "settings", "said"),
    [
        ((Utility("valid", 0.5),), PINNED, ""),  # nothing else was asked
        ((Utility("valid", 0.5, reference=0.9),), BASE, ""),
        ((Utility("valid", 0.85, reference=0.9),), PINNED, ""),
        ((Utility("rouge_l", 0.1, 0.9, 0.9),), PINNED, ""),
        (
            (Utility("valid", 0.6, reference=0.8),),
            PINNED,
            "valid is 0.6, 25 % worse than revision aaaaaaaaaaaa's 0.8: more than exam.max_utility_loss (10",
        ),
        ((Utility("loss", 1.5, 1.0, 9.0),), BASE, "loss is 1.5, 50 % worse than the unpruned adapter's 1:"),
        ((Utility("loss", 1.5, 1.4, 1.0),), PINNED, "loss is 1.5, 50 % worse than revision"),
        ((Utility("loss", 1.5, 1.0), Utility("valid", 0.1, 0.9)), BASE, "valid is 0.1, 89 % worse"),
    ],
)
def test_the_worst_figure_beside_what_is_trusted_is_named(figures, settings, said):
    """With both figures, whose the other is, and the setting; what is only reported refuses nothing."""
    assert lost(figures, settings).startswith(said)
    assert bool(lost(figures, settings)) is bool(said)


def test_a_loss_that_is_allowed():
    """Half as good may be good enough, if the settings say so."""
    assert not lost((Utility("valid", 0.5, 0.9),), ExamConfig(max_utility_loss=0.5))


def test_whose_figures_decide():
    """A revision that an operator pinned, and the unpruned adapter, where they were asked."""
    asked, both = (Utility("loss", 1.0, reference=1.0),), (Utility("loss", 1.0, 1.0, 1.0),)
    assert measures(asked, "base") == {}
    assert measures(asked, "b" * 64) == {"reference": "revision bbbbbbbbbbbb's"}
    assert measures(both, "base") == {"unpruned": "the unpruned adapter's"}
