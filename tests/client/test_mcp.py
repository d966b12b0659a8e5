"""The MCP server: what a client of the protocol sees of it, over the pipes of a real process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import jsonschema
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from refusing_server import REFUSAL, refusing_server
from threaded_server import threaded_server, wait_until

from planners import Plan, ToolSpec, parse

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
TOOLS = [{"name": "Search", "description": "finds facts"}, "LLM"]
TASK = "Who directed Inception?"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Planners p and q, each with its own tool, behind a key."""
    own = (ToolSpec(name="Own", description="is the planner's"),)
    with threaded_server(tmp_path_factory.mktemp("mcp"), "p", "q", tools=own, api_key="the key") as running:
        yield running


@pytest.fixture
def connect(server, tmp_path):
    """``async with connect(*options) as client``: a client of ``python -m planners.mcp``, another process."""

    @asynccontextmanager
    async def connected(*options: str, key: str = "the key", url: str = server.url):
        parameters = StdioServerParameters(
            command=sys.executable,
            args=["-m", "planners.mcp", "--url", url, *options],
            env={"S3LORA_API_KEY": key, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
        )
        async with Client(parameters, read_timeout_seconds=60) as client:
            yield client

    return connected


async def test_a_plan_is_structured_and_text(connect, server):
    """Structured content is the Plan under its published schema, the text is the same plan as ReWOO."""
    async with connect("--planner", "p") as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        made = await client.call_tool("make_plan", {"task": TASK, "tools": TOOLS, "max_steps": 2})
    assert sorted(listed) == ["list_planners", "make_plan"]
    assert not made.is_error
    jsonschema.validate(made.structured_content, listed["make_plan"].output_schema)
    plan = Plan.model_validate(made.structured_content)
    assert parse(made.content[0].text).steps == plan.steps
    assert plan.problems(["Search", "LLM"], max_steps=2) == ()
    assert plan.meta.revision == server.fleet.shelf.revisions["p"].digest


async def test_a_client_knows_what_it_may_ask(connect):
    """The input's schema has the limits, the tools' form, and a default only where one was configured."""
    async with connect("--planner", "p") as client:
        (tool,) = [t for t in (await client.list_tools()).tools if t.name == "make_plan"]
    fields = tool.input_schema["properties"]
    assert tool.input_schema["required"] == ["task"]
    assert {"tools", "max_steps", "planner", "evidence", "feedback"} < set(fields)
    assert fields["planner"]["default"] == "p"
    assert "parameters" in tool.input_schema["$defs"]["ToolSpec"]["properties"]
    assert (tool.annotations.read_only_hint, tool.annotations.open_world_hint) == (True, False)


async def test_planners_are_listed(connect):
    """With their state and their own tools, and the default."""
    async with connect("--planner", "q") as client:
        listed = await client.call_tool("list_planners", {})
    assert listed.structured_content["default"] == "q"
    assert [card["id"] for card in listed.structured_content["planners"]] == ["p", "q"]
    assert listed.structured_content["planners"][0]["tools"][0]["name"] == "Own"
    assert listed.content[0].text.startswith("p (serving): a test planner\nq (serving)")


async def test_what_is_left_out_is_the_planners_own(connect):
    """Without tools the planner's; results that are known are counted on; another planner may be named."""
    async with connect() as client:
        made = await client.call_tool(
            "make_plan", {"task": TASK, "planner": "q", "evidence": {"#E1": "Nolan"}}
        )
    assert [(step["id"], step["tool"]) for step in made.structured_content["steps"]] == [
        ("#E2", "Own"),
        ("#E3", "Own"),
    ]


REFUSED = [
    ({"planner": "nobody"}, ["'nobody'", "p, q", "(unknown_planner)"]),
    ({"task": " "}, ["task: "]),
    ({"tools": ["web search"]}, ["'web_search'"]),
    ({"tools": ["A", "A"]}, ["'A' is offered 2 times"]),
    ({"max_steps": 99}, ["max_steps: Input should be less than or equal to 32 (given: 99)"]),
    ({"max_steps": "few"}, ["max_steps: ", "(given: 'few')"]),
    ({"tools": [{"nme": "A"}]}, ["tools.0.name: Field required; tools.0.nme: "]),
    ({"tools": [3]}, ["tools.0", "(given: 3)"]),
    ({"maxsteps": 1}, ["make_plan has no argument 'maxsteps'; did you mean 'max_steps'?"]),
    ({"zzz": 1}, ["'zzz'; known: task, tools, max_steps, planner, evidence, feedback"]),
    ({"y" * 5_000: 1}, ["make_plan has no argument 'yyy"]),
    ({"planner": None}, ["no planner was named", "list_planners"]),
]


async def test_a_refusal_is_a_tool_error_that_says_why(connect):
    """The model reads what to do better; the protocol itself does not fail, and the server goes on."""
    async with connect("--planner", "p") as client:
        for changes, told in REFUSED:
            refused = await client.call_tool("make_plan", {"task": TASK, "tools": TOOLS, **changes})
            assert refused.is_error, changes
            text = refused.content[0].text
            assert [part for part in told if part not in text] == [], text
            assert ("\n" in text, "pydantic" in text, len(text) < 400) == (False, False, True), text
        assert not (await client.call_tool("list_planners", {})).is_error


async def test_arguments_that_are_not_known_are_refused(connect):
    """By both tools, and a client can know it: the published schemas allow no others."""
    async with connect("--planner", "p") as client:
        schemas = [tool.input_schema for tool in (await client.list_tools()).tools]
        refused = await client.call_tool("list_planners", {"all": True})
    assert [schema["additionalProperties"] for schema in schemas] == [False, False]
    assert refused.is_error
    assert refused.content[0].text == "list_planners has no argument 'all'; known: none"


async def test_a_wrong_key_and_a_dead_server_are_told(connect):
    """Both tools say what the server said, or that there is none; the key is in neither."""
    async with connect("--planner", "p", key="a wrong key") as client:
        refused = await client.call_tool("make_plan", {"task": TASK, "tools": TOOLS})
    async with connect("--planner", "p", url="http://127.0.0.1:9") as client:
        alone = await client.call_tool("list_planners", {})
    assert (refused.is_error, alone.is_error) == (True, True)
    assert "API key" in refused.content[0].text
    assert "a wrong key" not in refused.content[0].text
    assert "no answer from http://127.0.0.1:9" in alone.content[0].text


async def test_a_plan_that_a_guard_withholds_is_a_tool_error(connect):
    """It names the part and the code, so that the model can change that; it is asked for once."""
    with refusing_server() as guarded:
        guarded.part = "tools"
        async with connect("--planner", "p", url=guarded.url) as client:
            refused = await client.call_tool("make_plan", {"task": TASK, "tools": TOOLS})
    assert refused.is_error
    assert refused.content[0].text.endswith(f"{REFUSAL} (refused_by_guard: tools)")
    assert len(guarded.asked) == 1


async def test_a_call_that_is_given_up_stops_the_engine(connect, server):
    """The client leaves while the plan is being made; the engine is not kept busy."""
    gate = server.do(lambda: server.fleet.engine.hold_requests("q@*"))
    try:
        async with connect("--planner", "q") as client:
            call = asyncio.create_task(client.call_tool("make_plan", {"task": TASK, "tools": TOOLS}))
            await asyncio.to_thread(wait_until, lambda: gate.waiting == 1)
            call.cancel()
            await asyncio.to_thread(wait_until, lambda: gate.waiting == 0)
    finally:
        server.do(gate.open)


def test_ctrl_c_ends_it_at_once():
    """Also while stdin is open and nothing is written there."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-m", "planners.mcp"], text=True, **pipes)
    process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
    process.stdin.flush()
    assert process.stdout.readline().startswith('{"jsonrpc"')
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(180) == -signal.SIGINT
    finally:
        process.kill()
        process.communicate()


def test_wrong_usage_is_told_on_stderr():
    """An address that is none: exit code 2, and nothing on stdout, which is the protocol's."""
    command = [sys.executable, "-m", "planners.mcp", "--url", "ftp://x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not an address" in done.stderr


def test_a_missing_package_is_named_with_the_extra():
    """Without mcp installed: one line that says what to install."""
    hidden = "import sys; sys.modules['mcp'] = None; from planners.mcp import main; main([])"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        'error: s3lora-mcp needs the package mcp, 2.0 or newer: pip install "s3lora-planners[mcp]"\n'
    )


def test_an_old_package_is_refused_with_its_version(tmp_path):
    """mcp 1.x, which has FastMCP in place of MCPServer: one line says what was found and what is needed."""
    (tmp_path / "mcp" / "server").mkdir(parents=True)
    (tmp_path / "mcp" / "__init__.py").touch()
    (tmp_path / "mcp" / "server" / "__init__.py").write_text("class FastMCP: ...\n")
    (tmp_path / "mcp-1.30.0.dist-info").mkdir()
    (tmp_path / "mcp-1.30.0.dist-info" / "METADATA").write_text("Name: mcp\nVersion: 1.30.0\n")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "planners.mcp"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (1, "")
    needed = "error: s3lora-mcp needs the package mcp, 2.0 or newer (1.30.0 is installed): pip install "
    assert done.stderr == f'{needed}"s3lora-planners[mcp]"\n'
