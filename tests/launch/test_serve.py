"""`s3lora-serve`: from a configuration to a server that answers, and back. The engine is the fake one."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from fake_command import run, serving, write_fleet
from system_programs import program

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
CONFIG = """\
base_model: ./base
planners:
  one: {source: one, policy: {top: 1}}
  two: {source: two, policy: {action: observe}}
engine: {max_loras: 2, max_lora_rank: 8}
server: {port: 0}
admin: {port: 0}
store: {path: store}
state: {path: state.db}
"""


@pytest.fixture
def folder(tmp_path):
    """A configuration with two planners, and the files that it names."""
    return write_fleet(tmp_path, CONFIG, "one", "two")


def test_it_serves_from_a_configuration(nursery, folder):
    """Both planners are shown, the printed curl returns a plan when pasted, and SIGTERM ends it in order."""
    program("curl")
    with serving(nursery, folder) as server:
        shown = server.child.out
        url = re.search(r"http://127\.0\.0\.1:\d+", shown)[0]
        assert re.search(r"^one +\w{12} +\d\.\d{3} +\d\.\d{3} +1 of 8 +serving", shown, re.MULTILINE)
        assert re.search(r"^two +\w{12} +\d\.\d{3} +\d\.\d{3} +0 of 8 +serving", shown, re.MULTILINE)
        with urllib.request.urlopen(f"{url}/readyz") as answer:
            assert json.load(answer)["planners"] == {"serving": 2, "configured": 2}
        (pasted,) = re.findall(r"^curl .*\n  -d .*$", shown, re.MULTILINE)
        plan = json.loads(subprocess.run(["sh", "-c", pasted], capture_output=True, check=True).stdout)
        assert plan["steps"]
        assert plan["meta"]["planner"] == "one"
        server.child.signal(signal.SIGTERM)
        assert server.child.wait() == 0
        assert server.child.err.endswith("stopped\n")


def test_the_documents_examples_work(nursery, tmp_path):
    """Every request and program of README.md and of the pages on plans and clients does what it says."""
    program("curl")
    planners = "{hotpot-planner: {source: hotpot-planner}, gsm8k-planner: {source: gsm8k-planner}}"
    text = f"base_model: ./base\nplanners: {planners}\npolicy: {{top: 1}}\n"
    text += "server: {port: 0}\nadmin: {port: 0}\n"
    write_fleet(tmp_path, text, "hotpot-planner", "gsm8k-planner")
    text = "".join((ROOT / page).read_text() for page in ("README.md", "docs/plans.md", "docs/clients.md"))
    found = re.findall(r"```(sh|python)\n(.*?)```", text, re.DOTALL)
    blocks = [(language, code) for language, code in found if not code.startswith("s3lora ")]
    languages = [language for language, _ in blocks]
    assert languages == ["sh", "python", "python", "sh", "python", "python", "python"]
    with serving(nursery, tmp_path) as server:
        address = server.url.removeprefix("http://")
        for language, code in blocks:
            shell = ["sh", "-c"] if language == "sh" else [sys.executable, "-c"]
            example = code.replace("127.0.0.1:8000", address)
            done = subprocess.run([*shell, example], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "error" not in done.stdout
            assert done.stdout.strip()


def test_a_second_start_admits_nothing_anew(nursery, folder):
    """Published revisions are found again, and are the same."""

    def revisions() -> list[str]:
        done = run(nursery, folder, "--check")
        assert done.code == 0, done.err
        return re.findall(r"^(?:one|two) +(\w{12})", done.out, re.MULTILINE)

    first = revisions()
    assert len(first) == 2
    assert revisions() == first
    assert len(list((folder / "store" / "revisions").iterdir())) == 2


def test_a_server_beyond_loopback_needs_a_key(nursery, folder):
    """It is refused before anything is fetched or started."""
    done = run(nursery, folder, "--host", "0.0.0.0")
    assert done.code == 2
    assert "server.host is 0.0.0.0, which others can reach, and S3LORA_API_KEY is not set" in done.err
    assert not (folder / "store").exists()


def test_with_a_key_the_printed_command_sends_it(nursery, folder):
    """The curl names the variable, never the key itself, and requests without the key are refused."""
    with serving(nursery, folder, "--host", "0.0.0.0", S3LORA_API_KEY="a-secret") as server:
        shown = server.child.out
        assert '-H "Authorization: Bearer $S3LORA_API_KEY"' in shown
        assert "a-secret" not in shown
        url = re.search(r"http://127\.0\.0\.1:\d+", shown)[0]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/v1/planners")
        asked = urllib.request.Request(f"{url}/v1/planners", headers={"Authorization": "Bearer a-secret"})
        with urllib.request.urlopen(asked) as answer:
            assert [p["id"] for p in json.load(answer)["data"]] == ["one", "two"]


def test_a_port_in_use_is_found_before_the_engine_starts(nursery, folder):
    """The message names the address and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(nursery, folder, "--port", str(port))
    assert done.code == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.err
    assert "--port" in done.err
    assert "base model" not in done.err


def test_every_refused_planner_is_named(nursery, folder):
    """One refused adapter keeps the server from starting, and all refusals are said in one run."""
    for name in ("one", "two"):
        (folder / name / "adapter_model.safetensors").write_bytes(b"version https://git-lfs")
    done = run(nursery, folder)
    assert done.code == 1
    assert "error: one: " in done.err
    assert "error: two: " in done.err
    assert "error: 2 of 2 planners refused, none served: one, two" in done.err
    assert "engine" not in done.err


def test_a_planner_without_effect_keeps_the_server_from_starting(nursery, folder):
    """An adapter that loads but changes nothing is an error, not a silent base model."""
    done = run(nursery, folder, NO_EFFECT="two@*")
    assert done.code == 1
    assert "1 of 2 planners cannot be served:" in done.err
    assert "\n  two: " in done.err
    assert "Listening" not in done.out


def test_check_stops_before_the_engine(nursery, folder):
    """--check admits, shows what was admitted, and neither binds a port nor starts an engine."""
    done = run(nursery, folder, "--check")
    assert done.code == 0, done.err
    assert re.search(r"^two +\w{12} .* 0 of 8 +observe", done.out, re.MULTILINE)
    assert "engine" not in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port 70000: should be less than or equal to 65535"),
        (["--log-level", "loud"], "--log-level 'loud' is not known"),
        (["--log-level", "info,nowhere=debug"], "--log-level: there is no part 'nowhere'"),
        (["--log-format", "xml"], "--log-format 'xml' is not known"),
    ],
)
def test_wrong_options_are_exit_code_2(nursery, folder, options, message):
    """Nothing is started for a mistyped option."""
    done = run(nursery, folder, *options)
    assert done.code == 2
    assert message in done.err


def test_more_planners_than_slots_are_counted_as_they_are(nursery, tmp_path):
    """Each was loaded once and proved; those that made room again are not said to be loaded."""
    text = CONFIG.replace("engine:", "  three: {source: three, policy: {top: 1}}\nengine:")
    folder = write_fleet(tmp_path, text, "one", "two", "three")
    with serving(nursery, folder) as server:
        assert "3 planners proved, 2 loaded; the rest are loaded on demand" in server.child.err
        assert server.child.out.count(" evicted") == 1


def test_the_log_has_one_line_a_record(nursery, folder):
    """What a message quotes of planners.yaml cannot pass for a record; each problem has an indented line."""
    with serving(nursery, folder) as server:
        said = len(server.child.err)
        (folder / "planners.yaml").write_text(CONFIG + 'forged: 1\n"a\\nb": 2\n')
        server.child.signal(signal.SIGHUP)
        server.child.until(lambda: "nothing was applied" in server.child.err)
        lines = server.child.err[said:].splitlines()
        assert [line for line in lines if not line.startswith("    ")] == lines[:1]
        assert "ERROR   s3lora_serve.launch.launch: SIGHUP: nothing was applied: " in lines[0]
        assert sum("unknown key" in line for line in lines) == 2
        assert not any("\\n  " in line for line in lines)


def test_a_log_for_machines_is_one_object_a_line(nursery, folder):
    """All of standard error, from the first stage to the last word, with levels by part."""
    options = ("--log-format", "json", "--log-level", "error,access=debug")
    with serving(nursery, folder, *options) as server:
        server.ask("/readyz")
        server.ask("/v1/plans", {"planner": "one", "task": "who?", "tools": [{"name": "Search"}]})
        server.child.signal(signal.SIGTERM)
        assert server.child.wait() == 0
    lines = [json.loads(line) for line in server.child.err.splitlines()]
    assert [(line["logger"], line["level"], line["route"]) for line in lines] == [
        ("s3lora_serve.access", "debug", "/readyz"),
        ("s3lora_serve.access", "info", "/v1/plans"),
    ]
    assert all(line["request"] for line in lines)
    refused = run(nursery, folder, "--log-format", "json", "--port", "70000")
    assert json.loads(refused.err.splitlines()[-1])["message"].startswith("--port 70000: should be")
