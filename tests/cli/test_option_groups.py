"""A group of options on a command line, and as one value in the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from s3lora_serve.cli.option_groups import grouped


@dataclass(frozen=True)
class Lengths:
    """Two options, the second with a default."""

    least: Annotated[int, typer.Option(min=1)]
    most: Annotated[int, typer.Option("--most", "-m")] = 9


@pytest.mark.parametrize(
    ("arguments", "code", "got"),
    [
        (["x", "--least", "2"], 0, [("x", Lengths(2, 9), False)]),
        (["--least", "2", "-m", "5", "x", "--loud"], 0, [("x", Lengths(2, 5), True)]),
        (["x"], 2, []),
        (["x", "--least", "0"], 2, []),
    ],
)
def test_each_field_is_an_option_and_the_command_gets_one_value(arguments, code, got):
    """With the names, defaults and bounds of the fields, between the command's own parameters."""
    seen = []

    @grouped
    def command(
        name: str, *, lengths: Lengths, loud: Annotated[bool, typer.Option("--loud")] = False
    ) -> None:
        seen.append((name, lengths, loud))

    app = typer.Typer()
    app.command()(command)
    assert CliRunner().invoke(app, arguments).exit_code == code
    assert seen == got
    names = [param.name for param in typer.main.get_command(app).params]
    assert names[:4] == ["name", "least", "most", "loud"]
