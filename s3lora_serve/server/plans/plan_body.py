"""The body of ``POST /v1/plans`` as JSON, refused before it is checked if that would take long."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.routing import APIRoute

from planners import PlanRequest
from planners.tools import MAX_TOOLS
from planners.tools.tool_forms import FIELDS as TOOL_FIELDS
from s3lora_serve.server.validation import RequestRefused, nearest, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator

    from starlette.responses import Response

# pydantic makes an error of each, and all of them hold the event loop while they are made.
MAX_UNKNOWN = 64
MAX_OBJECTS = 50_000  # the largest parameters that are understood have a fifth of it


class PlanRoute(APIRoute):
    """A route whose body is read as the chat route reads its body; FastAPI checks and describes it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which raises RequestRefused for a body that is not worth checking."""
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            body = await request.body()
            fields = parse_object(body, request, _Objects().of)
            check_names(fields)
            return await handle(_Read(request, body, fields))

        return read


class _Read(Request):
    """A request whose body was read already."""

    def __init__(self, request: Request, body: bytes, fields: dict[str, Any]) -> None:
        super().__init__(request.scope, request.receive)
        self._bytes, self._fields = body, fields

    async def body(self) -> bytes:
        return self._bytes

    async def json(self) -> Any:
        return self._fields


class _Objects:
    """Makes the objects of one body; raises RequestRefused for a field given twice, or too many objects."""

    def __init__(self) -> None:
        self._left = MAX_OBJECTS

    def of(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0:
            raise RequestRefused(f"the body holds over {MAX_OBJECTS} JSON objects", reason="over_limit")
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise RequestRefused(
                f"field {twice[:80]!r} is given twice in one object, and only one would have an effect",
                reason="ignored_field",
                param=twice[:80],
                hint="send it once",
            )
        return made


def check_names(fields: dict[str, Any]) -> None:
    """Raise RequestRefused for over ``MAX_UNKNOWN`` unknown fields."""
    tools = fields.get("tools")
    few = tools if isinstance(tools, list) and len(tools) <= MAX_TOOLS else []
    found = chain(_unknown(fields, PlanRequest.model_fields), *map(_unknown_of_tool, few))
    unknown = list(islice(found, MAX_UNKNOWN + 1))
    if len(unknown) > MAX_UNKNOWN:
        name, known = unknown[0]
        raise RequestRefused(
            f"over {MAX_UNKNOWN} unknown fields, the first one {name[:80]!r}",
            reason="ignored_field",
            param=name[:80],
            hint=nearest(name[:80], known),
        )


def _unknown_of_tool(tool: Any) -> Iterator[tuple[str, Iterable[str]]]:
    yield from _unknown(tool, TOOL_FIELDS)
    if isinstance(tool, dict):
        yield from _unknown(tool.get("function"), TOOL_FIELDS)


def _unknown(given: Any, known: Collection[str]) -> Iterator[tuple[str, Iterable[str]]]:
    if isinstance(given, dict):
        yield from ((name, known) for name in given if name not in known)
