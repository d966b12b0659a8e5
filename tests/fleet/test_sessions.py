"""No session changes its deployment while that is offered, and no number of sessions fills the memory."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from s3lora_serve.fleet.sessions import SessionMemory

OLD, NEW, NEXT = "p@old", "p@new", "p@next"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def memory(clock):
    return SessionMemory(100, 60, clock)


def test_a_session_from_before_the_canary_stays(memory):
    """It began on the active deployment: being in the share does not move it in mid-episode."""
    assert memory.assign("p", "s", active=OLD) == OLD
    assert memory.assign("p", "s", active=OLD, candidate=NEW, chosen=True) == OLD


def test_a_session_on_the_candidate_stays_when_the_share_shrinks(memory):
    """A narrower share takes no new sessions; those that are in end where they began."""
    assert memory.assign("p", "s", active=OLD, candidate=NEW, chosen=True) == NEW
    assert memory.assign("p", "s", active=OLD, candidate=NEW, chosen=False) == NEW


def test_a_promoted_candidate_keeps_its_sessions(memory):
    """It is active now; those of the one before move, since that is no longer offered."""
    memory.assign("p", "in", active=OLD, candidate=NEW, chosen=True)
    memory.assign("p", "out", active=OLD, candidate=NEW)
    assert memory.assign("p", "in", active=NEW) == NEW
    assert memory.assign("p", "out", active=NEW) == NEW
    assert memory.assign("p", "out", active=NEW, candidate=NEXT, chosen=True) == NEW


def test_a_candidate_given_up_gives_its_sessions_back(memory):
    """They go to the active one and stay there, also when the candidate is tried once more."""
    memory.assign("p", "s", active=OLD, candidate=NEW, chosen=True)
    assert memory.assign("p", "s", active=OLD) == OLD
    assert memory.assign("p", "s", active=OLD, candidate=NEW, chosen=True) == OLD


def test_planners_do_not_share_sessions(memory):
    """A client may use one session name with two planners in turn: both remember."""
    memory.assign("p", "s", active=OLD)
    memory.assign("q", "s", active="q@1", candidate="q@2", chosen=True)
    assert memory.assign("p", "s", active=OLD, candidate=NEW, chosen=True) == OLD
    assert memory.assign("q", "s", active="q@1", candidate="q@2") == "q@2"
    memory.assign("a", "bc", active="a@1")
    assert memory.assign("ab", "c", active="ab@1", candidate="a@1", chosen=True) == "a@1"


def test_idle_sessions_begin_anew(memory, clock):
    """A minute without a request ends an episode; a request before that prolongs it."""
    memory.assign("p", "s", active=OLD)
    clock.now = 59.9
    assert memory.assign("p", "s", active=OLD, candidate=NEW, chosen=True) == OLD
    clock.now = 119.8
    assert memory.assign("p", "s", active=OLD, candidate=NEW, chosen=True) == OLD
    clock.now = 179.8
    assert memory.assign("p", "s", active=OLD, candidate=NEW, chosen=True) == NEW


def test_idle_sessions_are_forgotten(memory, clock):
    """Memory of a quiet crowd goes, a few sessions a request, without being asked for them."""
    for number in range(100):
        memory.assign("p", f"s{number}", active=OLD)
    clock.now = 60
    for _ in range(25):
        memory.assign("p", "t", active=OLD)
    assert len(memory) == 1
    assert memory.crowded_out == 0


def test_the_limit_holds_and_the_busiest_stay(memory):
    """Beyond the limit the least recently seen go, which is counted."""
    for number in range(1000):
        memory.assign("p", f"s{number}", active=OLD)
        memory.assign("p", "busy", active=OLD)
    assert len(memory) == 100
    assert memory.crowded_out == 1001 - 100
    assert memory.assign("p", "busy", active=OLD, candidate=NEW, chosen=True) == OLD
    assert memory.assign("p", "s0", active=OLD, candidate=NEW, chosen=True) == NEW


def test_any_text_is_a_session(memory):
    """Half a surrogate pair is a legal JSON string, and a megabyte a legal header value for some."""
    for session in ("", "\ud800", "\0", "x" * 10**6):
        assert memory.assign("p", session, active=OLD, candidate=NEW, chosen=True) == NEW
        assert memory.assign("p", session, active=OLD, candidate=NEW) == NEW


@pytest.mark.parametrize(("limit", "idle"), [(0, 1), (1, 0), (1, float("nan"))])
def test_nonsense_is_refused(limit, idle, clock):
    """A memory that can hold nothing would break stickiness without a word."""
    with pytest.raises(ValueError, match=f"limit {limit} .* idle_seconds {idle} "):
        SessionMemory(limit, idle, clock)


class Sessions(RuleBasedStateMachine):
    """Random requests, canaries, promotions and pauses against a memory that forgets nothing by itself."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.memory = SessionMemory(8, 10, self.clock)
        self.active, self.candidate, self.made = "d0", None, 0
        self.order: dict[str, tuple[str, float]] = {}  # session: deployment, last seen; least recent first

    @rule(session=st.sampled_from("abcdefghijkl"), chosen=st.booleans())
    def request(self, session, chosen):
        """A known session stays while its deployment is offered; any other goes where it is sent."""
        before = self.order.pop(session, None)
        offered = {self.active, self.candidate}
        known = before is not None and before[0] in offered and self.clock.now - before[1] < 10
        fresh = self.candidate if chosen and self.candidate is not None else self.active
        expected = before[0] if known else fresh
        found = self.memory.assign("p", session, active=self.active, candidate=self.candidate, chosen=chosen)
        assert found == expected
        self.order[session] = (expected, self.clock.now)
        while len(self.order) > 8:
            del self.order[next(iter(self.order))]

    @rule()
    def start(self):
        """A canary starts, in place of the one that ran."""
        self.made += 1
        self.candidate = f"d{self.made}"

    @rule()
    def promote(self):
        """The canary takes over."""
        if self.candidate is not None:
            self.active, self.candidate = self.candidate, None

    @rule()
    def give_up(self):
        """The canary goes."""
        self.candidate = None

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds):
        """Time passes."""
        self.clock.now += seconds

    @invariant()
    def bounded(self):
        """Never more than the limit."""
        assert len(self.memory) <= 8


TestSessionHistory = Sessions.TestCase
