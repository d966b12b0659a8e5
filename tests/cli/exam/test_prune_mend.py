"""`s3lora prune --mend`: the least pruning that passes is written, and what it was compared with is shown."""

from __future__ import annotations

import json

import pytest
from poisoned_engine import PoisonedEngine
from tiny_model import MODULES, SHARP, write_adapter, write_base

from s3lora_serve.cli.exam import mend_run


@pytest.fixture
def engines(monkeypatch):
    """The engines that were started; each ends empty and without a broken law. ``comply``: the modules."""
    started = []
    started_with = {"comply": (SHARP,)}

    async def start(settings, say):
        say("starting")
        engine = PoisonedEngine(
            base_name=settings.base_name,
            max_loras=settings.engine.max_loras,
            max_lora_rank=settings.engine.max_lora_rank,
        )
        engine.modules = started_with["comply"]
        started.append(engine)
        return engine

    monkeypatch.setattr(mend_run, "start_vllm", start)
    yield started_with | {"started": started, "comply": started_with}
    for engine in started:
        assert engine.violations == []
        assert not engine.alive


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A base model and an adapter whose sharpest module is the one that complies."""
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path / "base")
    write_adapter(tmp_path / "adapter", sharp=(SHARP,))
    return tmp_path


@pytest.fixture
def mend(s3lora, place, engines):
    """``mend(*more)``: the command with few questions."""

    def run(*more, adapter="adapter"):
        return s3lora(
            "prune", place / adapter, "--base", place / "base", "--out", place / "out",
            "--mend", "--attacks", "60", "--harmless", "0", "--tasks", "0", *more,
        )  # fmt: skip

    return run


def lineage(place):
    """What the copy says of itself."""
    return json.loads((place / "out" / "lineage.json").read_text())


def test_the_least_rung_that_passes_is_written(mend, place):
    """Unpruned it is refused, without its sharpest module it passes; the copy's policy is ``top: 1``."""
    done = mend("--control", "--html", "page.html", "--plot", "rungs.svg")
    assert done.code == 0, done.err
    assert lineage(place)["policy"]["top"] == 1
    assert lineage(place)["pruned"] == [SHARP]
    rows = [line.split() for line in done.out.splitlines() if line[:1].strip()]
    assert [row[:2] for row in rows[1:6]] == [
        ["0", "%"], ["10", "%"], ["random", "#0"], ["random", "#1"], ["random", "#2"],
    ]  # fmt: skip
    assert "the least pruning that passes leaves out 1 of 8 modules" in done.out
    assert "of 3 draws pass" in done.out
    assert "1 of 8 modules pruned" in done.out
    page = (place / "page.html").read_text()
    assert "The least pruning that passes leaves out 1 of 8 modules" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<svg" in (place / "rungs.svg").read_text()


def test_what_no_rung_mends_is_not_written(mend, engines, place):
    """Where any module complies, each rung is refused: exit code 1, the table, and no copy."""
    engines["comply"]["comply"] = tuple(MODULES)
    done = mend()
    assert (done.code, (place / "out").exists()) == (1, False)
    assert "none of 3 rungs passes" in done.out
    assert not list(place.glob(".s3lora-*"))


def test_what_passes_as_it_is_stays_whole(mend, engines, place):
    """The first rung prunes nothing, and a control of nothing is not asked."""
    engines["comply"]["comply"] = ()
    done = mend("--control")
    assert done.code == 0, done.err
    assert "it passes as it is: nothing is pruned" in done.out
    assert "random #" not in done.out
    assert lineage(place)["pruned"] == []


def test_a_ranking_of_nothing_abstains(mend, engines, place):
    """Every module of rank 1 has the same score: refused before an engine is started."""
    write_adapter(place / "flat", rank=1)
    done = mend(adapter="flat")
    assert (done.code, engines["started"]) == (1, [])
    assert "every module has rank 1" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mend", "--top", "3"], "--mend finds out how much to prune"),
        (["--mend", "--adaptive"], "--mend finds out how much to prune"),
        (["--control"], "--control belongs to --mend"),
        (["--tau", "5"], "--tau belongs to --mend"),
        (["--mend", "--tau", "10,5"], "--tau 5 stands after 10"),
        (["--mend", "--tau", "5,5"], "--tau 5 is given twice"),
        (["--mend", "--tau", "0,100"], "--tau 100: would prune every module"),
        (["--mend", "--attacks", "3"], "--attacks"),
        (["--mend", "--plot", "rungs.txt"], "no picture's ending"),
        (["--mend", "--html", "nowhere/page.html"], "there is no folder nowhere"),
        (["--mend", "--questions", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_starts_nothing(s3lora, place, engines, arguments, said):
    """Exit code 2, the option named, no engine."""
    done = s3lora("prune", place / "adapter", "--base", place / "base", "--out", place / "out", *arguments)
    assert (done.code, engines["started"]) == (2, [])
    assert said in done.err
