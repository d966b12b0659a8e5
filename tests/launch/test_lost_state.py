"""State that was lost, changed or restored, as a whole server meets it. The engine is the fake one."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import urllib.error
from contextlib import closing
from pathlib import Path

import pytest
from fake_command import FAKE, run, s3lora, serving, write_fleet

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
PORTS = ("--port", "0", "--admin-port", "0")
CONFIG = """\
base_model: ./base
planners:
  one: {source: one, policy: {top: 1}}
  two: {source: two, policy: {action: observe}}
engine: {max_loras: 3, max_lora_rank: 8, max_model_len: 512}
store: {path: store}
state: {path: state.db, head_file: heads.txt}
sources: {allow: [./new]}
"""


@pytest.fixture
def folder(tmp_path):
    """A configuration with two planners, and an adapter that none of them has."""
    return write_fleet(tmp_path, CONFIG, "one", "two", "new")


def revision(server, name="one"):
    """What the planner serves."""
    return server.ask(f"/v1/planners/{name}")[0]["revision"]


def edit(folder, *statements):
    """Change the stopped state file."""
    with closing(sqlite3.connect(folder / "fake" / "state.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def stop(server):
    """End it in order."""
    server.child.signal(15)
    assert server.child.wait() == 0
    return server.child.err


def test_a_backup_under_orders_serves_elsewhere(nursery, folder, tmp_path):
    """Taken while a swap goes on, verified, put into a new place: it serves what the journal in it says."""
    with serving(nursery, folder, *FAKE, *PORTS) as server:
        server.folder = folder / "fake"
        before = revision(server)
        begun = server.order("planners/one/swap", {"source": str(folder / "new")})
        archive = tmp_path / "copies" / "night.tar.gz"
        taken = s3lora(folder, "backup", str(archive), "--json")
        assert taken.returncode == 0, taken.stderr
        manifest = json.loads(taken.stdout)
        assert server.done(begun)["step"] == "done"
        after = revision(server)
        assert (after != before, manifest["planners"]["one"] in (before, after)) == (True, True)
        head = re.findall(r"journal head (\d+:[0-9a-f]{64})", stop(server))[-1]
    assert (folder / "heads.txt").read_text().split()[-1] == head
    assert s3lora(folder, "audit", "--state", str(folder / "fake/state.db"), "--head", head).returncode == 0

    text = CONFIG.replace("source: one", f"source: {folder}/one").replace(
        "source: two", f"source: {folder}/two"
    )
    other = write_fleet(tmp_path / "other", text)
    restored = s3lora(other, "restore", str(archive))
    assert restored.returncode == 0, restored.stderr
    with serving(nursery, other, *FAKE, *PORTS) as server:
        server.folder = other / "fake"
        assert revision(server) == manifest["planners"]["one"]
        assert s3lora(other, "audit").returncode == 0


def test_state_that_was_changed_or_lost_is_told(nursery, folder):
    """A changed row stops its planner until an order; a lost file stops the start until --new-state."""
    with serving(nursery, folder, *FAKE, *PORTS) as server:
        server.folder = folder / "fake"
        before = revision(server)
        server.done(server.order("planners/one/swap", {"source": str(folder / "new")}))
        after = revision(server)
        stop(server)
    edit(folder, f"UPDATE planners SET active = '{before}' WHERE name = 'one'")
    with serving(nursery, folder, *FAKE, *PORTS) as server:
        server.folder = folder / "fake"
        assert "planner one is not served: its row says active" in server.child.err
        with pytest.raises(urllib.error.HTTPError) as told:
            server.ask("/v1/plans", {"planner": "one", "task": "x", "tools": [{"name": "LLM"}]})
        assert (told.value.code, json.load(told.value)["error"]["code"]) == (503, "state_mismatch")
        assert server.ask("/v1/plans", {"planner": "two", "task": "x", "tools": [{"name": "LLM"}]})[0][
            "steps"
        ]
        with pytest.raises(urllib.error.HTTPError) as told:
            server.ask("/readyz")
        assert json.load(told.value)["planners"] == {"serving": 1, "configured": 2, "withheld": 1}
        assert "its row says active" in s3lora(folder, "status").stdout
        assert s3lora(folder, "audit").returncode == 1
        assert s3lora(folder, "swap", "one", "--revision", after[:12]).returncode == 0
        assert (revision(server), s3lora(folder, "audit").returncode) == (after, 0)
        shutil.move(folder / "fake" / "store", folder / "fake" / "away")
        audit = s3lora(folder, "audit")
        assert (audit.returncode, "next: " in audit.stdout, "revision" in audit.stdout) == (1, True, True)
        shutil.move(folder / "fake" / "away", folder / "fake" / "store")
        stop(server)

    (folder / "fake" / "state.db").unlink()
    lost = run(nursery, folder, *FAKE, *PORTS)
    assert lost.code == 1
    assert re.search(r"has \d revisions that a fleet served, and the state file .* holds nothing", lost.err)
    assert "--new-state" in lost.err
    with serving(nursery, folder, *FAKE, *PORTS, "--new-state") as server:
        assert revision(server) == before
        stop(server)
    with serving(nursery, folder, *FAKE, *PORTS) as server:
        assert revision(server) == before
        stop(server)

    edit(folder, f"UPDATE planners SET active = '{after}' WHERE name = 'one'")
    with serving(nursery, folder, *FAKE, *PORTS, "--accept-state") as server:
        assert revision(server) == after
        stop(server)
    text = (folder / "planners.yaml").read_text()
    (folder / "planners.yaml").write_text(
        text.replace("head_file", "on_mismatch: serve_last_proved, head_file")
    )
    edit(folder, f"UPDATE planners SET active = '{before}' WHERE name = 'one'")
    with serving(nursery, folder, *FAKE, *PORTS) as server:
        assert revision(server) == after
        assert "planner one serves what the journal proved last" in server.child.err
