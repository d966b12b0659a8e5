"""`s3lora-serve` and signals to stop, as a process; `test_phases.py` has each kind of request."""

from __future__ import annotations

import json
import signal
import urllib.request

import pytest
from fake_command import serving, write_fleet

pytestmark = pytest.mark.process

CONFIG = """\
base_model: ./base
planners: {one: {source: one, policy: {top: 1}}}
engine: {max_loras: 2, max_lora_rank: 8}
server: {port: 0, GRACE}
admin: {port: 0}
store: {path: store}
state: {path: state.db}
"""


@pytest.mark.parametrize(
    ("grace", "signals"), [("grace_seconds: 0.05", 1), ("grace_seconds: 600, drain_notice_seconds: 300", 2)]
)
def test_a_running_stream_is_told_and_the_log_is_quiet(nursery, tmp_path, grace, signals):
    """When the grace is over, or a second signal comes: an error event, exit code 0, and no traceback."""
    folder = write_fleet(tmp_path, CONFIG.replace("GRACE", grace), "one")
    with serving(nursery, folder, "--engine", "fake") as server:
        tools = [{"name": name, "description": ""} for name in ("Search", "LLM")]
        body = json.dumps({"planner": "one", "task": "who? " * 20, "tools": tools, "stream": True})
        asked = urllib.request.Request(
            f"{server.url}/v1/plans", body.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.readline() == b"event: step\n"
            for number in range(signals):
                server.child.until(lambda n=number: n == 0 or "stopping: " in server.child.err)
                server.child.signal(signal.SIGTERM)
            rest = answer.read().decode()
        assert server.child.wait() == 0
    assert "event: error\n" in rest
    assert '"code": "shutting_down"' in rest
    assert "Traceback" not in server.child.err
    assert "ERROR" not in server.child.err
    assert server.child.err.endswith("stopped\n")
