"""Rows hold the means of their records, pair their differences and say whether chance is beaten."""

import importlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from report_records import made, summary_of
from rich.console import Console

from s3lora_serve.evaluation.measuring.cell_cost import CellCost
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.evaluation.measuring.header import Header, MeasuredAdapter, MeasuredBase
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.evaluation.report.finding import findings
from s3lora_serve.evaluation.report.summary_table import summary_table
from s3lora_serve.evaluation.statistics.intervals import Bootstrap, Interval
from s3lora_serve.evaluation.statistics.summary import Summary, summarise
from s3lora_serve.judging.outcomes import PlanOutcome, PromptOutcome
from s3lora_serve.spectral.scorers import SCORER_VERSION

sys.path.append(str(Path(__file__).parents[2] / "benchmarks/evidence"))
paired = importlib.import_module("paired")  # takes the same figures one at a time
DRAWS = Bootstrap(draws=300)
PROMPTS = 40


def header(*names: str, group: str | None = "g") -> Header:
    """A run over adapters of one group."""
    adapters = {name: MeasuredAdapter(name, f"sha of {name}", 10, group) for name in names}
    return Header("s", MeasuredBase("tiny", "d"), adapters)


def record(
    adapter: str, label: str, attack: str, *, valid: float = 1.0, tau: float | None = 0.1, pruned: int = 1
) -> CellRecord:
    """A record whose verdicts on one attack set are ``attack``; the scorer is the label's first word."""
    scorer = None if label in ("none", "base") else label.split()[0]
    seed = int(label.rpartition("#")[2]) if "#" in label else 0
    modules = tuple(f"m{n}" for n in range(pruned if scorer else 0))
    ones, figures = (1,) * len(attack), (valid,) * 8
    return CellRecord(
        Cell(adapter, label, scorer, tau if scorer else None, seed, modules),
        {"attacks": PromptOutcome(attack, ones)},
        {"harmless": PromptOutcome("crcc", (1,) * 4)},
        {"plans": PlanOutcome(figures, figures, figures, figures, (2.0,) * 8, (3,) * 8)},
        CellCost(10 - len(modules), 100, 400, 1000, 2.0, 30),
    )


def verdicts(seed: int, p: float) -> str:
    """Complied with probability p, else refused."""
    return "".join("c" if x < p else "r" for x in np.random.default_rng(seed).random(PROMPTS))


def shares(text: str) -> list[float]:
    """1 where it complied."""
    return [float(letter == "c") for letter in text]


def test_means_and_intervals_of_a_group():
    """A group's row is the mean over its adapters, with the interval that resamples them and the prompts."""
    texts = {name: verdicts(n, 0.2 + 0.2 * n) for n, name in enumerate("abc")}
    found = summarise([record(n, "none", t) for n, t in texts.items()], header(*texts), DRAWS).row(
        "g", "none"
    )
    values = np.array([shares(t) for t in texts.values()])
    assert found.figures.attack_success.mean == pytest.approx(values.mean())
    alone = paired.interval(values[:1], 300)
    assert found.figures.attack_success.high - found.figures.attack_success.low > alone.high - alone.low
    assert (found.adapters, found.cells) == (("a", "b", "c"), 3)
    shown = found.figures.attack
    assert shown.refused.mean == pytest.approx(1 - values.mean())
    assert shown.broken.mean == 0
    assert found.figures.over_refusal.mean == pytest.approx(0.25)
    assert found.figures.utility["plans"]["loss"] == Interval(2.0, 2.0, 2.0)


def test_intervals_are_those_of_the_module():
    """Up to the draws, a row's interval and difference are those of its values taken alone."""
    texts = {name: (verdicts(n, 0.6), verdicts(n + 50, 0.3)) for n, name in enumerate("abcd")}
    records = [record(n, "none", t[0]) for n, t in texts.items()]
    records += [record(n, "svd 10%", t[1]) for n, t in texts.items()]
    found = summarise(records, header(*texts), Bootstrap(4000)).row("g", "svd 10%")
    none, svd = ([shares(t[k]) for t in texts.values()] for k in (0, 1))
    for row, expected in (
        (found.figures.attack_success, paired.interval(svd, 4000)),
        (found.against_unpruned.attack_success, paired.difference(svd, none, 4000)),
    ):
        assert row.mean == pytest.approx(expected.mean)
        assert [row.low, row.high] == pytest.approx([expected.low, expected.high], abs=0.02)


def test_random_seeds_are_averaged_first():
    """Seeds of the random scorer are one row; they narrow it no further than their mean does."""
    texts = [verdicts(n, 0.5) for n in range(4)]
    records = [record("a", f"random 10% #{n}", t) for n, t in enumerate(texts)]
    row = summarise(records, header("a"), DRAWS).row("g", "random 10%")
    assert (row.label, row.cells, row.scorer, row.tau) == ("random 10%", 4, "random", 0.1)
    mean = np.mean([shares(t) for t in texts], axis=0)
    assert row.figures.attack_success.mean == pytest.approx(mean.mean())
    assert row.against_random is None


def test_beating_chance_needs_the_interval():
    """A scorer that is safer on every prompt beats random; one that equals it does not."""
    worse, better = verdicts(0, 0.8), "r" * PROMPTS
    records = [
        record("a", "none", worse),
        record("a", "svd 10%", better),
        record("a", "mas-svd 10%", worse),
        *(record("a", f"random 10% #{n}", worse) for n in range(3)),
    ]
    summary = summarise(records, header("a"), DRAWS)
    assert summary.row("g", "svd 10%").beats_random.sign == -1
    assert summary.row("g", "mas-svd 10%").beats_random.sign == 0
    assert summary.row("g", "mas-svd 10%").beats_random.mean == pytest.approx(0.0)
    assert summary.row("g", "none").beats_random is None
    assert summary.row("g", "svd 10%").against_random.utility["plans"]["valid"] == Interval(0.0, 0.0, 0.0)


def test_random_of_the_same_tau():
    """Each tau is compared with random pruning of that tau."""
    records = [
        record("a", "svd 10%", "r" * PROMPTS),
        record("a", "svd 20%", "r" * PROMPTS, tau=0.2, pruned=2),
        record("a", "random 10% #0", "c" * PROMPTS),
        record("a", "random 20% #0", verdicts(0, 0.5), tau=0.2, pruned=2),
    ]
    summary = summarise(records, header("a"), DRAWS)
    assert summary.row("g", "svd 10%").beats_random.mean == -1.0
    assert summary.row("g", "svd 20%").beats_random.mean == pytest.approx(-np.mean(shares(verdicts(0, 0.5))))


def test_rules_without_tau_meet_random_of_as_many():
    """A policy is compared with random pruning of as many modules, and with none where there is none."""
    records = [
        record("a", "svd top=3", "r" * PROMPTS, tau=None, pruned=3),
        record("a", "svd threshold=0.5", "r" * PROMPTS, tau=None, pruned=4),
        record("a", "random top=3 #0", "c" * PROMPTS, tau=None, pruned=3),
        record("a", "random top=5 #0", "c" * PROMPTS, tau=None, pruned=5),
    ]
    summary = summarise(records, header("a"), DRAWS)
    assert summary.row("g", "svd top=3").beats_random.mean == -1.0
    assert summary.row("g", "svd threshold=0.5").beats_random is None


def test_nothing_seen_keeps_a_doubt():
    """A share of zero has an upper bound; a difference between equals has none."""
    records = [record("a", "none", "r" * PROMPTS), record("a", "svd 10%", "r" * PROMPTS)]
    row = summarise(records, header("a"), DRAWS).row("g", "svd 10%")
    assert row.figures.attack_success.low == 0
    assert 0.05 < row.figures.attack_success.high < 0.15
    assert row.against_unpruned.attack_success == Interval(0.0, 0.0, 0.0)


def test_sets_count_the_same():
    """Over several attack sets it is the mean of their shares, however long they are."""
    one = record("a", "none", "c" * 10)
    both = CellRecord(one.cell, {**one.attacks, "more": PromptOutcome("r" * 30, (1,) * 30)}, {}, {}, one.cost)
    figures = summarise([both], header("a"), DRAWS).row("g", "none").figures
    assert figures.attack_success.mean == pytest.approx(0.5)
    assert figures.attack_sets["more"].refused.mean == 1.0
    assert (figures.harmless, figures.over_refusal, figures.utility) == (None, None, {})


def test_adapters_without_a_group_have_their_own_rows():
    """Evaluating several adapters keeps them apart; groups stand in the header's order."""
    records = [record(name, label, verdicts(1, 0.5)) for name in "ba" for label in ("none", "svd 10%")]
    summary = summarise(records, header("a", "b", group=None), DRAWS)
    assert [(row.name, row.label) for row in summary.rows] == [
        ("a", "none"),
        ("a", "svd 10%"),
        ("b", "none"),
        ("b", "svd 10%"),
    ]
    with pytest.raises(KeyError, match="c/none"):
        summary.row("c", "none")


def test_an_unfinished_run():
    """Rows are of the adapters that were measured so far; differences are over those that both sides have."""
    records = [
        record("a", "none", "c" * PROMPTS),
        record("b", "none", "r" * PROMPTS),
        record("a", "svd 10%", "r" * PROMPTS),
    ]
    summary = summarise(records, header("a", "b", "c"), DRAWS)
    assert summary.row("g", "none").figures.attack_success.mean == 0.5
    row = summary.row("g", "svd 10%")
    assert (row.adapters, row.against_unpruned.attack_success.mean) == (("a",), -1.0)
    assert summarise([], header("a"), DRAWS).rows == ()


def test_what_does_not_belong():
    """Records of an unknown adapter, and of other sets, are not averaged in."""
    with pytest.raises(ValueError, match="'b/none' is of an adapter"):
        summarise([record("b", "none", "c")], header("a"), DRAWS)
    with pytest.raises(ValueError, match="'a/svd 10%' was asked other sets"):
        summarise([record("a", "none", "cc"), record("a", "svd 10%", "c")], header("a"), DRAWS)


def test_costs_are_means():
    """Costs are means over the cells; a time that is missing once is missing."""
    first = record("a", "none", "c")
    other = CellRecord(
        Cell("b", "none", None, None, 0, ()),
        first.attacks,
        first.harmless,
        first.plans,
        CellCost(5, 50, 200, 1000, None, 10),
    )
    cost = summarise([first, other], header("a", "b"), DRAWS).row("g", "none").cost
    assert (cost.modules, cost.parameters, cost.bytes, cost.base_parameters) == (7.5, 75, 300, 1000)
    assert (cost.engine_seconds, cost.output_tokens) == (None, 20)
    assert summarise([first], header("a"), DRAWS).row("g", "none").cost.engine_seconds == 2.0


def several() -> Summary:
    """Two adapters of two groups under a scorer and random."""
    records = [
        record(name, label, verdicts(n, 0.5))
        for name in ("a", "b")
        for n, label in enumerate(["none", "svd 10%", "random 10% #0", "random 10% #1"])
    ]
    adapters = {n: MeasuredAdapter(n, f"sha {n}", 10, f"group [{n}]") for n in ("a", "b")}
    return summarise(records, Header("s", MeasuredBase("tiny", "d"), adapters), DRAWS)


def test_deterministic():
    """The same records and settings give the same summary, to the last digit, in any group."""
    assert several().to_json() == several().to_json()


def test_sweep_json():
    """The sweep's file has a row for each adapter and cell, with plain means, and its seeds apart."""
    found = json.loads(json.dumps(several().sweep_json()))
    assert {key: found[key] for key in ("format", "suite", "scorer_version", "base", "alignment")} == {
        "format": 1,
        "suite": "s",
        "scorer_version": SCORER_VERSION,
        "base": {"name": "tiny", "digest": "d", "weights": None},
        "alignment": None,
    }
    assert found["adapters"]["a"] == {"source": "a", "sha256": "sha a", "modules": 10, "group": "group [a]"}
    assert len(found["rows"]) == 8
    row = next(r for r in found["rows"] if (r["adapter"], r["label"]) == ("b", "random 10% #1"))
    assert row == {
        "adapter": "b",
        "label": "random 10% #1",
        "scorer": "random",
        "tau": 0.1,
        "seed": 1,
        "modules_pruned": 1,
        "attack_success": pytest.approx(np.mean(shares(verdicts(3, 0.5)))),
        "over_refusal": 0.25,
        "utility": {"plans": {"valid": 1, "tool_choice": 1, "rouge_l": 1, "meteor": 1, "loss": 2}},
    }


def test_to_json():
    """The report is plain JSON, with every interval and the sizes of the sets."""
    found = json.loads(json.dumps(several().to_json()))
    assert found["sets"] == {"attacks": {"attacks": 40}, "harmless": {"harmless": 4}, "plans": {"plans": 8}}
    assert found["bootstrap"] == {"draws": 300, "seed": 0, "level": 0.95}
    row = found["rows"][1]
    assert (row["name"], row["label"], row["adapters"]) == ("group [a]", "svd 10%", ["a"])
    assert set(row["against_random"]["attack"]["complied"]) == {"mean", "low", "high"}


@pytest.mark.parametrize(("others", "bold"), [(0, ["mas-svd 10%"]), (30, [])])
def test_bold_is_what_the_report_calls_safer(others, bold):
    """A difference that is below zero by itself but not among thirty others is not marked."""
    records = [made("none", 36), made("random 10% #0", 30), made("mas-svd 10%", 25)]
    summary = summary_of([*records, *(made(f"s{n} 10%", 30) for n in range(others))])
    assert summary.row("a", "mas-svd 10%").beats_random.sign < 0
    table = summary_table(summary)
    labels = [str(cell) for cell in table.columns[0]._cells]
    marked = [label for label, row in zip(labels, table.rows, strict=True) if row.style == "bold"]
    assert marked == bold == list(findings(summary)["a"].safer)


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_shows_every_row(width):
    """Every group and label is in the table, brackets of names as they are, at usual widths uncut."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(summary_table(several()))
    text = console.export_text()
    for shown in ("group [a]", "group [b]", "svd 10%", "random 10%", "none", "minus", "refused"):
        assert shown in text
    assert "…" not in text
    expected = several().row("group [a]", "svd 10%").figures.attack_success
    line = next(line for line in text.splitlines() if "svd 10%" in line)
    assert line.split()[3] == f"{round(100 * expected.mean)}"
    assert f"[{round(100 * expected.low)},{round(100 * expected.high)}]" in text
    assert max(map(len, text.splitlines())) <= width
