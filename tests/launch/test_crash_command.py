"""`s3lora-serve` over its state: killed and started again, asked to reload, edited while it was down."""

from __future__ import annotations

import shutil
import signal
import stat
import urllib.error
from contextlib import suppress
from http.client import HTTPException

import pytest
from fake_command import begin, run, serving, write_fleet

pytestmark = pytest.mark.process

CONFIG = """\
base_model: ./base
planners:
  one: {source: one, policy: {top: 1}}
  two: {source: two, policy: {action: observe}}
engine: {max_loras: 4, max_lora_rank: 8}
server: {port: 0}
admin: {port: 0}
swap: {drain_seconds: 5}
sources: {allow: [.]}
store: {path: store}
state: {path: state.db}
"""
CHAT = {"messages": [{"role": "user", "content": "Who wrote Hamlet?"}], "max_tokens": 64}


@pytest.fixture
def folder(tmp_path):
    """A configuration with two planners, and two adapters more."""
    return write_fleet(tmp_path, CONFIG, "one", "two", "new", "newer")


def edit(folder, before: str, after: str) -> None:
    """Change planners.yaml."""
    text = (folder / "planners.yaml").read_text()
    assert before in text
    (folder / "planners.yaml").write_text(text.replace(before, after))


def revisions(server) -> dict[str, str]:
    """What each planner serves, by digest."""
    return {planner["id"]: planner["revision"] for planner in server.order("planners")["data"]}


def answered(server, planner: str) -> str:
    """The planner's answer; its headers must name the revision that serves, whole or in part."""
    answer, headers = server.ask("/v1/chat/completions", {"model": planner, **CHAT})
    assert revisions(server)[planner].startswith(headers["x-s3lora-revision"])
    return answer["choices"][0]["message"]["content"]


def actions(server, planner: str | None = None) -> list[str]:
    """The journal's entries, oldest first."""
    found = server.order("history?limit=1000" + (f"&planner={planner}" if planner else ""))["data"]
    return [entry["action"] for entry in reversed(found)]


def swap(server, source: str) -> dict[str, object]:
    """Order planner one to serve this adapter, and wait."""
    return server.done(server.order("planners/one/swap", {"source": str(server.folder / source)}))


@pytest.mark.parametrize(
    ("moment", "decided"),
    [
        ("after write swap.begun", False),
        ("before write swap.flipped", False),
        ("after write swap.flipped", True),
        ("before write swap.done", True),
    ],
)
def test_killed_in_a_swap_it_serves_what_was_decided(moment, decided, nursery, folder):
    """The client's next answer, the operators' view and the journal tell the same, and orders work again."""
    with serving(nursery, folder, DIE_AT=moment) as server:
        before = revisions(server)
        old = answered(server, "one")
        with suppress(OSError, HTTPException):  # killed before, or after, it could answer
            swap(server, "new")
        assert server.child.wait() == -signal.SIGKILL
    with serving(nursery, folder) as server:
        now = revisions(server)
        assert (now["one"] != before["one"]) == decided
        assert now["two"] == before["two"]
        assert (answered(server, "one") != old) == decided
        (operation,) = server.order("operations")["data"]
        assert operation["step"] == ("done" if decided else "undone")
        assert actions(server, "one")[-1] == ("swap.finished" if decided else "swap.undone")
        assert [f for f in server.order("verify")["findings"] if not f["ok"]] == []
        assert swap(server, "newer")["step"] == "done"
        assert revisions(server)["one"] not in (*before.values(), now["one"])
        assert server.ask("/readyz")[0]["status"] == "ready"


def test_one_server_at_a_time(nursery, folder):
    """The second one on the same state is refused at once, names the file, and harms nothing."""
    with serving(nursery, folder) as server:
        second = run(nursery, folder)
        assert second.code == 1
        assert f"{folder / 'state.db'} is in use by another server" in second.err
        assert "state.path" in second.err
        assert "base model" not in second.err, "it was found out late"
        assert server.access["pid"] == server.child.pid
        assert swap(server, "new")["step"] == "done"
    with serving(nursery, folder) as server:  # the first was killed: its lock is free
        assert "swap.done" in actions(server, "one")


def test_operators_find_the_server_while_it_runs(nursery, folder):
    """admin.json is for this user alone, has a token of this start, and goes when the server stops."""
    file = folder / "admin.json"
    file.write_text("left behind by a server that was killed")
    file.chmod(0o644)
    with serving(nursery, folder) as server:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert set(server.access) == {"url", "clients", "token", "pid"}
        token = server.access["token"]
        assert token not in server.child.out + server.child.err
        server.child.signal(signal.SIGTERM)
        assert server.child.wait() == 0
        assert not file.exists()
    with serving(nursery, folder, S3LORA_ADMIN_TOKEN="chosen by the operators") as server:
        assert server.access["token"] == ""
        with pytest.raises(urllib.error.HTTPError, match="401"):
            server.order("planners")


def test_hangup_applies_the_edited_file_or_keeps_all(nursery, folder):
    """SIGHUP adds, changes and removes planners; a file with a mistake, or a bad adapter, changes nothing."""
    with serving(nursery, folder) as server:
        before = revisions(server)

        def hang_up(told: str) -> None:
            said = len(server.child.err)
            server.child.signal(signal.SIGHUP)
            server.child.until(lambda: told in server.child.err[said:])

        hang_up("SIGHUP: no change")
        edit(folder, "source: one,", "sauce: one,")
        hang_up("SIGHUP: nothing was applied: ")
        edit(folder, "sauce: one,", "source: one,")
        (folder / "torn").mkdir()
        edit(folder, "  two:", "  three: {source: new}\n  four: {source: torn}\n  two:")
        hang_up("SIGHUP: nothing was applied: ")
        edit(folder, "max_loras: 4", "max_loras: 5")
        hang_up("engine.max_loras changed, which only a restart can do")
        assert revisions(server) == before
        edit(folder, "max_loras: 5", "max_loras: 4")
        edit(folder, "  four: {source: torn}\n", "")
        edit(folder, "source: one,", "source: newer,")
        edit(folder, "  two: {source: two, policy: {action: observe}}\n", "")
        hang_up("SIGHUP: applied 3 changes")
        now = revisions(server)
        assert set(now) == {"one", "three"}
        assert now["one"] != before["one"]
        for planner in now:
            answered(server, planner)
        server.child.kill()
    with serving(nursery, folder) as server:
        assert revisions(server) == now
        assert actions(server)[-1] == "server.started"
        assert "planner.serves" not in actions(server)[actions(server).index("apply.begun") :]


def test_a_hangup_during_the_start_is_heard(nursery, folder):
    """It neither ends the process nor is forgotten: it is obeyed once planners answer."""
    child = begin(nursery, folder)
    try:
        child.until(lambda: "base model" in child.err)
        child.signal(signal.SIGHUP)
        child.until(lambda: "SIGHUP: no change" in child.err or child.ended())
        assert child.code is None
    finally:
        child.kill()


def test_edits_while_nothing_ran_are_decisions(nursery, folder):
    """A planner that was swapped keeps its revision unless its own lines changed; one that went is gone."""
    with serving(nursery, folder) as server:
        assert swap(server, "new")["step"] == "done"
        swapped = revisions(server)["one"]
        two = revisions(server)["two"]
    edit(folder, "  two: {source: two, policy: {action: observe}}", "  three: {source: newer}")
    with serving(nursery, folder) as server:
        assert set(revisions(server)) == {"one", "three"}
        assert revisions(server)["one"] == swapped
        gone = [e for e in server.order("history?planner=two")["data"] if e["action"] == "planner.removed"]
        assert [entry["from_digest"] for entry in gone] == [two]
    edit(folder, "source: one,", "source: two,")
    with serving(nursery, folder) as server:
        assert revisions(server)["one"] not in (swapped, two)
        (last,) = server.order("history?planner=one&limit=1")["data"]
        assert (last["action"], last["actor"], last["from_digest"]) == (
            "planner.serves",
            "planners.yaml",
            swapped,
        )
        back = server.done(server.order("planners/one/rollback", {}))
        assert (back["step"], revisions(server)["one"]) == ("done", swapped)


def test_a_check_leaves_the_state_alone(nursery, folder):
    """--check works beside a running server and makes no state."""
    done = run(nursery, folder, "--check")
    assert done.code == 0, done.err
    assert not (folder / "state.db").exists()
    with serving(nursery, folder) as server:
        assert run(nursery, folder, "--check").code == 0
        assert (folder / "admin.json").exists()
        assert actions(server)[-1] == "server.started"


def test_a_lost_revision_keeps_the_server_from_starting(nursery, folder):
    """What the journal names and the store has not is said, and nothing else is served in its place."""
    with serving(nursery, folder) as server:
        assert swap(server, "new")["step"] == "done"
        lost = revisions(server)["one"]
    (kept,) = [path for path in (folder / "store" / "revisions").iterdir() if lost.startswith(path.name[:12])]
    kept.chmod(0o755)
    shutil.rmtree(kept)
    done = run(nursery, folder)
    assert done.code == 1
    assert "error: one: " in done.err
    assert lost[:12] in done.err
    assert "Listening" not in done.out
