"""``s3lora convert``: a pickled or an MLX adapter as a PEFT folder, which can be admitted."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import Annotated

import typer

from s3lora_serve.adapters.fetch.address import redacted
from s3lora_serve.cli.adapters.adapter_options import Source, limits_by_option
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import Stages, out, say


def convert(
    source: Source,
    destination: Annotated[Path, typer.Argument(metavar="NEW_FOLDER", help="New folder.")],
    *,
    max_mib: Annotated[
        int, typer.Option(min=1, help="Largest total size of the adapter's files, in MiB.")
    ] = 2048,
) -> None:
    """Make a PEFT folder of adapter_model.bin (a pickle) or of an MLX adapter. Nothing else is written.

    A pickle is opened in a process without network, files and children, bounded in memory and time, which
    reads tensors alone.
    """
    from s3lora_serve.adapters.convert.conversion import convert as convert_folder
    from s3lora_serve.config import LimitsConfig
    from s3lora_serve.terminal.pictures import check_parent

    check_parent(destination)
    with Stages(f"converting {redacted(source)}"), limits_by_option():
        made = convert_folder(source, destination, LimitsConfig(max_adapter_mib=max_mib))
    for line in (f"{made.folder}: {made.tensors} tensors of {made.of}", f"sha256 {made.sha256}"):
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    say(f"check it: s3lora verify {made.folder} --base BASE", "dim")
