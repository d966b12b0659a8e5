"""The ladder: which numbers of modules are tried, least first, and when an order of modules is made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.config import ExamConfig
from s3lora_serve.safety.exam.ladder import ladder
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top, plan
from s3lora_serve.spectral.ranking import RESOLUTION, rank
from s3lora_serve.spectral.report import ModuleRow, SpectralReport

TAUS = ExamConfig().taus


def report(scores, scorer="mas-svd", ranks=()):
    """Modules m0, m1, … with these scores, of rank 8 or of ``ranks``."""
    rows = {}
    for number, value in enumerate(scores):
        rank = ranks[number % len(ranks)] if ranks else 8
        name = f"m{number}"
        rows[name] = ModuleRow(name, (64, 64), rank, 1.0, 1.0, value, value, (1.0, 0.5), value is None)
    return SpectralReport(scorer, "1", rows)


def tops(found):
    """How many modules each rung prunes."""
    return [rung.top for rung in found.rungs]


SIXTY = [0.2 + 0.01 * n for n in range(60)]


def test_shares_become_numbers_of_modules():
    """Of 60 modules 0, 5, 10, 20 and 30 % are 0, 3, 6, 12 and 18; those of highest score go first."""
    found = ladder(report(SIXTY), TAUS)
    assert (tops(found), found.abstained, found.left_out) == ([0, 3, 6, 12, 18], "", ())
    assert found.rungs[1].pruned == ("m59", "m58", "m57")
    assert [rung.tau for rung in found.rungs] == list(TAUS)


def test_shares_are_of_the_modules_that_have_a_score():
    """Inert modules have none, are never pruned and count for nothing."""
    assert tops(ladder(report([*SIXTY[:20], *([None] * 100)]), TAUS)) == [0, 1, 2, 4, 6]


def test_equal_rungs_are_tried_once():
    """In a small adapter several shares come to the same number: the level is divided by what is tried."""
    found = ladder(report(SIXTY[:7]), TAUS)
    assert tops(found) == [0, 1, 2]
    assert found.level(0.95) == pytest.approx(0.05 / 3)


@given(st.lists(st.none() | st.floats(0.1, 0.9), min_size=1, max_size=40))
def test_a_rung_is_what_the_policy_prunes(scores):
    """Each rung leaves out exactly what admission does under its policy ``top``, and each prunes more."""
    found = ladder(report(scores), TAUS)
    for rung in found.rungs:
        assert rung.pruned == plan(report(scores), PrunePolicy(rule=Top(rung.top))).pruned
        assert rung.top == len(rung.pruned)
    assert tops(found) == sorted(set(tops(found)))
    assert bool(found.rungs) != bool(found.abstained)


def test_equal_scores_at_a_cut_leave_that_rung_out():
    """Which of two equal modules goes would be made up; cuts beside them stand."""
    scores = list(SIXTY)
    scores[56] = scores[57] + RESOLUTION / 4  # the third and the fourth highest
    scores[56], scores[57] = scores[57], scores[57]
    found = ladder(report(scores), TAUS)
    assert (tops(found), found.left_out) == ([0, 6, 12, 18], (0.05,))
    assert found.level(0.95) == pytest.approx(0.05 / 4)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (report(SIXTY, scorer="random"), "random, which ranks nothing"),
        (report(SIXTY[:4]), "4 modules have a score, fewer than exam.taus has rungs (5)"),
        (report([None] * 60), "0 modules have a score"),
        (report([1.0] * 60, ranks=(1,)), "every module has rank 1"),
        (report([1.0] * 60, scorer="svd", ranks=(1,)), "every module has rank 1"),
        (report([0.5] * 60), "the scores at each cut are equal"),
    ],
)
def test_it_abstains_where_the_ranking_carries_nothing(given, why):
    """No rung, and a reason for people."""
    found = ladder(given, TAUS)
    assert found.rungs == ()
    assert why in found.abstained


@pytest.mark.parametrize("ranks", [(4, 8), (4, 8, 16, 32, 64)])
def test_several_ranks_are_compared_by_what_is_above_their_floor(ranks):
    """As admission does: the rungs are those of the plan, and stand in its order."""
    found = ladder(report([value / 4 + 0.25 for value in SIXTY], ranks=ranks), TAUS)
    assert tops(found) == [0, 3, 6, 12, 18]
    assert found.rungs[1].pruned == rank(report([v / 4 + 0.25 for v in SIXTY], ranks=ranks)).names[:3]


def test_a_rung_over_the_share_that_top_may_prune_is_left_out():
    """It would not be the revision that admission makes of it."""
    found = ladder(report(SIXTY), (0.0, 0.3, 0.7))
    assert (tops(found), found.left_out) == ([0, 18], (0.7,))


@pytest.mark.parametrize("ranks", [(1,), (4, 8)])
def test_scores_that_are_no_share_of_a_rank_are_walked_at_any(ranks):
    """E-DIEM and SafeLoRA compare with the alignment, and mean the same at every rank."""
    assert tops(ladder(report(SIXTY, scorer="safelora", ranks=ranks), TAUS)) == [0, 3, 6, 12, 18]


def test_nothing_but_the_unpruned_is_no_ladder():
    """Shares that come to no module at all are a setting to correct, not an adapter to serve."""
    assert "no rung prunes a module" in ladder(report(SIXTY[:5]), (0.0, 0.01)).abstained
