"""Which processes leave the server's group, and when they end. No vLLM is needed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from s3lora_serve.engine.vllm.plugins import process_group

pytestmark = pytest.mark.process

# A server that starts one process, as vLLM does. Each line that is printed is "role pid group".
PROGRAM = """
import multiprocessing, os, sys, time
from s3lora_serve.engine.vllm.plugins import process_group

def told(role):
    print(role, os.getpid(), os.getpgrp(), flush=True)

def engine():
    process_group.register()
    process_group.register()
    told("engine")
    time.sleep(60)

if __name__ == "__main__":
    if "ours" in sys.argv:
        process_group.announce()
    process_group.register()
    told("server")
    multiprocessing.get_context("spawn").Process(target=engine).start()
    time.sleep(60)
"""


@pytest.fixture
def family(tmp_path):
    """``family("ours")``: a server, and the pid and group of it and of its process."""
    (tmp_path / "server.py").write_text(PROGRAM)
    servers, started = [], []

    def start(*words):
        server = subprocess.Popen(
            [sys.executable, str(tmp_path / "server.py"), *words],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != process_group.SERVER},
        )
        servers.append(server)
        lines = [server.stdout.readline().split() for _ in range(2)]
        started.extend(int(pid) for _, pid, _ in lines)
        return server, {role: (int(pid), int(group)) for role, pid, group in lines}

    yield start
    for pid in started:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for server in servers:
        with server:  # closes its pipe, and waits for it
            pass


def ended(server) -> bool:
    """Whether every process that held the server's output is gone, after at most 60 s."""
    return bool(select.select([server.stdout], [], [], 60)[0]) and server.stdout.read() == ""


def test_a_ctrl_c_reaches_the_server_only(family):
    """The server stays in the group that it was started in; the engine's process leads its own."""
    server, processes = family("ours")
    (server_pid, server_group), (engine_pid, engine_group) = processes["server"], processes["engine"]
    assert (server_pid, server_group, engine_group) == (server.pid, server.pid, engine_pid)


def test_the_engine_ends_with_a_killed_server(family):
    """SIGKILL leaves the server no chance to end its processes; they notice themselves."""
    server, _ = family("ours")
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    assert ended(server)


def test_somebody_elses_vllm_is_left_alone(family):
    """The plugin is found by every vLLM of the environment, and acts in those that our server started."""
    server, processes = family()
    assert {group for _, group in processes.values()} == {server.pid}
