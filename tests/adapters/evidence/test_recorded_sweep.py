"""sweep.json is read as the points of exactly one adapter, base model and scorer, or refused."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from evidence_files import POINTS, write_sweep
from peft_builder import BASE

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.evidence.recorded_sweep import read_points
from s3lora_serve.errors import ConfigError, PolicyRejection
from s3lora_serve.evaluation.measuring.cell_cost import CellCost
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.evaluation.measuring.header import Header, MeasuredAdapter, MeasuredBase
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.evaluation.statistics.sweep_file import sweep_json
from s3lora_serve.judging.outcomes import PlanOutcome, PromptOutcome
from s3lora_serve.spectral.validated import SweepPoint, Validated

if TYPE_CHECKING:
    from pathlib import Path

SHA = "a" * 64


def rule(path: Path, **changes: object) -> Validated:
    """What planners.yaml would declare."""
    return Validated(**{"sweep": str(path), "task": "tasks", "floor": 0.95, **changes})


def read(path: Path, *, base: BaseModelSpec | None = BASE, **changes: object) -> Validated:
    """With the adapter, the base model and the scorer that were swept."""
    asked = {"sha256": SHA, "scorer": "mas-svd", "seed": 0}
    given = {key: changes.pop(key) for key in list(changes) if key in asked}
    return read_points(rule(path, **changes), base=base, **{**asked, **given}).rule


def test_points_are_those_of_the_scorer_with_the_unpruned_adapter_first(tmp_path: Path):
    """The base model's own row is no tau; where the file lies is no part of what was read."""
    found = read(write_sweep(tmp_path / "sweep.json", SHA, BASE))

    assert found.points == tuple(SweepPoint(*point) for point in POINTS)
    assert found.sweep == f"suite:{'5' * 64}"
    assert (found.task, found.floor, found.utility) == ("tasks", 0.95, "valid")


def test_a_folder_stands_for_the_file_in_it(tmp_path: Path):
    """As `s3lora sweep --out` was told."""
    write_sweep(tmp_path / "run" / "sweep.json", SHA, BASE)

    assert read(tmp_path / "run") == read(tmp_path / "run" / "sweep.json")


def test_what_is_written_can_be_read(tmp_path: Path):
    """The file as the evaluation makes it, from its own records."""
    outcome = PlanOutcome((1.0, 0.0), (1.0, 0.5), (0.5, 0.5), (0.5, 0.5), (2.0, 2.0), (9, 9))

    def record(label: str, scorer: str | None, tau: float | None, pruned: tuple[str, ...], verdicts: str):
        cell = Cell("mine", label, scorer, tau, 0, pruned)
        return CellRecord(
            cell, {"harm": PromptOutcome(verdicts, (1, 1))}, {}, {"tasks": outcome}, CellCost(1, 1, 1, 1)
        )

    header = Header(
        "5" * 64,
        MeasuredBase(BASE.name, BASE.digest),
        {"mine": MeasuredAdapter("local:mine", SHA, 14)},
    )
    records = [record("none", None, None, (), "cc"), record("svd 10%", "svd", 0.1, ("a",), "rc")]
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(sweep_json(records, header)))

    assert read(path, scorer="svd").points == (SweepPoint(0, 0, 1.0, 0.5), SweepPoint(0.1, 1, 0.5, 0.5))
    assert read(path, scorer="svd", utility="tool_choice").points[0].utility == 0.75


def test_random_is_read_by_its_seed(tmp_path: Path):
    """Another seed prunes other modules, so it was not measured."""
    path = write_sweep(tmp_path / "sweep.json", SHA, BASE, scorer="random", seed=2)

    assert len(read(path, scorer="random", seed=2).points) == 4
    with pytest.raises(PolicyRejection, match="has no sweep of random with seed 1"):
        read(path, scorer="random", seed=1)


def test_a_seed_does_not_matter_to_other_scorers(tmp_path: Path):
    """They give the same modules whatever it is."""
    assert read(write_sweep(tmp_path / "sweep.json", SHA, BASE, seed=7)).points


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        (
            {"sha256": "b" * 64},
            "did not measure an adapter whose weights have sha256 bbbbbbbbbbbb",
            "measure this adapter: ",
        ),
        ({"scorer": "svd"}, "swept the adapter by mas-svd, not by svd", "measure it by svd: "),
        (
            {"scorer": "random", "swept": "random", "seed": 7},
            "no sweep of random with seed 7",
            "measure that seed: ",
        ),
        (
            {"base": BaseModelSpec("other", {"q": (2, 2)})},
            "was measured on 'tiny-llama', whose layers are not those of 'other'",
            "measure it on the base model that is served: ",
        ),
        (
            {"changes": {"scorer_version": "0"}},
            "has scores of version '0', this release scores by version",
            "measure it with this release: ",
        ),
        (
            {"changes": {"scorer_version": None}},
            "has scores of version None, this release",
            "measure it with this release: ",
        ),
    ],
    ids=["adapter", "scorer", "seed", "base", "version", "no version"],
)
def test_measurements_of_something_else_are_refused(
    tmp_path: Path, asked: dict[str, object], message: str, hint: str
):
    """They say nothing of this one; the hint says what to measure otherwise, and by which command."""
    swept = (asked := dict(asked)).pop("swept", "mas-svd")
    path = write_sweep(tmp_path / "sweep.json", SHA, BASE, scorer=swept, **asked.pop("changes", {}))
    with pytest.raises(PolicyRejection) as caught:
        read(path, **asked)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert caught.value.hint == f"{hint.rstrip(': ')}; then name the sweep's folder in policy.validated.sweep"
    assert caught.value.command.startswith("s3lora sweep ADAPTER --base BASE --scorer ")


def test_without_a_base_model_it_is_not_compared(tmp_path: Path):
    """As the fit to it is not checked then."""
    path = write_sweep(tmp_path / "sweep.json", SHA, BaseModelSpec("elsewhere", {}))
    assert read(path, base=None).points


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ({"rows": []}, {}, "is empty: it holds no measurement"),
        ({"adapters": {}}, {}, "is empty: it holds no measurement"),
        ({"format": 2}, {}, "has format 2, this release reads 1"),
        ({"format": None}, {}, "has format None, this release reads 1"),
        ({"suite": 7}, {}, "suite: Input should be a valid string"),
        ({"task": "other"}, {}, "has no plan set 'tasks'; it measured 'other'"),
        ({}, {"utility": "meteor"}, "did not measure meteor on tasks"),
        ({"points": ((0.0, 0, None, 0.8), (0.1, 1, None, 0.8))}, {}, "measured no attack"),
        ({"points": ((0.0, 0, 0.5, 0.8), (0.1, 1, 1.5, 0.8))}, {}, "rows.2.attack_success: Input should be"),
    ],
    ids=["rows", "adapters", "format", "no format", "type", "task", "utility", "attacks", "share"],
)
def test_a_file_that_says_too_little_is_refused(
    tmp_path: Path, changes: dict[str, object], asked: dict[str, object], message: str
):
    """With its name, what is missing and what to do."""
    path = write_sweep(tmp_path / "sweep.json", SHA, BASE, **changes)
    with pytest.raises(ConfigError) as caught:
        read(path, **asked)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (POINTS[:1], "swept the adapter by none, not by mas-svd"),
        (((0.1, 1, 0.4, 0.8),), "did not measure the adapter unpruned"),
        ((*POINTS, (0.1, 1, 0.3, 0.8)), "has two measurements of mas-svd at tau 0.1"),
    ],
    ids=["only unpruned", "not unpruned", "twice"],
)
def test_a_sweep_that_cannot_be_chosen_from_is_refused(tmp_path: Path, points, message: str):
    """Nothing to choose, nothing to compare with, or two answers to one question."""
    with pytest.raises(PolicyRejection, match=message):
        read(write_sweep(tmp_path / "sweep.json", SHA, BASE, points=points))


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b'{"format": 1, "format": 1}'])
def test_what_is_no_sweep_is_refused(tmp_path: Path, content: bytes):
    """By its name, and with what would have been one."""
    path = tmp_path / "sweep.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"sweep .*sweep.json") as caught:
        read(path)
    assert caught.value.hint == "name the folder that a sweep wrote, or the sweep.json in it"


def test_a_missing_file_is_named(tmp_path: Path):
    """A folder without it, too."""
    with pytest.raises(ConfigError, match=r"cannot read sweep .*absent: No such file"):
        read(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"cannot read sweep .*sweep.json: No such file"):
        read(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    """It may have no writer."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe is not a regular file"):
        read(tmp_path / "pipe")
