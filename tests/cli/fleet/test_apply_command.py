"""`s3lora apply`: the server reads its own file again; the difference is shown, then applied."""

from __future__ import annotations

import json

import pytest
from stub_admin import error, operation

from s3lora_serve.terminal import console

CONFIG = """\
base_model: demo
planners:
  math: {source: hf://o/math@v2, description: sums, pinned: true}
  code: {source: ./code, policy: {threshold: 0.5}}
policy: {top: 3}
"""
ADDED = {"source": "./code", "sha256": None, "policy": {"top": 3}, "description": "", "pinned": False}
CHANGES = [
    {"planner": "code", "what": "added", "before": None, "after": ADDED},
    {
        "planner": "math",
        "what": "changed",
        "before": {**ADDED, "source": "hf://o/math@v1"},
        "after": {**ADDED, "source": "hf://o/math@v2"},
    },
    {"planner": "old", "what": "removed", "before": ADDED, "after": None},
]


def applied(step: str = "done", error: dict | None = None, **details: object) -> dict:
    """An apply as the server shows it."""
    about = {"changes": CHANGES, "dry_run": False, **details}
    terms = {"kind": "apply", "planner": None, "from_digest": None, "to_digest": None}
    return operation(step, **terms, error=error, details=about)


@pytest.fixture
def file(stub, tmp_path):
    """A planners.yaml whose server is the stub."""
    (tmp_path / "code").mkdir()
    path = tmp_path / "planners.yaml"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize("options", [[], ["-c", "planners.yaml"]])
def test_the_server_reads_its_own_file(s3lora, stub, file, options):
    """The order declares nothing: --config says where the server is, what it reads is its own."""
    stub.steps = [applied()]
    assert s3lora("apply", *options, "--reason", "release 7").code == 0
    (asked,) = stub.orders()
    assert (asked.path, asked.body) == ("/admin/apply", {"reason": "release 7", "dry_run": False})


def test_the_difference_is_a_table(s3lora, stub, file):
    """+ for what comes, - for what goes, ~ for what changes, with only what differs."""
    stub.steps = [applied("admitting"), applied()]
    lines = [" ".join(line.split()) for line in s3lora("apply", "--config", file).out.splitlines()]
    assert lines == [
        "planner what before after",
        "+ code added - source: ./code",
        "policy: top 3",
        "pinned: false",
        "~ math changed source: hf://o/math@v1 source: hf://o/math@v2",
        "- old removed source: ./code -",
        "policy: top 3",
        "pinned: false",
        "✓ apply: 3 planners changed",
    ]


def test_a_dry_run_changes_nothing_and_says_so(s3lora, stub, file):
    """The same table; the server is told that it is a dry run."""
    stub.steps = [applied(dry_run=True)]
    done = s3lora("apply", "--config", file, "--dry-run")
    assert (done.code, stub.orders()[0].body["dry_run"]) == (0, True)
    assert done.out.splitlines()[-1] == "dry run: nothing was changed"


def test_nothing_to_change_is_done(s3lora, stub, file):
    """Applying twice is no error."""
    stub.steps = [applied(changes=[])]
    done = s3lora("apply")
    assert done.code == 0
    assert done.out == (
        "nothing to change: planners and policies are declared as they were applied last;"
        " planners that were swapped by order keep their revision\n"
    )


def test_a_failed_apply_is_exit_code_1(s3lora, stub, file):
    """Why, on stderr; the fleet is as it was."""
    bad = {"code": "bad_format", "message": "code: no weights", "hint": "fetch it again"}
    stub.steps = [applied("admitting"), applied("failed", error=bad)]
    done = s3lora("apply")
    assert done.code == 1
    assert "error: apply: code: no weights" in done.err


def test_json_has_nothing_but_the_operation(s3lora, stub, file):
    """The difference is in its details."""
    stub.steps = [applied()]
    assert json.loads(s3lora("apply", "--json").out)["details"]["changes"] == CHANGES


def test_a_wrong_file_reaches_no_server(s3lora, stub, file):
    """It cannot say where the server is; exit code 2."""
    file.write_text(CONFIG + "polcy: {}\n")
    done = s3lora("apply", "--config", file)
    assert (done.code, stub.asked) == (2, [])
    assert "unknown key; did you mean policy?" in done.err


def test_a_file_that_is_missing_is_named(s3lora, stub):
    """And no other server is asked instead."""
    done = s3lora("apply", "--config", "other.yaml")
    assert (done.code, stub.asked) == (2, [])
    assert "other.yaml: No such file" in done.err


def test_the_servers_refusal_is_shown(s3lora, stub, file):
    """As when another order runs."""
    stub.routes["/admin/apply"] = (409, error("conflict", "operation op-7 is deciding about planner 'math'"))
    done = s3lora("apply")
    assert (done.code, done.out) == (1, "")
    assert "op-7 is deciding" in done.err


def test_two_folders_of_one_name_are_told_apart(s3lora, stub):
    """The server shows no paths; a change must not look like none."""
    same = {**ADDED, "source": "local:code"}
    stub.steps = [applied(changes=[{"planner": "code", "what": "changed", "before": same, "after": same}])]
    out = s3lora("apply", "--dry-run").out
    assert "source: local:code  source: local:code, in another folder" in out


def test_a_difference_fits_a_narrow_terminal(s3lora, stub, monkeypatch):
    """Long sources and descriptions are folded; nothing is wider than the terminal."""
    monkeypatch.setattr(console.out, "width", 80)
    wide = {**ADDED, "source": "hf://organisation/" + "a-long-name-" * 8, "description": "words " * 20}
    stub.steps = [applied(changes=[{"planner": "p" * 20, "what": "changed", "before": ADDED, "after": wide}])]
    lines = s3lora("apply", "--dry-run").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
