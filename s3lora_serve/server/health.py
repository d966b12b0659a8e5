"""Routes for monitoring: whether the server is alive, whether it is ready, and its metrics."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse

from s3lora_serve import __version__
from s3lora_serve.errors import EngineDead
from s3lora_serve.server.catalogue_models import Alive, Health, Readiness, Versions
from s3lora_serve.server.error_responses import documented

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from s3lora_serve.service.planner_service import PlannerService


def health_router(service: PlannerService) -> APIRouter:
    """``/livez``, ``/readyz``, ``/health``, ``/version`` and ``/metrics``."""
    router = APIRouter(tags=["operations"])

    @router.get("/health", response_model=None, responses=_HEALTH)
    async def health() -> JSONResponse:
        """200 while the engine is healthy, as of vLLM; /readyz also asks for all planners. Needs no key."""
        healthy = await service.healthy()
        return JSONResponse(
            {"status": "healthy" if healthy else "unhealthy"}, status_code=200 if healthy else 503
        )

    @router.get("/version", response_model=None, responses={200: {"model": Versions}, **documented(403)})
    async def versions() -> JSONResponse:
        """The server's version, and which kind of engine answers."""
        return JSONResponse({"version": __version__, "engine": service.engine_kind})

    @router.get("/livez", response_model=None, responses={200: {"model": Alive}})
    async def livez() -> JSONResponse:
        """200 while the server can answer at all. Needs no key.

        Also while the engine restarts: killing the server then would only make it take longer.
        """
        return JSONResponse({"status": "alive"})

    @router.get("/readyz", response_model=None, responses=_READY)
    async def readyz() -> JSONResponse:
        """200 while the engine is healthy and every planner serves. Needs no key, so it names no planner.

        While the engine is restarted, `restart` says what that is at; `guard` says why one that withholds
        answers can come to no verdict. Status `stopping` with 503: the server
        was told to stop, and still answers for a moment.
        """
        ready, alive = await service.ready(), await service.healthy()
        planners = service.planners()
        serving = sum(planner.answers for planner in planners) if alive else 0
        counts = {"serving": serving, "configured": len(planners)}
        if withheld := sum(bool(planner.alias.withheld) for planner in planners):
            counts["withheld"] = withheld  # by the journal, or by their exam
        body: dict[str, Any] = {
            "status": "ready" if ready else "stopping" if service.stop.announced else "not ready",
            "engine": service.engine_kind,
            "planners": counts,
        }
        if stuck := service.guards.stuck(planner.name for planner in planners):
            body["guard"] = stuck
        if (restart := service.host.restart) is not None:
            seconds = round(restart.seconds, 1)
            body["restart"] = {"stage": restart.stage, "attempt": restart.attempt, "seconds": seconds}
        return JSONResponse(body, status_code=200 if ready else 503)

    @router.get("/metrics", response_class=PlainTextResponse, responses=documented(403))
    async def metrics() -> PlainTextResponse:
        """Our metrics and the engine's, in the Prometheus text format."""
        text = service.metrics.exposition()
        with suppress(EngineDead):  # ours matter most then
            text += _without_ours(await _engine_metrics(service.engine.openai_app()))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


_HEALTH: dict[int | str, dict[str, Any]] = {
    200: {"model": Health},
    503: {"model": Health, "description": "the engine does not answer, or is restarted"},
}
_READY: dict[int | str, dict[str, Any]] = {
    200: {"model": Readiness},
    503: {"model": Readiness, "description": "not all planners serve"},
}


async def _engine_metrics(engine_app: ASGIApp) -> bytes:
    """What the engine's application answers to GET /metrics; nothing when it has no such route.

    Asked in process rather than read from a registry: with several processes vLLM keeps its own
    (vllm/v1/metrics/prometheus.py).
    """
    transport = httpx.ASGITransport(engine_app)
    plain = {"accept-encoding": "identity"}  # prometheus_client would compress it for nobody
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=plain) as client:
        answer = await client.get("/metrics")
    return answer.content if answer.status_code == 200 else b""


def _without_ours(text: bytes) -> bytes:
    # In Prometheus' multiprocess mode the engine's registry collects every metric of the process, ours too.
    ours = (b"s3lora_", b"# HELP s3lora_", b"# TYPE s3lora_")
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(ours))
