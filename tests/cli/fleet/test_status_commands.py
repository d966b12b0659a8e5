"""`s3lora status` and `history`: what is shown, and to whom."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
from stub_admin import NEW, OLD, deployment, error, operation, planner

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.terminal import console

THIRD = "c" * 64


def rows(text: str) -> list[str]:
    """Lines with single blanks."""
    return [" ".join(line.split()) for line in text.splitlines()]


def listing(*data: dict) -> tuple[int, dict]:
    """An answer that lists these."""
    return 200, {"object": "list", "data": list(data)}


def entry(seq: int, **changes: object) -> dict:
    """An entry as the admin routes show it."""
    return {
        "seq": seq,
        "at": f"2026-11-21T10:00:0{seq}.000000Z",
        "actor": "me@here (127.0.0.1)",
        "action": "swap.flipped",
        "planner": "math",
        "operation": "op-1",
        "from_digest": OLD,
        "to_digest": NEW,
        "reason": "",
        "details": {},
        "previous_hash": "0" * 64,
        "hash": "1" * 64,
        **changes,
    }


@pytest.fixture
def fleet(stub):
    """A stub with one planner and no operations."""
    stub.routes["/admin/planners"] = listing(planner())
    stub.routes["/admin/operations"] = listing()
    stub.routes["/admin/engine"] = (200, engine())
    return stub


def engine(**changes: object) -> dict:
    """The engine as the admin routes show it."""
    return {"kind": "vllm", "alive": True, "restarts": 0, "reason": None, "restart": None, **changes}


def test_every_revision_of_a_planner_has_a_line(s3lora, fleet):
    """The active one, the one on trial with its share, and those before; requests, slots, pruning, source."""
    full = planner(
        candidate=deployment(NEW, "canary", leases=1, slot=8),
        rollout={"share": 0.25, "since": 0.0, "shadow": False, "promote_after": 200},
        previous=THIRD,
        others=[deployment(THIRD, "standby", leases=0, slot=6)],
    )
    hollow = planner("plain", active=deployment(OLD, served_by="base", slot=None, leases=0))
    fleet.routes["/admin/planners"] = listing(full, hollow)
    done = s3lora("status")
    assert done.code == 0
    assert rows(done.out) == [
        "planner revision role state requests slot pruned source",
        "math aaaaaaaaaaaa active serving 2 7 10 of 120 hf://org/math@v1",
        "bbbbbbbbbbbb canary 0.25 canary 1 8 10 of 120 hf://org/math@v1",
        "cccccccccccc previous standby 0 6 10 of 120 hf://org/math@v1",
        "plain aaaaaaaaaaaa active serving by the base model 0 - 10 of 120 hf://org/math@v1",
        "math: promoted by itself after 200 good requests",
    ]


def test_a_shadow_reports_agreement_and_cost(s3lora, fleet):
    """How often it said the same, what it took beside the answers, and what could not be run."""
    stats = {
        **dict.fromkeys(("cancelled", "same_text", "same_tools"), 0),
        "offered": 40,
        "runs": 20,
        "dropped": 3,
        "failed": 1,
        "plans": 10,
        "tokens": 2000,
        "candidate_tokens": 2400,
        "seconds": 10.0,
        "candidate_seconds": 30.0,
        "last_error": "too slow",
        "text_agreement": 0.75,
        "tool_agreement": 0.9,
    }
    rollout = {"share": 0.5, "since": 0.0, "shadow": True, "promote_after": None}
    trial = planner(candidate=deployment(NEW, "shadow"), rollout=rollout, shadow=stats)
    fleet.routes["/admin/planners"] = listing(trial)
    assert rows(s3lora("status").out)[-1] == (
        "math: shadow ran 20 of 40 requests again, same text 75%, same tools 90% of 10 plans,"
        " tokens 100 → 120, time 500 ms → 1.5 s, 1 failed, 3 dropped; last error: too slow"
    )
    untried = {**stats, "runs": 0, "text_agreement": None, "tool_agreement": None, "last_error": ""}
    fleet.routes["/admin/planners"] = listing({**trial, "shadow": untried})
    assert "math: shadow ran 0 of 40 requests again, 1 failed, 3 dropped" in s3lora("status").out


def test_a_rollback_that_would_take_a_load_is_announced(s3lora, fleet):
    """An operator sees beforehand that the revision before is no longer loaded."""
    fleet.routes["/admin/planners"] = listing(planner(previous=THIRD))
    assert "math: a rollback loads cccccccccccc from the store" in s3lora("status").out
    fleet.routes["/admin/planners"] = listing(planner(previous=THIRD, candidate=deployment(NEW, "canary")))
    assert "a rollback loads" not in s3lora("status").out  # it gives the candidate up


def test_a_planner_that_does_not_answer_is_exit_code_1(s3lora, fleet):
    """Its state and the reason are shown; a script needs the exit code only."""
    down = planner(up=False, active=deployment(OLD, "failed", reason="the engine is dead", slot=None))
    fleet.routes["/admin/planners"] = listing(planner("code"), down)
    done = s3lora("status")
    assert done.code == 1
    assert "math aaaaaaaaaaaa: the engine is dead" in done.out


def test_operations_that_run_and_the_latest_others_are_shown(s3lora, fleet):
    """Order, progress and actor: all that run, and a few that ended."""
    running = operation("loading", id="op-9", progress="probe", fraction=0.5)
    ended = [operation(id=f"op-{i}") for i in range(8)]
    fleet.routes["/admin/operations"] = listing(*ended, running)
    lines = rows(s3lora("status").out)
    shown = [line.split()[0] for line in lines if line.startswith("op-")]
    assert shown == ["op-0", "op-1", "op-2", "op-3", "op-4", "op-9"]
    assert "loading: probe 50%" in lines[-1]
    assert lines[-1].endswith("aaaaaaaaaaaa → bbbbbbbbbbbb me@here (127.0.0.1)")


def test_one_planner_has_its_own_operations(s3lora, fleet):
    """Those of others are left out; an apply is about all."""
    fleet.routes["/admin/planners/math"] = (200, planner())
    others = [operation(id="op-2", planner="code"), operation(id="op-3", planner=None, kind="apply")]
    fleet.routes["/admin/operations"] = listing(operation(), *others)
    out = s3lora("status", "math").out
    assert [name for name in ("op-1", "op-2", "op-3") if name in out] == ["op-1", "op-3"]


def test_an_unknown_planner_is_named(s3lora, fleet):
    """The server's words, exit code 1."""
    fleet.routes["/admin/planners/nope"] = (404, error("unknown_planner", "there is no planner 'nope'"))
    done = s3lora("status", "nope")
    assert (done.code, done.err) == (1, "error: there is no planner 'nope'\n")


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (
            {"alive": False, "reason": "it hangs: no step for 61 s", "restart": True},
            " s so far: attempt 2: loading planner 1 of 2 (it hangs: no step for 61 s)",
        ),
        ({"alive": False, "reason": "it was stopped"}, "the engine does not run: it was stopped"),
        ({"kind": "fake"}, "engine: fake"),
        (
            {"lora_kernels": "LoRA by our kernels in 8 of 9 layers"},
            "engine: LoRA by our kernels in 8 of 9 layers",
        ),
    ],
)
def test_what_the_engine_is_at_is_shown(s3lora, fleet, state, line):
    """Below the planners: a restart with its stage, how long it has taken, and why it came to that."""
    if state.get("restart"):
        began = time.time() - 12.3
        stage = "attempt 2: loading planner 1 of 2"
        state = {**state, "restart": {"stage": stage, "attempt": 2, "began_at": began}}
    fleet.routes["/admin/engine"] = (200, engine(**state))
    done = s3lora("status")
    assert line in " ".join(done.out.split())


def test_status_as_json(s3lora, fleet):
    """Planners and operations as the server has them."""
    fleet.routes["/admin/operations"] = listing(operation(started_at=1.0, ended_at=2.0))
    done = s3lora("status", "--json")
    assert json.loads(done.out) == {
        "engine": engine(),
        "planners": [planner()],
        "operations": [operation(started_at=1.0, ended_at=2.0)],
    }


def test_without_a_server_the_message_says_so(s3lora, tmp_path, monkeypatch):
    """No traceback, exit code 1, and how to name a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("S3LORA_ADMIN_URL", raising=False)
    done = s3lora("status")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: no server runs here: there is no .s3lora/admin.json\nhint:  start")


def test_watching_prints_changes_until_ctrl_c(s3lora, fleet):
    """Where there is no terminal, one line of JSON a change and none for what stayed the same."""

    def change_then_interrupt() -> None:
        while len(fleet.asked) < 6:
            time.sleep(0.01)
        fleet.routes["/admin/planners"] = listing(planner(generation=2))
        seen = len(fleet.asked)
        while len(fleet.asked) < seen + 6:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=change_then_interrupt)
    thread.start()
    done = s3lora("status", "--watch", "--json", "--every", 0.1)
    thread.join()
    assert done.code == 0
    shown = [json.loads(line)["planners"][0]["generation"] for line in done.out.splitlines()]
    assert shown == [1, 2]


def test_history_is_in_the_order_of_time(s3lora, stub):
    """The newest last, as in a log, although the server sends it first; reasons, or why it failed."""
    failed = {"error": {"code": "x", "message": "no effect", "hint": ""}}
    stub.routes["/admin/history"] = listing(
        entry(3, action="swap.failed", from_digest=None, details=failed),
        entry(2, reason="better", to_digest=OLD),
    )
    done = s3lora("history", "math", "--limit", 2, "--after", 1)
    assert done.code == 0
    assert rows(done.out)[1:] == [
        "2 2026-11-21 10:00:02 me@here (127.0.0.1) swap.flipped math aaaaaaaaaaaa better",
        "3 2026-11-21 10:00:03 me@here (127.0.0.1) swap.failed math bbbbbbbbbbbb no effect",
    ]
    assert stub.asked[0].path == "/admin/history?planner=math&after=1&limit=2"


def test_history_can_be_read_without_a_server(s3lora, tmp_path):
    """--state reads the file itself, also of a server that is down, and changes nothing in it."""
    path = tmp_path / "state.db"
    with Journal(path) as journal:
        for number in range(3):
            journal.write(NewEntry(actor="me", action="swap.flipped", planner="math", reason=f"r{number}"))
    before = path.read_bytes()
    done = s3lora("history", "--state", path, "--limit", 2, "--json")
    assert done.code == 0
    assert [(e["seq"], e["reason"]) for e in json.loads(done.out)] == [(2, "r1"), (3, "r2")]
    assert path.read_bytes() == before


def test_a_state_file_that_is_not_there_is_named(s3lora, tmp_path):
    """And none is made by looking for it."""
    done = s3lora("history", "--state", tmp_path / "none.db")
    assert done.code == 1
    assert "there is no state file" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_does_not_look_like_a_swap(s3lora, fleet):
    """In the list of operations and in the history: it changed nothing, although it is done."""
    dry = operation(id="op-7", details={"dry_run": True})
    fleet.routes["/admin/operations"] = listing(dry, operation(details={"dry_run": False}))
    lines = rows(s3lora("status").out)
    assert [line.split(" done")[0] for line in lines if line.startswith("op-")] == [
        "op-7 swap (dry run) math",
        "op-1 swap math",
    ]
    begun = entry(1, action="swap.begun", details={"dry_run": True})
    fleet.routes["/admin/history"] = listing(begun, entry(2, action="swap.checked"))
    whats = [line.split("(127.0.0.1) ")[1].split(" math")[0] for line in rows(s3lora("history").out)[1:]]
    assert whats == ["swap.begun (dry run)", "swap.checked"]


def test_a_narrow_terminal_keeps_what_is_copied(s3lora, fleet, monkeypatch):
    """At 80 columns no line is wider, and ids, names and digests are whole; --json has what was left out."""
    monkeypatch.setattr(console.out, "width", 80)
    long, id_ = "a-planner-with-a-long-name", "op-0123456789abcdef"
    source = "hf://organisation/" + "a-long-name-" * 8
    active = deployment(OLD, source=source, reason="word " * 40)
    order = {"actor": "somebody@host.example.org (127.0.0.1)"}
    running = operation("loading", id=id_, planner=long, progress="word " * 10, fraction=0.5, order=order)
    fleet.routes["/admin/planners"] = listing(planner(long, active=active))
    fleet.routes["/admin/operations"] = listing(running)
    fleet.routes["/admin/history"] = listing(entry(1, planner="math-planner", reason="word " * 20))
    for command, whole in (("status", (long, OLD[:12], id_)), ("history", ("swap.flipped", "math-planner"))):
        out = s3lora(command).out
        assert max(map(len, out.splitlines())) <= 80
        assert "…" not in out
        assert [text for text in whole if text not in out] == []
        assert f"{OLD[:12]} → {NEW[:12]}" in out
