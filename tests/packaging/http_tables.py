"""The routes of both listeners and their errors as tables, from OpenAPI and the tree of errors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from markdown_table import code, table

from s3lora_serve import errors as tree
from s3lora_serve.config import ServerConfig
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import S3LoRAError
from s3lora_serve.server.admin.admin_app import create_admin_app
from s3lora_serve.server.app import create_app
from s3lora_serve.server.error_responses import status_of
from s3lora_serve.service.metrics.prometheus import Metrics
from s3lora_serve.terminal.console import exit_code

if TYPE_CHECKING:
    from collections.abc import Iterator


def routes() -> str:
    """A row for each route: where it is, and what it answers."""
    clients = create_app(_service(), ServerConfig(), None).openapi()
    operators = create_admin_app(_service(), "a token").openapi()
    rows = [
        (code(f"{method.upper()} {path}"), listener, _meaning(operation))
        for listener, described in (("clients", clients), ("admin", operators))
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]
    return table(("route", "listener", "answers"), rows)


def errors() -> str:
    """A row for each code: the status that it leaves with, and how a command ends by it."""
    rows = []
    for kind in _below(S3LoRAError):
        error = kind.__new__(kind)  # the rules ask for the class alone, and some need facts to be made
        rows.append((code(kind.code), str(status_of(error)), str(exit_code(error)), _first(kind.__doc__)))
    return table(("code", "HTTP status", "exit code", "meaning"), rows)


def _service() -> Any:
    """As much of a service as a description asks for; the routes do not depend on what serves."""
    engine = SimpleNamespace(max_model_len=1, openai_app=lambda: None)
    own = {"metrics": Metrics(), "planners": lambda: (), "stop": None}
    return SimpleNamespace(engine=engine, engine_kind=EngineKind.FAKE, **own)


def _meaning(operation: dict[str, Any]) -> str:
    return _first(operation.get("description") or operation["summary"])


def _below(kind: type[S3LoRAError]) -> Iterator[type[S3LoRAError]]:
    for inner in kind.__subclasses__():
        if inner.__module__ == tree.__name__:
            yield inner
            yield from _below(inner)


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].replace("``", "`").split())
