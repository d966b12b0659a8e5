"""`s3lora-serve`: from a configuration to a server that answers, and back. The engine is the fake one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_model import write_adapter, write_base

ROOT = Path(__file__).parents[2]
CONFIG = """\
base_model: ./base
planners:
  one: {source: one, policy: {top: 1}}
  two: {source: two, policy: {action: observe}}
engine: {max_loras: 2, max_lora_rank: 8}
server: {port: 0}
store: {path: store}
"""


@pytest.fixture
def folder(tmp_path):
    """A configuration with two planners, and the files that it names."""
    write_base(tmp_path / "base")
    write_adapter(tmp_path / "one", seed=1)
    write_adapter(tmp_path / "two", seed=2)
    (tmp_path / "planners.yaml").write_text(CONFIG)
    return tmp_path


def command(folder: Path, *options: str) -> list[str]:
    """The command line with the fake engine."""
    return [
        sys.executable,
        str(Path(__file__).with_name("fake_server.py")),
        "--config",
        str(folder / "planners.yaml"),
        *options,
    ]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without a key, plus ``more``."""
    kept = {name: value for name, value in os.environ.items() if name != "S3LORA_API_KEY"}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", **more}


def run(folder: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(folder, *options),
        cwd=ROOT,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def serving(folder: Path, *options: str, **env: str):
    """A running server: the process, and what it printed until it listened."""
    process = subprocess.Popen(
        command(folder, *options),
        cwd=ROOT,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        while not lines or not lines[-1].startswith("  -d "):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            lines.append(line.rstrip())
        yield process, lines
    finally:
        process.kill()
        process.communicate()


def test_it_serves_from_a_configuration(folder):
    """Both planners are shown, the printed curl returns a plan when pasted, and SIGTERM ends it in order."""
    with serving(folder) as (process, lines):
        shown = "\n".join(lines)
        url = re.search(r"http://127\.0\.0\.1:\d+", shown)[0]
        assert re.search(r"^one +\w{12} +\d\.\d{3} +\d\.\d{3} +1 of 8 +serving", shown, re.MULTILINE)
        assert re.search(r"^two +\w{12} +\d\.\d{3} +\d\.\d{3} +0 of 8 +serving", shown, re.MULTILINE)
        with urllib.request.urlopen(f"{url}/readyz") as answer:
            assert json.load(answer)["planners"] == {"serving": 2, "configured": 2}
        if shutil.which("curl"):
            pasted = "\n".join(lines[-2:])
            plan = json.loads(subprocess.run(["sh", "-c", pasted], capture_output=True, check=True).stdout)
            assert plan["steps"]
            assert plan["meta"]["planner"] == "one"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert "stopped" in process.stderr.read()


def test_the_readmes_examples_work(tmp_path):
    """Every command and every program of the README's "Use it" does what it says, on the planners named."""
    write_base(tmp_path / "base")
    for seed, name in enumerate(("hotpot-planner", "gsm8k-planner")):
        write_adapter(tmp_path / name, seed=seed)
    planners = "{hotpot-planner: {source: hotpot-planner}, gsm8k-planner: {source: gsm8k-planner}}"
    text = f"base_model: ./base\nplanners: {planners}\npolicy: {{top: 1}}\nserver: {{port: 0}}\n"
    (tmp_path / "planners.yaml").write_text(text)
    section = (ROOT / "README.md").read_text().split("## Use it")[1].split("\n## ")[0]
    blocks = re.findall(r"```(sh|python)\n(.*?)```", section, re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "python", "python"]
    with serving(tmp_path) as (_, lines):
        address = re.search(r"127\.0\.0\.1:\d+", "\n".join(lines))[0]
        for language, code in blocks:
            shell = ["sh", "-c"] if language == "sh" else [sys.executable, "-c"]
            if language == "sh" and not shutil.which("curl"):
                continue
            program = code.replace("127.0.0.1:8000", address)
            done = subprocess.run([*shell, program], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "error" not in done.stdout
            assert done.stdout.strip()


def test_a_second_start_admits_nothing_anew(folder):
    """Published revisions are found again, and are the same."""

    def revisions() -> list[str]:
        done = run(folder, "--check")
        assert done.returncode == 0, done.stderr
        return re.findall(r"^(?:one|two) +(\w{12})", done.stdout, re.MULTILINE)

    first = revisions()
    assert len(first) == 2
    assert revisions() == first
    assert len(list((folder / "store" / "revisions").iterdir())) == 2


def test_a_server_beyond_loopback_needs_a_key(folder):
    """It is refused before anything is fetched or started."""
    done = run(folder, "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "server.host is 0.0.0.0, which others can reach, and S3LORA_API_KEY is not set" in done.stderr
    assert not (folder / "store").exists()


def test_with_a_key_the_printed_command_sends_it(folder):
    """The curl names the variable, never the key itself, and requests without the key are refused."""
    with serving(folder, "--host", "0.0.0.0", S3LORA_API_KEY="a-secret") as (_, lines):
        shown = "\n".join(lines)
        assert '-H "Authorization: Bearer $S3LORA_API_KEY"' in shown
        assert "a-secret" not in shown
        url = re.search(r"http://127\.0\.0\.1:\d+", shown)[0]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/v1/planners")
        asked = urllib.request.Request(f"{url}/v1/planners", headers={"Authorization": "Bearer a-secret"})
        with urllib.request.urlopen(asked) as answer:
            assert [p["id"] for p in json.load(answer)["data"]] == ["one", "two"]


def test_a_port_in_use_is_found_before_the_engine_starts(folder):
    """The message names the address and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(folder, "--port", str(port))
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "--port" in done.stderr
    assert "base model" not in done.stderr


def test_every_refused_planner_is_named(folder):
    """One refused adapter keeps the server from starting, and all refusals are said in one run."""
    for name in ("one", "two"):
        (folder / name / "adapter_model.safetensors").write_bytes(b"version https://git-lfs")
    done = run(folder)
    assert done.returncode == 1
    assert "error: one: " in done.stderr
    assert "error: two: " in done.stderr
    assert "error: 2 of 2 planners refused, none served: one, two" in done.stderr
    assert "engine" not in done.stderr


def test_a_planner_without_effect_keeps_the_server_from_starting(folder):
    """An adapter that loads but changes nothing is an error, not a silent base model."""
    done = run(folder, NO_EFFECT="two@*")
    assert done.returncode == 1
    assert "1 of 2 planners cannot be served:" in done.stderr
    assert "\n  two: " in done.stderr
    assert "Listening" not in done.stdout


def test_check_stops_before_the_engine(folder):
    """--check admits, shows what was admitted, and neither binds a port nor starts an engine."""
    done = run(folder, "--check")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^two +\w{12} .* 0 of 8 +observe", done.stdout, re.MULTILINE)
    assert "engine" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port 70000: should be less than or equal to 65535"),
        (["--log-level", "loud"], "--log-level 'loud' is not known"),
    ],
)
def test_wrong_options_are_exit_code_2(folder, options, message):
    """Nothing is started for a mistyped option."""
    done = run(folder, *options)
    assert done.returncode == 2
    assert message in done.stderr
