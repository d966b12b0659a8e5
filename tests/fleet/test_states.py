"""The table of states, and that a deployment moves by nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.errors import TransitionError
from s3lora_serve.fleet.deployment import Deployment
from s3lora_serve.fleet.states import LOADED, TRANSITIONS, UP, DeploymentState

_S = DeploymentState
REVISION = SimpleNamespace(fully_pruned=False, digest="a" * 64)
STATES = st.sampled_from(DeploymentState)


def deployment_in(state):
    """A deployment in any state, however it got there."""
    return Deployment("p", REVISION, state=state)


def test_every_state_has_its_row():
    """A state without a row would be a KeyError in service."""
    assert set(TRANSITIONS) == set(DeploymentState)


@given(STATES, STATES)
def test_only_listed_steps_are_possible(here, there):
    """A step succeeds exactly if the table lists it, and leaves the old value as it was."""
    deployment = deployment_in(here)
    if there in TRANSITIONS[here]:
        assert (deployment.to(there).state, deployment.state) == (there, here)
    else:
        with pytest.raises(TransitionError):
            deployment.to(there)


@given(st.lists(STATES, max_size=24))
def test_no_walk_answers_without_proof(walk):
    """Before it answers it was READY, and before that probed, unless there was nothing to load."""
    deployment, path = deployment_in(_S.ADMITTED), []
    for state in walk:
        if state in TRANSITIONS[deployment.state]:
            deployment = deployment.to(state)
            path.append(state)
    for i, state in enumerate(path):
        if state in UP | {_S.SHADOW}:
            assert _S.READY in path[:i]
        if state is _S.READY and i:
            assert path[i - 1] in (_S.PROBING, _S.EVICTED)


@pytest.mark.parametrize("state", [_S.FAILED, _S.UNLOADED])
def test_final_states_say_so(state):
    """Nothing leaves a final state: to serve the revision again is a new deployment under a new slot id."""
    with pytest.raises(TransitionError) as refused:
        deployment_in(state).to(_S.LOADING)
    assert str(refused.value) == (
        f"p@aaaaaaaaaaaa cannot go from {state} to loading; allowed: none, it is final"
    )


def test_a_dead_engine_can_be_noted_in_every_loaded_state():
    """The engine may die under any deployment that it holds: each can be EVICTED, or goes for good."""
    for state in LOADED | {_S.LOADING, _S.PROBING}:
        assert TRANSITIONS[state] & {_S.EVICTED, _S.UNLOADED}, state


def test_only_canary_and_serving_answer():
    """No other state answers requests, and both have the engine's slot."""
    assert {_S.CANARY, _S.SERVING} == UP
    assert UP < LOADED
