"""One OpenAPI description of all that is served, and of nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from s3lora_serve.server.openai.openai_description import our_body, our_path, our_schemas, undescribed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s3lora_serve.service.planner_service import PlannerService

_VALIDATION = "HTTPValidationError"
_REF = re.compile(r"^#/components/schemas/(.+)$")


def openapi_of(
    app: FastAPI, service: PlannerService, *, served: Iterable[str], open_paths: Iterable[str]
) -> Callable[[], dict[str, Any]]:
    """A function for ``app.openapi``: our routes, and the ``served`` ones of the engine's application.

    Built at the first call, which raises EngineDead while there is no engine to ask. Of the engine's schemas
    only those that its served routes need come along. ``open_paths`` need no key. An application that does
    not describe itself is described as far as this server knows.
    """
    own = app.openapi
    merged: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not merged:
            engine_app = service.engine.openai_app()
            theirs = engine_app.openapi() if isinstance(engine_app, FastAPI) else undescribed(served)
            merged.update(without_defaults(own()))
            paths = {path: our_path(theirs["paths"][path]) for path in served if path in theirs["paths"]}
            schemas = theirs.get("components", {}).get("schemas", {})
            bodies = {name for path in paths.values() for name in _bodies(path)}
            schemas = {name: our_body(schemas[name]) if name in bodies else schemas[name] for name in schemas}
            merged["paths"] = {**merged["paths"], **paths}
            components = merged.setdefault("components", {})
            ours = components.setdefault("schemas", {})
            if paths:
                ours.update({name: schema for name, schema in our_schemas().items() if name not in ours})
            for name in _needed(paths, schemas):
                ours.setdefault(name, schemas[name])
            components["securitySchemes"] = {"ApiKey": {"type": "http", "scheme": "bearer"}}
            merged["security"] = [{"ApiKey": []}]
            for path in open_paths:
                merged["paths"][path]["get"]["security"] = []
        return merged

    return openapi


def without_defaults(description: dict[str, Any]) -> dict[str, Any]:
    """An application's description without the 422 that FastAPI adds: what is wrong is a 400 here."""
    for path in description["paths"].values():
        for operation in path.values():
            if _VALIDATION in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in (_VALIDATION, "ValidationError"):
        description.get("components", {}).get("schemas", {}).pop(name, None)
    return description


def _bodies(path: dict[str, Any]) -> Iterator[str]:
    """Names of the schemas of a path's request bodies."""
    for operation in path.values():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if match := _REF.match(content.get("schema", {}).get("$ref", "")):
                yield match[1]


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
