"""`s3lora plan`: what it asks a running server, and what it shows of the answer."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from stub_admin import write_access
from threaded_server import threaded_server, wait_until

from planners import Plan, ToolSpec, parse

KEY = "a-key-for-tests"
OWN = (ToolSpec(name="Search", description="finds facts"), ToolSpec(name="LLM"))
PLAN = """\
Plan: Find the film.
#E1 = Search[Inception]
Plan: Read.
#E2 = LLM[who directed it, given #E1]"""
TASK = "Who directed Inception?"


class Planner:
    """Writes this plan, and keeps the prompts."""

    def __init__(self, text: str) -> None:
        self.asked, self.text = [], text

    def __call__(self, prompt):
        self.asked.append(prompt)
        return self.text


@pytest.fixture(scope="module")
def writer():
    """What the planners write."""
    return Planner(PLAN)


@pytest.fixture(scope="module")
def server(tmp_path_factory, writer):
    """Planners p and q, each with its own tools."""
    with threaded_server(tmp_path_factory.mktemp("served"), "p", "q", tools=OWN, plan=writer) as running:
        yield running


@pytest.fixture
def plan(s3lora, server, monkeypatch, tmp_path):
    """Run ``s3lora plan`` in an empty folder; the server is named by the environment."""
    for name in ("S3LORA_API_KEY", "S3LORA_ADMIN_URL", "S3LORA_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("S3LORA_BASE_URL", server.url)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: s3lora("plan", *arguments)


def test_a_plan_is_shown_step_by_step(plan, server):
    """Each step's id, thought and call on stdout; planner and cost on stderr."""
    done = plan(TASK, "--planner", "p")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            "#E1  Find the film.",
            "     Search[Inception]",
            "#E2  Read.",
            "     LLM[who directed it, given #E1]",
        ],
    )
    revision = server.fleet.shelf.revisions["p"].digest[:12]
    facts = done.err.strip().split(" · ")
    assert facts[0] == f"p {revision}"
    assert facts[1].endswith("tokens, 16 written")
    assert facts[2].endswith(" s")
    assert facts[3:] == ["0 repairs", "engine: fake"]


def test_a_step_is_shown_before_the_plan_is_whole(s3lora, tmp_path):
    """When the engine dies in the second step, the first one stands there already."""
    text = "Plan: Find.\n#E1 = Search[Inception]\nPlan: Read.\n#E2 = LLM[#E1]"
    with threaded_server(tmp_path, "p", tools=OWN, plan=lambda prompt: text) as running:
        running.fleet.engine.die_during("stream", after=7)
        done = s3lora("plan", TASK, "--planner", "p", "--url", running.url)
    assert (done.code, done.out.splitlines()) == (1, ["#E1  Find.", "     Search[Inception]"])
    assert done.err.startswith("error: ")


def test_json_is_the_plan_and_nothing_else(plan):
    """stdout is one JSON value that the client library reads, without the figures that were not measured."""
    done = plan(TASK, "--planner", "p", "--json")
    made = Plan.model_validate_json(done.out)
    assert (done.code, done.err) == (0, "")
    assert [step.id for step in made.steps] == ["#E1", "#E2"]
    assert made.meta.planner == "p"
    assert "null" not in done.out


def test_rewoo_is_the_plan_as_executors_read_it(plan):
    """stdout is ReWOO text, in which the parser finds the plan."""
    done = plan(TASK, "--planner", "p", "--rewoo")
    assert [step.depends_on for step in parse(done.out).steps] == [(), ("#E1",)]
    assert done.out.startswith("Plan: Find the film.\n#E1 = Search[Inception]\n")


def test_the_task_may_come_from_stdin(plan, writer, monkeypatch):
    """With - as the task, for pipes."""
    monkeypatch.setattr("sys.stdin", io.StringIO("How long is the Nile?\n"))
    assert plan("-", "--planner", "p").code == 0
    assert "How long is the Nile?" in writer.asked[-1].text


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        ((), ["LLM", "Search"]),
        (("--tools", "LLM", "--tools", "Search=finds, in a file, what = it can"), ["LLM", "Search"]),
        (("-t", "Search, LLM,Ask"), ["Ask", "LLM", "Search"]),
        (("-t", "LLM,Search=finds facts"), ["LLM", "Search"]),
        (("--tools-file", "tools.json"), ["LLM", "Search"]),
        (("--tools-file", "tools.yaml", "-t", "Ask"), ["Ask", "LLM", "Search"]),
    ],
)
def test_tools_are_offered_as_they_are_named(plan, writer, tmp_path, options, offered):
    """By option, by file or by the server; a description goes with the name before it."""
    (tmp_path / "tools.json").write_text('[{"name": "Search", "description": "finds"}, {"name": "LLM"}]')
    (tmp_path / "tools.yaml").write_text("- {name: Search, description: finds}\n- name: LLM\n")
    assert plan(TASK, "--planner", "p", *options).code == 0
    assert sorted(writer.asked[-1].tools) == offered
    if "what = it can" in " ".join(options):
        assert "finds, in a file, what = it can" in writer.asked[-1].text


def test_options_reach_the_server(plan, writer, monkeypatch):
    """Steps, grammar and repair are the request's; what was repaired is told."""
    monkeypatch.setattr(writer, "text", "Sure!\nPlan: Find.\n#E7 = Search[Inception]\nPlan: Read")
    done = plan(TASK, "--planner", "p", "--no-grammar", "--repair", "--max-steps", "3", "--seed", "7")
    assert (writer.asked[-1].steps, writer.asked[-1].constrained) == (3, False)
    assert (done.code, done.out.splitlines()) == (0, ["#E1  Find.", "     Search[Inception]"])
    assert "no grammar" in done.err
    assert "repaired: " in done.err


def test_another_revision_than_the_one_wanted_is_refused(plan):
    """Exit code 1, and how to go on."""
    done = plan(TASK, "--planner", "p", "--revision", "ffffffff")
    assert done.code == 1
    assert "ffffffff" in done.err
    assert "hint:  leave --revision out" in done.err


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("", "--planner", "p"), "the task is empty", "--planner NAME"),
        ((TASK, "--planner", "p", "-t", "web search"), "web_search", "s3lora plan --help"),
        ((TASK, "--planner", "p", "-t", "A,A"), "'A' is offered 2 times", "s3lora plan --help"),
        ((TASK, "--planner", "p", "--tools-file", "no.json"), "cannot read --tools-file no.json", ""),
        ((TASK, "--planner", "p", "--tools-file", "bad.json"), "bad.json cannot be read", ""),
        ((TASK, "--planner", "p", "--tools-file", "deep.json"), "deep.json cannot be read", ""),
        ((TASK, "--planner", "p", "--tools-file", "sixty.yaml"), "100001 > 64 characters", ""),
        ((TASK, "--planner", "p", "--tools-file", "map.yaml"), "is not a list of tools", '[{"name"'),
        (
            (TASK, "--planner", "p", "--graph", "out.jpg"),
            "no picture's ending",
            ".png, .svg, .pdf, .mmd, .md or .dot",
        ),
        ((TASK, "--planner", "p", "--graph", "no/out.png"), "there is no folder no", "mkdir -p no"),
        ((TASK, "--planner", "p", "--url", "example.com"), "is not an address", "--url"),
        ((TASK, "--planner", "p", "--revision", "main"), "is not a revision", "hexadecimal"),
        ((TASK, "--planner", "p", "--max-steps", "33"), "'--max-steps'", ""),
        ((TASK,), "--planner", ""),
    ],
)
def test_wrong_usage_is_exit_code_2(plan, writer, tmp_path, arguments, message, hint):
    """One clean message with the next step, and no request is sent."""
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "sixty.yaml").write_text("- 1" + ":1" * 50_000)
    (tmp_path / "map.yaml").write_text("name: Search\n")
    asked = len(writer.asked)
    done = plan(*arguments)
    assert (done.code, done.out, len(writer.asked)) == (2, "", asked)
    assert message in done.err
    assert hint in done.err
    assert "Traceback" not in done.err


def test_two_forms_at_once_are_refused(plan):
    """As JSON on stdout, too, since that was one of them."""
    done = plan(TASK, "--planner", "p", "--json", "--rewoo")
    assert (done.code, json.loads(done.out)["error"]["hint"]) == (2, "choose one")


def test_an_unknown_planner_is_refused_with_those_there_are(plan):
    """Exit code 1, and the message names them."""
    done = plan(TASK, "--planner", "nobody")
    assert done.code == 1
    assert "'nobody'" in done.err
    assert "p, q" in done.err


def test_without_a_server_the_next_step_is_named(plan, monkeypatch):
    """Nothing listens there: exit code 1, and with --json the error is one line of JSON on stdout."""
    monkeypatch.setenv("S3LORA_BASE_URL", "http://127.0.0.1:9")
    done = plan(TASK, "--planner", "p", "--json")
    error = json.loads(done.out)["error"]
    assert (done.code, error["code"]) == (1, "connection_failed")
    assert error["hint"] == "start s3lora-serve, or name the server: --url or S3LORA_BASE_URL"
    assert "hint:  start s3lora-serve" in done.err


def test_a_server_with_a_key_wants_it_from_the_environment(s3lora, tmp_path, monkeypatch):
    """Without the key: exit code 1, and which variable to set; with it: a plan."""
    monkeypatch.delenv("S3LORA_API_KEY", raising=False)
    with threaded_server(tmp_path, "p", api_key=KEY) as running:
        ask = ("plan", TASK, "--planner", "p", "-t", "LLM", "--url", running.url)
        refused = s3lora(*ask)
        monkeypatch.setenv("S3LORA_API_KEY", KEY)
        assert (s3lora(*ask).code, refused.code) == (0, 1)
    assert "hint:  set S3LORA_API_KEY" in refused.err
    assert KEY not in refused.err


def test_a_server_of_this_folder_is_found(plan, server, monkeypatch, tmp_path):
    """By the admin.json that a running server leaves; one that others can write is not trusted."""
    monkeypatch.delenv("S3LORA_BASE_URL")
    path = write_access(tmp_path / ".s3lora" / "admin.json", "http://127.0.0.1:9", "a token")
    path.write_text(json.dumps({**json.loads(path.read_text()), "clients": server.url}))
    assert plan(TASK, "--planner", "p").code == 0
    path.chmod(0o666)
    done = plan(TASK, "--planner", "p")
    assert (done.code, "hint:  name the server: --url" in done.err) == (2, True)


def test_the_plan_is_drawn(plan, tmp_path):
    """A picture in the format of its name, with every step in it; the plan is printed as well."""
    done = plan(TASK, "--planner", "p", "--graph", "plan.svg", "--json")
    assert (done.code, done.err) == (0, "wrote plan.svg\n")
    assert len(Plan.model_validate_json(done.out).steps) == 2
    ElementTree.parse(tmp_path / "plan.svg")
    assert plan(TASK, "--planner", "p", "--graph", "plan.png").code == 0
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "first"), [("plan.mmd", "---"), ("plan.MD", "```mermaid"), ("plan.dot", "digraph plan {")]
)
def test_the_plan_is_a_graph_in_text(plan, tmp_path, name, first):
    """The ending says which language; the plan is printed as well."""
    done = plan(TASK, "--planner", "p", "--graph", name)
    assert (done.code, f"wrote {name}" in done.err, "#E1" in done.out) == (0, True, True)
    text = (tmp_path / name).read_text()
    assert text.splitlines()[0] == first
    assert "E1" in text


@pytest.mark.process
def test_ctrl_c_ends_the_request(server, writer):
    """Exit code 130 without a traceback; the engine has stopped working on the plan."""
    gate = server.fleet.engine.hold_requests("q@*")
    command = [sys.executable, "-c", "from s3lora_serve.cli.main import main; main()"]
    process = subprocess.Popen(
        [*command, "plan", TASK, "--planner", "q", "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wait_until(lambda: gate.waiting, 60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert (process.returncode, out, err) == (130, "", "stopped\n")
    wait_until(lambda: not gate.waiting)
