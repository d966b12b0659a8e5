"""One OpenAPI description of all that is served, and of nothing else."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3lora_serve.runtime.service import PlannerService

_ERRORS = {
    str(status): {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
    }
    for status in (400, 401, 404, 413, 415, 429, 502, 503)
}
_REF = re.compile(r"^#/components/schemas/(.+)$")


def openapi_of(
    app: FastAPI, service: PlannerService, *, served: Iterable[str], open_paths: Iterable[str]
) -> Callable[[], dict[str, Any]]:
    """A function for ``app.openapi``: our routes, and the ``served`` ones of the engine's application.

    Built at the first call, which raises EngineDead while there is no engine to ask. Of the engine's schemas
    only those that its served routes need come along. ``open_paths`` need no key.
    """
    own = app.openapi
    merged: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not merged:
            engine_app = service.engine.openai_app()
            theirs = engine_app.openapi() if isinstance(engine_app, FastAPI) else {"paths": {}}
            merged.update(own())
            paths = {path: _our_errors(theirs["paths"][path]) for path in served if path in theirs["paths"]}
            schemas = theirs.get("components", {}).get("schemas", {})
            merged["paths"] = {**merged["paths"], **paths}
            components = merged.setdefault("components", {})
            ours = components.setdefault("schemas", {})
            for name in _needed(paths, schemas):
                ours.setdefault(name, schemas[name])
            components["securitySchemes"] = {"ApiKey": {"type": "http", "scheme": "bearer"}}
            merged["security"] = [{"ApiKey": []}]
            for path in open_paths:
                merged["paths"][path]["get"]["security"] = []
        return merged

    return openapi


def _our_errors(path: dict[str, Any]) -> dict[str, Any]:
    """The engine's description of a path, with errors as they leave this server."""
    operations = {}
    for method, operation in path.items():
        responses = {code: answer for code, answer in operation["responses"].items() if code.startswith("2")}
        operations[method] = {**operation, "tags": ["openai"], "responses": {**responses, **_ERRORS}}
    return operations


def _needed(part: Any, schemas: dict[str, Any]) -> set[str]:
    """Names of the schemas that ``part`` refers to, and that those refer to."""
    found: set[str] = set()
    todo = [part]
    while todo:
        at = todo.pop()
        if isinstance(at, dict):
            ref = at.get("$ref")
            match = _REF.match(ref) if isinstance(ref, str) else None
            if match and match[1] in schemas and match[1] not in found:
                found.add(match[1])
                todo.append(schemas[match[1]])
            todo.extend(at.values())
        elif isinstance(at, list):
            todo.extend(at)
    return found
