"""Adapters on the Hugging Face Hub, pinned to a commit; the only file that imports huggingface_hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from s3lora_serve.adapters.private_copy import COPIED
from s3lora_serve.errors import SourceError

_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/(?:pr|convert)/[\w.-]+|[\w.-]+))?(?:/(?P<folder>[\w./-]+?))?/?",
    re.ASCII,
)


# The Hub's client raised requests' errors (OSError) before 1.0 and raises httpx's since.
OFFLINE = OfflineModeIsEnabled
UNREACHABLE = (OSError, httpx.HTTPError)


@dataclass(frozen=True)
class HubFolder:
    """One folder of a Hub repository at one commit; ``names`` lie directly in it, ``sizes`` are bytes."""

    repo: str
    commit: str
    folder: str
    names: tuple[str, ...]
    sizes: dict[str, int | None]
    cached: Path | None  # the folder in the local cache, when the Hub cannot be reached

    @property
    def uri(self) -> str:
        """The address with the commit in place of a branch or tag."""
        return f"hf://{self.repo}@{self.commit}" + (f"/{self.folder}" if self.folder else "")


def resolve(address: str) -> HubFolder:
    """Resolve ``hf://org/name[@revision][/folder]`` to a commit and list the folder.

    Raises SourceError if the address is malformed or there is no such repository, revision or access; one of
    ``UNREACHABLE`` if the Hub does not answer.
    """
    repo, revision, folder = _parts(address)
    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    except GatedRepoError as error:
        raise SourceError(
            f"{address}: access is gated", hint="ask for access on the Hub and set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise SourceError(f"{address}: there is no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise SourceError(
            f"{address}: no such repository, or it is private", hint="check the name; set HF_TOKEN if private"
        ) from error
    prefix = f"{folder}/" if folder else ""
    sizes = {
        item.rfilename.removeprefix(prefix): item.size
        for item in info.siblings or ()
        if item.rfilename.startswith(prefix) and "/" not in item.rfilename.removeprefix(prefix)
    }
    return HubFolder(repo, str(info.sha), folder, tuple(sorted(sizes)), sizes, None)


def cached(address: str, cause: Exception) -> HubFolder:
    """The same from the local cache alone, at the commit that the revision had when it was downloaded.

    Raises SourceError, naming ``cause``, if the cache has no copy.
    """
    repo, revision, folder = _parts(address)
    patterns = [f"{folder}/{name}" if folder else name for name in COPIED]
    try:
        root = snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=patterns)
    except LocalEntryNotFoundError as error:
        raise SourceError(
            f"{address}: the Hub does not answer ({type(cause).__name__}), and the local cache has no copy",
            hint="download it where there is a network, or name a local folder",
        ) from error
    place = Path(root) / folder
    sizes: dict[str, int | None] = {}
    if place.is_dir():
        sizes = {entry.name: entry.stat().st_size for entry in sorted(place.iterdir())}
    return HubFolder(repo, Path(root).name, folder, tuple(sizes), sizes, place)


def _parts(address: str) -> tuple[str, str | None, str]:
    """(org/name, revision, folder) of an address."""
    match = _ADDRESS.fullmatch(address)
    if match is None or ".." in PurePosixPath(match["folder"] or "").parts:
        raise SourceError(
            f"{address!r} is not a Hub address",
            hint="write hf://org/name, hf://org/name@revision or hf://org/name@revision/folder",
        )
    return match["repo"], match["revision"], match["folder"] or ""


def download(source: HubFolder, name: str) -> Path:
    """The file in the local cache, downloaded if need be. Raises OSError if the Hub does not answer."""
    if source.cached is not None:
        return source.cached / name
    try:
        return Path(
            hf_hub_download(source.repo, name, subfolder=source.folder or None, revision=source.commit)
        )
    except LocalEntryNotFoundError as error:  # what the library makes of a connection that broke
        raise ConnectionError(f"{name} could not be downloaded: {error}") from error
    except EntryNotFoundError as error:
        raise SourceError(f"{source.uri}: there is no {name}") from error
