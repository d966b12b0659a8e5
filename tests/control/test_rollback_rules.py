"""Damage is found, chance is not taken for it, and the figures that the decision record gives are true."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_figures import exact, simulated, simulated_latency

from s3lora_serve.config import RollbackConfig
from s3lora_serve.control.rollback_rules import LEVEL, Failed, Window, chance, verdict

RECORD = Path(__file__).parents[2] / "docs" / "adr" / "0008-automatic-rollback-rules.md"
RULES = RollbackConfig()


def window(ok=0, errors=0, invalid=0, seconds=1.0, limit=200):
    """A window with so many of each, its answers all as slow."""
    made = Window(limit)
    for outcome, count in (("ok", ok), ("error", errors), ("invalid", invalid)):
        for _ in range(count):
            made.add(outcome, seconds)
    return made


# --- verdicts


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (window(ok=9, errors=1), window(ok=200)),  # one in ten: too few requests to say
        (window(ok=18, errors=2), window(ok=200)),  # two in twenty: chance, once in a hundred looks
        (window(ok=18, invalid=2), window(ok=200)),
        (window(ok=19, errors=1), window()),  # nothing to compare with
        (window(errors=19), window(ok=200)),
        (window(ok=150, errors=49), window(ok=150, errors=50)),  # bad, but no worse than the old one
        (window(ok=190, errors=9), window(ok=200)),  # within the margin of 5 %
        (window(ok=20, errors=5), window(ok=0, errors=5)),  # the little there is of the old one is bad
    ],
)
def test_chance_is_not_damage(new, old):
    """Small samples, equal rates and differences within the margin are no reason to go back."""
    assert verdict(new, old, RULES).decision == "wait"


@pytest.mark.parametrize(
    ("new", "old", "rule"),
    [
        (window(errors=20), window(ok=200), "error_rate"),
        (window(ok=16, errors=4), window(ok=198, errors=2), "error_rate"),
        (window(ok=12, errors=8), window(), "error_rate"),  # nothing to compare with, and far over the limit
        (window(errors=20), window(errors=1), "error_rate"),  # one failure excuses nothing
        (window(ok=20, errors=20), window(ok=20), "error_rate"),
        (window(ok=14, invalid=6), window(ok=200), "invalid_rate"),
        (window(ok=10, invalid=10), window(), "invalid_rate"),
    ],
)
def test_damage_is_found(new, old, rule):
    """The rule is named, and the reason has the counts that it rests on."""
    found = verdict(new, old, RULES)
    assert (found.decision, found.rule) == ("bad", rule)
    failed = new.errors if rule == "error_rate" else new.invalid
    assert found.reason.startswith(f"{failed} of {new.requests} ")
    assert ("to compare with" in found.reason) == (old.requests < RULES.min_requests)


def test_good_once_all_were_judged():
    """Not before, and not if the last one breaks a rule."""
    old = window(ok=200)
    assert verdict(window(ok=199), old, RULES).decision == "wait"
    assert verdict(window(ok=200), old, RULES).decision == "good"
    assert verdict(window(ok=150, errors=50), old, RULES).decision == "bad"
    assert verdict(window(ok=500), window(), RULES).decision == "good"


def test_aborted_requests_count_for_nothing():
    """Clients that leave are neither requests nor failures."""
    new = window(ok=19)
    for _ in range(500):
        new.add("aborted", 9.0)
    found = verdict(new, window(ok=200), RULES)
    assert (found.decision, found.figures["requests"], found.figures["median_seconds"]) == ("wait", 19, 1.0)


def test_failed_requests_are_no_valid_plans_either_way():
    """The share of invalid plans is of the answers: errors must not thin it out."""
    new, old = window(ok=14, invalid=6, errors=180), window(ok=200)
    rules = RollbackConfig(error_rate=None)
    assert verdict(new, old, rules).rule == "invalid_rate"
    assert verdict(window(ok=13, invalid=6, errors=180), old, rules).decision == "wait"  # 19 answers


def test_rules_can_be_left_out():
    """A rule that is left out never fires, however many requests fail."""
    none = RollbackConfig(error_rate=None, invalid_rate=None, latency_ratio=None)
    new = window(errors=100, invalid=100, seconds=99)
    assert verdict(new, window(ok=200), none).decision == "good"
    assert verdict(new, window(ok=200), RollbackConfig(error_rate=None)).rule == "invalid_rate"


def test_latency_needs_both_sides():
    """Twice the median is found with twenty answers on each side; with fewer there is nothing to say."""
    rules = RollbackConfig(latency_ratio=1.5)
    slow, fast = window(ok=20, seconds=3.0), window(ok=20, seconds=1.0)
    found = verdict(slow, fast, rules)
    assert (found.decision, found.rule) == ("bad", "latency_ratio")
    assert found.reason.startswith("median of 3 s over 20 requests, 1 s over 20 with the old one")
    assert verdict(window(ok=19, seconds=3.0), fast, rules).decision == "wait"
    assert verdict(slow, window(ok=19, seconds=1.0), rules).decision == "wait"
    assert verdict(window(ok=20, seconds=1.5), fast, rules).decision == "wait"
    assert verdict(slow, fast, RULES).decision == "wait"


def test_a_few_slow_requests_are_no_slow_revision():
    """A median just over the limit is chance as long as nearly half the requests are under it."""
    new = window(ok=9, seconds=1.0)
    for _ in range(11):
        new.add("ok", 3.0)
    assert verdict(new, window(ok=200, seconds=1.0), RollbackConfig(latency_ratio=2.0)).decision == "wait"


def test_fast_failures_do_not_look_fast():
    """The median leaves errors out: a revision that fails at once half the time is not the quicker one."""
    new = window(ok=20, errors=100, seconds=5.0)
    for _ in range(50):
        new.add("error", 0.001)
    assert verdict(
        new, window(ok=100, seconds=1.0), RollbackConfig(error_rate=None, latency_ratio=2.0)
    ).rule == ("latency_ratio")


def test_figures_are_plain_json():
    """They go into the journal: no NaN, and null for what was not measured."""
    figures = verdict(window(ok=3, errors=1), window(), RULES).figures
    assert json.loads(json.dumps(figures, allow_nan=False)) == {
        "requests": 4,
        "old_requests": 0,
        "error_rate": 0.25,
        "old_error_rate": None,
        "invalid_rate": 0.0,
        "old_invalid_rate": None,
        "median_seconds": 1.0,
        "old_median_seconds": None,
    }


COUNTS = st.tuples(st.integers(0, 200), st.integers(0, 200)).map(lambda pair: Failed(min(pair), max(pair)))


@given(new=COUNTS.filter(lambda c: c.of > 0), old=COUNTS, margin=st.sampled_from([0.0, 0.05, 0.1, 0.5]))
def test_one_more_failure_never_looks_better(new, old, margin):
    """A failure in place of a success, of the new one, makes an alarm no less likely."""

    def alarm(counts):
        found = chance(counts, old, margin, 20)
        return found is not None and found <= LEVEL

    if alarm(new) and new.failed < new.of:
        assert alarm(new._replace(failed=new.failed + 1))
    if alarm(new):
        assert new.failed / new.of > (old.failed / old.of if old.of >= 20 else 0) + margin


# --- how often they are wrong


def table(heading):
    """The rows of a table of the decision record, by their first cell; cells as text."""
    text = RECORD.read_text().split(f"### {heading}\n")[1].split("\n### ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*", text, re.M)
    ]
    return rows[0][1:], {row[0]: row[1:] for row in rows[2:]}


def test_false_alarms_are_as_rare_as_written():
    """Computed over every course that 200 requests can take, for equal rates of both revisions."""
    rates, rows = table("False alarms")
    for old_of, cells in rows.items():
        for rate, cell in zip(rates, cells, strict=True):
            share = float(rate.rstrip(" %")) / 100
            assert f"{100 * exact(RULES, 0.05, share, int(old_of), share).alarm:.2f}" == cell, (old_of, rate)


def test_damage_is_found_as_fast_as_written():
    """The share that is found, and after how many requests half and nine tenths are."""
    jumps, rows = table("Damage")
    for (old_of, cells), (at, jump) in itertools.product(rows.items(), enumerate(jumps)):
        before, after = (float(rate) / 100 for rate in jump.rstrip(" %").split(" → "))
        found = exact(RULES, 0.05, before, int(old_of), after)
        half, most = (f"{n:.0f}" if math.isfinite(n) else "–" for n in (found.median, found.ninth))
        assert f"{100 * found.alarm:.1f}: {half}, {most}" == cells[at], (old_of, jump)


def test_what_looking_often_does():
    """Why the level is strict: the margin alone, and the usual 5 % a look, are wrong as often as written."""
    for level, expected in ((1.0, ["4.8", "30.1", "54.0"]), (0.05, ["3.1", "10.6", "15.4"])):
        alarms = [100 * exact(RULES, 0.05, rate, 200, rate, level).alarm for rate in (0.01, 0.05, 0.2)]
        assert [f"{alarm:.1f}" for alarm in alarms] == expected


def test_a_wider_margin_is_no_noisier():
    """The rule for invalid plans is the same test at a wider margin."""
    for old_of, rate in itertools.product((0, 5, 20, 200), (0.01, 0.05, 0.2, 0.5)):
        found = [exact(RULES, margin, rate, old_of, rate).alarm for margin in (0.05, 0.10)]
        assert found[1] <= found[0] + 5e-5


def test_the_defaults_are_quiet_and_quick():
    """The two promises by themselves, wherever the tables go."""
    for rate in (0.0, 0.01, 0.05, 0.2):
        assert exact(RULES, 0.05, rate, 200, rate).alarm < 0.01
        assert exact(RULES, 0.05, rate, 20, rate).alarm < 0.035
    assert exact(RULES, 0.05, 0.01, 200, 0.2).ninth <= 50


@pytest.mark.parametrize(("old_rate", "new_rate"), [(0.05, 0.2), (0.2, 0.2), (0.01, 0.1)])
def test_the_calculation_is_what_a_server_would_see(old_rate, new_rate):
    """Request by request through windows and verdicts: the same, to within four standard deviations."""
    expected, runs = exact(RULES, 0.05, old_rate, 200, new_rate).alarm, 300
    found = simulated(RULES, old_rate, 200, new_rate, runs, seed=8)
    assert abs(found - expected) <= 4 * math.sqrt(expected * (1 - expected) / runs)


def test_latency_alarms_are_rare_and_quick():
    """With seconds as spread out as an agent's: none at equal speed, all at four times the median."""
    assert simulated_latency(2.0, 1.0, 200, runs=50, seed=8) == []
    alarms = simulated_latency(2.0, 4.0, 200, runs=50, seed=8)
    assert len(alarms) == 50
    assert alarms[25] <= 60
