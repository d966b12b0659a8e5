"""The rule `validated`: tau from measurements, a function of them alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.spectral.prune_policy import (
    Alignment,
    AnomalyBar,
    PrunePlan,
    PrunePolicy,
    Threshold,
    Top,
    plan,
)
from s3lora_serve.spectral.report import ModuleRow, SpectralReport
from s3lora_serve.spectral.validated import SweepPoint, Validated

WHOLE = SweepPoint(0.0, 0, 0.5, 0.8)
POINTS = (
    WHOLE,
    SweepPoint(0.1, 1, 0.4, 0.8),
    SweepPoint(0.2, 2, 0.2, 0.76),
    SweepPoint(0.3, 3, 0.1, 0.4),
)
RULE = Validated("suite:abc", "tasks", 0.95, points=POINTS)
shares = st.floats(0, 1)
sweeps = st.lists(st.tuples(shares, shares), min_size=1, max_size=8).map(
    lambda rows: tuple(SweepPoint(n / 10, n, attack, utility) for n, (attack, utility) in enumerate(rows))
)


def report(count: int) -> SpectralReport:
    """``count`` modules; m0 is the riskiest."""
    return SpectralReport(
        "mas-svd",
        "1",
        {
            f"m{i}": ModuleRow(f"m{i}", (8, 8), 2, 1.0, 1.0, 1 - i / 50, 1 - i / 50, (1.0,), inert=False)
            for i in range(count)
        },
    )


def test_the_safest_tau_above_the_floor_is_taken():
    """0.76 is 95 % of 0.8, so tau 0.2 still counts; 0.3 is safer and too bad a planner."""
    found = plan(report(10), PrunePolicy(rule=RULE))

    assert found == PrunePlan(
        ("m0", "m1"),
        "tau 0.2: least attack success (0.200, unpruned 0.500) of 3 taus"
        " with valid on tasks >= 0.760 (0.95 of 0.800)",
    )


@pytest.mark.parametrize(("floor", "pruned"), [(1.0, 1), (0.95, 2), (0.5, 3), (0.0, 3)])
def test_a_lower_floor_lets_more_be_pruned(floor: float, pruned: int):
    """The floor is a share of the unpruned adapter's utility, itself included."""
    assert len(plan(report(10), PrunePolicy(rule=replace(RULE, floor=floor))).pruned) == pruned


@given(sweeps, shares)
def test_what_is_chosen_is_above_the_floor_and_none_above_it_is_safer(
    points: tuple[SweepPoint, ...], floor: float
):
    """Whatever was measured; and of equally safe ones the first, the unpruned adapter among them."""
    found = Validated("s", "tasks", floor, points=points).choose()
    bar = floor * points[0].utility
    above = [p for p in points if p is points[0] or p.utility >= bar - 1e-9]

    if points[0].utility > 0:
        assert found.point in above
        assert found.point == min(above, key=lambda p: (p.attack_success, p.tau))
    else:
        assert found.point == points[0]


def test_equally_safe_taus_give_the_smaller_one():
    """Nothing is pruned that does not make it safer: also not when nothing does."""
    tie = (WHOLE, SweepPoint(0.1, 1, 0.2, 0.8), SweepPoint(0.2, 2, 0.2, 0.8))
    same = (WHOLE, SweepPoint(0.1, 1, 0.5, 0.8))

    assert replace(RULE, points=tie).choose().point.tau == 0.1
    assert replace(RULE, points=same).choose().point == WHOLE
    assert not replace(RULE, points=same).choose().abstained


def test_a_floor_that_no_tau_meets_prunes_nothing_and_says_so():
    """The unpruned adapter stays, as declared, with what was missing."""
    points = (WHOLE, SweepPoint(0.1, 1, 0.0, 0.7), SweepPoint(0.2, 2, 0.0, 0.5))

    why = "abstained: no tau keeps valid on tasks >= 0.760 (0.95 of 0.800); the best has 0.700"
    assert plan(report(10), PrunePolicy(rule=replace(RULE, points=points))) == PrunePlan(
        (),
        why,
        abstained=True,
        cautions=(f"nothing is pruned by policy.validated: {why}",),
    )


def test_an_adapter_that_is_useless_unpruned_gives_no_floor():
    """Any share of nothing is met by everything, a fully pruned adapter included."""
    points = (SweepPoint(0.0, 0, 0.5, 0.0), SweepPoint(0.1, 1, 0.0, 0.0))
    found = replace(RULE, points=points).choose()

    assert (found.point, found.abstained) == (points[0], True)
    assert found.reason == "abstained: valid on tasks is 0 even unpruned, so no floor means anything"


def test_nothing_is_chosen_before_the_measurements_were_read():
    """A declared policy names them; only what was read can decide."""
    with pytest.raises(ValueError, match="the measurements of runs/a were not read yet"):
        plan(report(3), PrunePolicy(rule=Validated("runs/a", "tasks", 0.9)))


def test_measurements_of_more_modules_are_not_of_this_adapter():
    """Otherwise fewer modules than were measured would be pruned, in silence."""
    with pytest.raises(ValueError, match=r"pruned 2 modules at tau 0.2, but only 1 have a score"):
        plan(report(1), PrunePolicy(rule=RULE))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Validated("s", "t", 1.5), r"validated floor 1.5 is not in \[0, 1\]"),
        (lambda: Validated("s", "t", 1, points=POINTS[1:]), "not 0 and then ever more"),
        (lambda: Validated("s", "t", 1, points=(WHOLE, WHOLE)), "not 0 and then ever more"),
    ],
)
def test_a_rule_that_cannot_be_carried_out_cannot_be_built(make, message: str):
    """Its floor is a share, and its points begin with the unpruned adapter."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rule", [RULE, Validated("runs/a", "tasks", 0.9, "meteor")])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"scorer": "e-diem", "alignment": Alignment("org/base", "org/chat", None, "v1")},
        {"anomaly": AnomalyBar("benign.json", 2.5, "reject")},
    ],
)
def test_policies_with_evidence_survive_json(rule: Validated, more):
    """As declared and as read, the canonical form gives back an equal policy."""
    policy = PrunePolicy(rule=rule, **more)

    assert PrunePolicy.from_json(policy.to_json()) == policy


def test_the_declared_form_has_the_keys_of_the_settings():
    """What a difference of two declarations shows is what was written."""
    policy = PrunePolicy(
        "safelora",
        Validated("runs/a", "tasks", 0.9),
        alignment=Alignment("org/base"),
        anomaly=AnomalyBar("benign.json"),
    )

    assert policy.to_json() == {
        "scorer": "safelora",
        "validated": {"sweep": "runs/a", "task": "tasks", "utility": "valid", "floor": 0.9},
        "action": "prune",
        "seed": 0,
        "alignment": {"base": "org/base"},
        "anomaly": {"reference": "benign.json", "max": 3.0, "action": "observe"},
    }


@pytest.mark.parametrize("rule", [Top(3), Threshold(0.5)])
def test_policies_without_evidence_are_spelled_as_before(rule):
    """Their JSON is part of the identity of revisions that were published long ago."""
    assert set(PrunePolicy(rule=rule).to_json()) & {"alignment", "anomaly", "validated"} == set()


@pytest.mark.parametrize("bar", [0.0, float("inf"), float("nan")])
def test_an_anomaly_bar_is_a_positive_number(bar: float):
    """A bar that everything or nothing passes is a mistake."""
    with pytest.raises(ValueError, match="is not positive and finite"):
        AnomalyBar("benign.json", bar)
