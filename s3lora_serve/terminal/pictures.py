"""Pictures as files: the name is checked before the work, the file written after it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from matplotlib.figure import Figure

_ENDINGS = (".png", ".svg", ".pdf")


def check_picture(option: str, path: Path, *, texts: Iterable[str] = ()) -> None:
    """Refuse a name without a picture's ending, and a folder that is not there. Raises ConfigError.

    ``texts``: endings that are allowed as well.
    """
    *others, last = endings = (*_ENDINGS, *texts)
    if path.suffix.lower() not in endings:
        hint = f"use {', '.join(others)} or {last}"
        raise ConfigError(f"{option} {path} has no picture's ending", hint=hint)
    check_parent(path)


def check_parent(path: Path) -> None:
    """Refuse a path whose folder is not there or cannot be looked at. Raises ConfigError."""
    with writing(path):
        there = path.parent.is_dir()
    if not there:
        raise ConfigError(f"there is no folder {path.parent}", hint=f"mkdir -p {path.parent}")


def write_picture(figure: Figure, path: Path) -> None:
    """Write it in the format that the name says. Raises ConfigError."""
    with writing(path):
        figure.savefig(path, dpi=150)


def write_text(text: str, path: Path) -> None:
    """Write it as UTF-8. Raises ConfigError."""
    with writing(path):
        path.write_text(text, "utf-8")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes there. Raises ConfigError, which names the path, for what the system refuses."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
