"""The table of states, and that a planner moves by nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.errors import TransitionError
from s3lora_serve.runtime.planner import Planner
from s3lora_serve.runtime.states import TRANSITIONS, PlannerState

REVISION = SimpleNamespace(fully_pruned=False)


def planner_in(state):
    """A planner in any state, however it got there."""
    return Planner("p", REVISION, state=state)


def test_every_state_has_its_row():
    """A state without a row would be a KeyError in service."""
    assert set(TRANSITIONS) == set(PlannerState)


@given(st.sampled_from(PlannerState), st.sampled_from(PlannerState))
def test_only_listed_steps_are_possible(here, there):
    """A step succeeds exactly if the table lists it, and leaves the old value as it was."""
    planner = planner_in(here)
    if there in TRANSITIONS[here]:
        assert (planner.to(there).state, planner.state) == (there, here)
    else:
        with pytest.raises(TransitionError):
            planner.to(there)


@given(st.lists(st.sampled_from(PlannerState), max_size=12))
def test_no_walk_serves_without_proof(walk):
    """It serves only straight from admission (fully pruned) or after the probe, whatever was tried."""
    planner, path = planner_in(PlannerState.ADMITTED), []
    for state in walk:
        if state in TRANSITIONS[planner.state]:
            planner = planner.to(state)
            path.append(state)
    if PlannerState.SERVING in path:
        before = path[: path.index(PlannerState.SERVING)]
        assert before in ([], [PlannerState.LOADING, PlannerState.PROBING])


@pytest.mark.parametrize("state", [PlannerState.FAILED, PlannerState.UNLOADED])
def test_final_states_say_so(state):
    """Nothing leaves a final state: to serve the revision again is to admit it under a new slot id."""
    with pytest.raises(TransitionError) as refused:
        planner_in(state).to(PlannerState.LOADING)
    assert str(refused.value) == (
        f"planner 'p' cannot go from {state} to loading; allowed: none, it is final"
    )


def test_only_serving_is_up():
    """No other state answers requests."""
    assert [state for state in PlannerState if planner_in(state).up] == [PlannerState.SERVING]
