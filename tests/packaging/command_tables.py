"""The commands, their options and their exit codes as tables, as typer and argparse describe them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import typer
from markdown_table import code, table

from planners.mcp import command_line
from s3lora_serve.cli.main import app as s3lora
from s3lora_serve.launch.serve import app as serve

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODE = re.compile(r"(\d+) (.*)")


def commands() -> str:
    """A row for each command: what it does."""
    mcp = command_line()
    texts = [*((name, _clean(command.help)) for name, command in _all()), (mcp.prog, _clean(mcp.description))]
    rows = [(f"[`{name}`](#{name.replace(' ', '-')})", text.split("\n\n")[0]) for name, text in texts]
    return table(("command", "does"), rows)


def options() -> str:
    """A heading, the help text and a table of parameters for each command."""
    return "\n" + "\n".join([*(_command(*each) for each in _all()), _mcp()]) + "\n"


def exit_codes() -> str:
    """A row for each set of codes, with the commands that have it."""
    by_codes: dict[str, list[str]] = {}
    for name, command in _all():
        by_codes.setdefault(_clean(command.epilog).removeprefix("Exit codes: ").rstrip("."), []).append(name)
    read = {
        text: {found[1]: found[2] for part in text.split("; ") if (found := _CODE.fullmatch(part))}
        for text in by_codes
    }
    columns = sorted({number for codes in read.values() for number in codes}, key=int)
    rows = [
        (", ".join(code(name) for name in names), *(read[text].get(number, "") for number in columns))
        for text, names in by_codes.items()
    ]
    return table(("commands", *columns), rows)


def _all() -> Iterator[tuple[str, Any]]:
    """Each command with its name as it is typed, those of groups too."""
    yield "s3lora-serve", typer.main.get_command(serve)
    yield from _below("s3lora", typer.main.get_command(s3lora))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for inner, each in command.commands.items():
        yield from _below(f"{name} {inner}", each)


def _command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    records = [param.get_help_record(context) for param in command.params]
    rows = [(code(spelled), _clean(meaning)) for spelled, meaning in filter(None, records)]
    return _part(name, command.get_usage(context).removeprefix("Usage: "), command.help, rows)


def _mcp() -> str:
    parser = command_line()
    rows = [
        (code(f"{action.option_strings[0]} {action.dest.upper()}"), _clean(action.help) % vars(action))
        for action in parser._actions
        if action.dest != "help"
    ]
    return _part(parser.prog, f"{parser.prog} [OPTIONS]", parser.description, rows)


def _part(name: str, usage: str, text: str | None, rows: list[tuple[str, str]]) -> str:
    head = f"### {name}\n\n```\n{usage}\n```\n\n{_clean(text)}\n"
    return f"{head}\n{table(('parameter', 'meaning'), rows)}" if rows else head


def _clean(text: str | None) -> str:
    """Help text as Markdown: its paragraphs, without what is meant for the terminal."""
    parts = (text or "").replace("\\[", "[").split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)
