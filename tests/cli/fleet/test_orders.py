"""`s3lora swap`, `rollback`, `canary` and `promote`: what is sent, what is shown, how they end."""

from __future__ import annotations

import json

import pytest
from stub_admin import NEW, OLD, TOKEN, error, operation

from s3lora_serve.cli.fleet import admin_client, waiting
from s3lora_serve.terminal import console

ADMITTING, LOADING = operation("admitting", to_digest=None), operation("loading", progress="probe")
DRAINING = operation("draining")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pauses worth mentioning."""
    monkeypatch.setattr(waiting, "PAUSE", 0.01)
    monkeypatch.setattr(waiting, "BREATH", 0.0)
    monkeypatch.setattr(admin_client, "PAUSE", 0.001)


def test_swap_waits_and_shows_the_steps(s3lora, stub):
    """One line a step on stderr where there is no terminal, the result with its timings on stdout."""
    seconds = {"load": 0.12, "admit": 1.5, "flip": 0.0004}
    stub.steps = [ADMITTING, LOADING, LOADING, DRAINING, operation(seconds=seconds)]
    done = s3lora("swap", "math", "hf://org/math@v2")
    assert done.code == 0
    assert done.err.splitlines() == [f"  swap math: {step}" for step in ("admitting", "loading", "draining")]
    assert done.out == "✓ swap math: aaaaaaaaaaaa → bbbbbbbbbbbb  (admit 1.5 s, load 120 ms, flip 0.4 ms)\n"


def test_swap_sends_what_was_asked(s3lora, stub):
    """Every option arrives in the body; the actor and the token in headers; nothing that was not given."""
    digest, expected = "C" * 64, "ABCDEF01"
    s3lora("swap", "math", "demo://x", "--sha256", digest, "--expect", expected, "--reason", "why not")
    (asked,) = stub.orders()
    assert asked.path == "/admin/planners/math/swap"
    assert asked.body == {
        "source": "demo://x",
        "sha256": digest.lower(),
        "expected_revision": expected.lower(),
        "reason": "why not",
        "dry_run": False,
    }
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert "@" in asked.headers["x-s3lora-actor"]


def test_a_revision_of_the_store_is_named_by_its_digest(s3lora, stub):
    """--revision in place of a source."""
    assert s3lora("swap", "math", "--revision", NEW[:8]).code == 0
    assert stub.orders()[0].body == {
        "revision": NEW[:8],
        "reason": "",
        "dry_run": False,
    }


def test_a_relative_folder_is_one_of_here(s3lora, stub, tmp_path):
    """The server may run in another folder; what only it can see must be written in full."""
    (tmp_path / "adapter").mkdir()
    s3lora("swap", "math", "adapter")
    s3lora("swap", "math", "/only/there")
    assert [asked.body["source"] for asked in stub.orders()] == [str(tmp_path / "adapter"), "/only/there"]
    missing = s3lora("swap", "math", "nowhere")
    assert (missing.code, len(stub.orders())) == (2, 2)
    assert "there is no folder nowhere" in missing.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["swap", "math"], "name what to serve"),
        (["swap", "math", "demo://x", "--revision", NEW], "not both"),
        (["swap", "math", "--revision", "abc"], "--revision 'abc' is not a revision"),
        (["swap", "math", ""], "SOURCE is empty"),
        (["swap", "math", "demo://x", "--expect", "zzzzzzzz"], "--expect 'zzzzzzzz' is not a revision"),
        (["swap", "math", "demo://x", "--sha256", "12"], "is not a SHA-256"),
        (["swap", "math", "--revision", NEW, "--sha256", NEW], "--sha256 belongs to a SOURCE"),
        (["swap", "../x", "demo://x"], "'../x' is not a planner's name"),
        (["swap", "math", "demo://x", "--key", "ö"], "printable ASCII"),
        (["canary", "math", "demo://x", "--share", "0"], "--share 0 is not above 0"),
        (["canary", "math", "demo://x", "--share", "nan"], "--share nan"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_sent(s3lora, stub, arguments, said):
    """Exit code 2, the option named, and no order at the server."""
    done = s3lora(*arguments)
    assert (done.code, stub.orders()) == (2, [])
    assert said in done.err


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (["rollback", "math"], "rollback", {"reason": ""}),
        (["rollback", "math", "--to", OLD], "rollback", {"to": OLD, "reason": ""}),
        (["promote", "math", "--expect", OLD[:12]], "promote", {"expected_revision": OLD[:12], "reason": ""}),
        (
            ["canary", "math", "demo://x", "--share", "0.25", "--promote-after", "50"],
            "canary",
            {"source": "demo://x", "share": 0.25, "promote_after": 50, "reason": ""},
        ),
        (
            ["canary", "math", "demo://x", "--shadow"],
            "canary",
            {"source": "demo://x", "shadow": True, "reason": ""},
        ),
    ],
)
def test_the_other_orders_send_what_was_asked(s3lora, stub, arguments, path, body):
    """Each order has its route and its fields."""
    assert s3lora(*arguments).code == 0
    (asked,) = stub.orders()
    assert (asked.path, asked.body) == (f"/admin/planners/math/{path}", body)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--share", "0.5"], {"share": 0.5}),
        (["--no-shadow"], {"shadow": False}),
        (["--shadow", "--share", "1"], {"shadow": True, "share": 1.0}),
        (["--promote-after", "9"], {"promote_after": 9}),
    ],
)
def test_a_change_of_a_trial_says_only_what_changes(s3lora, stub, options, said):
    """What is left out is the server's to keep: nothing is asked before, and no default is sent."""
    assert s3lora("canary", "math", *options).code == 0
    (asked,) = stub.orders()
    assert asked.body == {**said, "reason": ""}


def test_another_share_names_the_candidate(s3lora, stub):
    """The operation says which revision is on trial."""
    stub.steps = [operation(kind="canary", to_digest=NEW, details={"share": 1.0})]
    done = s3lora("canary", "math", "--share", "1")
    assert done.out == ("✓ canary math: bbbbbbbbbbbb answers a share of 1; aaaaaaaaaaaa answers the rest\n")


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (
            operation("failed", error={"code": "no_effect", "message": "it changes nothing", "hint": "look"}),
            "error: swap math: it changes nothing; aaaaaaaaaaaa still serves\nhint:  look\n",
        ),
        (
            operation("failed", error={"code": "engine_dead", "message": "it is down", "hint": ""}),
            "error: swap math: it is down; nothing serves until the engine is back\n",
        ),
        (
            operation("undone"),
            "error: swap math: the server ended before it was decided, so it was undone; aaaaaaaaaaaa still"
            " serves\n",
        ),
    ],
    ids=["failed", "down", "undone"],
)
def test_an_order_that_was_not_carried_out_is_exit_code_1(s3lora, stub, ended, said):
    """Why, what to do, and what serves meanwhile; stdout stays empty."""
    stub.steps = [ADMITTING, ended]
    done = s3lora("swap", "math", "demo://x")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith(said)


def test_a_conflict_is_exit_code_1_with_the_servers_words(s3lora, stub):
    """What the server refuses is said as it says it."""
    stub.routes["/admin/planners/math/promote"] = (409, error("conflict", "planner 'math' has no candidate"))
    done = s3lora("promote", "math")
    assert (done.code, done.out, done.err) == (1, "", "error: planner 'math' has no candidate\n")


def test_json_is_the_operation_as_it_is(s3lora, stub):
    """All of stdout is what the server said last, for scripts; a failure changes the exit code only."""
    for last, code in ((operation(cut=["r1"]), 0), (operation("failed"), 1)):
        stub.steps = [ADMITTING, last]
        done = s3lora("swap", "math", "demo://x", "--json")
        assert (done.code, json.loads(done.out)) == (code, last)


def test_requests_that_were_cut_are_named(s3lora, stub):
    """Whoever they belong to may have to be told."""
    stub.steps = [operation(cut=[f"r{i}" for i in range(7)])]
    done = s3lora("swap", "math", "demo://x")
    assert done.code == 0
    assert "7 requests outlasted the drain deadline and were cut: r0, r1, r2, r3, r4 and 2 more" in done.err


def test_a_lost_answer_is_asked_for_again_under_the_same_key(s3lora, stub):
    """The order arrived, its answer did not: the repetition names the same key, so nothing is begun twice."""
    stub.drop = 2
    assert s3lora("swap", "math", "demo://x").code == 0
    keys = [asked.headers["idempotency-key"] for asked in stub.orders()]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_each_call_has_a_key_of_its_own(s3lora, stub):
    """The same command again is a new order, unless --key says otherwise."""
    for options in ([], [], ["--key", "mine"]):
        s3lora("rollback", "math", *options)
    keys = [asked.headers["idempotency-key"] for asked in stub.orders()]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_attempts_are_counted(s3lora, stub):
    """A server that never answers is given up on, named, with exit code 1."""
    stub.drop = 99
    done = s3lora("swap", "math", "demo://x")
    assert (done.code, len(stub.orders())) == (1, admin_client.ATTEMPTS)
    assert f"no server answers at {stub.url}" in done.err


def test_a_dry_run_shows_both_revisions(s3lora, stub, monkeypatch):
    """What serves and what would: pruning, sharpness and warnings, and that nothing was changed."""

    def facts(revision, pruned, ssi):
        return {
            "revision": revision,
            "source": "hf://org/math@v2",
            "kept_modules": 100,
            "pruned_modules": ["m"] * pruned,
            "ssi_max": ssi,
            "ssi_median": None,
            "warnings": ["odd key"],
        }

    would = {"serving": facts(OLD, 3, 0.51234), "wanted": facts(NEW, 9, 0.61)}
    stub.steps = [ADMITTING, operation(details={"dry_run": True, "same": False, "would": would})]
    done = s3lora("swap", "math", "demo://x", "--dry-run")
    rows = [" ".join(line.split()) for line in done.out.splitlines()]
    assert (done.code, stub.orders()[0].body["dry_run"]) == (0, True)
    assert rows == [
        "revision source kept pruned SSI max SSI median",
        "serving aaaaaaaaaaaa hf://org/math@v2 100 3 0.512 -",
        "wanted bbbbbbbbbbbb hf://org/math@v2 100 9 0.610 -",
        "dry run: bbbbbbbbbbbb was admitted, nothing else changed",
    ]
    assert "note: odd key" in done.err
    monkeypatch.setattr(console.out, "width", 80)
    would["wanted"]["source"] = "hf://organisation/" + "a-long-name-" * 8
    narrow = s3lora("swap", "math", "demo://x", "--dry-run").out
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow


def test_serving_it_already_is_done(s3lora, stub):
    """The same revision again changes nothing, and says so."""
    stub.steps = [operation(to_digest=OLD, details={"same": True, "dry_run": False})]
    done = s3lora("swap", "math", "demo://x")
    assert (done.code, done.out) == (0, "math serves aaaaaaaaaaaa already\n")


def test_an_answer_cannot_steer_the_terminal(s3lora, stub):
    """Names and reasons come from adapters and other people: escapes in them are written out."""
    bad = {"code": "x", "message": "a\x1b[2Jb", "hint": ""}
    stub.steps = [operation("failed", error=bad)]
    done = s3lora("swap", "math", "demo://x")
    assert "\x1b" not in done.err
    assert "a\\x1b[2Jb" in done.err


def test_cancel_ends_an_operation(s3lora, stub):
    """The reason arrives, the outcome is shown; with --json it is what the server says."""
    ended = operation(
        "cancelled", error={"code": "cancelled", "message": "cancelled by me: slow", "hint": ""}
    )
    stub.routes["/admin/operations/op-1/cancel"] = (200, ended)
    done = s3lora("cancel", "op-1", "--reason", "slow")
    assert (done.code, done.out) == (0, "swap math: cancelled by me: slow; aaaaaaaaaaaa still serves\n")
    assert stub.orders()[0].body == {"reason": "slow"}
    assert json.loads(s3lora("cancel", "op-1", "--json").out)["step"] == "cancelled"


def test_a_cancel_that_is_refused(s3lora, stub):
    """The message says why, and the command ends with 1."""
    told = error("conflict", "operation op-1 (swap, draining) has decided; roll the planner back")
    stub.routes["/admin/operations/op-1/cancel"] = (409, told)
    refused = s3lora("cancel", "op-1")
    assert (refused.code, "roll the planner back" in refused.err) == (1, True)


def test_what_is_in_the_way_can_be_cancelled(s3lora, stub):
    """A refused order shows the command that ends the operation in its way."""
    told = {**error("conflict", "operation op-9 is deciding"), "operation": "op-9"}
    stub.routes["/admin/planners/math/promote"] = (409, told)
    refused = s3lora("promote", "math")
    assert (refused.code, "run:   s3lora cancel op-9" in refused.err) == (1, True)


def test_waiting_for_a_cancelled_operation(s3lora, stub):
    """Whoever waits for an operation that another one cancels learns it, and gets 1."""
    stub.steps = [
        ADMITTING,
        operation("cancelled", error={"code": "preempted", "message": "pre-empted by op-2"}),
    ]
    done = s3lora("swap", "math", "demo://x")
    assert (done.code, "pre-empted by op-2; aaaaaaaaaaaa still serves" in done.err) == (1, True)


def test_a_suggested_command_asks_the_same_server(s3lora, stub, monkeypatch):
    """It can be pasted as it is: with the options by which this command found the server, and no others."""
    told = {**error("conflict", "operation op-9 is deciding"), "operation": "op-9"}
    stub.routes["/admin/planners/math/promote"] = (409, told)
    assert "run:   s3lora cancel op-9\n" in s3lora("promote", "math").err
    monkeypatch.setenv("S3LORA_ADMIN_TOKEN", TOKEN)
    named = s3lora("promote", "math", "--server", stub.url, "--engine", "fake")
    assert f"run:   s3lora cancel op-9 --server {stub.url} --engine fake\n" in named.err
