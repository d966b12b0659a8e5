"""`s3lora verify` of a fleet: one line a finding, from a server or from its files."""

from __future__ import annotations

import json
import sqlite3

import pytest

from s3lora_serve.control.journal.journal import Journal, NewEntry, PlannerRecord

WELL = {"ok": True, "subject": "journal", "message": "12 entries, an unbroken chain"}
BAD = {"ok": False, "subject": "math", "message": "the engine has no slot for it"}


def record(digest: str) -> PlannerRecord:
    """A planner that is to serve this revision."""
    return PlannerRecord("math", digest, None, None, None, declared="d" * 64, generation=1)


@pytest.fixture
def state(tmp_path):
    """A state file with three entries."""
    path = tmp_path / "state.db"
    with Journal(path) as journal:
        for number in range(3):
            journal.write(NewEntry(actor="me", action=f"a{number}"), planner=record("a" * 64))
    return path


@pytest.mark.parametrize(("findings", "code"), [([WELL], 0), ([WELL, BAD], 1)])
def test_each_finding_is_a_line(s3lora, stub, findings, code):
    """Exit code 1 as soon as one is bad; --fleet says explicitly what no SOURCE says by itself."""
    stub.routes["/admin/verify"] = (200, {"ok": code == 0, "findings": findings})
    lines = ["ok   journal: 12 entries, an unbroken chain", "bad  math: the engine has no slot for it"]
    for arguments in (["verify"], ["verify", "--fleet"]):
        done = s3lora(*arguments)
        assert (done.code, done.out.splitlines()) == (code, lines[: len(findings)])


def test_findings_as_json(s3lora, stub):
    """All of stdout, with the verdict."""
    stub.routes["/admin/verify"] = (200, {"ok": False, "findings": [WELL, BAD]})
    done = s3lora("verify", "--json")
    assert (done.code, json.loads(done.out)) == (1, {"ok": False, "findings": [WELL, BAD]})


def test_a_journal_is_checked_without_a_server(s3lora, state):
    """--state reads the file; the head that it prints is what a later check can be held against."""
    done = s3lora("verify", "--state", state)
    assert done.code == 0
    assert done.out.startswith("ok   journal: 3 entries, an unbroken chain; its head is 3:")
    head = done.out.split()[-1]
    assert s3lora("verify", "--state", state, "--head", head).code == 0
    other = s3lora("verify", "--state", state, "--head", "3:" + "0" * 64)
    assert other.code == 1
    assert other.out.startswith("bad  journal: entry 3 has another hash than the one noted")


def test_a_changed_entry_is_found(s3lora, state):
    """Whoever gets round the triggers still breaks the chain, and the first broken entry is named."""
    with sqlite3.connect(state) as database:
        database.execute("DROP TRIGGER journal_keeps_entries")
        database.execute("UPDATE journal SET reason = 'no reason' WHERE seq = 2")
    database.close()
    done = s3lora("verify", "--state", state)
    assert done.code == 1
    assert done.out.startswith("bad  journal: entry 2 is not what was written")


def test_with_a_configuration_the_stores_revisions_are_read_too(s3lora, state, tmp_path):
    """A revision that is to be served and is not in the store is a finding, not a surprise at the restart."""
    file = tmp_path / "planners.yaml"
    file.write_text("base_model: demo\nplanners:\n  math: {source: hf://o/m@v1}\nstore: {path: store}\n")
    missing = s3lora("verify", "--state", state, "--config", file)
    assert (missing.code, missing.out.splitlines()[1]) == (
        1,
        f"bad  store: there is no folder {tmp_path}/store",
    )
    (tmp_path / "store").mkdir()
    done = s3lora("verify", "--state", state, "--config", file)
    assert done.code == 1
    assert done.out.splitlines()[1].startswith(
        "bad  math: active aaaaaaaaaaaa: revision aaaaaaaaaaaa is not in"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "--fleet"], "SOURCE is checked by itself"),
        (["x", "--state", "y"], "SOURCE is checked by itself"),
        (["x"], "--base is missing"),
        (["--base", "demo"], "--base and --sha256 are about a SOURCE"),
        (["--head", "3:" + "0" * 64], "--head is about a --state file"),
        (["--state", "s.db", "--head", "3"], "is not SEQ:HASH"),
    ],
)
def test_options_that_do_not_go_together_are_refused(s3lora, stub, arguments, said):
    """Exit code 2, and no server is asked: a mistyped check must not pass as another one."""
    done = s3lora("verify", *arguments)
    assert (done.code, stub.asked) == (2, [])
    assert said in done.err
