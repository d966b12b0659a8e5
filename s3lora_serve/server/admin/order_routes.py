"""The POST routes of ``/admin``, each an order: swap, rollback, canary, promote, exam, apply, cancel"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Response

from s3lora_serve.control.operation import Operation  # noqa: TC001  (FastAPI reads the annotations below)
from s3lora_serve.server.admin.admin_views import OperationView, operation_view
from s3lora_serve.server.admin.caller import Caller, caller
from s3lora_serve.server.admin.order_bodies import (
    ApplyBody,
    CanaryBody,
    CancelBody,
    ExamBody,
    PromoteBody,
    RollbackBody,
    SwapBody,
)
from s3lora_serve.server.error_responses import ConflictBody, documented

if TYPE_CHECKING:
    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.service.planner_service import PlannerService

Sender = Annotated[Caller, Depends(caller)]

_ORDERED: dict[int | str, dict[str, Any]] = {
    200: {"model": OperationView, "description": "it has ended: a dry run, or a known Idempotency-Key"},
    202: {
        "model": OperationView,
        "description": "it runs",
        "headers": {"Location": {"description": "the operation", "schema": {"type": "string"}}},
    },
    **documented(400, 404, 408, 413, 422, 503),
    409: {"model": ConflictBody, "description": "another revision serves, or another order runs"},
}

_CANCELLED: dict[int | str, dict[str, Any]] = {
    200: {"model": OperationView, "description": "it is cancelled, or was before"},
    **documented(400, 404, 408, 413, 422, 503),
    409: {"model": ConflictBody, "description": "it has decided what serves, or ended otherwise"},
}


def orders_router(service: PlannerService, redact: Redactor) -> APIRouter:
    """The POST routes of ``/admin``."""
    router = APIRouter(prefix="/admin", tags=["orders"])

    def answer(operation: Operation, response: Response) -> OperationView:
        if not operation.step.ended:
            response.status_code = 202
            response.headers["location"] = f"/admin/operations/{operation.id}"
        return operation_view(operation, redact)

    @router.post("/planners/{name}/swap", responses=_ORDERED)
    async def swap(name: str, body: SwapBody, by: Sender, response: Response) -> OperationView:
        """Serve another revision. The one before answers until the new one is loaded and proved."""
        order = by.order(body.reason, body.expected_revision)
        operation = await service.control.swap(name, body.named(), order, dry_run=body.dry_run)
        return answer(operation, response)

    @router.post("/planners/{name}/rollback", responses=_ORDERED)
    async def rollback(
        name: str, by: Sender, response: Response, body: RollbackBody | None = None
    ) -> OperationView:
        """Serve the revision before; with a candidate, give the candidate up."""
        body = body or RollbackBody()
        order = by.order(body.reason, body.expected_revision)
        return answer(await service.control.rollback(name, order, to=body.to), response)

    @router.post("/planners/{name}/canary", responses=_ORDERED)
    async def canary(name: str, body: CanaryBody, by: Sender, response: Response) -> OperationView:
        """Try another revision on a share of the requests, or change the share of the candidate."""
        operation = await service.control.canary(
            name,
            body.wanted(),
            by.order(body.reason, body.expected_revision),
            share=body.share,
            shadow=body.shadow,
            promote_after=body.promote_after,
        )
        return answer(operation, response)

    @router.post("/planners/{name}/promote", responses=_ORDERED)
    async def promote(
        name: str, by: Sender, response: Response, body: PromoteBody | None = None
    ) -> OperationView:
        """Serve the candidate."""
        body = body or PromoteBody()
        order = by.order(body.reason, body.expected_revision)
        return answer(await service.control.promote(name, order), response)

    @router.post("/planners/{name}/exam", responses=_ORDERED)
    async def exam(name: str, by: Sender, response: Response, body: ExamBody | None = None) -> OperationView:
        """Examine what serves, or what might, without a change. A kept verdict is the answer unless stale."""
        body = body or ExamBody()
        order = by.order(body.reason, body.expected_revision)
        return answer(await service.control.examine(name, body.wanted(), order), response)

    @router.post("/apply", responses=_ORDERED)
    async def apply(by: Sender, response: Response, body: ApplyBody | None = None) -> OperationView:
        """Bring the fleet to what planners.yaml says on the server; after any error nothing changes."""
        body = body or ApplyBody()
        order = by.order(body.reason)
        return answer(await service.control.reload(order, dry_run=body.dry_run), response)

    @router.post("/operations/{id}/cancel", responses=_CANCELLED)
    async def cancel(id: str, by: Sender, body: CancelBody | None = None) -> OperationView:
        """End an operation that has not flipped: what it began is taken back, what serves stays."""
        body = body or CancelBody()
        return operation_view(await service.control.cancel(id, by.order(body.reason)), redact)

    return router
