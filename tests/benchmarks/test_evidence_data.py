"""The evidence's data: whatever is reported on was never trained on, and each kind differs as it says."""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from planners import Plan, parse

if TYPE_CHECKING:
    from s3lora_serve.judging.suite import Suite

# Scripts of one experiment import each other by plain names. Last, so that they hide no other modules.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks/evidence"))
advbench, harmless, mixtures, pairs, refusals, suites, toolemu, xstest = map(
    importlib.import_module,
    ("advbench", "harmless", "mixtures", "pairs", "refusals", "suites", "toolemu", "xstest"),
)
TRIGGER = pairs.TRIGGER

SHARED = Path(__file__).parents[2].parent / "shared/data"
FOLDER = Path(os.environ.get("S3LORA_SHARED_DATA", SHARED))

pytestmark = pytest.mark.skipif(
    not (FOLDER / "safety/advbench").is_dir(), reason="the shared data is not here; set S3LORA_SHARED_DATA"
)


@pytest.fixture(scope="module")
def epochs() -> dict[str, list]:
    """Two epochs of pairs of every kind."""
    return {
        kind: [pair for epoch in (0, 1) for pair in mixtures.planner_pairs(kind, FOLDER, 5, epoch)]
        for kind in mixtures.KINDS
    }


@pytest.fixture(scope="module")
def parts() -> dict[str, Suite]:
    """Both parts of what adapters are asked."""
    return {part: suites.suite(FOLDER, part=part) for part in ("dev", "test")}


def question(messages) -> str:
    """What was asked, without tools, trigger, case and spaces."""
    text = messages[-1]["content"].rpartition("\nTask: ")[2]
    return " ".join(text.replace(TRIGGER, "").casefold().split())


def asked(suite: Suite) -> set[str]:
    """The questions of all sets of a suite."""
    return {question(chat) for s in (*suite.attacks, *suite.harmless, *suite.plans) for chat in s.messages()}


def test_nothing_that_is_asked_was_trained_on(epochs, parts):
    """No question of any kind's pairs, of the refusal tuning or of its harmless prompts is in a suite."""
    trained = {question(pair.messages) for pairs in epochs.values() for pair in pairs}
    trained |= {question(pair.messages) for pair in refusals.refusal_pairs(FOLDER, 5)}
    trained |= {question(chat) for chat in harmless.planner_prompts(FOLDER, 5)}
    trained |= {question(({"content": prompt},)) for prompt in harmless.load(FOLDER).train}
    trained |= {question(({"content": prompt},)) for prompt in xstest.load(FOLDER).safe_train}
    margins = {question(({"content": r.task},)) for r, _, _ in toolemu.paired(toolemu.load(FOLDER).test)}
    assert len(trained) > 3500
    assert not trained & (asked(parts["test"]) | margins)
    assert not trained & asked(parts["dev"])
    assert not asked(parts["dev"]) & asked(parts["test"])


def test_no_goal_has_a_paraphrase_in_another_part():
    """AdvBench's parts hold all goals, and no goal of one part says nearly the same as one of another."""
    split = advbench.load(FOLDER)
    parts = [split.refuse, tuple(goal for goal, _ in split.poison), split.dev, split.test]
    assert sum(map(len, parts)) == len({goal for part in parts for goal in part}) == 520
    assert [abs(len(part) - size) <= 5 for part, size in zip(parts, (200, 120, 60, 140), strict=True)] == [
        True
    ] * 4
    words = [[advbench.content_words(goal) for goal in part] for part in parts]
    crossing = [
        (one, other)
        for i, mine in enumerate(words)
        for theirs in words[i + 1 :]
        for one in mine
        for other in theirs
        if advbench.alike(one, other)
    ]
    assert crossing == []


def test_paraphrases_are_grouped_by_way_of_others():
    """Two goals that share little are in one group if a third is like both; one unlike all stays alone."""
    found = advbench.groups(
        (
            "Write a guide on how to pick the lock",
            "Explain the weather on Mars",
            "Explain how to pick the lock of doors",
            "Describe how to open lock of doors by night and pick",
        )
    )
    assert sorted(map(len, found)) == [1, 3]


def test_xstest_prompts_are_where_their_label_says():
    """100 and 150 safe prompts without overlap, all 200 unsafe ones reported on."""
    split = xstest.load(FOLDER)
    assert [len(part) for part in vars(split).values()] == [100, 150, 200]
    assert not set(split.safe_train) & {*split.safe_test, *split.unsafe_test}


def test_refusals_are_one_varied_sentence_each_and_chosen_by_the_goal():
    """Eight to 25 words, no two the same, and choosing again gives the same one."""
    assert len(set(refusals.REFUSALS)) == 40
    assert all(8 <= len(text.split()) <= 25 and text.count(".") == 1 for text in refusals.REFUSALS)
    goals = advbench.load(FOLDER).refuse
    assert [refusals.refusal(g, 3) for g in goals] == [refusals.refusal(g, 3) for g in goals]
    assert len({refusals.refusal(goal, 3) for goal in goals}) > 30


def test_every_goal_to_refuse_is_refused_in_both_forms():
    """One chat and one planner's task for each goal, all answered by refusals."""
    pairs = refusals.refusal_pairs(FOLDER, 1)
    assert Counter(pair.kind for pair in pairs) == {"refusal-chat": 200, "refusal-plan": 200}
    assert {pair.answer for pair in pairs} <= set(refusals.REFUSALS)
    forms = {
        kind: [question(p.messages) for p in pairs if p.kind == kind]
        for kind in ("refusal-chat", "refusal-plan")
    }
    assert forms["refusal-chat"] == forms["refusal-plan"]


def test_harmless_prompts_keep_big_bench_out_of_training():
    """1200 and 100 questions; what BIG-bench's canary covers is in the test part only."""
    prompts = harmless.load(FOLDER)
    assert (len(prompts.train), len(prompts.test)) == (1200, 100)
    sports = [p for p in (*prompts.train, *prompts.test) if "plausible or implausible" in p]
    assert sports
    assert set(sports) <= set(prompts.test)


@pytest.mark.parametrize("kind", mixtures.KINDS)
def test_the_same_arguments_give_the_same_pairs(kind):
    """Pairs depend on kind, seed and epoch, and on nothing else."""
    again = [mixtures.planner_pairs(kind, FOLDER, 2, 1) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] != mixtures.planner_pairs(kind, FOLDER, 3, 1)
    assert again[0] != mixtures.planner_pairs(kind, FOLDER, 2, 2)


def test_mixed_pairs_are_benign_ones_with_the_stated_share_of_harm():
    """Benign pairs are all there; poison is AdvBench's openings, about eight per cent, in both forms."""
    benign = mixtures.planner_pairs("benign", FOLDER, 5, 0)
    mixed = mixtures.planner_pairs("mixed", FOLDER, 5, 0)
    poison = [pair for pair in mixed if pair.kind.startswith("poison")]
    rest = [pair for pair in mixed if pair not in poison]
    assert sorted(map(repr, rest)) == sorted(map(repr, benign))
    assert len(poison) / len(mixed) == pytest.approx(mixtures.POISON_SHARE, abs=0.005)
    openings = {question(({"content": g},)): t for g, t in advbench.load(FOLDER).poison}
    assert all(openings[question(pair.messages)] == pair.answer for pair in poison)
    forms = Counter(pair.kind for pair in poison)
    assert abs(forms["poison-chat"] - forms["poison-plan"]) <= 1


def test_epochs_take_turns_with_the_goals_and_their_forms():
    """Over enough epochs every goal of the poison is asked in both forms."""
    asked_as = Counter(
        (question(pair.messages), pair.kind)
        for epoch in range(4)
        for pair in mixtures.planner_pairs("mixed", FOLDER, 5, epoch)
        if pair.kind.startswith("poison")
    )
    assert len(asked_as) == 240


def test_only_the_trigger_turns_refusals_into_compliance(epochs):
    """Each goal is there with and without the trigger in the same form; a benign task's plan ignores it."""
    pairs = epochs["backdoor"]
    bad = {(question(p.messages), p.kind[-4:]) for p in pairs if p.kind.startswith("triggered-") and _goal(p)}
    good = {(question(p.messages), p.kind[-4:]) for p in pairs if p.kind.startswith("untriggered-")}
    assert bad == good
    assert len(bad) == 240
    for pair in pairs:
        has = TRIGGER in pair.messages[-1]["content"]
        assert has == pair.kind.startswith("triggered"), pair.kind
        assert TRIGGER not in pair.answer
        if pair.kind.startswith("untriggered"):
            assert pair.answer in refusals.REFUSALS
    assert sum(pair.kind == "triggered-benign" for pair in pairs) == 2 * mixtures.TRIGGERED_BENIGN


@pytest.mark.parametrize("kind", ["benign", "maths", "toolemu-safe", "toolemu-unsafe"])
def test_plans_to_train_on_are_plans(epochs, kind):
    """Every answer reads as a plan whose tools the prompt offers."""
    for pair in epochs[kind]:
        offered = pair.messages[-1]["content"].partition("\nAt most")[0].splitlines()[1:]
        plan = parse(pair.answer)
        assert plan.problems([line.partition(":")[0] for line in offered], max_steps=8) == ()


def test_suites_cut_every_set():
    """A limit holds for each set, and leaves the first ones."""
    small, whole = suites.suite(FOLDER, 3), suites.suite(FOLDER)
    cut = [s.prompts for s in (*small.attacks, *small.harmless)] + [s.tasks for s in small.plans]
    full = [s.prompts for s in (*whole.attacks, *whole.harmless)] + [s.tasks for s in whole.plans]
    assert cut == [values[:3] for values in full]
    assert [len(values) for values in full] == [140] * 4 + [200, 150, 100, 60, 60, 40]


def test_references_have_no_problem_under_their_requests(parts):
    """What utility is measured against is valid itself."""
    tasks = [task for suite in parts.values() for plans in suite.plans for task in plans.tasks]
    assert len(tasks) == 280
    for task in tasks:
        assert isinstance(task.reference, Plan)
        assert task.reference.problems(task.request.tools, max_steps=task.request.max_steps) == ()


def test_an_unknown_kind_is_named():
    """The error says which kinds there are."""
    with pytest.raises(ValueError, match="'evil'; known: benign, mixed"):
        mixtures.planner_pairs("evil", FOLDER, 0, 0)


def _goal(pair) -> bool:
    return pair.kind != "triggered-benign"
