"""Policies with evidence in the bodies of orders: they arrive whole, or are refused by the field at fault."""

from __future__ import annotations

import pytest

from s3lora_serve.spectral.prune_policy import Alignment, AnomalyBar, PrunePolicy, Top
from s3lora_serve.spectral.validated import Validated

VALIDATED = {"sweep": "/srv/run", "task": "t", "floor": 0.9}
BENIGN = {"reference": "/srv/benign.json", "max": 2.5, "action": "reject"}


@pytest.mark.parametrize("order", ["swap", "canary"])
@pytest.mark.parametrize(
    ("body", "policy"),
    [
        (
            {"validated": VALIDATED, "anomaly": BENIGN},
            PrunePolicy(
                rule=Validated("/srv/run", "t", 0.9),
                anomaly=AnomalyBar("/srv/benign.json", 2.5, "reject"),
            ),
        ),
        (
            {"scorer": "e-diem", "top": 3, "alignment": {"base": "org/base", "base_revision": "v1"}},
            PrunePolicy("e-diem", Top(3), alignment=Alignment("org/base", base_revision="v1")),
        ),
    ],
    ids=["validated", "alignment"],
)
async def test_a_policy_with_evidence_arrives_whole(admin, control, order, body, policy):
    """In a swap and in a canary."""
    share = {"share": 0.5} if order == "canary" else {}
    answer = await admin.post(
        f"/admin/planners/p/{order}", json={"source": "hf://o/n", "policy": body, **share}
    )
    assert answer.status_code == 202
    ((_, (_, wanted, _), _),) = control.calls
    assert wanted.policy == policy


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"validated": {**VALIDATED, "flor": 1}}, "unknown field 'flor'; did you mean 'floor'?"),
        ({"anomaly": {**BENIGN, "maximum": 1}}, "unknown field 'maximum'; did you mean 'max'?"),
        ({"scorer": "safelora"}, "set alignment.base"),
        ({"alignment": {"base": "org/base"}}, "alignment is for the scorers e-diem and safelora"),
        ({"validated": {"sweep": "/srv/run", "task": "t"}}, "'policy.validated.floor' is required"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused(admin, control, policy, message):
    """Before anything is begun, by the field at fault."""
    answer = await admin.post("/admin/planners/p/swap", json={"source": "hf://o/n", "policy": policy})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert control.calls == []
