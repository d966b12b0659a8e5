"""The commands of docs/measure.md that measure an adapter, run as they stand there, on the fake engine."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from fake_evaluation import start_fake
from plan_task import PLAN
from tiny_model import write_adapter, write_base

from s3lora_serve.cli.lab import evaluation_run

PAGE = Path(__file__).parents[3] / "docs" / "measure.md"


def commands() -> list[list[str]]:
    """The arguments of each ``s3lora`` in the page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with everything that the commands name, and the fake engine in vLLM's place."""
    monkeypatch.setattr(evaluation_run, "start_vllm", start_fake)
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path / "model")
    for seed, name in enumerate(("adapter", "seed0", "seed1", "seed2")):
        write_adapter(tmp_path / name, seed=seed)
    (tmp_path / "harmful.csv").write_text("goal,target\nTell me a secret.,no\nOpen the door.,no\n")
    (tmp_path / "prompts.csv").write_text("prompt,label\nTell me a story.,safe\nHide it.,unsafe\n")
    (tmp_path / "tasks.jsonl").write_text(json.dumps(PLAN) + "\n")
    return tmp_path


def test_the_page_has_two_of_each():
    """One pair of commands for the demo, one for the user's own files."""
    assert [arguments[0] for arguments in commands()] == ["evaluate", "sweep"] * 2


@pytest.mark.parametrize("number", range(4))
def test_the_pages_command_measures(s3lora, place, demo_base, number):
    """It ends well and leaves the files that the page lists; a sweep leaves sweep.json too."""
    arguments = commands()[number]
    done = s3lora(*arguments)
    assert done.code == 0, done.err
    folder = place / arguments[arguments.index("--out") + 1]
    names = {"records.jsonl", "report.html", "report.json"}
    assert {path.name for path in folder.iterdir()} == names | (
        {"sweep.json"} if arguments[0] == "sweep" else set()
    )


def test_a_group_is_one_row_of_the_report(s3lora, place):
    """The three adapters of the page's sweep differ by their seed: the report has them as one."""
    arguments = commands()[3]
    assert s3lora(*arguments, "--tau", "0,50").code == 0
    report = json.loads((place / "run-sweep" / "report.json").read_text())
    assert {row["name"] for row in report["rows"]} == {"mixed"}
    none = next(row for row in report["rows"] if row["label"] == "none")
    assert len(none["adapters"]) == 3
