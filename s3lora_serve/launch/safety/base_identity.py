"""What names the base model's weights, so that what was found of them holds for no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from s3lora_serve.launch.resolve import BaseModel

_COMMIT = re.compile("[0-9a-f]{40}")


def base_identity(base: BaseModel) -> str | None:
    """A folder's files as they are now, or a commit; None if neither can be told.

    A model of the Hub that is followed by its branch has the commit to which this machine's copy belongs.
    """
    folder = Path(base.location or "")
    if base.location is not None and folder.is_dir():
        files = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
        return canonical_digest([[name, stat.st_size, stat.st_mtime_ns] for name, stat in files])
    commit = base.revision if base.revision is not None and _COMMIT.fullmatch(base.revision) else None
    if commit is None and base.location is not None:
        from s3lora_serve.adapters.fetch.hub import commit_here

        commit = commit_here(base.location, base.revision)
    return f"{base.location or base.name}@{commit}" if commit else None
