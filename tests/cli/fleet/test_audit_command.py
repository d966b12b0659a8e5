"""`s3lora audit`: one line a finding, from a server or from its files."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta
from urllib.parse import unquote

import pytest

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.fleet.planner_record import PlannerRecord

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
    """Exit code 1 as soon as one is bad."""
    stub.routes["/admin/verify"] = (200, {"ok": code == 0, "findings": findings})
    lines = ["ok   journal: 12 entries, an unbroken chain", "bad  math: the engine has no slot for it"]
    done = s3lora("audit")
    assert (done.code, done.out.splitlines()) == (code, lines[: len(findings)])


@pytest.mark.parametrize("arguments", [[], ["--fleet"], ["--json"], ["--state"], ["--state", "--head"]])
def test_verify_without_a_source_still_audits(s3lora, stub, state, arguments):
    """Scripts have a release's time to change: the result is the same, and the warning is on stderr."""
    stub.routes["/admin/verify"] = (200, {"ok": False, "findings": [WELL, BAD]})
    values = {"--state": state, "--head": "3:" + "0" * 64}
    given = [word for name in arguments for word in (name, values.get(name)) if word is not None]
    before = s3lora("verify", *given)
    now = s3lora("audit", *(word for word in given if word != "--fleet"))
    assert (before.code, before.out) == (now.code, now.out)
    assert "s3lora audit" in before.err
    assert "s3lora audit" not in now.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "--base", "demo", "--fleet"], "--fleet"),
        (["x", "--state", "y"], "--state"),
        (["x"], "--base"),
        (["--base", "demo"], "SOURCE"),
        (["--sttae", "y"], "--sttae"),
    ],
)
def test_a_line_of_neither_command_is_refused(s3lora, stub, arguments, said):
    """No server is asked: a mistyped check must not pass as another one."""
    done = s3lora("verify", *arguments)
    assert (done.code, stub.asked) == (2, [])
    assert said.lower() in done.err.lower()
    assert "audit" not in done.err


def test_findings_as_json(s3lora, stub):
    """All of stdout, with the verdict."""
    stub.routes["/admin/verify"] = (200, {"ok": False, "findings": [WELL, BAD]})
    done = s3lora("audit", "--json")
    assert (done.code, json.loads(done.out)) == (1, {"ok": False, "findings": [WELL, BAD]})


def test_a_journal_is_checked_without_a_server(s3lora, state):
    """--state reads the file; the head that it prints is what a later check can be held against."""
    done = s3lora("audit", "--state", state)
    assert done.code == 0
    assert done.out.startswith("ok   journal: 3 entries, an unbroken chain; its head is 3:")
    head = done.out.split()[-1]
    assert s3lora("audit", "--state", state, "--head", head).code == 0
    other = s3lora("audit", "--state", state, "--head", "3:" + "0" * 64)
    assert other.code == 1
    assert other.out.startswith("bad  journal: entry 3 has another hash than the one noted")


def test_a_changed_entry_is_found(s3lora, state):
    """Whoever gets round the triggers still breaks the chain, and the first broken entry is named."""
    with sqlite3.connect(state) as database:
        database.execute("DROP TRIGGER journal_keeps_entries")
        database.execute("UPDATE journal SET reason = 'no reason' WHERE seq = 2")
    database.close()
    done = s3lora("audit", "--state", state)
    assert done.code == 1
    assert done.out.startswith("bad  journal: entry 2 is not what was written")


def test_with_a_configuration_the_stores_revisions_are_read_too(s3lora, state, tmp_path):
    """A revision that is to be served and is not in the store is a finding, not a surprise at the restart."""
    file = tmp_path / "planners.yaml"
    file.write_text("base_model: demo\nplanners:\n  math: {source: hf://o/m@v1}\nstore: {path: store}\n")
    missing = s3lora("audit", "--state", state, "--config", file)
    assert (missing.code, missing.out.splitlines()[1]) == (
        1,
        f"bad  store: there is no folder {tmp_path}/store",
    )
    (tmp_path / "store").mkdir()
    done = s3lora("audit", "--state", state, "--config", file)
    assert done.code == 1
    assert done.out.splitlines()[1].startswith(
        "bad  revision aaaaaaaaaaaa (math, active): revision aaaaaaaaaaaa is not in"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--head", "3:" + "0" * 63], "is not SEQ:HASH"),
        (["--state", "s.db", "--head", "3"], "is not SEQ:HASH"),
    ],
)
def test_options_that_do_not_go_together_are_refused(s3lora, stub, arguments, said):
    """Exit code 2, and no server is asked: a mistyped check must not pass as another one."""
    done = s3lora("audit", *arguments)
    assert (done.code, stub.asked) == (2, [])
    assert said in done.err


def test_a_noted_head_is_asked_of_a_server_too(s3lora, stub):
    """What a server's log or metric said earlier is held against its journal now, over HTTP."""
    head = "3:" + "a" * 64
    stub.routes["/admin/verify"] = (200, {"ok": False, "findings": [{**BAD, "hint": "look"}]})
    done = s3lora("audit", "--head", head.upper())
    assert (done.code, done.out.splitlines()[1].strip()) == (1, "next: look")
    assert head in unquote(stub.asked[0].path)


def test_a_damaged_file_is_a_finding(s3lora, state):
    """Damaged pages, or a file that is none: a line with the next step, and no traceback."""
    pages = state.stat().st_size // 4096
    with state.open("r+b") as file:
        for page in range(2, pages):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    done = s3lora("audit", "--state", state)
    assert (done.code, done.out.startswith("bad  file: "), "next: " in done.out) == (1, True, True)
    state.write_bytes(b"no database at all" * 99)
    done = s3lora("audit", "--state", state, "--json")
    assert (done.code, json.loads(done.out)["findings"][0]["subject"]) == (1, "file")


def test_a_clock_that_went_back_is_a_finding(s3lora, state, monkeypatch):
    """While it is behind the last entry it is wrong; once it has caught up it is told, and all is well."""

    class Clock(datetime):
        ahead = timedelta(hours=2)

        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + cls.ahead

    monkeypatch.setattr("s3lora_serve.control.journal.journal.datetime", Clock)
    with Journal(state) as journal:
        journal.write(NewEntry(actor="me", action="later"))
    done = s3lora("audit", "--state", state)
    wrong = "bad  clock: it is 7" in done.out
    assert (done.code, wrong, "set the machine's clock" in done.out) == (1, True, True)
    Clock.ahead = timedelta()
    with Journal(state) as journal:
        journal.write(NewEntry(actor="me", action="now"))
    done = s3lora("audit", "--state", state)
    assert (done.code, "ok   clock: it went back 1 times, last at entry 5" in done.out) == (0, True)
