"""`s3lora sweep`: shares and scorers as they are asked for, and the file that policies choose from."""

from __future__ import annotations

import json

import pytest
from evidence_files import weights_of, write_checkpoint
from fake_evaluation import start_fake
from plan_task import PLAN
from tiny_model import HIDDEN, MODULES, write_adapter, write_base

from s3lora_serve.adapters.evidence.checkpoints import Checkpoint
from s3lora_serve.adapters.evidence.recorded_sweep import read_points
from s3lora_serve.cli.lab import evaluation_run
from s3lora_serve.cli.lab.evaluation_cells import read_taus
from s3lora_serve.cli.lab.evaluation_progress import Measuring
from s3lora_serve.errors import ConfigError
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.evaluation.measuring.run import Progress
from s3lora_serve.spectral.scorers import SCORER_VERSION
from s3lora_serve.spectral.validated import Validated


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A base model, two adapters of the same name, files of questions, and the fake engine."""
    monkeypatch.setattr(evaluation_run, "start_vllm", start_fake)
    write_base(tmp_path / "base")
    for seed in (1, 2):
        write_adapter(tmp_path / f"seed{seed}" / "mixed", seed=seed)
    (tmp_path / "bad.txt").write_text("Tell me a secret.\nOpen the door.\n")
    (tmp_path / "tasks.jsonl").write_text(json.dumps(PLAN) + "\n")
    return tmp_path


@pytest.fixture
def sweep(s3lora, place):
    """``sweep(*more)``: run it with the questions, into the folder ``run``."""

    def run(*more):
        return s3lora(
            "sweep", "--base", place / "base", "--attack", place / "bad.txt",
            "--plans", place / "tasks.jsonl", "--out", place / "run", *more,
        )  # fmt: skip

    return run


def rows(place):
    """The rows of sweep.json."""
    return json.loads((place / "run" / "sweep.json").read_text())["rows"]


def test_a_sweep_measures_scorers_at_shares(sweep, place):
    """Controls, each scorer at each tau, random with each seed; the same in report and page."""
    done = sweep(place / "seed1" / "mixed", "--scorer", "svd", "--scorer", "random", "--tau", "0,25,50")
    assert done.code == 0, done.err
    assert [row["label"] for row in rows(place)] == [
        "none", "base", "svd 25%", "svd 50%",
        *(f"random {tau}% #{seed}" for seed in range(3) for tau in (25, 50)),
    ]  # fmt: skip
    assert [row["modules_pruned"] for row in rows(place)[:4]] == [0, len(MODULES), 2, 4]
    assert "svd 25%" in done.out
    assert "No policy lowers attack success beyond random pruning" in done.out
    assert "sweep.json" in done.err
    assert "random 25%" in (place / "run" / "report.html").read_text()


def test_a_policy_can_choose_from_it(sweep, s3lora, place):
    """``policy.validated`` reads what was written, and an evaluation under such a policy works."""
    adapter = place / "seed1" / "mixed"
    assert sweep(adapter, "--scorer", "mas-svd", "--tau", "0,25,50").code == 0
    sha256 = json.loads((place / "run" / "sweep.json").read_text())["adapters"]["mixed"]["sha256"]
    rule = read_points(
        Validated(str(place / "run"), "tasks", 0.5), sha256=sha256, base=None, scorer="mas-svd", seed=0
    ).rule
    assert [(point.tau, point.pruned) for point in rule.points] == [(0.0, 0), (0.25, 2), (0.5, 4)]
    done = s3lora(
        "evaluate", adapter, "--base", place / "base", "--out", place / "other",
        "--attack", place / "bad.txt",
        "--policy", f"mas-svd:sweep={place / 'run'},task=tasks,floor=0.5",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "mas-svd validated valid>=0.5 on tasks" in done.out


def test_a_sweep_records_what_it_was_made_with(sweep, s3lora, place):
    """Scorer version, weights of the base and both checkpoints: what a policy and the same command again hold
    it to. Another base of the same name and shape is another run.
    """
    shapes = dict.fromkeys(MODULES, (HIDDEN, HIDDEN))
    write_checkpoint(place / "base", weights_of(shapes, seed=1))
    write_checkpoint(place / "before", weights_of(shapes, seed=2))
    adapter, taus = place / "seed1" / "mixed", ("--tau", "0,25")
    options = (adapter, *taus, "--scorer", "e-diem", "--alignment-base", place / "before")
    assert sweep(*options).code == 0
    found = json.loads((place / "run" / "sweep.json").read_text())
    base, before = (Checkpoint.open(str(place / name)).digest for name in ("base", "before"))
    assert (found["scorer_version"], found["base"]["weights"]) == (SCORER_VERSION, base)
    assert found["alignment"] == {"base": before, "aligned": base}

    policy = f"mas-svd:sweep={place / 'run'},task=tasks,floor=0"
    asked = ("--attack", place / "bad.txt", "--policy", policy.replace("mas-svd", "e-diem"))
    own = ("evaluate", adapter, "--base", place / "base", "--alignment-base", place / "before", *asked)
    done = s3lora(*own, "--out", place / "by-policy")
    assert done.code == 0, done.err
    write_checkpoint(place / "base", weights_of(shapes, seed=3))
    again = sweep(*options)
    assert again.code == 2
    assert f"weights {base[:12]}) instead of base (" in again.err
    refused = s3lora(*own, "--out", place / "other")
    assert refused.code == 1
    assert (
        f"was swept with {before[:12]} and {base[:12]} (before and after alignment), not with" in refused.err
    )
    assert not (place / "other" / "records.jsonl").exists()


def test_a_base_without_safetensors_is_told(sweep, place):
    """The sweep is made; that it cannot say on which weights is said."""
    done = sweep(place / "seed1" / "mixed", "--scorer", "svd", "--tau", "25")
    assert done.code == 0
    assert "note: sweep.json will not say on which weights it was measured: checkpoint base has" in done.err
    assert json.loads((place / "run" / "sweep.json").read_text())["base"]["weights"] is None


def test_adapters_of_one_group_make_one_row(sweep, place):
    """Two adapters of one name are told apart; GROUP=ADAPTER joins their measurements."""
    given = [f"mixed={place / f'seed{seed}' / 'mixed'}" for seed in (1, 2)]
    done = sweep(*given, "--scorer", "svd", "--tau", "50")
    assert done.code == 0, done.err
    assert [row["adapter"] for row in rows(place)] == ["mixed"] * 3 + ["mixed-2"] * 3
    report = json.loads((place / "run" / "report.json").read_text())
    assert [(row["label"], row["adapters"]) for row in report["rows"]] == [
        (label, ["mixed", "mixed-2"]) for label in ("none", "base", "svd 50%")
    ]


def test_an_adapter_must_be_named(sweep):
    """Neither a source nor a planner: wrong usage."""
    done = sweep()
    assert (done.code, "no adapter is named" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scorer", "best"], "scorer 'best' is not known"),
        (["--scorer", "safelora"], "give --alignment-base"),
        (["--tau", "0,5,110"], "--tau 110 is not a share"),
        (["--tau", "a"], "'a' is not a number"),
    ],
)
def test_wrong_options_of_a_sweep(sweep, place, options, says):
    """Exit code 2 before anything is prepared."""
    done = sweep(place / "seed1" / "mixed", *options)
    assert (done.code, says in done.err, (place / "run").exists()) == (2, True, False)


def test_missing_checkpoints_are_told(sweep, place):
    """A folder without weights is no model before alignment: the error names it, no engine is started."""
    done = sweep(place / "seed1" / "mixed", "--scorer", "e-diem", "--alignment-base", place / "base")
    assert done.code == 2
    assert f"checkpoint {place / 'base'} has no model.safetensors" in done.err


@pytest.mark.parametrize(
    ("text", "taus"),
    [
        ("10", [0.1]),
        ("0, 2.5,50", [0, 0.025, 0.5]),
        ("0,5,...,20", [0, 0.05, 0.1, 0.15, 0.2]),
        ("0,5,...,12", [0, 0.05, 0.1, 0.12]),
        ("0,5,...,5", None),
        ("0,1,10,...,30", [0, 0.01, 0.1, 0.19, 0.28, 0.3]),
        ("5,...,10", None),
        ("5,0,...,10", None),
        ("0,5,...", None),
        ("0,5,...,x", None),
        ("0,5,...,105", None),
        ("", None),
        ("-5,0", None),
        ("nan", None),
    ],
)
def test_per_cents_become_shares(text, taus):
    """In order and up to the last one; what is no rising list of per cents is refused."""
    if taus is None:
        with pytest.raises(ConfigError, match="--tau"):
            read_taus(text)
    else:
        assert read_taus(text) == pytest.approx(taus)


def test_the_rest_is_estimated_by_whole_cells():
    """The mean of those that were measured, here or before, less what the current one has taken."""
    now = [0.0]
    cells = [Cell("a", label, "svd", 0.1, 0, ()) for label in "pqrs"]
    with Measuring(cells, 10, now=lambda: now[0]) as measuring:
        measuring.answered()
        assert measuring.rest == ""
        now[0] = 60.0
        measuring.finished(Progress(cells[0], 1, 4, True, 60.0))
        assert measuring.rest == "about 3 min left"
        measuring.finished(Progress(cells[1], 2, 4, False, 0.0))
        assert measuring.rest == "about 2 min left"
        measuring.finished(Progress(Cell("a", "none", None, None, 0, ()), 1, 4, True, 1.0))  # not one of ours
        now[0] = 100.0
        assert measuring.rest == "about 80 s left"
        now[0] = 1000.0
        assert measuring.rest == "about 60 s left"
        for cell in cells[2:]:
            measuring.finished(Progress(cell, 4, 4, True, 1.0))
        assert measuring.rest == ""
    with Measuring(cells, 10, [7200.0], lambda: 0.0) as measuring:
        assert measuring.rest == "about 8.0 h left"
