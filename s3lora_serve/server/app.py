"""The HTTP application: the engine's OpenAI endpoints and our own, behind one key."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from s3lora_serve import __version__
from s3lora_serve.config import PlansConfig
from s3lora_serve.errors import EngineDead
from s3lora_serve.server.access.access_log import accounts
from s3lora_serve.server.access.auth import OPEN_PATHS, Keys, RequireKey, by_caller, check_binding
from s3lora_serve.server.access.refused_credentials import RefusedCredentials
from s3lora_serve.server.catalogue import catalogue_router
from s3lora_serve.server.concurrency import ConcurrencyLimit
from s3lora_serve.server.error_responses import exception_handlers
from s3lora_serve.server.health import health_router
from s3lora_serve.server.http.body_limit import BodyLimit
from s3lora_serve.server.http.front_page import front_page_router
from s3lora_serve.server.http.head import HeadAsGet
from s3lora_serve.server.middleware import ENGINE, REQUEST_ID, RequestScope
from s3lora_serve.server.openai.openai_route import OPENAI_ROUTES, OpenAIRoute
from s3lora_serve.server.openai.upstream_app import UpstreamApps
from s3lora_serve.server.openapi import openapi_of
from s3lora_serve.server.plans.plan_description import WHO
from s3lora_serve.server.plans.plan_route import PLANS, plans_router
from s3lora_serve.server.redact import redactor, revision_roots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from s3lora_serve.config import ServerConfig
    from s3lora_serve.service.planner_service import PlannerService

# What a page's script may read of an answer's headers.
EXPOSED = (*WHO, REQUEST_ID, "retry-after", "warning")


def create_app(
    service: PlannerService, settings: ServerConfig, api_key: Keys, plans: PlansConfig | None = None
) -> FastAPI:
    """The application for a service that was started. Raises ConfigError for an open address without a key.

    ``api_key``: that of every client, or those of several callers by name.

    The engine's own application is not mounted: only ``OPENAI_ROUTES`` are handed to it, since vLLM's brings
    routes that load adapters, pause the engine or read files, some of them without a key.
    """
    keys = by_caller(api_key)
    check_binding(settings.host, keys)
    plans = plans or PlansConfig()
    apps = UpstreamApps(service)
    redact = redactor(lambda: revision_roots(service.planners()))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with apps.lifespan():
            with suppress(EngineDead):  # it is then described at the first request
                app.openapi()
            yield

    app = FastAPI(
        title="s3lora-serve",
        version=__version__,
        summary="Verified and spectrally pruned LoRA planners.",
        docs_url=None,  # the pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers=exception_handlers(redact),
    )
    openai = OpenAIRoute(apps, service, redact, plans, settings)
    app.router.routes.extend(Route(path, openai, methods=["POST"]) for path in OPENAI_ROUTES)
    routers = (
        front_page_router(),
        plans_router(service, plans, redact),
        catalogue_router(service, service.engine.max_model_len, redact),
        health_router(service),
    )
    for router in routers:
        app.include_router(router)
    own = (route.path for router in routers for route in router.routes if isinstance(route, Route))
    routes = (*OPENAI_ROUTES, *own, "/openapi.json")
    app.openapi = openapi_of(app, service, served=OPENAI_ROUTES, open_paths=OPEN_PATHS)  # type: ignore[method-assign]

    # Each one wraps those before it: the last is the outermost.
    app.add_middleware(HeadAsGet)
    app.add_middleware(ConcurrencyLimit, most=settings.max_concurrent, paths=(*OPENAI_ROUTES, PLANS))
    most_bytes = int(settings.max_body_mib * 2**20)
    app.add_middleware(
        BodyLimit,
        max_bytes=most_bytes,
        seconds=settings.body_seconds,
        held_bytes=settings.max_concurrent * most_bytes,
    )
    refused = RefusedCredentials(service.metrics, "clients", "API key")
    app.add_middleware(RequireKey, api_key=keys, refused=refused, key_env=settings.api_key_env)
    if settings.cors_origins:  # outside of the key: browsers ask first, without it
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=list(EXPOSED),
        )
    counted, says = accounts(service.metrics, routes), {ENGINE: service.engine_kind}
    app.add_middleware(RequestScope, count=counted, says=says, stop=service.stop)
    return app
