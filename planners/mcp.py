"""Planners for MCP clients: a server over stdio with the tools ``make_plan`` and ``list_planners``.

    s3lora-mcp --url http://127.0.0.1:8000 --planner hotpot-planner
    python -m planners.mcp ...      # the same

stdout carries the protocol and nothing else. The server's key is read from S3LORA_API_KEY.
"""

# Without postponed annotations: those of the tools name what is only imported in a function, since mcp is an
# extra, and the schemas that clients see are made from them.

import argparse
import asyncio
import difflib
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planners.client import AsyncPlannerClient
from planners.client.asking import DEFAULT_URL, KEY_ENV, URL_ENV
from planners.client.errors import PlannerAPIError, PlanRefused
from planners.plan import Plan
from planners.tools import MAX_FEEDBACK, MAX_STEPS, MAX_TOOLS, ToolSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mcp.server import MCPServer
    from mcp.server.mcpserver.context import Context
    from mcp.server.mcpserver.tools import Tool

_INSTRUCTIONS = (
    "make_plan turns a task into steps that name tools and refer to earlier results as #E1, #E2, ...; it "
    "runs none of them. Run them yourself, in order; steps that refer to no unknown result can run together. "
    "Replace each reference by the result of its step."
)


_INSTALL = 'pip install "s3lora-planners[mcp]"'
_MOST_FAULTS = 3  # told of one call


class PlannerCard(BaseModel):
    """A planner that can be asked."""

    model_config = ConfigDict(frozen=True)

    id: str
    description: str = ""
    state: str
    revision: str
    tools: Annotated[tuple[ToolSpec, ...], Field(description="its own, for when none are given")] = ()


class PlannerCards(BaseModel):
    """The planners that can be asked, and the one that is asked unless another is named."""

    model_config = ConfigDict(frozen=True)

    default: str | None = None
    planners: tuple[PlannerCard, ...]


def make_server(client: AsyncPlannerClient, default: str | None) -> "MCPServer[Any]":
    """An MCP server whose tools ask ``client``; ``default`` is the planner that is asked unless one is named.

    Raises ImportError without the package mcp, and with its versions before 2.0, which have no MCPServer.
    """
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import CallToolResult, TextContent, ToolAnnotations

    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)

    def answer(text: str, value: BaseModel) -> CallToolResult:
        content = value.model_dump(mode="json", exclude_none=True)
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=content)

    async def make_plan(
        task: Annotated[str, Field(description="what is to be done")],
        tools: Annotated[
            list[ToolSpec | str] | None,
            Field(max_length=MAX_TOOLS, description="what steps may use; left out, the planner's own tools"),
        ] = None,
        max_steps: Annotated[int | None, Field(ge=1, le=MAX_STEPS, description="8 if left out")] = None,
        planner: Annotated[str | None, Field(description="one of list_planners")] = default,
        evidence: Annotated[
            dict[str, str] | None, Field(description='results that are known already: {"#E1": "..."}')
        ] = None,
        feedback: Annotated[
            list[str] | None,
            Field(max_length=MAX_FEEDBACK, description="what was wrong with an earlier plan"),
        ] = None,
    ) -> Annotated[CallToolResult, Plan]:
        """Plan a task with the tools given: steps, each with a thought, a tool and its input.

        The plan names only those tools and only results of earlier steps. Nothing is run.
        """
        if planner is None:
            raise ToolError(
                "no planner was named and there is no default; list_planners says which there are"
            )
        try:
            plan = await client.plan(
                task, tools, planner=planner, max_steps=max_steps, evidence=evidence, feedback=feedback
            )
        except PlannerAPIError as error:
            raise ToolError(_told(error)) from None
        except ValidationError as error:
            raise ToolError(_invalid(error)) from None
        return answer(plan.to_rewoo(), plan)

    async def list_planners() -> Annotated[CallToolResult, PlannerCards]:
        """The planners that make_plan can ask, with their state and their own tools."""
        try:
            listed = await client.planners()
        except PlannerAPIError as error:
            raise ToolError(_told(error)) from None
        cards = tuple(PlannerCard.model_validate(planner) for planner in listed)
        lines = [f"{card.id} ({card.state}): {card.description}".rstrip(": ") for card in cards]
        return answer("\n".join(lines), PlannerCards(default=default, planners=cards))

    return MCPServer[Any](
        "s3lora-serve",
        instructions=_INSTRUCTIONS,
        version=_version(),
        log_level="WARNING",
        tools=[
            _strict(make_plan, title="Make a plan", annotations=reads),
            _strict(list_planners, title="List planners", annotations=reads),
        ],
    )


def _strict(function: "Callable[..., Any]", **more: Any) -> "Tool":
    """A tool that refuses arguments it does not know: mcp's own drops them, and the caller never learns."""
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.server.mcpserver.tools import Tool

    class StrictTool(Tool):
        async def run(
            self, arguments: dict[str, Any], context: "Context[Any, Any]", convert_result: bool = False
        ) -> Any:
            if faults := _unknown(self.name, arguments, list(self.parameters["properties"])):
                raise ToolError(faults)
            try:  # here, since mcp would give the caller pydantic's own text, of several lines
                self.fn_metadata.validate_arguments(arguments)
            except ValidationError as error:
                raise ToolError(_invalid(error)) from None
            return await super().run(arguments, context, convert_result)

    tool = StrictTool.from_function(function, **more)
    tool.parameters["additionalProperties"] = False
    return tool


def command_line() -> argparse.ArgumentParser:
    """The options of ``s3lora-mcp``."""
    parser = argparse.ArgumentParser(
        prog="s3lora-mcp", description="Planners of an s3lora-serve as an MCP server over stdio."
    )
    parser.add_argument("--url", help=f"the server; default: {URL_ENV}, else {DEFAULT_URL}")
    parser.add_argument("--planner", help="asked unless a call names another one")
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds to wait for a plan (default: %(default)g)"
    )
    return parser


def main(arguments: "Sequence[str] | None" = None) -> None:
    """The entry point ``s3lora-mcp``: serve over stdin and stdout until stdin ends."""
    parser = command_line()
    given = parser.parse_args(arguments)
    try:
        client = AsyncPlannerClient(given.url, timeout=given.timeout)
        server = make_server(client, given.planner)
    except ValueError as error:
        parser.error(f"{error}; see --url and {KEY_ENV}")
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        sys.exit(f"error: s3lora-mcp needs the package mcp, 2.0 or newer{_found(error)}: {_INSTALL}")
    # Python's own way with Ctrl-C waits for the thread that reads stdin, which waits for a line.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(_serve(client, server))


async def _serve(client: AsyncPlannerClient, server: "MCPServer[Any]") -> None:
    async with client:
        await server.run_stdio_async()


def _told(error: PlannerAPIError) -> str:
    """The server's message, the part that a guard refused, and each problem of the plan on its own line."""
    again = f"; try again in {error.retry_after:.0f} s" if error.retry_after else ""
    part = f": {error.part}" if isinstance(error, PlanRefused) and error.part else ""
    return "\n".join([f"{error.message} ({error.code}{part}){again}", *(p.message for p in error.problems)])


def _unknown(tool: str, arguments: dict[str, Any], known: list[str]) -> str:
    """What is wrong with the names of the arguments, on one line; empty if they are known."""
    faults = []
    for name in [name for name in arguments if name not in known][:_MOST_FAULTS]:
        close = difflib.get_close_matches(name[:80], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
        faults.append(f"{tool} has no argument {_short(name)}; {hint}")
    return "; ".join(faults)


def _invalid(error: ValidationError) -> str:
    """What is wrong with the values, on one line: where, why, and the value itself if it is short."""
    found = error.errors(include_url=False, include_context=False)
    # A tool is an object or a name. Of an object, what is wrong inside it is all there is to say.
    objects = {one["loc"][:2] for one in found if one["loc"][2:3] == (ToolSpec.__name__,) and one["loc"][3:]}
    faults = []
    for one in found:
        if one["loc"][2:] == ("str",) and one["loc"][:2] in objects:
            continue
        where = ".".join(str(part)[:80] for part in one["loc"] if part != ToolSpec.__name__)
        value = one["input"]
        given = f" (given: {_short(value)})" if isinstance(value, str | int | float) else ""
        faults.append(f"{where}: {one['msg'].removeprefix('Value error, ')}{given}")
    return " ".join("; ".join(faults[:_MOST_FAULTS]).split())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _version() -> str:
    try:
        return version("s3lora-planners")
    except PackageNotFoundError:  # a source tree on the path
        return "unknown"


def _found(error: ImportError) -> str:
    """Which version of mcp was found that does not do, as a part of a sentence; empty if there is none."""
    if isinstance(error, ModuleNotFoundError):
        return ""
    try:
        return f" ({version('mcp')} is installed)"
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
