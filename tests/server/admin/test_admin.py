"""The operators' routes over a control that only records: access, orders and answers."""

from __future__ import annotations

import dataclasses
import json
import threading

import pytest
from control_stub import NEW, TOKEN, operators_client

from s3lora_serve.control.journal.chain import Head
from s3lora_serve.control.journal.entry import Entry
from s3lora_serve.control.journal.journal_findings import AuditFinding
from s3lora_serve.errors import (
    ConfigError,
    Conflict,
    EngineDead,
    SlotsBusy,
    StateError,
    StoreError,
    UnknownPlanner,
)
from s3lora_serve.server.admin.admin_app import create_admin_app

ORDERS = ("swap", "rollback", "canary", "promote")
BODIES = {
    "/admin/planners/p/swap": {"revision": NEW},
    "/admin/planners/p/rollback": {},
    "/admin/planners/p/canary": {"revision": NEW, "share": 0.1},
    "/admin/planners/p/promote": {},
    "/admin/apply": {},
    "/admin/operations/op-1/cancel": {},
}


@pytest.mark.parametrize("token", ["", "  "])
def test_without_a_token_there_is_no_application(service, token):
    """An empty variable does not open the port."""
    with pytest.raises(ConfigError):
        create_admin_app(service, token)


@pytest.mark.parametrize(
    "path", ["/admin/planners", "/admin/openapi.json", "/livez", "/readyz", "/admin", "/nope"]
)
@pytest.mark.parametrize("header", [None, "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}"])
async def test_nothing_is_told_without_the_token(service, path, header):
    """Every path is a 401, also probes and those that do not exist, from this machine too."""
    async with operators_client(service) as http:
        answer = await http.get(path, headers={"authorization": header} if header else {})
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        401,
        "a valid admin token is needed; send it as 'Authorization: Bearer TOKEN'",
    )


@pytest.mark.parametrize("path", sorted(BODIES))
async def test_nothing_is_ordered_without_the_token(service, control, path):
    """No order reaches the control, whatever it is."""
    async with operators_client(service) as http:
        assert (await http.post(path, json=BODIES[path])).status_code == 401
    assert control.calls == []


async def test_a_huge_body_is_a_413(admin):
    """No setting raises it, so none is named."""
    answer = await admin.post("/admin/apply", content=b"x" * (2**16 + 1))
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        413,
        "the body is over the limit of 65536 bytes",
    )


async def test_a_conflict_says_what_serves(admin, control):
    """The caller can decide anew: the revision and the generation are in the body."""
    control.raises = Conflict("revision 1111 was expected", hint="look again")
    answer = await admin.post("/admin/planners/p/swap", json={"revision": NEW})
    assert (answer.status_code, answer.json()) == (
        409,
        {
            "error": {
                "message": "revision 1111 was expected; look again",
                "type": "invalid_request_error",
                "param": None,
                "code": "conflict",
            },
            "revision": "0" * 64,
            "generation": 3,
        },
    )
    fleet = await admin.post("/admin/apply", json=BODIES["/admin/apply"])
    assert (fleet.status_code, fleet.json()["revision"]) == (409, None)


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (UnknownPlanner("no p"), 404, None),
        (StoreError("revision ffff is not in the store"), 404, None),
        (StateError("disk full"), 503, "10"),
        (ConfigError("planners.yaml has 2 problems"), 422, None),
        (EngineDead("gone"), 503, "10"),
        (SlotsBusy("all taken", retry_after=2.1), 429, "3"),
        (SlotsBusy("all taken", retry_after=0.0), 429, "1"),
    ],
)
async def test_each_error_has_its_status(admin, control, error, status, retry):
    """Who can mend it shows in the status; Retry-After is in whole seconds and never too early."""
    control.raises = error
    answer = await admin.post("/admin/planners/p/promote")
    assert (answer.status_code, answer.json()["error"]["code"], answer.headers.get("retry-after")) == (
        status,
        error.code,
        retry,
    )


async def test_planners_are_shown_with_all_their_deployments(admin):
    """What serves, with the requests on it, and what else is there; the list and the entry agree."""
    listed = (await admin.get("/admin/planners")).json()
    one = (await admin.get("/admin/planners/p")).json()
    assert listed == {"object": "list", "data": [one]}
    assert (one["generation"], one["revision"], one["active"]["state"], one["active"]["leases"]) == (
        3,
        "0" * 64,
        "serving",
        2,
    )
    assert (one["active"]["source"], one["candidate"], one["others"][0]["state"]) == (
        "local:p",
        None,
        "failed",
    )
    assert (await admin.get("/admin/planners/x")).status_code == 404


async def test_operations_can_be_looked_up_and_waited_for(admin, control):
    """One by its id, waiting for at most the time given; all of them newest first."""
    for _ in range(2):
        await admin.post("/admin/planners/p/promote")
    ids = [operation["id"] for operation in (await admin.get("/admin/operations")).json()["data"]]
    limited = (await admin.get("/admin/operations?limit=1")).json()["data"]
    waited = (await admin.get("/admin/operations/op-1?wait=7.5")).json()
    assert (ids, [o["id"] for o in limited], waited["step"], waited["ended"]) == (
        ["op-2", "op-1"],
        ["op-2"],
        "done",
        True,
    )
    assert control.calls[-1] == ("wait", ("op-1", 7.5), {"seen": None})
    await admin.get("/admin/operations/op-1?wait=7.5&seen=loading")
    assert control.calls[-1] == ("wait", ("op-1", 7.5), {"seen": "loading"})
    assert (await admin.get("/admin/operations/op-2")).json()["order"] == {
        "actor": "unnamed (127.0.0.9)",
        "reason": "",
        "expected": None,
        "key": None,
    }


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/admin/operations/op-9", 404, "unknown_operation"),
        ("/admin/operations/op-9?wait=1", 404, "unknown_operation"),
        ("/admin/operations/op-9?wait=21", 400, "invalid_request"),
        ("/admin/operations/op-9?wait=1&seen=lodaing", 400, "invalid_request"),
        ("/admin/operations?limit=0", 400, "invalid_request"),
        ("/admin/history?after=-1", 400, "invalid_request"),
        ("/admin/nope", 404, "not_found"),
        ("/v1/models", 404, "not_found"),
    ],
)
async def test_what_cannot_be_told(admin, path, status, code):
    """In our shape; nothing of the data plane is on this listener."""
    answer = await admin.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_history_and_verification_are_told(admin, control):
    """Entries as they were written, and findings with one word over all of them."""
    control.entries = [
        Entry(
            seq=7,
            at="2026-01-02T03:04:05.000006+00:00",
            actor="a",
            action="swap.done",
            planner="p",
            operation="op-1",
            from_digest="0" * 64,
            to_digest=NEW,
            reason="r",
            details={"seconds": {"load": 0.5}},
            previous_hash="1" * 64,
            hash="2" * 64,
        )
    ]
    control.findings = [
        AuditFinding(ok=True, subject="journal", message="whole"),
        AuditFinding(ok=False, subject="p", message="revision 0000: adapter_model.safetensors is missing"),
    ]
    history = (await admin.get("/admin/history?planner=p&after=6&limit=2")).json()
    assert (history["data"][0], control.calls[-1]) == (
        vars(control.entries[0]),
        ("history", ("p", 6, 2), {}),
    )
    verification = (await admin.get("/admin/verify")).json()
    assert (verification["ok"], [found["ok"] for found in verification["findings"]]) == (False, [True, False])
    head = f"7:{'2' * 64}"
    assert (await admin.get(f"/admin/verify?head={head}")).status_code == 200
    assert control.calls[-1] == ("verify", (Head(7, "2" * 64),), {})
    assert (await admin.get("/admin/verify?head=7")).status_code == 400


async def test_no_answer_holds_a_server_path(admin, control, tmp_path):
    """Not the store, whose name has a space in it, also for revisions that no planner holds any more."""
    gone = f"{tmp_path}/my store/revisions/{'9' * 64}/adapter_model.safetensors"
    control.raises = StoreError(f"cannot read {gone}")
    told = [(await admin.post("/admin/planners/p/promote")).text]
    control.raises = Conflict(f"locked by {gone}")
    told.append((await admin.post("/admin/planners/p/promote")).text)
    control.raises = None
    control.findings = [AuditFinding(ok=False, subject=gone, message=gone)]
    entry = dict.fromkeys(("actor", "action", "at", "previous_hash", "hash"), "x")
    control.entries = [
        Entry(
            **entry, seq=1, planner=None, operation=None, from_digest=None, to_digest=None,
            reason=gone, details={"sources": [{"from": gone}]},
        )
    ]  # fmt: skip
    await admin.post("/admin/planners/p/swap", json={"source": gone, "reason": f"see {gone}"})
    for path in (
        "planners",
        "planners/p",
        "operations",
        "operations/op-1",
        "history",
        "verify",
        "openapi.json",
    ):
        told.append((await admin.get(f"/admin/{path}")).text)
    secrets = ("my store", " store/", str(tmp_path))
    assert [(secret, text) for secret in secrets for text in told if secret in text] == []


@pytest.mark.parametrize("source", ["demo://x[", "https://[::1/a", "x\ny", "\x00", "://", "s3://\u202e"])
async def test_what_is_stored_can_always_be_shown(admin, control, source):
    """Also a source that no address can be read from, written before it was refused at the order."""
    await admin.post("/admin/planners/p/swap", json={"source": "demo://x"})
    operation = control.known["op-1"]
    details = {"wanted": {"source": source}, "changes": [{"source": source}]}
    control.known["op-1"] = dataclasses.replace(operation, details=details)
    listed, one = await admin.get("/admin/operations"), await admin.get("/admin/operations/op-1")
    shown = one.json()["details"]["wanted"]["source"]
    assert (listed.status_code, one.status_code, len(shown.splitlines())) == (200, 200, 1)


@pytest.mark.parametrize("path", ["operations", "operations/op-1", "history"])
async def test_reading_the_history_stops_nobody(admin, control, monkeypatch, path):
    """The disk is read in a thread: while it is slow, the loop that answers requests goes on."""
    await admin.post("/admin/planners/p/promote")
    readers = set()
    for name in ("operations", "operation", "history"):
        read = getattr(control, name)

        def elsewhere(*args, read=read, **options):
            readers.add(threading.current_thread())
            return read(*args, **options)

        monkeypatch.setattr(control, name, elsewhere)
    assert (await admin.get(f"/admin/{path}")).status_code == 200
    assert (len(readers), threading.current_thread() in readers) == (1, False)


async def test_every_answer_is_described(admin):
    """Each route says what it answers, errors among them in our shape, and that it needs the token."""
    described = (await admin.get("/admin/openapi.json")).json()
    assert described["security"] == [{"AdminToken": []}]
    paths = {path: sorted(operations) for path, operations in described["paths"].items()}
    assert paths == {
        **{f"/admin/planners/{{name}}/{order}": ["post"] for order in ORDERS},
        "/admin/apply": ["post"],
        "/admin/engine": ["get"],
        "/admin/planners": ["get"],
        "/admin/planners/{name}": ["get"],
        "/admin/operations": ["get"],
        "/admin/operations/{id}": ["get"],
        "/admin/operations/{id}/cancel": ["post"],
        "/admin/events": ["get"],
        "/admin/history": ["get"],
        "/admin/guard": ["get"],
        "/admin/exams": ["get"],
        "/admin/planners/{name}/exam": ["post"],
        "/admin/verify": ["get"],
    }
    events = described["paths"].pop("/admin/events")["get"]["responses"]["200"]
    assert list(events["content"]) == ["text/event-stream"]
    kinds = {
        (status, answer["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1])
        for operations in described["paths"].values()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if status >= "400"
    }
    assert kinds == {
        *((status, "ErrorBody") for status in ("400", "401", "404", "408", "413", "422", "503")),
        ("409", "ConflictBody"),
    }
    assert "HTTPValidationError" not in json.dumps(described)


async def test_orders_are_counted_by_route(admin, service):
    """The path with its planner's name is not a label."""
    await admin.post("/admin/planners/p/promote")
    lines = service.metrics.exposition().decode().splitlines()
    wanted = 's3lora_http_requests_total{planner="",route="/admin/planners/{name}/promote",status="202"} 1.0'
    assert wanted in lines
