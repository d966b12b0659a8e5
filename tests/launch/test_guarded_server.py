"""`s3lora-serve` with a guard elsewhere: what starts, what leaves, and what is told of it."""

from __future__ import annotations

import json
import signal
import urllib.error

import pytest
from fake_command import run, serving, write_fleet
from guard_web import guard_web

from s3lora_serve.control.journal.journal import Journal

pytestmark = pytest.mark.process

SECRET = "xyzzy"
CONFIG = """\
base_model: ./base
planners:
  one: {source: one, policy: {top: 1}}
  two: {source: two, policy: {top: 1}, guard: {action: off}}
guard:
  by: endpoint
  action: ACTION
  endpoint: {url: URL, kind: llama-guard, model: m, api_key_env: GUARD_KEY}
engine: {max_loras: 3, max_lora_rank: 8}
server: {port: 0}
admin: {port: 0}
store: {path: store}
state: {path: state.db}
"""
TOOLS = [{"name": "Search", "description": "look it up"}]


def body(planner: str, task: str) -> dict[str, object]:
    """A request for a plan."""
    return {"planner": planner, "task": task, "tools": TOOLS}


def refusal(server, planner: str, task: str) -> tuple[int, dict]:
    """Status and error of a plan that is not given."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.ask("/v1/plans", body(planner, task))
    return caught.value.code, json.load(caught.value)["error"]


def changes(folder) -> list[str]:
    """What the journal says of guards, oldest first."""
    with Journal(folder / "state.db", read_only=True) as journal:
        return [
            f"{e.planner}: {e.reason}" for e in journal.entries(limit=1000) if e.action == "guard.changed"
        ]


def test_a_guarded_server_from_its_start_to_its_report(nursery, tmp_path):
    """What the endpoint refuses does not leave, whoever looks is told of it, and nothing has its text.

    A changed guard is refused by an apply and comes with the next start, which writes it down; under
    ``observe`` the same answer leaves, and is in the report.
    """
    with guard_web(lambda text: "unsafe" if "evil" in text else "safe") as web:
        text = CONFIG.replace("URL", web.url)
        write_fleet(tmp_path, text.replace("ACTION", "refuse"), "one", "two")
        done = run(nursery, tmp_path)
        assert (done.code, "endpoint.api_key_env is GUARD_KEY, which is not set" in done.err) == (2, True)
        host = web.url.removeprefix("http://").removesuffix("/v1")
        with serving(nursery, tmp_path, GUARD_KEY="k-secret") as server:
            line = f"one: guard by {host} refuses, fails closed; sends every task to {host}"
            assert line in server.child.out
            assert "two: no guard" in server.child.out
            listed = {each["id"]: each["guard"] for each in server.ask("/v1/planners")[0]["data"]}
            assert (listed["one"]["notice"], listed["two"]) == (f"sends every task to {host}", None)
            assert refusal(server, "one", f"evil {SECRET}")[1]["code"] == "refused_by_guard"
            assert server.ask("/v1/plans", body("one", "fine"))[0]["steps"]
            assert server.ask("/v1/plans", body("two", "evil"))[0]["steps"]
            found = server.order("guard")
            assert [(each["planner"], each["done"]) for each in found["records"]] == [("one", "withheld")]
            assert {each["planner"]: each["asked"] for each in found["counts"]} == {"one": 2}
            (tmp_path / "planners.yaml").write_text(text.replace("ACTION", "observe"))
            with pytest.raises(urllib.error.HTTPError) as caught:
                server.order("apply", {})
            assert "guard.action changed, which only a restart can do" in caught.value.read().decode()
            server.child.signal(signal.SIGTERM)
            assert server.child.wait() == 0
        assert changes(tmp_path) == ["one: guard: off, now refuse by endpoint"]
        with serving(nursery, tmp_path, GUARD_KEY="k-secret") as observing:
            assert observing.ask("/v1/plans", body("one", "evil again"))[0]["steps"]
            observing.child.until(lambda: len(observing.order("guard")["records"]) == 2)
            assert observing.order("guard")["records"][0]["done"] == "served"
        assert changes(tmp_path)[1:] == ["one: guard: refuse by endpoint, now observe by endpoint"]
        said = server.child.out + server.child.err
        assert SECRET not in said
        assert "k-secret" not in said + json.dumps(found)
