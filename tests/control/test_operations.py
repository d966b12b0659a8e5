"""Operations are begun once, ended once, and never lost between memory and journal."""

from __future__ import annotations

import asyncio
import functools
import logging

import pytest
from orders import order

from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.operation import Kind, Step, Wanted, fingerprint
from s3lora_serve.control.operations import Operations
from s3lora_serve.errors import Conflict, StateError, UnknownOperation
from s3lora_serve.fleet.notify import Notifier
from s3lora_serve.spectral.prune_policy import PrunePolicy
from s3lora_serve.storage.daemon_threads import DaemonThreads


@pytest.fixture
def journal(tmp_path):
    """An empty one."""
    with Journal(tmp_path / "state.db") as journal:
        yield journal


@pytest.fixture
def ended():
    """The operations that have ended."""
    return []


@pytest.fixture
def operations(journal, ended):
    """Over that journal."""
    return Operations(journal, DaemonThreads("journal", 4), Notifier(), ended.append)


async def begin(operations, *planners, **options):
    """A swap of these planners."""
    terms = {"step": Step.ADMITTING, **options}
    return await operations.begin(Kind.SWAP, planners or ("p",), terms.pop("order", order()), **terms)


def refuse(journal, monkeypatch):
    """Let the journal take nothing more."""

    def full(*entries, **options):
        raise StateError("the disk is full")

    monkeypatch.setattr(journal, "write", full)


async def test_it_is_in_the_journal_from_its_beginning_to_its_end(operations, journal, ended):
    """Begun, decided and ended are entries; the operation there is the one in memory."""
    operation = await begin(operations, from_digest="a" * 64)
    assert journal.running() == [operation]
    await operations.write(operation.id, "swap.flipped", step=Step.DRAINING, to_digest="b" * 64)
    done = await operations.end(operation.id, Step.DONE, "swap.done")
    assert (journal.operation(operation.id), journal.running(), ended) == (done, [], [done])
    assert [e.action for e in journal.entries()] == ["swap.begun", "swap.flipped", "swap.done"]
    assert {(e.actor, e.reason, e.planner) for e in journal.entries()} == {("alice", "better", "p")}


async def test_progress_is_for_the_eye_and_seconds_add_up(operations, journal):
    """Progress costs no write, and what was noted meanwhile outlives a write."""
    operation = await begin(operations)
    operations.update(operation.id, progress="score", fraction=0.5, seconds={"admit": 1.0})
    operations.update(operation.id, seconds={"load": 2.0})
    now = await operations.write(operation.id, "swap.flipped", step=Step.DRAINING)
    assert (now.progress, now.fraction, now.seconds) == ("score", 0.5, {"admit": 1.0, "load": 2.0})
    done = await operations.end(operation.id, Step.DONE, "swap.done")
    assert (done.progress, done.fraction) == ("", None)


async def test_one_decides_about_a_planner(operations):
    """A second one is refused until the first has decided or ended; dry runs never wait."""
    first = await begin(operations, "p", "q")
    with pytest.raises(Conflict, match=f"{first.id} .swap, admitting. is deciding about planner 'q'"):
        await begin(operations, "q")
    await begin(operations, "q", decides=False)
    operations.decided(first.id)
    assert not operations.deciding("q")
    second = await begin(operations, "q")
    await operations.end(second.id, Step.DONE, "swap.done")
    await begin(operations, "q")


async def test_what_cannot_be_begun_decides_nothing(operations, journal, monkeypatch):
    """If the beginning cannot be written down there is no operation, and its planner is free."""
    with monkeypatch.context() as patch:
        refuse(journal, patch)
        with pytest.raises(StateError):
            await begin(operations)
    assert (operations.deciding("p"), operations.list(10)) == (False, [])
    await begin(operations)


async def test_a_decision_that_cannot_be_written_is_not_made(operations, journal, monkeypatch):
    """Memory follows the journal, never goes ahead."""
    operation = await begin(operations)
    refuse(journal, monkeypatch)
    with pytest.raises(StateError):
        await operations.write(operation.id, "swap.flipped", step=Step.DRAINING)
    assert operations.get(operation.id).step is Step.ADMITTING


async def test_an_end_that_cannot_be_written_is_an_end(operations, journal, monkeypatch, caplog, ended):
    """Who waits is told how it ended, its planner is free, and the log says what is missing."""
    operation = await begin(operations)
    refuse(journal, monkeypatch)
    with caplog.at_level(logging.ERROR):
        done = await operations.fail(operation.id, StateError("the disk is full"))
    assert (done.step, done.error["code"]) == (Step.FAILED, "state_error")
    assert (await operations.wait(operation.id, 5), operations.list(5)) == (done, [done])
    assert (operations.deciding("p"), ended) == (False, [done])
    assert "could not be written down" in caplog.text


async def test_waiting_ends_with_the_next_change(operations):
    """It returns the changed operation, the same one after its time, and an ended one at once."""
    operation = await begin(operations)
    assert await operations.wait(operation.id, 0.01) == operation
    waiting = asyncio.create_task(operations.wait(operation.id, 60))
    await asyncio.sleep(0)
    operations.update(operation.id, progress="load")
    assert (await waiting).progress == "load"
    waiting = asyncio.create_task(operations.wait(operation.id, 60))
    await asyncio.sleep(0)
    done = await operations.end(operation.id, Step.DONE, "swap.done")
    assert (await waiting, await operations.wait(operation.id, 60)) == (done, done)


async def test_an_unknown_id(operations):
    """No operation is made up, and a long id is cut."""
    with pytest.raises(UnknownOperation) as unknown:
        operations.get("x" * 1000)
    assert len(str(unknown.value)) < 200
    with pytest.raises(UnknownOperation):
        await operations.wait("nobody", 1)


async def test_a_defect_is_told_as_one(operations, journal):
    """An unexpected exception ends the operation as crashed, with its own code."""
    operation = await begin(operations)
    done = await operations.fail(operation.id, ZeroDivisionError("surprise"))
    assert (done.error["code"], done.error["message"]) == ("internal_error", "ZeroDivisionError: surprise")
    assert journal.entries()[-1].action == "swap.crashed"


async def test_a_key_finds_its_operation(operations):
    """Running or ended; with another order behind it, it is a conflict that names the first."""
    mark = fingerprint(Kind.SWAP, "p", order(), Wanted(policy=PrunePolicy()))
    assert await operations.known(order(key="k"), mark) is None
    operation = await begin(operations, order=order(key="k"), fingerprint=mark)
    operations.update(operation.id, progress="load")
    assert (await operations.known(order(key="k"), mark)).progress == "load"
    assert await operations.known(order(), mark) is None
    with pytest.raises(Conflict, match=operation.id):
        await operations.known(order(key="k"), fingerprint(Kind.SWAP, "q", order()))


def test_a_fingerprint_is_of_what_is_asked():
    """Equal terms are equal whatever their order; any other value makes another one."""
    swap = functools.partial(fingerprint, Kind.SWAP, "p", order())
    one = swap(a=1, b={"x": [1, 2]}, c=None)
    assert one == swap(c=None, b={"x": (1, 2)}, a=1)
    assert len({one, swap(a=1), swap(a=2, b={"x": [1, 2]}, c=None)}) == 3
