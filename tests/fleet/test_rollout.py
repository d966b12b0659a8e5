"""A candidate's share: the same users every time, and none leaves when it widens."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.errors import StateError
from s3lora_serve.fleet.rollout import Rollout, position

DIGEST = "a" * 64
KEYS = st.text(st.characters(codec=None), max_size=50)  # surrogates too: JSON strings may hold them
SHARES = st.floats(0, 1)


@given(key=KEYS, one=SHARES, other=SHARES)
def test_widening_keeps_everyone(key, one, other):
    """A user in a smaller share is in every larger one."""
    small, large = sorted((one, other))
    if Rollout(small, since=0).chooses(key, DIGEST):
        assert Rollout(large, since=1).chooses(key, DIGEST)


@given(key=KEYS)
def test_nothing_and_everything(key):
    """A share of 0 chooses no user, one of 1 all."""
    assert not Rollout(0, since=0).chooses(key, DIGEST)
    assert Rollout(1, since=0).chooses(key, DIGEST)
    assert 0 <= position(key, DIGEST) < 1


def test_positions_never_change():
    """A restart, or another version of this code, chooses the same sessions: these values are a contract."""
    found = [round(position(key, DIGEST), 12) for key in ("", "session-1", "\ud800")]
    assert found == [0.208171098558, 0.220230858746, 0.114210426641]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_is_met(share):
    """Of ten thousand sessions the share is chosen, to within four standard deviations."""
    chosen = sum(Rollout(share, since=0).chooses(f"session-{i}", DIGEST) for i in range(10_000))
    assert abs(chosen - 10_000 * share) < 4 * math.sqrt(10_000 * share * (1 - share))


def test_another_candidate_draws_anew():
    """Being in one candidate's tenth says nothing about the next one's."""
    rollout = Rollout(0.1, since=0)
    first = {i for i in range(10_000) if rollout.chooses(f"s{i}", "a" * 64)}
    second = {i for i in range(10_000) if rollout.chooses(f"s{i}", "b" * 64)}
    assert 60 <= len(first & second) <= 140  # a hundred, if they are independent


@given(
    share=SHARES,
    since=st.floats(0, 2e9),
    shadow=st.booleans(),
    after=st.none() | st.integers(1, 10**6),
)
def test_json_round_trip(share, since, shadow, after):
    """What is stored is what is read."""
    rollout = Rollout(share, since, shadow, None if shadow else after)
    assert Rollout.from_json(json.loads(json.dumps(rollout.to_json()))) == rollout


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"share": 1.01}, "share is 1.01"),
        ({"share": -0.1}, "share is -0.1"),
        ({"share": math.nan}, "share is nan"),
        ({"share": True}, "share is True"),
        ({"share": "0.5"}, "share is '0.5'"),
        ({"since": math.inf}, "since is inf"),
        ({"shadow": 1}, "shadow is 1"),
        ({"promote_after": 0}, "promote_after is 0"),
        ({"promote_after": True}, "promote_after is True"),
        ({"promote_after": 1.5}, "promote_after is 1.5"),
        ({"promote_after": 5, "shadow": True}, "a shadow answers no requests"),
    ],
)
def test_nonsense_is_refused(values, name):
    """Directly as ValueError, from the database as StateError; both name the value."""
    values = {"share": 0.1, "since": 1.0} | values
    with pytest.raises(ValueError, match=name):
        Rollout(**values)
    with pytest.raises(StateError, match=name):
        Rollout.from_json(values)


@pytest.mark.parametrize("value", [{"share": 0.1}, {"share": 0.1, "since": 0, "color": 1}])
def test_missing_and_unknown_keys_are_refused(value):
    """Nothing of a stored rollout is guessed or dropped."""
    with pytest.raises(StateError, match=r"since|color"):
        Rollout.from_json(value)


def test_due_after_the_agreed_number():
    """Without a number it is never promoted by itself."""
    assert [Rollout(0.1, 0, promote_after=50).due(n) for n in (0, 49, 50, 51)] == [False, False, True, True]
    assert not Rollout(0.1, 0).due(10**9)
