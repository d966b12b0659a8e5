"""What is ordered over HTTP, on a control that only remembers: each order arrives whole or not at all."""

from __future__ import annotations

import json

import pytest
from control_stub import NEW

from s3lora_serve.adapters.fetch.address import Source
from s3lora_serve.adapters.fetch.reach import Reach
from s3lora_serve.control.operation import Order, Step, Wanted
from s3lora_serve.errors import Conflict
from s3lora_serve.spectral.prune_policy import Adaptive, PrunePolicy


async def test_a_swap_says_all_that_the_body_says(admin, control):
    """Source, pin, policy, reason and condition arrive as the runtime's values; the answer is 202."""
    answer = await admin.post(
        "/admin/planners/p/swap",
        json={
            "source": "hf://org/name@main",
            "sha256": "a" * 64,
            "policy": {"adaptive": {"z": 3}, "action": "reject"},
            "reason": "fixes #7",
            "expected_revision": "00000000",
        },
        headers={"idempotency-key": "k1", "x-s3lora-actor": "alice@build7"},
    )
    policy = PrunePolicy(rule=Adaptive(z=3, max_share=0.25), action="reject")
    order = Order("alice@build7 (127.0.0.9)", "fixes #7", "00000000", "k1")
    assert control.calls == [
        (
            "swap",
            ("p", Wanted("hf://org/name@main", "a" * 64, policy, None), order),
            {"dry_run": False},
        )
    ]
    assert (answer.status_code, answer.headers["location"], answer.json()["step"]) == (
        202,
        "/admin/operations/op-1",
        "loading",
    )


async def test_a_canary_and_its_share(admin, control):
    """With a revision it is begun; without one only its share changes."""
    await admin.post(
        "/admin/planners/p/canary",
        json={"revision": NEW[:8], "share": 0.25, "shadow": True, "promote_after": 200},
    )
    await admin.post("/admin/planners/p/canary", json={"share": 1})
    unnamed = Order("unnamed (127.0.0.9)")
    assert control.calls == [
        (
            "canary",
            ("p", Wanted(revision=NEW[:8]), unnamed),
            {"share": 0.25, "shadow": True, "promote_after": 200},
        ),
        ("canary", ("p", None, unnamed), {"share": 1.0, "shadow": None, "promote_after": None}),
    ]


@pytest.mark.parametrize("body", [None, {}, {"to": NEW, "reason": "worse"}])
async def test_a_rollback_needs_no_body(admin, control, body):
    """The usual one is an empty request in a hurry."""
    answer = await admin.post("/admin/planners/p/rollback", json=body)
    said = body or {}
    assert (answer.status_code, control.calls) == (
        202,
        [
            (
                "rollback",
                ("p", Order("unnamed (127.0.0.9)", said.get("reason", ""))),
                {"to": said.get("to")},
            )
        ],
    )


async def test_a_promotion_needs_no_body(admin, control):
    """A promotion is recorded with its actor and needs nothing else."""
    assert (await admin.post("/admin/planners/p/promote")).status_code == 202
    assert control.calls == [("promote", ("p", Order("unnamed (127.0.0.9)")), {})]


@pytest.mark.parametrize("body", [None, {}, {"dry_run": True, "reason": "edited"}])
async def test_apply_reads_the_servers_own_file(admin, control, body):
    """As SIGHUP does."""
    assert (await admin.post("/admin/apply", json=body)).status_code == 202
    said = body or {}
    assert control.calls == [
        (
            "reload",
            (Order("unnamed (127.0.0.9)", said.get("reason", "")),),
            {"dry_run": said.get("dry_run", False)},
        )
    ]


async def test_an_ended_operation_is_a_200(admin, control):
    """A dry run, or a retry under a known key: nothing is left to wait for."""
    control.step = Step.DONE
    answer = await admin.post("/admin/planners/p/swap", json={"revision": NEW, "dry_run": True})
    assert (answer.status_code, "location" in answer.headers, answer.json()["ended"]) == (200, False, True)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("planners/p/swap", {}, "name what to serve: 'source' (an adapter to admit) or 'revision'"),
        ("planners/p/swap", {"revision": NEW, "source": "x"}, "give 'source' or 'revision', not both"),
        (
            "planners/p/swap",
            {"revision": NEW, "sha256": "a" * 64},
            "'sha256' and 'policy' belong to a 'source'",
        ),
        ("planners/p/swap", {"revison": NEW}, "unknown field 'revison'; did you mean 'revision'?"),
        ("planners/p/swap", {"revision": "abc"}, "revision: String should match pattern"),
        ("planners/p/swap", {"revision": NEW, "dry_run": 1}, "dry_run: Input should be a valid boolean"),
        (
            "planners/p/swap",
            {"source": "x", "policy": {"topp": 1}},
            "unknown field 'topp'; did you mean 'top'",
        ),
        ("planners/p/swap", {"revision": NEW, "reason": "x" * 501}, "reason: String should have at most 500"),
        ("planners/p/canary", {"share": 0}, "share: Input should be greater than 0, not 0"),
        ("planners/p/canary", {"share": 1.01}, "share: Input should be less than or equal to 1"),
        ("planners/p/canary", {"share": 0.1, "promote_after": 0}, "promote_after: Input should be greater"),
        ("planners/p/rollback", {"to": "../x"}, "to: String should match pattern"),
        ("planners/p/promote", {"share": 1}, "unknown field 'share'; known: expected_revision, reason"),
        ("apply", {"planners": {"p": {"source": "x"}}}, "unknown field 'planners'; known: dry_run, reason"),
        ("apply", {"policy": {}}, "unknown field 'policy'; known: dry_run, reason"),
        ("apply", {"reason": "a\x1b[31m"}, "reason: character 1 is U+001B; send printable text on one line"),
        ("planners/p/swap", {"source": "demo://x\n"}, "source: character 8 is U+000A"),
        ("planners/p/swap", {"source": "demo://\x00"}, "source: character 7 is U+0000"),
        ("planners/p/canary", {"source": "\x9bx", "share": 0.1}, "source: character 0 is U+009B"),
        ("planners/p/swap", {"source": "x", "sha256": "a" * 64 + "\n"}, "sha256: String should match"),
        ("planners/p/swap", {"revision": NEW + "\n"}, "revision: String should match"),
        ("planners/p/rollback", {"reason": "a\nb"}, "reason: character 1 is U+000A"),
        ("planners/p/promote", {"reason": "\u202egood"}, "reason: character 0 is U+202E"),
    ],
)
async def test_a_wrong_order_is_a_400_that_says_what_to_mend(admin, control, path, body, message):
    """Field, value and limit are named, and nothing is ordered."""
    answer = await admin.post(f"/admin/{path}", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], message in error["message"], control.calls) == (
        400,
        "invalid_request",
        True,
        [],
    ), error


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("idempotency-key", ""),
        ("idempotency-key", "k" * 129),
        ("idempotency-key", "a\tb"),
        ("x-s3lora-actor", "a" * 101),
        ("x-s3lora-actor", b"\xc3\xa9"),
        ("x-s3lora-actor", b"a\x1b[31m"),
        ("idempotency-key", b"a\x00"),
    ],
)
async def test_odd_headers_are_refused(admin, control, header, value):
    """What goes into the history and onto terminals is short and printable."""
    answer = await admin.post("/admin/planners/p/promote", headers={header: value})
    assert (answer.status_code, answer.json()["error"]["param"], control.calls) == (
        400,
        f"header.{header}",
        [],
    )


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"[" * 50_000])
async def test_what_is_no_json_object_is_no_swap(admin, control, content):
    """A 4xx in our shape, never a 500 and never an order."""
    answer = await admin.post(
        "/admin/planners/p/swap", content=content, headers={"content-type": "application/json"}
    )
    assert (answer.status_code == 400, sorted(answer.json()["error"]), control.calls) == (
        True,
        ["code", "message", "param", "type"],
        [],
    )


@pytest.mark.parametrize("field", ["source", "reason"])
async def test_half_a_character_is_refused(admin, control, field):
    """JSON can spell what no file, terminal or database can take."""
    body = {"source": "x", field: "\ud800"}
    answer = await admin.post(
        "/admin/planners/p/swap", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"], control.calls) == (400, "invalid_request", [])


@pytest.mark.parametrize("order", ["swap", "canary"])
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("https://user:SECRET@host/a", "source: https://host/a: a source must not hold a user or a password"),
        ("s3://AKIA:SECRET@bucket/a", "AWS_"),
        ("simplecache::s3://SECRET/a", "simplecache:// is not read: sources are a folder, demo://"),
        ("https://user:SECRET@host/" + "a" * 2000, "should have at most 2000 characters"),
        (["https://user:SECRET@host/"], "source: "),
    ],
)
async def test_a_source_with_a_password_is_refused_unrepeated(admin, control, order, source, says):
    """Before anything is begun; the answer says what to do, and has nothing of the password."""
    answer = await admin.post(f"/admin/planners/p/{order}", json={"source": source})
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert "SECRET" not in answer.text
    assert control.calls == []


async def test_a_source_that_is_not_allowed_says_which_line_to_add(admin, control, monkeypatch):
    """With the path as it was sent, although messages lose the server's paths otherwise."""

    async def refuse(*_: object, **__: object) -> None:
        Reach().check(Source.parse("/srv/adapters/new"))

    monkeypatch.setattr(control, "swap", refuse)
    answer = await admin.post("/admin/planners/p/swap", json={"source": "/srv/adapters/new"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "source_not_allowed")
    assert "add the line '- /srv/adapters/new' under sources.allow" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [None, {"reason": "hangs"}])
async def test_a_cancel_needs_no_body(admin, control, body):
    """It names the operation in its path, and answers it as it ended; a reason is optional."""
    id_ = (await admin.post("/admin/planners/p/promote")).json()["id"]
    answer = await admin.post(f"/admin/operations/{id_}/cancel", json=body)
    said = (body or {}).get("reason", "")
    assert control.calls[-1] == ("cancel", (id_, Order("unnamed (127.0.0.9)", said)), {})
    assert (answer.status_code, answer.json()["step"], answer.json()["ended"]) == (200, "cancelled", True)
    assert (await admin.post("/admin/operations/op-none/cancel")).status_code == 404
    wrong = await admin.post(f"/admin/operations/{id_}/cancel", json={"why": "hangs"})
    assert (wrong.status_code, "reason" in wrong.json()["error"]["message"]) == (400, True)


async def test_a_conflict_names_what_is_in_the_way(admin, control):
    """The operation that decides just now, so that the caller can wait for it or cancel it."""
    control.raises = Conflict("operation op-9 is deciding", command="s3lora cancel op-9", operation="op-9")
    answer = await admin.post("/admin/planners/p/promote")
    assert (answer.status_code, answer.json()["operation"]) == (409, "op-9")
    assert "s3lora" not in answer.text
