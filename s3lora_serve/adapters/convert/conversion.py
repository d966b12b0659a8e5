"""A folder of another format becomes a new PEFT folder, or nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file

from s3lora_serve.adapters.convert.locked_process import SECONDS, convert_pickle
from s3lora_serve.adapters.convert.mlx_format import from_mlx
from s3lora_serve.adapters.fetch.address import HUB, LOCAL, Source
from s3lora_serve.adapters.fetch.hub import download, list_folder
from s3lora_serve.adapters.fetch.local_folder import opened
from s3lora_serve.adapters.fetch.other_formats import MLX_WEIGHTS, PICKLED_WEIGHTS, no_weights
from s3lora_serve.adapters.peft.adapter_config import CONFIG_NAME
from s3lora_serve.adapters.peft.peft_format import WEIGHTS_NAME
from s3lora_serve.adapters.peft.safetensors_header import read_header
from s3lora_serve.errors import ConfigError, FormatError, LimitError, S3LoRAError, SourceError

if TYPE_CHECKING:
    from io import FileIO

    from torch import Tensor

    from s3lora_serve.config import LimitsConfig

_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class Converted:
    """What was written; ``sha256`` is that of its weights."""

    folder: Path
    of: str  # the file that it was made of
    tensors: int
    sha256: str


def convert(source: Source | str, out: Path, limits: LimitsConfig, seconds: float = SECONDS) -> Converted:
    """Make a PEFT folder ``out`` of a pickled or an MLX adapter at ``source``, a folder or ``hf://``.

    A pickle is read in a locked process (``locked_process``). What is written is checked as any file
    is; not whether a base model takes it: ``open_adapter`` does that. Raises ConfigError if ``out`` exists,
    AdapterError for what is not converted; then nothing is left behind.
    """
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} exists already", hint="name a new folder; nothing is overwritten")
    given = Source.of(source)
    folder = _folder(given, limits)
    names = sorted(entry.name for entry in folder.iterdir())
    if WEIGHTS_NAME in names:
        raise FormatError(
            f"it has an {WEIGHTS_NAME} already", hint="there is nothing to convert: use it as it is"
        )
    weights = next((name for name in (PICKLED_WEIGHTS, MLX_WEIGHTS) if name in names), None)
    if weights is None:
        raise no_weights(names)
    with tempfile.TemporaryDirectory(prefix=".s3lora-convert-", dir=out.absolute().parent) as work:
        made = Path(work) / "adapter"
        made.mkdir()
        with opened(folder, limits, (CONFIG_NAME, weights)) as (_, files):
            config = files[CONFIG_NAME].read(_CONFIG_BYTES + 1)
            if len(config) > _CONFIG_BYTES:
                raise LimitError(
                    f"{CONFIG_NAME} has more than {_CONFIG_BYTES} bytes", hint="it is not PEFT's own"
                )
            if weights == PICKLED_WEIGHTS:
                convert_pickle(weights, files[weights], made / WEIGHTS_NAME, limits.max_bytes, seconds)
            else:
                config = _mlx(config, files[weights], made, Path(work) / weights)
        tensors = len(read_header(made / WEIGHTS_NAME).entries)
        (made / CONFIG_NAME).write_bytes(config)
        with (made / WEIGHTS_NAME).open("rb") as written:
            sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        made.rename(out)
    return Converted(out, weights, tensors, sha256)


def _mlx(config: bytes, file: FileIO, made: Path, copy: Path) -> bytes:
    with copy.open("xb") as target:
        shutil.copyfileobj(file, target)
    described, tensors = from_mlx(config, _loaded(copy))
    save_file(tensors, made / WEIGHTS_NAME, metadata={"format": "pt"})
    return (json.dumps(described, indent=2) + "\n").encode()


def _loaded(path: Path) -> dict[str, Tensor]:
    read_header(path)  # stricter than the library, which is next
    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def _folder(given: Source, limits: LimitsConfig) -> Path:
    if given.archive is None and given.place.scheme == LOCAL:
        folder = Path(given.place.path).expanduser()
        if not folder.is_dir():
            raise SourceError(
                f"{folder} is no folder", hint="name the folder of the adapter, or hf://org/name"
            )
        return folder.resolve()
    if given.archive is None and given.place.scheme == HUB:
        try:
            names = (CONFIG_NAME, PICKLED_WEIGHTS, MLX_WEIGHTS)
            sizes = list_folder(given.text, limits.fetch_read_seconds).sizes
            if (total := sum(sizes.get(name) or 0 for name in names)) > limits.max_bytes:
                raise LimitError(
                    f"the adapter has {total} bytes > {limits.max_bytes}; raise limits.max_adapter_mib",
                    hint="or is it not the adapter alone?",
                )
            return download(given.text, limits.fetch_connect_seconds, names).path.resolve()
        except S3LoRAError:
            raise
        except Exception as error:  # whatever the client raises when the Hub does not answer
            raise SourceError(
                f"{given} could not be downloaded: {type(error).__name__}",
                hint="is there a network? Try again",
            ) from error
    raise SourceError(f"{given} is not converted in its place", hint="copy its folder to this machine first")
