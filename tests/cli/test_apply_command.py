"""`s3lora apply`: the file is checked, the difference shown, then applied."""

from __future__ import annotations

import json

import pytest
from stub_admin import error, operation

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


def applied(step: str = "done", **details: object) -> dict:
    """An apply as the server shows it."""
    about = {"changes": CHANGES, "dry_run": False, **details}
    return operation(step, kind="apply", planner=None, from_digest=None, to_digest=None, details=about)


@pytest.fixture
def file(stub, tmp_path):
    """A planners.yaml whose server is the stub."""
    (tmp_path / "code").mkdir()
    path = tmp_path / "planners.yaml"
    path.write_text(CONFIG)
    return path


def test_apply_sends_what_is_declared(s3lora, stub, file, tmp_path):
    """Planners and the fleet's policy; folders as the server can find them."""
    stub.steps = [applied()]
    assert s3lora("apply", "-c", file, "--reason", "release 7").code == 0
    (asked,) = stub.orders()
    assert asked.path == "/admin/apply"
    assert asked.body["planners"] == {
        "math": {"source": "hf://o/math@v2", "description": "sums", "pinned": True},
        "code": {
            "source": str(tmp_path / "code"),
            "description": "",
            "pinned": False,
            "policy": {"scorer": "mas-svd", "threshold": 0.5, "action": "prune", "seed": 0},
        },
    }
    assert asked.body["policy"] == {"scorer": "mas-svd", "top": 3, "action": "prune", "seed": 0}
    assert (asked.body["reason"], asked.body["dry_run"]) == ("release 7", False)


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
    assert (done.code, done.out) == (0, "nothing to change: what is declared is what is applied\n")


def test_a_failed_apply_is_exit_code_1(s3lora, stub, file):
    """Why, on stderr; the fleet is as it was."""
    bad = {"code": "bad_format", "message": "code: no weights", "hint": "fetch it again"}
    stub.steps = [applied("admitting"), {**applied("failed"), "error": bad}]
    done = s3lora("apply")
    assert done.code == 1
    assert "error: apply: code: no weights" in done.err


def test_json_has_nothing_but_the_operation(s3lora, stub, file):
    """The difference is in its details."""
    stub.steps = [applied()]
    assert json.loads(s3lora("apply", "--json").out)["details"]["changes"] == CHANGES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CONFIG + "polcy: {}\n", "unknown key; did you mean policy?"),
        (CONFIG.replace("hf://o/math@v2", "demo://nope"), "no demo adapter 'nope'"),
    ],
)
def test_a_wrong_file_reaches_no_server(s3lora, stub, file, text, said):
    """It is checked here first, all of it; exit code 2."""
    file.write_text(text)
    done = s3lora("apply", "--config", file)
    assert (done.code, stub.asked) == (2, [])
    assert said in done.err


def test_without_a_file_the_server_reads_its_own(s3lora, stub):
    """As after SIGHUP: nothing is declared here, and the difference is the server's."""
    stub.steps = [applied()]
    done = s3lora("apply", "--dry-run")
    assert (done.code, stub.orders()[0].body) == (0, {"reason": "", "dry_run": True})
    assert "+  code" in done.out


def test_a_file_that_is_missing_is_named(s3lora, stub):
    """And the server is not asked to read its own instead."""
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
