"""GET /: what this address is, for a person who opened it. It names no planner, so it needs no key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

_TITLE = "s3lora-serve: LoRA agent planners, verified and pruned before they answer"
_ROUTES = (
    ("POST /v1/plans", "a task and tools in, a valid plan out"),
    ("POST /v1/chat/completions", "OpenAI's chat; a planner's name is the model"),
    ("GET /v1/planners", "the planners, their revisions, and what was pruned"),
    ("GET /v1/models", "the same as OpenAI lists models"),
    ("GET /openapi.json", "every route, field and error"),
    ("GET /readyz", "whether all planners serve; /livez, /health, /version, /metrics"),
)
_NOTE = "Operators' orders are taken at another address: see `s3lora status`."
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>s3lora-serve</title>
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}}
code{{white-space:nowrap}}td{{padding:.2rem 1rem .2rem 0;vertical-align:top}}</style></head>
<body><h1>s3lora-serve</h1><p>{title}.</p><table>{rows}</table><p>{note}</p></body></html>
"""


def front_page_router() -> APIRouter:
    """The route of the page: HTML for browsers, else plain text."""
    router = APIRouter(tags=["operations"])

    @router.get("/", response_class=PlainTextResponse)
    async def front_page(request: Request) -> Response:
        """What this server is and what it answers. Needs no key, and names no planner."""
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(_html())
        lines = [f"{route:<28} {purpose}" for route, purpose in _ROUTES]
        return PlainTextResponse("\n".join([f"{_TITLE}.", "", *lines, "", _NOTE, ""]))

    return router


def _html() -> str:
    rows = "".join(f"<tr><td><code>{route}</code></td><td>{purpose}</td></tr>" for route, purpose in _ROUTES)
    return _PAGE.format(
        title=_TITLE, rows=rows, note=_NOTE.replace("`s3lora status`", "<code>s3lora status</code>")
    )
