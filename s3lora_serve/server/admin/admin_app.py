"""The operators' application, put together of the routes of orders and of state; with its own token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.routing import Route

from s3lora_serve import __version__
from s3lora_serve.errors import ConfigError, Conflict, StoreError, UnknownPlanner
from s3lora_serve.server.access.access_log import accounts
from s3lora_serve.server.access.auth import RequireKey
from s3lora_serve.server.access.refused_credentials import RefusedCredentials
from s3lora_serve.server.admin.exam_state import exams_router
from s3lora_serve.server.admin.guard_state import guard_router, no_verdicts
from s3lora_serve.server.admin.order_bodies import FIELDS
from s3lora_serve.server.admin.order_routes import orders_router
from s3lora_serve.server.admin.state import state_router
from s3lora_serve.server.error_responses import conflict_response, error_response, exception_handlers
from s3lora_serve.server.http.body_limit import BodyLimit
from s3lora_serve.server.http.head import HeadAsGet
from s3lora_serve.server.middleware import ENGINE, RequestScope
from s3lora_serve.server.openapi import without_defaults
from s3lora_serve.server.redact import redactor, revision_roots

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import JSONResponse

    from s3lora_serve.safety.guard.verdicts.verdict_report import VerdictReport
    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.server.validation import Fields
    from s3lora_serve.service.planner_service import PlannerService

OPENAPI = "/admin/openapi.json"
_MAX_BODY = 2**16  # bytes; the largest is a swap with a long source and reason


def create_admin_app(
    service: PlannerService, token: str, verdicts: Callable[..., VerdictReport] = no_verdicts
) -> FastAPI:
    """The operators' application for a service that was started. Raises ConfigError for an empty token.

    ``verdicts`` reads what guards found, as ``verdict_report`` does of its file.
    Every request needs the token, from wherever it comes: what is ordered here changes what all clients get.
    """
    if not token.strip():
        raise ConfigError("the admin token is empty", hint="unset its variable, and one is made at start")
    redact = redactor(lambda: revision_roots(service.planners()))
    app = FastAPI(
        title="s3lora-serve admin",
        version=__version__,
        summary="Swap, roll back and try revisions of planners.",
        openapi_url=OPENAPI,
        docs_url=None,  # the pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=_handlers(service, redact),
    )
    routers = (
        orders_router(service, redact),
        state_router(service, redact),
        guard_router(service, verdicts),
        exams_router(service),
    )
    for router in routers:
        app.include_router(router)
    own = (route.path for router in routers for route in router.routes if isinstance(route, Route))
    app.openapi = _with_token(app.openapi)  # type: ignore[method-assign]

    # Each one wraps those before it: the last is the outermost.
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit, max_bytes=_MAX_BODY, setting="")
    refused = RefusedCredentials(service.metrics, "admin", "admin token", slow=True)
    key = {"operator": token}
    app.add_middleware(RequireKey, api_key=key, open_paths=frozenset(), secret="admin token", refused=refused)
    counted, says = accounts(service.metrics, (*own, OPENAPI)), {ENGINE: service.engine_kind}
    app.add_middleware(RequestScope, count=counted, says=says, stop=service.stop)
    return app


def _handlers(service: PlannerService, redact: Redactor) -> dict[Any, Callable[[Request, Any], Any]]:
    """Those of the data plane, and what is different for operators."""

    async def conflict(request: Request, error: Conflict) -> JSONResponse:
        try:
            planner = service.get(request.path_params.get("name", ""))
        except UnknownPlanner:  # an apply is about none
            return conflict_response(redact(str(error)), None, None, error.operation)
        return conflict_response(
            redact(str(error)), planner.revision.digest, planner.generation, error.operation
        )

    async def store(_: Request, error: StoreError) -> JSONResponse:
        # An order named a revision, and the store does not have it whole.
        return error_response(404, redact(str(error)), code=error.code)

    def fields(request: Request) -> Fields:
        return FIELDS.get(request.url.path.rpartition("/")[2], {})

    return {**exception_handlers(redact, fields, description=OPENAPI), Conflict: conflict, StoreError: store}


def _with_token(build: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        described = without_defaults(build())
        described.setdefault("components", {})["securitySchemes"] = {
            "AdminToken": {"type": "http", "scheme": "bearer"}
        }
        described["security"] = [{"AdminToken": []}]
        return described

    return openapi
