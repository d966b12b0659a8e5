"""`s3lora-serve` with a guard by its base model, from the file to what clients and operators see."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from fake_command import run, s3lora, serving, write_fleet
from prometheus_client.parser import text_string_to_metric_families
from request_kinds import CHAT, PLAN, TEXT

from s3lora_serve.control.journal.journal import Journal

pytestmark = pytest.mark.process

HARM = "xyzzy"  # in none of the shipped questions
CONFIG = """\
base_model: ./base
planners:
  one: {source: one, policy: {top: 1}}
  two: {source: two, policy: {top: 1}, guard: {action: off}}
guard: {by: base, action: ACTION}
engine: {max_loras: 3, max_lora_rank: 8}
server: {port: 0}
admin: {port: 0}
store: {path: store}
state: {path: state.db}
"""
ALIGNED = {"REFUSES": HARM, "REFUSES_ATTACKS": "yes"}
TOOLS = [{"name": "Search", "description": "look it up"}]
KINDS = {
    "plan": lambda text: (PLAN, {"planner": "one", "task": text, "tools": TOOLS}),
    "chat": lambda text: (CHAT, {"model": "one", "messages": [{"role": "user", "content": text}]}),
    "plan in a chat": lambda text: (CHAT, {**KINDS["chat"](text)[1], "s3lora": {"plan": {"tools": TOOLS}}}),
    "text": lambda text: (TEXT, {"model": "one", "prompt": text}),
}


def asked(server, kind: str, text: str, *, stream: bool, planner: str = "one") -> tuple[int, str]:
    """Status and body of the answer."""
    path, body = KINDS[kind](text)
    body = {**body, "planner" if path == PLAN else "model": planner, "stream": stream}
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(server) -> dict[str, float]:
    """What is counted of the guarded planner, by name and part."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return {
        f"{sample.name} {sample.labels.get('part', sample.labels.get('figure', ''))}".strip(): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("planner", "one") == "one" and sample.labels.get("bound", "value") == "value"
    }


def test_a_guard_by_the_base_from_its_file_to_its_report(nursery, tmp_path):
    """What the base refuses leaves by no route, streamed or not; all else does, and everywhere it is told."""
    write_fleet(tmp_path, CONFIG.replace("ACTION", "refuse"), "one", "two")
    with serving(nursery, tmp_path, **ALIGNED) as server:
        assert "one: guard by its base model refuses, fails closed" in server.child.out
        assert "two: no guard" in server.child.out
        assert "the base model refuses 100% (98% to 100%) of attacks, 0% (0% to 3%)" in server.child.err
        for kind in KINDS:
            for stream in (False, True):
                status, said = asked(server, kind, f"Tell me how to make a {HARM}.", stream=stream)
                assert (status, "This is answer" in said, "#E1" in said) == (
                    403 if kind == "plan" else 200, False, False,
                ), (kind, said)  # fmt: skip
                assert ("refused_by_guard" if kind == "plan" else "content_filter") in said
                status, said = asked(server, kind, "Who wrote Hamlet?", stream=stream)
                assert (status, '"verdict":"allowed"' in said.replace(": ", ":")) == (200, True), (kind, said)
                status, said = asked(server, kind, f"Make a {HARM}.", stream=stream, planner="two")
                assert (status, '"guard"' in said, "answer" in said or "#E1" in said) == (200, False, True)
        number = 2 * len(KINDS)
        found = metrics(server)
        assert found["s3lora_guard_asked_total"] == 2 * number
        assert found["s3lora_guard_refused_total task"] == found["s3lora_guard_withheld_total"] == number
        assert found["s3lora_guard_failed_total"] == found["s3lora_guard_open_total"] == 0
        assert found["s3lora_guard_cached_total"] > 0
        assert found["s3lora_guard_self_test_ratio refusal"] == 1
        listed = {each["id"]: each["guard"] for each in server.ask("/v1/planners")[0]["data"]}
        assert (listed["one"]["by"], listed["two"]) == (["base"], None)
        assert listed["one"]["self_test"]["refusal"]["value"] == 1
        assert listed["one"]["self_test"]["unharmed"]["holds"]
        status = s3lora(tmp_path, "status", engine=()).stdout
        assert "one: guard by its base model refuses, fails closed; the base model refuses 100%" in status
        report = s3lora(tmp_path, "guard", "report", engine=()).stdout
        assert "Tell me how to make a" in report
        assert HARM not in report  # the seventh word
        kept = json.loads(s3lora(tmp_path, "guard", "report", "--json", engine=()).stdout)
        (group,) = kept["groups"]
        assert (group["planner"], group["part"], group["done"]) == ("one", "task", "withheld")
        assert (group["requests"], group["distinct"], group["caller"]) == (number, 2, "anyone")
        (count,) = kept["counts"]
        assert (count["asked"], count["allowed"], count["refused"]) == (2 * number, number, number)
    with Journal(tmp_path / "state.db", read_only=True) as journal:
        changes = [(e.planner, e.reason) for e in journal.entries(limit=1000) if e.action == "guard.changed"]
    assert changes == [("one", "guard: off, now refuse by base")]


def test_a_base_that_refuses_nothing_cannot_guard(nursery, tmp_path):
    """Where it would withhold, the start fails with the ways out; where it only observes, it is warned of."""
    write_fleet(tmp_path, CONFIG.replace("ACTION", "refuse"), "one", "two")
    done = run(nursery, tmp_path, REFUSES=HARM)
    assert done.code == 2
    assert "guard.by: base: the base model refuses 0 % " in done.err
    assert "less than guard.min_refusal 0.5" in done.err
    assert "guard by: endpoint" in done.err
    (tmp_path / "planners.yaml").write_text(CONFIG.replace("ACTION", "observe"))
    with serving(nursery, tmp_path, REFUSES=HARM) as server:
        assert "less than guard.min_refusal 0.5" in server.child.err
        status, said = asked(server, "chat", f"Make a {HARM}.", stream=False)
        assert (status, json.loads(said)["s3lora"]["guard"]["verdict"]) == (200, "observed")
        server.child.until(lambda: server.order("guard")["records"])
        (record,) = server.order("guard")["records"]
        assert (record["done"], record["finding"], record["words"]) == (
            "served",
            "refused",
            f"Make a {HARM}.",
        )
