"""A store knows who served from it: a state file that was lost is no first start."""

from __future__ import annotations

import pytest

from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.adapters.store_fleets import FLEETS, check_fleet, claim_fleet, known_fleets
from s3lora_serve.errors import StoreError

MINE, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def store(tmp_path):
    """A new store with one revision, as `s3lora-serve --check` leaves it."""
    RevisionStore(tmp_path / "store", "vllm")
    (tmp_path / "store" / "revisions" / ("1" * 64)).mkdir()
    return tmp_path / "store"


def check(store, fleet=MINE, *, used=False):
    """As a start does."""
    check_fleet(store, store.with_name("state.db"), fleet, used=used)


def test_a_first_start_just_works(store, tmp_path):
    """On no store, on an empty one, and on one that revisions were only admitted to."""
    check(tmp_path / "none")
    RevisionStore(tmp_path / "empty", "vllm")
    check(tmp_path / "empty")
    check(store)
    claim_fleet(store, MINE)
    check(store)
    check(store, used=True)


@pytest.mark.parametrize(("used", "said"), [(False, "holds nothing"), (True, "holds another fleet's")])
def test_revisions_without_their_state_are_refused(store, used, said):
    """The message names both places and every way out."""
    claim_fleet(store, OTHER)
    with pytest.raises(StoreError, match=f"has 1 revisions that a fleet served, and .*{said}") as caught:
        check(store, used=used)
    ways = caught.value.hint + caught.value.command
    assert all(way in ways for way in ("backup", "restore", "state.path", "--new-state"))
    claim_fleet(store, MINE)
    claim_fleet(store, MINE)
    assert known_fleets(store) == (OTHER, MINE)
    check(store, OTHER, used=True)
    check(store, MINE)


def test_a_store_of_an_earlier_release_is_adopted_by_its_state(store):
    """It has no list: a state file that holds something is its own, an empty one is not."""
    (store / FLEETS).unlink()
    RevisionStore(store, "vllm")
    check(store, used=True)
    with pytest.raises(StoreError, match="holds nothing"):
        check(store)
