"""A ranking that carries nothing decides nothing: rank 1, ties, several ranks, most of a small adapter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.prune_policy import Adaptive, PrunePlan, PrunePolicy, Threshold, Top, plan
from s3lora_serve.spectral.ranking import RESOLUTION, rank
from s3lora_serve.spectral.report import ModuleRow, SpectralReport
from s3lora_serve.spectral.scorers import score

SPECTRAL = ["mas-svd", "svd", "spsvd"]


def report(rows: dict[str, tuple[int, float | None]], scorer: str = "mas-svd") -> SpectralReport:
    """Modules by name with their rank and score."""
    return SpectralReport(
        scorer,
        "1",
        {
            name: ModuleRow(name, (64, 64), rank, 1.0, 1.0, value, value, (1.0,), value is None)
            for name, (rank, value) in rows.items()
        },
    )


def chosen(rows: dict[str, tuple[int, float | None]], rule: object, scorer: str = "mas-svd") -> PrunePlan:
    """The plan of these."""
    return plan(report(rows, scorer), PrunePolicy(scorer, rule))


def random_adapter(ranks: list[int], size: int = 32) -> dict[str, LowRank]:
    """A module of each rank, in this order."""
    g = torch.Generator().manual_seed(3)
    return {
        f"m{i:02}": LowRank(torch.randn(r, size, generator=g), torch.randn(size, r, generator=g), 1.0)
        for i, r in enumerate(ranks)
    }


@pytest.mark.parametrize("scorer", SPECTRAL)
@pytest.mark.parametrize("rule", [Top(10), Top(10, max_share=1), Threshold(0.9), Threshold(1.0), Adaptive()])
def test_at_rank_one_nothing_is_selected(scorer: str, rule: object):
    """Every score is 1, which says nothing: the alphabet must not choose in its place."""
    found = plan(score(random_adapter([1] * 12), scorer), PrunePolicy(scorer, rule))

    assert (found.pruned, found.abstained) == ((), True)
    assert "rank" in found.reason
    assert found.cautions


@pytest.mark.parametrize("scorer", ["random", "reference", "safelora", "e-diem"])
def test_scores_that_are_not_of_a_spectrum_mean_something_at_rank_one(scorer: str):
    """They compare with other things than a module's own rank."""
    found = chosen({f"m{i}": (1, i / 10) for i in range(9)}, Top(2), scorer)

    assert found == PrunePlan(("m8", "m7"), "top 2: 2 of 9 scored modules")


def test_a_tie_at_the_cut_is_left_whole():
    """Two stand out, ten are equal: two go, and the plan says why not ten."""
    rows = {f"m{i:02}": (8, 0.4) for i in range(28)} | {"a": (8, 0.8), "b": (8, 0.7)}
    found = chosen(rows, Top(10))

    assert (found.pruned, found.abstained) == (("a", "b"), False)
    assert found.reason == (
        "top 10: 2 of 30 scored modules; 8 more have the same score as ones that would be kept"
    )
    assert found.cautions == (found.reason,)


def test_nothing_but_ties_abstains():
    """All equal, at whatever rank."""
    found = chosen({f"m{i:02}": (8, 0.4 + i * RESOLUTION / 100) for i in range(30)}, Top(10))

    assert (found.pruned, found.abstained) == ((), True)
    assert found.reason.startswith("abstained: top 10: 0 of 30 scored modules; 10 more have the same score")


def test_the_cap_of_adaptive_parts_no_tie_either():
    """Four of twenty are equal outliers, and two would be allowed: none goes."""
    rows = {f"m{i:02}": (8, 0.30 + 0.001 * i) for i in range(16)} | {f"s{i}": (8, 0.9) for i in range(4)}
    found = chosen(rows, Adaptive(max_share=0.1))

    assert (found.pruned, found.abstained) == ((), True)
    assert "the same score" in found.reason


@pytest.mark.parametrize(("modules", "kept"), [(12, 6), (3, 2), (2, 1), (20, 10), (21, 11)])
def test_top_takes_half_at_most(modules: int, kept: int):
    """Ten of twelve would be the adapter itself; the plan says so wherever it takes less than ten."""
    found = chosen({f"m{i:02}": (8, 0.2 + i / 100) for i in range(modules)}, Top(10))

    assert len(found.pruned) == modules - kept
    assert ("at most 50% of them (policy.top_share)" in found.reason) == (modules // 2 < 10)
    assert bool(found.cautions) == (modules // 2 < 10)


def test_one_module_alone_is_never_half():
    """The policy abstains, unless all may go."""
    assert chosen({"a": (8, 0.9)}, Top(10)).abstained
    assert chosen({"a": (8, 0.9)}, Top(10, max_share=1)).pruned == ("a",)


def test_several_ranks_are_compared_by_the_share_above_their_floor():
    """At rank 2 no score is below 0.5: it is no sharper than one of 0.4 at rank 64."""
    rows = {f"flat{i}": (2, 0.51 + i / 1000) for i in range(6)} | {
        f"s{i}": (64, 0.4 + i / 100) for i in range(6)
    }
    found = chosen(rows, Top(3))

    assert found.pruned == ("s5", "s4", "s3")
    assert found.cautions == (
        "its modules have ranks 2, 64: scores are compared by their share above 1/rank",
    )


def test_modules_of_rank_one_among_others_are_in_no_order():
    """Their score of 1 would be the highest, whatever they do."""
    rows = {f"one{i}": (1, 1.0) for i in range(4)} | {f"m{i}": (8, 0.2 + i / 100) for i in range(8)}
    found = chosen(rows, Top(10, max_share=1))

    assert set(found.pruned) == {f"m{i}" for i in range(8)}
    assert "4 modules of rank 1 are in no order" in found.cautions[-1]
    assert rank(report(rows)).names[-4:] == ("one0", "one1", "one2", "one3")


def test_random_updates_of_any_rank_have_no_order_among_ranks():
    """By SSI itself the lowest rank would always go first; by the share above the floor they are near."""
    scores = score(random_adapter([2, 4, 8, 16] * 4, size=512))
    by_ssi = sorted(row.ssi for row in scores.rows.values())
    standing = rank(scores).standing

    assert by_ssi[-1] / by_ssi[0] > 5
    assert max(standing.values()) < 0.05


@given(st.lists(st.floats(0.125, 1), min_size=1, max_size=30), st.integers(0, 12))
def test_at_one_rank_the_scores_themselves_are_the_standing(scores: list[float], tau: int):
    """ADR 0001's SSI and its order are untouched."""
    rows = {f"m{i:02}": (8, value) for i, value in enumerate(scores)}
    found = rank(report(rows))

    assert dict(found.standing) == {name: value for name, (_, value) in rows.items()}
    assert found.tie == RESOLUTION


def test_a_bar_below_what_a_rank_alone_gives_says_nothing():
    """Every module of rank 2 is above 0.45: it is left as it is, and those of rank 8 are judged."""
    rows = {"two": (2, 0.52), "low": (8, 0.3), "high": (8, 0.6)}
    found = chosen(rows, Threshold(0.45))

    assert found.pruned == ("high",)
    assert "1 are left as they are" in found.cautions[0]
    assert chosen({"a": (2, 0.52)}, Threshold(0.45)).abstained
    assert chosen({"a": (2, 0.52)}, Threshold(0.45), "safelora").pruned == ("a",)


def test_cautions_survive_json_and_are_left_out_where_there_are_none():
    """Releases before them read such a plan as ever."""
    plain, told = PrunePlan(("a",), "top 1"), PrunePlan((), "abstained: x", True, ("y", "z"))

    assert "cautions" not in plain.to_json()
    assert PrunePlan.from_json(told.to_json()) == told
