"""Plans: a pure function of scores and policy, tied to names and never to order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.spectral.prune_policy import (
    Adaptive,
    PrunePlan,
    PrunePolicy,
    Threshold,
    Top,
    plan,
)
from s3lora_serve.spectral.ranking import RESOLUTION
from s3lora_serve.spectral.report import ModuleRow, SpectralReport

scores_by_name = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.none() | st.floats(0, 1), max_size=20
)
rules = st.sampled_from([Top(0), Top(3), Top(10), Threshold(0.5), Adaptive(), Adaptive(z=1.0, max_share=0.5)])


def report(scores: dict[str, float | None], scorer: str = "mas-svd") -> SpectralReport:
    rows = {
        name: ModuleRow(name, (64, 64), 64, 1.0, 1.0, value, value, (1.0, 0.5), inert=value is None)
        for name, value in scores.items()
    }
    return SpectralReport(scorer, "1", rows)


def pruned(scores: dict[str, float | None], rule: Top | Threshold | Adaptive) -> tuple[str, ...]:
    return plan(report(scores), PrunePolicy(rule=rule)).pruned


@given(scores_by_name, rules, st.integers(0, 2**32))
def test_a_plan_does_not_depend_on_order(scores: dict[str, float | None], rule, seed: int):
    """Shuffling the report's rows changes nothing in the plan."""
    shuffled = list(scores.items())
    random.Random(seed).shuffle(shuffled)
    policy = PrunePolicy(rule=rule)

    assert plan(report(dict(shuffled)), policy) == plan(report(scores), policy)


@given(scores_by_name, rules)
def test_only_scored_modules_are_pruned_each_once(scores: dict[str, float | None], rule):
    """Inert modules are never sharp, and nothing is pruned twice."""
    chosen = pruned(scores, rule)

    assert len(set(chosen)) == len(chosen)
    assert all(scores[name] is not None for name in chosen)


@given(scores_by_name, st.integers(0, 25))
def test_top_takes_the_highest_scores(scores: dict[str, float | None], tau: int):
    """``top: tau`` prunes at most tau modules, none of which scores as one that is left or lower."""
    known = {name: value for name, value in scores.items() if value is not None}
    chosen = pruned(scores, Top(tau, max_share=1))
    left = [value for name, value in known.items() if name not in chosen]

    assert len(chosen) <= tau
    assert all(known[name] > max(left, default=-1.0) - RESOLUTION for name in chosen)
    if len(chosen) < min(tau, len(known)):  # a tie at the cut: of those that are left, as many as it takes
        top_left = sorted(left, reverse=True)[: min(tau, len(known)) - len(chosen) + 1]
        assert top_left[0] - top_left[-1] < 2 * RESOLUTION


@given(scores_by_name, st.floats(1 / 64, 1))
def test_threshold_takes_everything_above(scores: dict[str, float | None], value: float):
    """Exactly the modules that score above the value are pruned."""
    above = {name for name, given_score in scores.items() if given_score is not None and given_score > value}

    assert set(pruned(scores, Threshold(value))) == above


def test_ties_are_in_order_of_name_and_names_decide_nothing():
    """Equal scores, and scores closer than the arithmetic can tell apart, go together or stay together."""
    scores = {"c": 0.5, "a": 0.5, "b": 0.5 + 1e-9, "d": 0.9}
    assert pruned(scores, Top(4, max_share=1)) == ("d", "a", "b", "c")
    assert pruned(scores, Top(3, max_share=1)) == ("d",)


@given(st.floats(0, 1), st.integers(1, 30))
def test_adaptive_abstains_on_uniform_scores(value: float, n: int):
    """Uniform sharpness gives no ground to choose: nothing is pruned, and the plan says so."""
    found = plan(report({f"m{i}": value for i in range(n)}), PrunePolicy(rule=Adaptive()))

    assert found == PrunePlan((), f"abstained: scores are uniform around {value:.3f}", abstained=True)


def test_adaptive_abstains_when_nothing_stands_out():
    """An even spread has no outlier beyond z = 3.5."""
    found = plan(report({f"m{i:02}": i / 20 for i in range(20)}), PrunePolicy(rule=Adaptive()))

    assert found.pruned == ()
    assert found.abstained
    assert found.reason.startswith("abstained: no score beyond ")


def test_adaptive_prunes_the_outliers():
    """Modules beyond median + z·1.4826·MAD are pruned, the highest first."""
    scores = {f"m{i:02}": 0.30 + 0.001 * i for i in range(20)} | {"sharp": 0.8, "sharper": 0.9}
    found = plan(report(scores), PrunePolicy(rule=Adaptive()))

    assert found.pruned == ("sharper", "sharp")
    assert found.reason == "2 of 22 scores beyond 0.339 (z 3.5)"
    assert not found.abstained


def test_adaptive_is_capped():
    """At most ``max_share`` of the scored modules are pruned, whatever their z-score."""
    scores = {f"m{i:02}": 0.30 + 0.001 * i for i in range(16)} | {f"s{i}": 0.9 + i / 100 for i in range(4)}
    found = plan(report(scores), PrunePolicy(rule=Adaptive(max_share=0.1)))

    assert found.pruned == ("s3", "s2")
    assert found.reason.endswith("capped at 2 (10%)")


def test_adaptive_without_scores_abstains():
    """An adapter whose modules are all inert gives no ground either."""
    found = plan(report({"a": None}), PrunePolicy(rule=Adaptive()))
    assert (found.pruned, found.reason, found.abstained) == ((), "abstained: no module has a score", True)


def test_top_says_how_many_there_were():
    """Fewer modules than tau are all pruned where that is allowed, and the reason shows it."""
    found = plan(report({"a": 0.5, "b": None}), PrunePolicy(rule=Top(10, max_share=1)))

    assert found == PrunePlan(("a",), "top 10: 1 of 1 scored modules")


@pytest.mark.parametrize("action", ["prune", "observe", "reject"])
def test_the_action_does_not_change_the_selection(action):
    """A plan says what the rule selects; what to do with it is admission's part."""
    assert plan(report({"a": 0.5, "b": 0.4}), PrunePolicy(action=action)).pruned == ("a",)


def test_a_report_of_another_scorer_is_refused():
    """Scores of one scorer are never ranked under another's policy."""
    with pytest.raises(ValueError, match="the report's scorer is 'svd', the policy's 'mas-svd'"):
        plan(report({"a": 0.5}, scorer="svd"), PrunePolicy())


@pytest.mark.parametrize(
    ("rule", "section"),
    [
        (Top(10), {"top": 10}),
        (Top(10, max_share=1), {"top": 10, "top_share": 1}),
        (Threshold(0.6), {"threshold": 0.6}),
        (Adaptive(), {"adaptive": {"z": 3.5, "max_share": 0.25}}),
    ],
)
def test_policies_survive_json(rule, section):
    """The canonical form has the keys of planners.yaml and gives back an equal policy."""
    policy = PrunePolicy("svd", rule, "observe", 7)

    assert policy.to_json() == {"scorer": "svd", **section, "action": "observe", "seed": 7}
    assert PrunePolicy.from_json(policy.to_json()) == policy


def test_the_default_policy_is_the_papers():
    """MAS-SVD, the ten sharpest modules."""
    assert PrunePolicy().to_json() == {"scorer": "mas-svd", "top": 10, "action": "prune", "seed": 0}


@pytest.mark.parametrize("rules", [{}, {"top": 1, "threshold": 0.5}])
def test_a_policy_has_exactly_one_rule(rules):
    """None or two rules are an error."""
    with pytest.raises(ValueError, match="a policy has one of top, threshold, adaptive"):
        PrunePolicy.from_json({"scorer": "svd", "action": "prune", "seed": 0, **rules})


def test_plans_survive_json():
    """A plan's JSON gives back an equal plan."""
    found = PrunePlan(("b", "a"), "top 2: 2 of 9 scored modules")

    assert PrunePlan.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Top(-1), "top -1 is negative"),
        (lambda: Top(3, max_share=0), r"top max_share 0 is not in \(0, 1\]"),
        (lambda: Threshold(float("nan")), "threshold nan is not finite"),
        (lambda: Adaptive(z=0), "adaptive z 0 is not positive"),
        (lambda: Adaptive(max_share=1.5), r"adaptive max_share 1.5 is not in \(0, 1\]"),
    ],
)
def test_rules_refuse_values_without_meaning(make, message: str):
    """A rule that could not be carried out cannot be built."""
    with pytest.raises(ValueError, match=message):
        make()
