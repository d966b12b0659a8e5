"""`s3lora-serve` with sources that never answer: orders are taken all the same, and a signal ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error

import pytest
from fake_command import begin, serving, write_fleet
from nursery import ROOT
from silence import silent_server

pytestmark = pytest.mark.process

CONFIG = """\
base_model: ./base
planners:
  one: {source: one, policy: {top: 1}}
  two: {source: SOURCE, policy: {action: observe}}
engine: {max_loras: 4, max_lora_rank: 8}
server: {port: 0}
admin: {port: 0}
store: {path: store}
state: {path: state.db}
sources: {allow: [any, SILENT]}
"""
AT_ONCE = 10.0  # seconds that nothing may take that waits for no source, on however busy a machine
DRY_RUNS = (os.cpu_count() or 1) + 5  # one more than the threads that asyncio shares


@pytest.fixture
def silent():
    """The address of a server that accepts and says nothing."""
    with silent_server() as url:
        yield url


def config(source: str, silent: str) -> str:
    """With this source for the second planner; the silent server may be asked."""
    return CONFIG.replace("SOURCE", source).replace("SILENT", silent)


def ended(child) -> int:
    """Its exit code; it must end soon."""
    return child.wait(AT_ONCE)


def s3lora(folder, *arguments: str) -> subprocess.CompletedProcess:
    """The operators' command, run from the folder of the server."""
    return subprocess.run(
        [sys.executable, "-c", "from s3lora_serve.cli.main import main; main()",
         *arguments, "--config", "planners.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_orders_questions_and_signals_wait_for_no_source(nursery, tmp_path, silent):
    """More dry runs than asyncio has threads hang, and a swap: history, audit and rollbacks, of that planner
    and of another one, are answered at once; a cancel by command ends an operation, SIGTERM the process.
    """
    folder = write_fleet(tmp_path, config("two", silent), "one", "two", "new")
    with serving(nursery, folder) as server:
        before = {each["id"]: each["revision"] for each in server.order("planners")["data"]}
        for name in before:
            server.done(server.order(f"planners/{name}/swap", {"source": str(folder / "new")}))
        hangs = {"source": f"{silent}/adapter"}
        for _ in range(DRY_RUNS):
            assert not server.order("planners/one/swap", {**hangs, "dry_run": True})["ended"]
        hung = server.order("planners/one/swap", hangs)
        began = time.monotonic()
        assert server.order("history")["data"][0]["operation"] == hung["id"]
        assert server.order("verify")["ok"]
        assert "waiting" in server.order(f"operations/{hung['id']}")["progress"]
        for name, revision in before.items():
            server.order(f"planners/{name}/rollback", {})
            assert server.order(f"planners/{name}")["revision"] == revision
        assert server.order(f"operations/{hung['id']}")["step"] == "cancelled"
        assert time.monotonic() - began < AT_ONCE

        hung = server.order("planners/one/swap", hangs)
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.order("planners/one/swap", hangs)
        assert f'"operation":"{hung["id"]}"' in refused.value.read().decode().replace(" ", "")
        refused = s3lora(folder, "swap", "one", hangs["source"])
        assert (refused.returncode, f"run:   s3lora cancel {hung['id']}" in refused.stderr) == (1, True)
        done = s3lora(folder, "cancel", hung["id"], "--reason", "no answer")
        assert (done.returncode, "no answer" in done.stdout) == (0, True), done.stderr
        server.order("planners/one/swap", hangs)
        server.child.signal(signal.SIGTERM)
        assert ended(server.child) == 0
        assert "stopped" in server.child.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_hangs_ends_at_the_first_signal(nursery, tmp_path, silent, number):
    """Ctrl-C during admission at the start, and what a service manager sends."""
    folder = write_fleet(tmp_path, config(f"{silent}/adapter", silent), "one")
    child = begin(nursery, folder)
    child.until(lambda: "admit: fetch" in child.err or child.ended())
    child.signal(number)
    assert ended(child) not in (None, 0)
    assert "Traceback" not in child.err
