"""What was changed behind the journal is not served: the planner concerned stops, the others serve."""

from __future__ import annotations

import sqlite3

import pytest
from fleet_factory import make_fleet
from orders import ask, canary, order, swap, until

from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.journal.journal_findings import journal_findings
from s3lora_serve.control.journal.reconciliation import reconcile
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import Conflict, PlannerWithheld, StateError

FAKE = "f" * 64


@pytest.fixture
async def fleet(fleet_of):
    """Planners p and q serve 0 and 1; p was swapped to 2, and 3 lies under "newer"."""
    fleet = await fleet_of("p", "q").start()
    fleet.shelf.put("new")
    fleet.shelf.put("newer")
    await swap(fleet, "p", "new")
    return fleet


async def again(fleet, *statements, **options):
    """Another server over the same state, after this one was stopped and the file was edited."""
    await fleet.close()
    path = fleet.service.journal.path
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()
    return await make_fleet(path.parent, "p", "q", shelf=fleet.shelf).start(**options)


async def findings(fleet):
    """Subjects and messages of what is wrong."""
    return {each.subject: each.message for each in await fleet.control.verify() if not each.ok}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (f"active = '{'1' * 64}'", "its row says active 111111111111"),
        (f"candidate = '{'3' * 64}', rollout = '{{}}'", "its row says candidate 333333333333"),
        (f"previous = '{'3' * 64}'", "its row says previous 333333333333"),
        ("declared = 'other'", "its row says declared other"),
        ("generation = 9", "its row says generation 9"),
        ("rollout = 'no JSON'", "its rollout cannot be read"),
        ("active = x'ff'", "its active is no text"),
        ("declared = CAST(x'61ff' AS TEXT)", "its declared is no text"),
        ("generation = 'many'", "its generation is no number"),
    ],
)
async def test_an_edited_row_stops_its_planner(fleet, change, said):
    """One UPDATE on the stopped file: that planner answers 503 with a code, the other one serves."""
    now = await again(fleet, f"UPDATE planners SET {change} WHERE name = 'p'")
    planner = now.service.get("p")
    assert (planner.up, planner.state, await now.service.ready()) == (False, "failed", False)
    assert said in now.service.state_of(planner)[1]
    with pytest.raises(PlannerWithheld):
        await ask(now, "p")
    assert await ask(now, "q") == "1"
    assert said in (await findings(now))["planner p"]
    await now.close()


@pytest.mark.parametrize("value", ["x'ff'", "CAST(x'61ff' AS TEXT)"])
async def test_a_row_that_cannot_be_accepted_says_so(fleet, value, caplog):
    """A name that is no text can stand in no entry; every other row that cannot be read is taken for gone.

    No line of the log holds what no file can.
    """
    await fleet.close()
    path = fleet.service.journal.path
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE planners SET active = {value} WHERE name = 'p'")
        database.execute(f"UPDATE planners SET name = {value} WHERE name = 'q'")
    database.close()
    with Journal(path) as journal:
        assert set(reconcile(journal, ("p", "q")).withheld) == {"p", "q"}
        if "CAST" in value:
            with pytest.raises(StateError, match="cannot be accepted"):
                reconcile(journal, ("p", "q"), accept=True)
        else:
            reconcile(journal, ("p", "q"), accept=True)
            assert "p" not in journal.planner_rows()
    caplog.text.encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE head SET seq = 'many'", "the head of the journal was deleted"),
        ("UPDATE head SET hash = x'00'", "the head of the journal was deleted"),
        ("UPDATE operations SET started_at = 1e999", "its row is not what was written"),
    ],
)
async def test_a_value_of_another_kind_is_a_finding(fleet, change, said):
    """SQLite keeps what its columns do not expect."""
    await fleet.close()
    path = fleet.service.journal.path
    with sqlite3.connect(path) as database:
        database.execute("DROP TRIGGER head_goes_forward")
        database.execute(change)
    database.close()
    with Journal(path, read_only=True) as journal:
        assert said in next(each for each in journal_findings(journal) if not each.ok).message
        reconcile(journal, ("p", "q"))


async def test_a_row_that_is_gone_or_was_added_stops_its_planner(fleet):
    """Without its row a planner would be taken for a new one, and planners.yaml served again."""
    now = await again(fleet, "DELETE FROM planners WHERE name = 'p'")
    assert "its row is gone" in now.service.state_of(now.service.get("p"))[1]
    again_ = await again(now)
    assert "its row is gone" in again_.service.state_of(again_.service.get("p"))[1]
    await again_.close()


async def test_it_stays_stopped_until_an_order_says_what_it_serves(fleet):
    """A restart proves no more than the one before. A swap, to the proved digest too, is the way back."""
    edit = f"UPDATE planners SET active = '{'1' * 64}' WHERE name = 'p'"
    now = await again(await again(fleet, edit))
    with pytest.raises(Conflict, match="is stopped"):
        await canary(now, "p", "newer", share=0.5)
    done = await now.done(await now.control.swap("p", Wanted(revision="2" * 64), order()))
    assert (done.step, await ask(now, "p"), await now.service.ready()) == (Step.DONE, "2", True)
    assert await findings(now) == {}
    later = await again(now)
    assert (await ask(later, "p"), await findings(later)) == ("2", {})
    await later.close()


async def test_an_order_that_fails_leaves_it_stopped(fleet):
    """Whatever was loaded for it is gone again, and the next order works; so does an engine's restart."""
    edit = f"UPDATE planners SET active = '{'1' * 64}' WHERE name = 'p'"
    now = await again(fleet, edit)
    now.engine.fail_load("p@2*")
    wanted = Wanted(revision="2" * 64)
    assert (await now.done(await now.control.swap("p", wanted, order()))).step is Step.FAILED
    now.engine.die()
    await until(lambda: now.service.host.restarts and now.service.host.alive)
    with pytest.raises(PlannerWithheld):
        await ask(now, "p")
    assert (await now.done(await now.control.rollback("p", order(), to="2" * 64))).step is Step.DONE
    assert (await ask(now, "p"), await findings(now)) == ("2", {})
    await now.close()


async def test_a_file_that_cannot_be_read_any_more_is_a_finding(fleet):
    """One damaged page under a running server: the audit says so, with the next step, and raises nothing."""
    journal = fleet.service.journal
    journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    journal._db.execute("PRAGMA cache_size = 0")
    with journal.path.open("r+b") as file:
        for page in range(2, journal.path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    bad = [each for each in await fleet.control.verify() if not each.ok]
    assert {"file", "journal"} & {each.subject for each in bad}
    assert all(each.hint for each in bad)


async def test_a_file_that_was_removed_is_a_finding(fleet):
    """SQLite goes on to write into a file that nobody can find again."""
    fleet.service.journal.path.unlink()
    bad = [each for each in await fleet.control.verify() if not each.ok]
    assert [(each.subject, each.hint) for each in bad] == [("file", "stop the server, and restore a backup")]


async def test_the_last_proved_state_can_be_served_instead(fleet):
    """state.on_mismatch: serve_last_proved puts the row back, and the journal says why."""
    edit = f"UPDATE planners SET active = '{'1' * 64}' WHERE name = 'p'"
    now = await again(fleet, edit, last_proved=True)
    assert (await ask(now, "p"), await ask(now, "q"), await findings(now)) == ("2", "1", {})
    assert any("serve_last_proved" in entry.reason for entry in now.control.history("p"))
    await now.close()


async def test_the_tables_can_be_accepted(fleet):
    """--accept-state: what they say is written down as a decision, and proved from then on."""
    edit = f"UPDATE planners SET active = '{'1' * 64}' WHERE name = 'p'"
    row = "UPDATE operations SET body = replace(body, '\"done\"', '\"failed\"'), step = 'failed'"
    now = await again(fleet, edit, row, accept=True)
    assert (await ask(now, "p"), await findings(now)) == ("1", {})
    later = await again(now)
    assert (await ask(later, "p"), await findings(later)) == ("1", {})
    await later.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE operations SET body = replace(body, '\"done\"', '\"failed\"')", "its columns say other"),
        ("UPDATE operations SET fingerprint = 'x'", "is not what was written with its last entry"),
        ("DELETE FROM operations", "its row is gone"),
        ("INSERT INTO operations SELECT 'x', 'k', '', step, 0, body FROM operations", "its columns say"),
    ],
)
async def test_an_edited_operation_is_found(fleet, change, said):
    """At every start until it is accepted, and in each audit; the planners serve."""
    for _ in range(2):
        fleet = await again(fleet, change)
        change = "SELECT 1"
        assert (await ask(fleet, "p"), await ask(fleet, "q")) == ("2", "1")
        assert any(said in message for message in (await findings(fleet)).values())
        assert any(said in why for why in reconcile(fleet.service.journal, "pq").operations.values())
    await fleet.close()


async def test_that_an_operation_is_gone_can_be_accepted(fleet):
    """Its entries stay, and neither a later start nor an audit misses its row again."""
    fleet = await again(fleet, "DELETE FROM operations", accept=True)
    for _ in range(2):
        assert (await ask(fleet, "p"), await findings(fleet)) == ("2", {})
        fleet = await again(fleet)
    assert any("its row is gone" in entry.reason for entry in fleet.control.history())
    await fleet.close()


UNLOCK = "DROP TRIGGER journal_keeps_entries"


async def test_an_edited_entry_stops_what_it_decided(fleet):
    """The chain breaks there: what was decided at or after it is not proved; before it, it is."""
    where = "WHERE action = 'swap.flipped'"
    now = await again(fleet, UNLOCK, f"UPDATE journal SET details = '{{}}' {where}")
    assert "the chain breaks at entry" in now.service.state_of(now.service.get("p"))[1]
    assert (await ask(now, "q"), "journal" in await findings(now)) == ("1", True)
    done = await now.done(await now.control.swap("p", Wanted(revision="2" * 64), order()))
    assert (done.step, await ask(now, "p")) == (Step.DONE, "2")
    later = await again(now)
    found = await findings(later)
    assert (await ask(later, "p"), "journal" in found, "planner p" in found) == ("2", True, False)
    await later.close()


async def test_nothing_is_proved_by_a_chain_that_ends_in_another_head(fleet):
    """Where every hash may have been computed anew, every planner stops."""
    now = await again(fleet, "DROP TRIGGER head_goes_forward", f"UPDATE head SET hash = '{FAKE}'")
    assert [planner.up for planner in now.service.planners()] == [False, False]
    for name, goal in (("p", "2"), ("q", "1")):
        await now.done(await now.control.swap(name, Wanted(revision=goal * 64), order()))
    later = await again(now)
    assert (await ask(later, "p"), await ask(later, "q")) == ("2", "1")
    await later.close()
