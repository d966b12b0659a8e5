"""The operator's commands against a real server: everything but vLLM is what a user runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import write_adapter, write_base

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[3]
CONFIG = """\
base_model: ./base
planners:
  one: {source: one, policy: {top: 1}}
  two: {source: two, policy: {top: 1}}
engine: {max_loras: 4, max_lora_rank: 8}
server: {port: 0}
admin: {port: 0}
swap: {drain_seconds: 5}
exam: {action: observe, attacks: 10, harmless: 0, tasks: 0, plan_form: false}
sources: {allow: [.]}
store: {path: store}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a server that runs on its planners.yaml, and adapters that are not served yet."""
    folder = tmp_path_factory.mktemp("live")
    write_base(folder / "base")
    for seed, name in enumerate(("one", "two", "new", "newer")):
        write_adapter(folder / name, seed=seed)
    (folder / "broken").mkdir()
    (folder / "planners.yaml").write_text(CONFIG)
    script = str(ROOT / "tests/helpers/processes/fake_server.py")
    secrets = ("S3LORA_API_KEY", "S3LORA_ADMIN_TOKEN", "S3LORA_ADMIN_URL")
    kept = {name: value for name, value in os.environ.items() if name not in secrets}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, script, "--config", str(folder / "planners.yaml")],
            cwd=ROOT,
            env={
                **kept,
                "PYTHONPATH": str(ROOT / "tests/helpers/engines"),
                "COLUMNS": "200",
                "NO_COLOR": "1",
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        for line in process.stdout:
            if line.startswith("  -d "):
                break
        else:
            pytest.fail((folder / "log").read_text())
        yield folder
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=180)


@pytest.fixture
def live(s3lora, folder, monkeypatch):
    """Run ``s3lora`` in the server's folder; with --json the answer is parsed."""
    for name in ("S3LORA_ADMIN_URL", "S3LORA_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return s3lora


def serving(live, planner: str = "one") -> str:
    """The revision that answers."""
    (found,) = json.loads(live("status", planner, "--json").out)["planners"]
    return found["revision"]


def test_a_swap_and_back(live):
    """The new revision serves once the command has ended; the rollback restores the one before, quickly."""
    before = serving(live)
    done = live("swap", "one", "new", "--reason", "try it", "--expect", before[:12])
    after = serving(live)
    assert done.code == 0, done.err
    assert done.out.startswith(f"✓ swap one: {before[:12]} → {after[:12]}  (admit ")
    assert before != after
    back = json.loads(live("rollback", "one", "--json").out)
    assert (back["step"], back["to_digest"]) == ("done", before)
    assert serving(live) == before


def test_a_stale_expectation_is_refused(live):
    """Exit code 1, both revisions are named, and nothing is begun."""
    before = serving(live)
    done = live("swap", "one", "new", "--expect", "0" * 12)
    assert done.code == 1
    assert f"planner 'one' serves revision {before}" in done.err
    assert serving(live) == before


def test_an_adapter_that_is_refused_changes_nothing(live):
    """The reason reaches the operator, and so does what serves meanwhile."""
    before = serving(live)
    done = live("swap", "one", "broken")
    assert (done.code, done.out) == (1, "")
    assert "error: swap one: " in done.err
    assert f"{before[:12]} still serves" in done.err
    assert serving(live) == before


def test_one_key_is_one_operation(live):
    """The same order under the same key is the same operation; another order under it is refused."""
    first = json.loads(live("swap", "two", "new", "--key", "k-1", "--json").out)
    again = json.loads(live("swap", "two", "new", "--key", "k-1", "--json").out)
    other = live("swap", "two", "newer", "--key", "k-1")
    assert first["id"] == again["id"]
    assert (other.code, "k-1" in other.err) == (1, True)
    assert live("rollback", "two").code == 0


def test_a_dry_run_compares_and_changes_nothing(live):
    """Both revisions with their pruning; the same one serves afterwards."""
    before = serving(live)
    done = live("swap", "one", "newer", "--dry-run")
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()] == ["revision", "serving", "wanted", "dry"]
    assert serving(live) == before


def test_a_canary_is_widened_and_promoted(live):
    """A share first, a larger one, then all; status shows the candidate beside the active revision."""
    before = serving(live)
    assert live("canary", "one", "new", "--share", "0.1", "--promote-after", "5000").code == 0
    assert live("canary", "one", "--share", "0.5").code == 0
    shown = live("status", "one")
    assert "canary 0.5" in shown.out
    assert "promoted by itself after 5000 good requests" in shown.out
    done = live("promote", "one", "--expect", before)
    assert done.code == 0, done.err
    assert serving(live) != before
    assert live("rollback", "one", "--to", before[:8]).code == 0
    assert serving(live) == before


def test_a_shadow_is_given_up(live):
    """A rollback with a candidate on trial ends the trial; what serves stays."""
    before = serving(live)
    shadow = live("canary", "one", "newer", "--shadow", "--share", "1")
    assert (shadow.code, "shadows a share of" in shadow.out) == (0, True)
    refused = live("swap", "one", "new")
    assert (refused.code, "has a candidate on trial" in refused.err) == (1, True)
    done = live("rollback", "one")
    assert (done.code, "is given up" in done.out) == (0, True), done.err
    assert serving(live) == before


def test_what_happened_can_be_read_and_holds(live, folder):
    """The history names actor and reason; server and file agree that chain and store are whole."""
    live("swap", "one", "new", "--reason", "for the record")
    live("rollback", "one")
    entries = json.loads(live("history", "one", "--json", "--limit", "200").out)
    flips = [entry for entry in entries if entry["reason"] == "for the record"]
    assert any("@" in entry["actor"] and entry["to_digest"] for entry in flips)
    state = folder / ".s3lora" / "state.db"
    offline = json.loads(live("history", "one", "--json", "--limit", "200", "--state", state).out)
    assert [entry["hash"] for entry in offline] == [entry["hash"] for entry in entries]
    online, file = live("audit"), live("audit", "--state", state, "--config", "planners.yaml")
    assert (online.code, file.code) == (0, 0), online.out + file.out
    assert {line[:5] for line in (online.out + file.out).splitlines()} == {"ok   "}


def test_apply_follows_the_file(live, folder):
    """A planner comes and one changes its adapter, shown first by a dry run; then both go back."""
    file = folder / "planners.yaml"
    two = serving(live, "two")
    file.write_text(CONFIG.replace("two: {source: two,", "two: {source: new,"))
    file.write_text(
        file.read_text().replace("engine:", "  three: {source: newer, policy: {top: 1}}\nengine:", 1)
    )
    try:
        dry = live("apply", "--dry-run")
        assert dry.code == 0, dry.err
        marks = [line.split()[:3] for line in dry.out.splitlines() if line[:1] in "+-~"]
        assert marks == [["~", "two", "changed"], ["+", "three", "added"]]
        assert "source: local:two source: local:new" in " ".join(dry.out.split())
        assert serving(live, "two") == two
        done = live("apply", "--config", "planners.yaml")
        assert done.code == 0, done.err
        assert done.out.splitlines()[-1].startswith("✓ apply: 2 planners changed")
        assert serving(live, "two") != two
        assert serving(live, "three")
        assert "nothing to change" in live("apply").out
    finally:
        file.write_text(CONFIG)
        back = live("apply")
    assert back.code == 0, back.err
    assert live("status", "three").code == 1
    assert serving(live, "two") == two


def test_an_apply_that_fails_keeps_everything(live, folder):
    """One planner of the file is refused, so none of it is applied."""
    file, two = folder / "planners.yaml", serving(live, "two")
    changed = CONFIG.replace("one: {source: one,", "one: {source: broken,").replace(
        "source: two", "source: new"
    )
    file.write_text(changed)
    try:
        done = live("apply", "--config", file)
    finally:
        file.write_text(CONFIG)
    assert done.code == 1
    assert "error: apply: " in done.err
    assert serving(live, "two") == two


def test_a_wrong_token_is_told_apart(live, monkeypatch):
    """The message says which place the token came from."""
    monkeypatch.setenv("S3LORA_ADMIN_TOKEN", "wrong")
    done = live("status")
    assert done.code == 1
    assert "does not know the token from S3LORA_ADMIN_TOKEN" in done.err


def test_a_source_that_is_not_allowed_is_told_with_its_line(live):
    """By the server, whether it is there or not; a password does not leave the client's machine."""
    for dry in ([], ["--dry-run"]):
        done = live("swap", "one", "/srv/elsewhere", *dry)
        assert done.code == 1
        assert "add the line '- /srv/elsewhere' under sources.allow" in done.err
    done = live("swap", "one", "https://me:SECRET@host/a")
    assert (done.code, "SECRET" in done.err + done.out) == (1, False)
    assert "must not hold a user or a password" in done.err


def test_an_exam_of_what_serves_and_of_what_might(live):
    """Verdict and exit code agree, what is kept is shown, and what serves stays."""
    before = serving(live)
    found = {}
    for target in ("one", "./newer"):
        done = live("exam", target, "--json", *(("--planner", "one") if target != "one" else ()))
        operation = json.loads(done.out)
        found[target] = verdict = operation["details"]["exam"]
        assert (operation["step"], verdict["attacks"]["asked"]) == ("done", 10)
        assert done.code == {"passed": 0, "refused": 1, "undecided": 3}[verdict["verdict"]]
    assert serving(live) == before
    kept = live("exam", "one", "--kept", "--html", "exam.html")
    assert f"exam of one {before[:12]}: {found['one']['verdict']} on the public prompts" in kept.out
    assert Path("exam.html").read_text().startswith("<!DOCTYPE html>")
    assert "exam.answered" in live("history", "one").out
