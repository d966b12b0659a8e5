"""What `s3lora evaluate` refuses: exit code, reason and next step, before an engine is started."""

from __future__ import annotations

import json

import pytest
from tiny_model import write_adapter


def test_an_empty_prompt_file_is_refused_first(s3lora, engines, place, command):
    """Before anything is prepared or made."""
    (place / "bad.txt").write_text("\n \n")
    done = s3lora(*command)
    assert (done.code, engines, (place / "run").exists()) == (2, [], False)
    assert f"{place / 'bad.txt'} has no prompt" in done.err


@pytest.mark.parametrize(
    "prompt", ["Hide\x00 it.", "Hide\x1b[2J it.", "w" * 32_001], ids=["nul", "escape", "long"]
)
def test_a_prompt_that_is_no_task_is_refused_first(s3lora, engines, place, command, prompt):
    """Asked both ways, as by default: no engine, no folder, and one sentence in place of a traceback."""
    (place / "bad.txt").write_text(f"Tell me a secret.\n{prompt}\n")
    done = s3lora(*command[:-2])
    assert (done.code, engines, (place / "run").exists()) == (2, [], False)
    assert f"{place / 'bad.txt'} line 2: no planner takes this prompt as its task" in done.err
    assert "validation error" not in done.err
    assert "Traceback" not in done.err
    assert prompt not in done.err


def test_an_adapter_of_another_base_is_refused(s3lora, engines, place, command):
    """By name of the module, as admission does; no engine is started."""
    config = json.loads((place / "base" / "config.json").read_text())
    (place / "base" / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    done = s3lora(*command)
    assert (done.code, engines) == (1, [])
    assert "updates a 32×32 layer, but in base it is 64×64" in done.err


def test_a_limit_says_what_raises_it(s3lora, engines, place, command, monkeypatch):
    """With --base no configuration is read, so another one is to be given; with --config it is named."""
    for number in range(65):
        (place / "adapter" / f"{number}.txt").write_text("x")
    done = s3lora(*command)
    assert done.code == 1
    assert "64; give in place of --base a --config that raises limits.max_files" in done.err
    (place / "planners.yaml").write_text("base_model: ./base\nplanners: {one: {source: ./adapter}}\n")
    done = s3lora("evaluate", "-c", place / "planners.yaml", "-p", "one", "--out", place / "other")
    assert (done.code, "64; raise limits.max_files" in done.err) == (1, True)


def test_a_rank_that_no_engine_takes_is_told_so(s3lora, engines, place, command):
    """There is nothing to raise."""
    write_adapter(place / "wide", rank=1024)
    done = s3lora("evaluate", place / "wide", *command[2:])
    assert done.code == 1
    assert "has rank 1024 > max_lora_rank 512; no engine takes a higher rank" in done.err


def test_errors_are_json_too(s3lora, engines, place, command):
    """One line with code and message."""
    (place / "bad.txt").unlink()
    done = s3lora(*command, "--json")
    error = json.loads(done.out)["error"]
    assert (done.code, error["code"]) == (2, "config_error")
    assert str(place / "bad.txt") in error["message"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--policy", "mas-svd:top=x"], "--policy mas-svd:top=x: top 'x' is not a number"),
        (["--policy", "mas-svd:up=3"], "--policy mas-svd:up=3: up is not known"),
        (["--policy", "mas-svd:top"], "top has no value"),
        (["--policy", "mas-svd:top=-1"], "top"),
        (["--policy", "mas-svd:top=1,threshold=0.5"], "give one of"),
        (["--policy", "best"], "scorer 'best' is not known; use mas-svd, "),
        (["--policy", "e-diem:top=1"], "scorer e-diem compares with what alignment changed"),
        (["--policy", "mas-svd:sweep=nowhere,task=t,floor=0.9"], "cannot read sweep nowhere"),
        (["--policy", "mas-svd:top=1"], "two policies are 'mas-svd top=1'"),
        (["--aligned", "x"], "--aligned needs --alignment-base"),
        (["--config", "x.yaml"], "x.yaml"),
        (["--planner", "p"], "ADAPTER and --planner are two adapters"),
        (["--harmless", "{bad}"], "two sets are named 'bad'"),
    ],
)
def test_wrong_options_are_told(s3lora, engines, place, command, options, says):
    """Exit code 2, with the option and the reason; nothing was measured."""
    done = s3lora(*command, *(option.format(bad=place / "bad.txt") for option in options))
    assert (done.code, engines) == (2, [])
    assert says in done.err.replace("\nhint:  ", "; ")


def test_a_folder_that_is_not_a_runs_stays_as_it_is(s3lora, engines, place, command):
    """Nothing is written among other files."""
    (place / "run").mkdir()
    (place / "run" / "notes.txt").write_text("mine")
    done = s3lora(*command)
    assert done.code == 2
    assert "is not empty and not the folder of a run" in done.err
    assert [path.name for path in (place / "run").iterdir()] == ["notes.txt"]


def test_a_base_or_a_configuration_must_be_named(s3lora, engines, place, command):
    """One of --base and --config, not neither."""
    done = s3lora("evaluate", place / "adapter", "--out", place / "run")
    assert done.code == 2
    assert "give --base or --config, one of them" in done.err
