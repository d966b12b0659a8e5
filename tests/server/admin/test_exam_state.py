"""Exams over HTTP: the order arrives whole, and what is kept is shown without a path or a text."""

from __future__ import annotations

import pytest
from control_stub import NEW
from exam_results import kept_exam

from s3lora_serve.control.operation import Order, Wanted


@pytest.mark.parametrize("body", [None, {}, {"reason": "why", "expected_revision": "0" * 8}])
async def test_what_serves_is_examined_without_a_body(admin, control, body):
    """The usual order is empty; 202 names the operation."""
    answer = await admin.post("/admin/planners/p/exam", json=body)
    said = body or {}
    order = Order("unnamed (127.0.0.9)", said.get("reason", ""), said.get("expected_revision"))
    assert control.calls == [("examine", ("p", None, order), {})]
    assert (answer.status_code, answer.headers["location"]) == (202, "/admin/operations/op-1")
    assert answer.json()["kind"] == "exam"


async def test_an_adapter_is_named_as_for_a_swap(admin, control):
    """Source with its pin and key, or a revision of the store."""
    headers = {"idempotency-key": "k"}
    body = {"source": "demo://x", "sha256": "a" * 64}
    await admin.post("/admin/planners/p/exam", json=body, headers=headers)
    await admin.post("/admin/planners/p/exam", json={"revision": NEW[:8]})
    unnamed = "unnamed (127.0.0.9)"
    assert control.calls == [
        ("examine", ("p", Wanted("demo://x", "a" * 64), Order(unnamed, key="k")), {}),
        ("examine", ("p", Wanted(revision=NEW[:8]), Order(unnamed)), {}),
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"sorce": "demo://x"}, "source"),
        ({"source": "demo://x", "revision": NEW}, "not both"),
        ({"sha256": "a" * 64}, "belong to a 'source'"),
        ({"source": "https://user:secret@host/x"}, "source"),
    ],
)
async def test_a_wrong_body_is_no_order(admin, control, body, said):
    """400 names the field, and nothing reaches the control."""
    answer = await admin.post("/admin/planners/p/exam", json=body)
    assert (answer.status_code, control.calls) == (400, [])
    assert said in answer.json()["error"]["message"]
    assert "secret" not in answer.text


async def test_what_is_kept_is_shown(admin, control):
    """Each planner's serving revision with verdict and counts; null where there is none."""
    control.exam = kept_exam("undecided", stale=True, tries=3)
    (shown,) = (await admin.get("/admin/exams")).json()["data"]
    assert (shown["planner"], shown["role"], shown["revision"]) == ("p", "active", "0" * 64)
    assert (shown["exam"]["verdict"], shown["exam"]["stale"], shown["exam"]["tries"]) == (
        "undecided",
        True,
        3,
    )
    assert shown["exam"]["attacks"]["asked"] == 48
    assert "my store" not in str(shown)
    control.exam = None
    (shown,) = (await admin.get("/admin/exams", params={"planner": "p"})).json()["data"]
    assert shown["exam"] is None


async def test_an_unknown_planner_has_no_exams(admin):
    """404, as everywhere."""
    answer = await admin.get("/admin/exams", params={"planner": "q"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_planner")
