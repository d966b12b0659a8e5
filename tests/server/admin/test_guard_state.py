"""GET /admin/guard."""

from __future__ import annotations

from functools import partial

import pytest
from control_stub import TOKEN, operators_client
from guard_questions import by_endpoint
from judged import judged, refused

from s3lora_serve.safety.guard.guards import Guards
from s3lora_serve.safety.guard.verdicts.verdict_file import VerdictFile
from s3lora_serve.safety.guard.verdicts.verdict_record import records_of
from s3lora_serve.safety.guard.verdicts.verdict_report import verdict_report

HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def verdicts(tmp_path):
    """A reader of a file with two verdicts, an hour and more apart."""
    with VerdictFile(tmp_path / "guard.db") as file:
        for at, task in ((3600.0, "early"), (10_000.0, "late")):
            file.add(*records_of("p", judged(refused("endpoint"), task=task), at))
    return partial(verdict_report, tmp_path / "guard.db", missing=True)


async def test_guards_and_what_they_found(service, verdicts):
    """Each planner's guard with its notice, and counts, groups and records of the time that was asked for."""
    service.guards = Guards({"p": by_endpoint("http://guard:9/v1")}, {})
    service.metrics.guard.lost = lambda: 4
    async with operators_client(service, verdicts, **HEADERS) as http:
        whole = (await http.get("/admin/guard")).json()
        late = (await http.get("/admin/guard", params={"since": 7200, "planner": "p"})).json()
        none = (await http.get("/admin/guard", params={"planner": "q"})).json()
        shown = (await http.get("/admin/planners/p")).json()
    assert whole["planners"][0]["guard"]["notice"] == "sends every task to guard:9"
    assert shown["guard"] == whole["planners"][0]["guard"]
    assert whole["lost"] == 4
    assert [each["words"] for each in whole["records"]] == ["late", "early"]
    assert [each["words"] for each in late["records"]] == ["late"]
    assert (whole["groups"][0]["requests"], late["groups"][0]["requests"]) == (2, 1)
    assert whole["counts"][0]["refused"] == 2
    assert (none["planners"], none["records"]) == ([], [])


@pytest.mark.parametrize(("params", "status"), [({"since": "x"}, 400), ({"since": 5, "until": 4}, 503)])
async def test_a_time_that_is_none(service, verdicts, params, status):
    """Refused with a reason."""
    async with operators_client(service, verdicts, **HEADERS) as http:
        answer = await http.get("/admin/guard", params=params)
    assert (answer.status_code, "error" in answer.json()) == (status, True)


async def test_without_records_the_report_is_empty(service):
    """A server that guards nothing says so."""
    async with operators_client(service, **HEADERS) as http:
        answer = (await http.get("/admin/guard")).json()
    assert answer["planners"] == [{"id": "p", "guard": None}]
    assert (answer["counts"], answer["groups"], answer["records"]) == ([], [], [])
