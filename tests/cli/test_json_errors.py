"""--json: an error is JSON on stdout too; for people it stays on stderr, and the exit code is the same."""

from __future__ import annotations

import json

import pytest
from stub_admin import error

FAILING = [
    (["swap", "math", "demo://x"], 1, "conflict", "op-7 is deciding"),
    (["rollback", "math"], 1, "conflict", "op-7 is deciding"),
    (["canary", "math", "demo://x"], 1, "conflict", "op-7 is deciding"),
    (["promote", "math"], 1, "conflict", "op-7 is deciding"),
    (["apply"], 1, "conflict", "op-7 is deciding"),
    (["wait", "op-1"], 1, "conflict", "op-7 is deciding"),
    (["status"], 1, "conflict", "op-7 is deciding"),
    (["history"], 1, "conflict", "op-7 is deciding"),
    (["history", "--state", "none.db"], 1, "state_error", "there is no state file"),
    (["audit"], 1, "conflict", "op-7 is deciding"),
    (["inspect", "nowhere"], 1, "source_unavailable", "nowhere is not there"),
    (["swap", "math", "nowhere"], 2, "config_error", "there is no folder nowhere"),
    (["swap", "math", "demo://x", "--expect", "zz"], 2, "config_error", "is not a revision"),
    (["canary", "math", "--share", "much"], 2, "usage_error", "Invalid value for '--share'"),
    (["swap"], 2, "usage_error", "Missing argument"),
    (["status", "--wach"], 2, "usage_error", "No such option"),
]


@pytest.fixture
def refusing(stub, monkeypatch):
    """A server that refuses whatever it is asked."""
    refused = error("conflict", "operation op-7 is deciding about planner 'math'")
    monkeypatch.setattr(stub, "answer", lambda _: (409, refused))
    return stub


@pytest.mark.parametrize(("arguments", "code", "name", "said"), FAILING)
def test_an_error_is_json_too(s3lora, refusing, arguments, code, name, said):
    """All of stdout is one object that says which error it is; without --json stdout stays empty."""
    done = s3lora(*arguments, "--json")
    found = json.loads(done.out)
    assert (done.code, list(found), sorted(found["error"])) == (code, ["error"], ["code", "hint", "message"])
    assert found["error"]["code"] == name
    assert said in found["error"]["message"]
    plain = s3lora(*arguments)
    assert (plain.code, plain.out) == (code, "")
    assert done.err == plain.err
    assert plain.err


def test_the_hint_is_there(s3lora, tmp_path, monkeypatch):
    """As on stderr: the next step, by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("S3LORA_ADMIN_URL", raising=False)
    done = s3lora("status", "--json")
    assert done.code == 1
    assert json.loads(done.out)["error"] == {
        "code": "unreachable",
        "message": "no server runs here: there is no .s3lora/admin.json",
        "hint": "start s3lora-serve, or name the server: --config planners.yaml, or --server URL",
    }
