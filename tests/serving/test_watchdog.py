"""The rule by which an engine counts as hung, on a clock of the test's own."""

from __future__ import annotations

import pytest

from s3lora_serve.engine.signs_of_life import EngineProgress, SignsOfLife
from s3lora_serve.errors import EngineDead, SlotLoadError
from s3lora_serve.serving.watchdog import PROBE_SECONDS, Watchdog

SECONDS, LOAD = 60.0, 600.0


class Watched:
    """A watchdog that looks once a second, and the engine that it sees."""

    def __init__(self, seconds: float = SECONDS):
        self.watchdog = Watchdog(seconds, LOAD)
        self.now, self.signs = 1000.0, 0
        self.state = {"running": 0, "held": ""}
        self.more = {"starting": False, "probing": False}
        self.look()

    def look(self, after: float = 1.0):
        """Look once, so long after the last time."""
        self.now += after
        return self.watchdog.look(self.now, EngineProgress(self.signs, **self.state), **self.more)

    def until_hung(self, most: int, **state) -> int | None:
        """Seconds until it counts as hung in this state without a sign; None if it never does."""
        self.state |= state
        return next((second for second in range(1, most + 1) if self.look().hung), None)

    def step(self, seconds: int) -> None:
        """Make one step that takes so long."""
        assert self.until_hung(seconds) is None
        self.signs += 1
        assert not self.look(0.0).hung


def test_requests_without_a_step_are_a_hang():
    """After the limit, not before; the reason names the time, the requests, the limit and its setting."""
    watched = Watched()
    watched.state["running"] = 2
    watched.look()
    assert watched.until_hung(100) == 61
    assert watched.look().hung == (
        "it hangs: no step for 62 s, 2 requests in it; the limit is 60 s (engine.watchdog_seconds sets it)"
    )


def test_an_engine_that_steps_does_not_hang():
    """However long its requests run; a step of 30 s is one, and allows for ten times as long from then on."""
    watched = Watched()
    watched.state["running"] = 1
    for _ in range(20):
        watched.step(30)
    assert watched.until_hung(400) == 301
    assert watched.look().hung.endswith("the limit is 300 s (ten times its slowest step)")


def test_the_limit_is_what_is_configured_if_steps_are_quick():
    """Ten times a step of a second is below it."""
    watched = Watched(seconds=20)
    watched.state["running"] = 1
    for _ in range(100):
        watched.step(1)
    assert watched.until_hung(100) == 21


@pytest.mark.parametrize("held", ["load", "start"])
def test_a_load_and_a_start_may_take_as_long_as_loads_may(held):
    """They stand in the way of steps, and are no slow step; but they do not suspend the watch for ever."""
    watched = Watched()
    watched.state |= {"running": 1, "held": "load" if held == "load" else ""}
    watched.more["starting"] = held == "start"
    watched.look()
    watched.step(500)
    watched.state["held"], watched.more["starting"] = "", False
    watched.step(1)
    assert watched.until_hung(100) == 61, "a load was taken for a slow step"
    watched = Watched()
    watched.state |= {"running": 1, "held": "load" if held == "load" else ""}
    watched.more["starting"] = held == "start"
    watched.look()
    assert watched.until_hung(1000) == 661


def test_a_grammar_may_take_the_limit_once_more():
    """Not longer: most requests of a planner bring a grammar, and a hang under them must show."""
    watched = Watched()
    watched.state |= {"running": 1, "held": "grammar"}
    watched.look()
    assert watched.until_hung(200) == 121


def test_an_idle_engine_is_probed_and_hangs_without_an_answer():
    """A probe is due after a quiet while; its answer is a sign, and the next one comes a while later."""
    watched = Watched()
    due = [second for second in range(1, 31) if watched.look().probe]
    assert due == [10, 20, 30]
    assert due[0] == PROBE_SECONDS
    watched.signs += 1  # it was answered
    assert not any(watched.look().probe for _ in range(10))
    assert watched.look().probe
    watched.more["probing"] = True
    watched.look()
    assert watched.until_hung(100) == 61
    assert "a probe unanswered" in watched.look().hung


def test_clients_that_give_up_hide_no_hang():
    """Requests that come and leave again without a step count like ones that stay."""
    watched = Watched()
    hung = None
    for second in range(1, 200):
        watched.state["running"] = second % 3 > 0
        if watched.look().hung:
            hung = second
            break
    assert hung is not None
    assert hung < 100


@pytest.mark.parametrize("running", [0, 3])
def test_a_machine_that_was_suspended_is_no_hang(running):
    """A gap in which nobody looked says nothing of the engine, however long."""
    watched = Watched()
    watched.state["running"] = running
    for _ in range(2):
        assert not watched.look(after=900.0).hung
    watched.signs += 1
    assert not watched.look().hung
    watched.state["running"] = 1
    watched.look()
    assert watched.until_hung(100) in (60, 61), "the gap was taken for a slow step"


def test_what_an_engine_notes_of_itself():
    """Signs are counted; a load holds until its end, which is a sign unless the engine died of it; a grammar
    holds until the first output of a request with it.
    """
    signs = SignsOfLife()

    def seen(running):
        found = signs.progress(running)
        return found.signs, found.running, found.held

    with signs.loading():
        assert seen(0) == (0, 0, "load")
    assert seen(0) == (1, 0, "")
    with pytest.raises(SlotLoadError), signs.loading():
        raise SlotLoadError("refused")
    with pytest.raises(EngineDead), signs.loading():
        raise EngineDead("gone")
    assert seen(2) == (2, 2, "")
    with signs.compiling("root ::= a") as output:
        assert signs.progress(1).held == "grammar"
        output()
        assert seen(1) == (3, 1, "")
        output()
    with signs.compiling("root ::= a"), signs.compiling(None):
        assert seen(2) == (4, 2, "")
    with signs.compiling("root ::= b"):  # it ends before any output
        pass
    with signs.compiling("root ::= b"):
        assert signs.progress(1).held == "grammar"


def test_a_load_is_waited_for_as_long_as_loads_take():
    """Until one was done it may take its whole time; then ten times the slowest, and the limit at least."""
    assert Watched().until_hung(700, running=1, held="load") == 662
    for slowest, patience in ((0.5, 60), (12.0, 120), (100.0, LOAD)):
        watched = Watched()
        hung = watched.until_hung(1300, running=1, held="load", slowest_load=slowest)
        assert hung == SECONDS + patience + 2


def test_the_slowest_load_is_one_that_ended_well():
    """A load that failed or whose engine died says nothing of how long one takes."""
    signs = SignsOfLife()
    for error in (SlotLoadError("no"), EngineDead("gone")):
        with pytest.raises(type(error)), signs.loading():
            raise error
    assert signs.progress(0).slowest_load is None
    with signs.loading():
        pass
    assert 0 <= signs.progress(0).slowest_load < 1
