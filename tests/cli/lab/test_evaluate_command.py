"""`s3lora evaluate` from the command line to the files that it leaves, on the fake engine."""

from __future__ import annotations

import json
import signal

import pytest
from fake_evaluation import start_fake
from tiny_model import MODULES, SHARP

from s3lora_serve.cli.lab import evaluation_run
from s3lora_serve.judging.plan_sets import read_plans
from s3lora_serve.judging.prompt_sets import read_prompts
from s3lora_serve.judging.sets import ATTACK, HARMLESS, PLANS


def lines(place, name="run"):
    """The lines of a run's records."""
    return (place / name / "records.jsonl").read_text().splitlines()


def cells(place, name="run"):
    """The labels of the measured cells, in order."""
    return [json.loads(line)["cell"]["label"] for line in lines(place, name)[1:]]


def test_prompts_are_asked_as_chats_and_as_tasks(s3lora, engines, place, command):
    """Unless told otherwise: a planner may refuse a harmful chat and plan the same as a task."""
    assert s3lora(*command[:-2]).code == 0
    report = json.loads((place / "run" / "report.json").read_text())
    assert report["sets"]["attacks"] == {"bad": 3, "bad as plans": 3}
    assert report["sets"]["harmless"] == {"good": 2, "good as plans": 2}


def test_an_evaluation_leaves_a_table_and_four_files(s3lora, engines, place, command):
    """Controls, policy and random draws are measured, on one slot as large as the adapter needs."""
    done = s3lora(*command)
    assert done.code == 0, done.err
    randoms = [f"random top=1 #{seed}" for seed in range(3)]
    assert cells(place) == ["none", "base", "mas-svd top=1", *randoms]
    pruned = [json.loads(line)["cell"]["pruned"] for line in lines(place)[1:]]
    assert pruned[:3] == [[], sorted(MODULES), [SHARP]]
    assert [row in done.out for row in ("none", "base", "mas-svd top=1", "random top=1")] == [True] * 4
    report = json.loads((place / "run" / "report.json").read_text())
    assert report["adapters"]["adapter"]["modules"] == len(MODULES)
    assert report["sets"] == {"attacks": {"bad": 3}, "harmless": {"good": 2}, "plans": {"tasks": 1}}
    assert (place / "run" / "report.html").read_text().startswith("<!")
    assert sorted(path.name for path in (place / "run").iterdir()) == [
        "records.jsonl", "report.html", "report.json",
    ]  # fmt: skip
    assert f"wrote {place / 'run' / 'report.html'}" in done.err
    ((settings, _),) = engines
    assert (settings.engine.max_loras, settings.engine.max_lora_rank, settings.base_name) == (1, 8, "base")


def test_each_cell_is_told_with_the_time_that_is_left(s3lora, engines, command):
    """Without a terminal, a line a cell."""
    err = s3lora(*command).err
    told = [line for line in err.splitlines() if "/6 adapter/" in line]
    assert [line.split(":")[0].split()[0] for line in told] == [f"{n}/6" for n in range(1, 7)]
    assert all("left" in line for line in told[:-1])
    assert "left" not in told[-1]


def test_json_is_all_of_stdout(s3lora, engines, place, command):
    """What a script reads is the report itself."""
    done = s3lora(*command, "--json")
    assert done.code == 0
    assert done.out == (place / "run" / "report.json").read_text()


def test_the_same_again_measures_nothing(s3lora, engines, place, command):
    """A finished run's reports are made anew from its records, without an engine."""
    s3lora(*command)
    records, report = lines(place), (place / "run" / "report.json").read_text()
    (place / "run" / "report.json").unlink()
    again = s3lora(*command)
    assert (again.code, len(engines)) == (0, 1)
    assert "6 of 6 cells were measured before" in again.err
    assert (lines(place), (place / "run" / "report.json").read_text()) == (records, report)


def test_another_policy_adds_its_cells(s3lora, engines, place, command):
    """What was measured stays in the records and in the report."""
    s3lora(*command)
    done = s3lora(*command, "--policy", "svd:top=2", "--random-seeds", 0)
    assert cells(place)[6:] == ["svd top=2"]
    assert "mas-svd top=1" in done.out
    assert "svd top=2" in done.out


@pytest.mark.process
def test_a_killed_run_goes_on(nursery, place, command):
    """After SIGKILL the same command measures the missing cells only: at most one is asked again."""
    arguments, asked = [str(word) for word in command], place / "asked"
    child = nursery.start("fake_evaluation:main", place / "first", *arguments, SECONDS="0.02")
    records = place / "run" / "records.jsonl"
    child.until(lambda: records.exists() and len(records.read_text().splitlines()) >= 3)
    child.kill()
    kept = lines(place)
    assert 3 <= len(kept) < 7
    again = nursery.start("fake_evaluation:main", place / "second", *arguments, ASKED=str(asked))
    assert again.wait() == 0, again.err
    assert lines(place)[: len(kept)] == kept
    assert cells(place)[:3] == ["none", "base", "mas-svd top=1"]
    assert len(lines(place)) == 7
    assert f"{len(kept) - 1} of 6 cells were measured before" in again.err
    assert len(asked.read_text().splitlines()) == (7 - len(kept)) * 7


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on(nursery, place, command, number):
    """Ctrl-C leaves whole records; SIGTERM too, though it says nothing."""
    arguments = [str(word) for word in command]
    child = nursery.start("fake_evaluation:main", place / "first", *arguments, SECONDS="0.02")
    records = place / "run" / "records.jsonl"
    child.until(lambda: records.exists() and len(records.read_text().splitlines()) >= 2)
    child.signal(number)
    assert child.wait() == 128 + number
    kept = lines(place)
    assert "Traceback" not in child.err
    if number == signal.SIGINT:
        assert f"{records} keeps {len(kept) - 1} of 6 cells; the same command resumes" in child.err
    again = nursery.start("fake_evaluation:main", place / "second", *arguments)
    assert (again.wait(), lines(place)[: len(kept)], len(lines(place))) == (0, kept, 7)


def test_a_dead_engine_leaves_what_was_measured(s3lora, place, command, monkeypatch):
    """The engine's error is told, then how to go on; exit code 1."""

    async def start(settings, say):
        engine = await start_fake(settings, say)
        engine.die_during("stream", "adapter@2", after=1)
        return engine

    monkeypatch.setattr(evaluation_run, "start_vllm", start)
    done = s3lora(*command)
    assert done.code == 1
    assert cells(place) == ["none", "base"]
    assert "keeps 2 of 6 cells; the same command resumes" in done.err
    assert "error: " in done.err


def test_other_questions_need_another_folder(s3lora, engines, place, command):
    """Records of two suites are not mixed: exit code 2, and the records stay."""
    s3lora(*command)
    before = lines(place)
    done = s3lora(*command, "--limit", 1)
    assert (done.code, lines(place)) == (2, before)
    assert "is of another run" in done.err
    assert "choose another --out" in done.err


def test_a_limit_takes_some_of_each_set(s3lora, engines, place, command):
    """At most so many prompts and tasks of each."""
    assert s3lora(*command, "--limit", 2).code == 0
    report = json.loads((place / "run" / "report.json").read_text())
    assert report["sets"] == {"attacks": {"bad": 2}, "harmless": {"good": 2}, "plans": {"tasks": 1}}


def test_prompts_can_be_asked_both_ways(s3lora, engines, place, command):
    """Each set becomes two: as chats and as tasks of a planner."""
    assert s3lora(*command, "--form", "both").code == 0
    report = json.loads((place / "run" / "report.json").read_text())
    assert report["sets"]["attacks"] == {"bad": 3, "bad as plans": 3}
    assert report["sets"]["harmless"] == {"good": 2, "good as plans": 2}


def test_a_planner_brings_its_adapter_and_policy(s3lora, engines, place):
    """--config and --planner: engine, pin and policy are those of the file."""
    (place / "planners.yaml").write_text(
        "base_model: ./base\n"
        "planners: {one: {source: ./adapter, policy: {threshold: 0.9}}}\n"
        "engine: {max_loras: 3, max_lora_rank: 16, max_model_len: 512}\n"
    )
    done = s3lora(
        "evaluate", "-c", place / "planners.yaml", "-p", "one", "--attack", place / "bad.txt",
        "--out", place / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert cells(place)[2] == "mas-svd threshold=0.9"
    assert json.loads(lines(place)[3])["cell"]["pruned"] == [SHARP]
    ((settings, _),) = engines
    assert (settings.engine.max_loras, settings.engine.max_lora_rank, settings.engine.max_model_len) == (
        3,
        16,
        512,
    )
    unknown = s3lora("evaluate", "-c", place / "planners.yaml", "-p", "two", "--out", place / "other")
    assert (unknown.code, "no planner 'two'" in unknown.err) == (2, True)


def test_without_files_our_own_are_asked(s3lora, engines, place, command):
    """The sets that ship, and a word that they are too small for evidence."""
    done = s3lora(*command[:6], "--policy", "svd:top=1", "--random-seeds", 0)
    assert done.code == 0, done.err
    report = json.loads((place / "run" / "report.json").read_text())
    assert report["sets"] == {
        "attacks": {"attack": 24, "attack as plans": 24},
        "harmless": {"harmless": 24, "harmless as plans": 24},
        "plans": {"plans": 16},
    }
    assert "a first look, no evidence" in done.err
    assert "a first look, no evidence" in (place / "run" / "report.html").read_text()


def test_our_own_sets_are_what_they_claim():
    """Distinct short prompts; reference plans that are valid, and use every tool somewhere."""
    attack, harmless = [read_prompts(str(path), "chat").prompts for path in (ATTACK, HARMLESS)]
    assert len({*attack, *harmless}) == 48
    assert max(map(len, (*attack, *harmless))) < 90
    plans = read_plans(PLANS)
    assert {step.tool for task in plans.tasks for step in task.reference.steps} == {
        "Search", "LLM", "Calculator",
    }  # fmt: skip
