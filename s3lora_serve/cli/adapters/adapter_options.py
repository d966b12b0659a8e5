"""What commands about one adapter share: its source, the base model, limits, and how refusals name them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from s3lora_serve.cli.fleet.fleet_options import weights_digest
from s3lora_serve.errors import ConfigError, LimitError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3lora_serve.adapters.admission import AdapterLimits


def not_empty(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Let a value through unless it is blank. Raises ConfigError."""
    # As an unset variable of a shell script: "" must not mean the current folder, or no check.
    if value is not None and not value.strip():
        raise ConfigError(f"{parameter.opts[0]} is empty")
    return value


_SOURCE = escape("Local folder, demo://name, hf://org/name[@revision] or a folder's URL.")
Source = Annotated[str, typer.Argument(help=_SOURCE, callback=not_empty)]
_BASE = "Base model that it must fit: demo, a Hugging Face id or a folder."
Base = Annotated[str, typer.Option(help=_BASE, callback=not_empty)]
OptionalBase = Annotated[
    str | None, typer.Option(help=f"{_BASE} Without it, the fit is not checked.", callback=not_empty)
]
Sha256 = Annotated[
    str | None, typer.Option(help="Expected SHA-256 of the weights file.", callback=weights_digest)
]

# What the layers below call a limit, by the names of the configuration, and the option that it is here.
OPTIONS = {
    "engine.max_lora_rank": "--max-rank",
    "limits.max_adapter_mib": "--max-mib",
    "limits.max_files": "--max-files",
    "limits.fetch_connect_seconds": "--connect-seconds",
    "limits.fetch_read_seconds": "--read-seconds",
    "limits.fetch_seconds": "--fetch-seconds",
}


@dataclass(frozen=True)
class LimitOptions:
    """Limits above which an adapter is refused."""

    max_rank: Annotated[
        int, typer.Option(min=1, help="Highest rank accepted; a server uses engine.max_lora_rank.")
    ] = 512
    max_mib: Annotated[
        int, typer.Option(min=1, help="Largest total size of the adapter's files, in MiB.")
    ] = 2048
    max_files: Annotated[
        int, typer.Option(min=1, help="Largest number of files in the adapter's folder.")
    ] = 64
    connect_seconds: Annotated[
        float, typer.Option(min=0.001, help="Time to connect to the source, where its driver can limit it.")
    ] = 10
    read_seconds: Annotated[
        float, typer.Option(min=0.001, help="Time for its next bytes, where its driver can limit it.")
    ] = 30
    fetch_seconds: Annotated[
        float, typer.Option(min=0.001, help="Time to fetch the adapter, whatever its source.")
    ] = 600

    def limits(self) -> AdapterLimits:
        """As the layers below take them."""
        from s3lora_serve.config import LimitsConfig
        from s3lora_serve.launch.resolve import to_limits

        fetching = LimitsConfig(
            max_adapter_mib=self.max_mib,
            max_files=self.max_files,
            fetch_connect_seconds=self.connect_seconds,
            fetch_read_seconds=self.read_seconds,
            fetch_seconds=self.fetch_seconds,
        )
        return to_limits(fetching, self.max_rank)


@contextmanager
def limits_by_option(options: Mapping[str, str] = OPTIONS) -> Iterator[None]:
    """Refusals for a limit name what raises it here, in place of the setting of a configuration."""
    try:
        yield
    except (LimitError, SourceError) as error:
        message, hint = error.message, error.hint
        for setting, option in options.items():
            message, hint = message.replace(setting, option), hint.replace(setting, option)
        raise type(error)(message, hint=hint, command=error.command) from error
