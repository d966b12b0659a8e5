"""Adapters and models on the Hugging Face Hub, pinned to a commit; only this file imports huggingface_hub."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from s3lora_serve.adapters.fetch.private_copy import COPIED
from s3lora_serve.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[\w.-]+|[\w.-]+))?"
    r"(?:/(?P<folder>[\w./-]+?))?/?",
    re.ASCII,
)
OFFLINE = OfflineModeIsEnabled


@dataclass(frozen=True)
class HubListing:
    """What one folder of a repository holds now; ``sizes`` in bytes, of the files directly in it."""

    address: str
    sizes: dict[str, int | None]


@dataclass(frozen=True)
class HubFolder:
    """A folder in the client's cache, at the commit that ``uri`` names; its files are links."""

    path: Path
    uri: str


def list_folder(address: str, seconds: float) -> HubListing:
    """Ask the Hub what ``hf://org/name[@revision][/folder]`` holds; each answer has ``seconds``.

    Raises SourceError if the address is malformed or there is no such repository, revision or access, and the
    client's own errors if the Hub does not answer (requests' before huggingface_hub 1.0, httpx2's now).
    """
    repo, revision, folder = _parts(address)
    with _refusals(address):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=seconds)
    prefix = f"{folder}/" if folder else ""
    below = {
        item.rfilename.removeprefix(prefix): item.size
        for item in info.siblings or ()
        if item.rfilename.startswith(prefix)
    }
    return HubListing(address, {name: size for name, size in below.items() if "/" not in name})


def download(address: str, seconds: float, names: Sequence[str] = COPIED) -> HubFolder:
    """Download the files that matter into the client's cache; it has ``seconds`` for what it asks first.

    For each piece of a file the client waits ``HF_HUB_DOWNLOAD_TIMEOUT`` seconds. Raises as ``list_folder``
    does.
    """
    with _refusals(address):
        try:
            return _snapshot(address, offline=False, seconds=seconds, names=names)
        except LocalEntryNotFoundError as error:  # what the client makes of a connection that broke
            raise ConnectionError(f"the Hub does not answer: {error}") from error


def cached(address: str, cause: Exception) -> HubFolder:
    """The same from the client's cache alone, at the commit that the revision had when it was downloaded.

    Raises SourceError, naming ``cause``, if the cache has no copy.
    """
    try:
        return _snapshot(address, offline=True)
    except LocalEntryNotFoundError as error:
        raise _no_copy(address, cause) from error


def checkpoint(repo: str, revision: str | None, index: str, single: str) -> HubFolder:
    """A model's configuration and safetensors weights in the client's cache, downloaded where they are not.

    Weights are the files that ``index`` maps tensors to, else the file ``single``. When the Hub does not
    answer, the cache alone is looked at. Raises SourceError, naming the repository.
    """
    address = f"hf://{repo}" + (f"@{revision}" if revision else "")
    with _refusals(address):
        try:
            folder = _weights(repo, revision, index, single, offline=False)
        except (GatedRepoError, RevisionNotFoundError, RepositoryNotFoundError):
            raise
        except Exception as cause:  # whatever the client raises when the Hub does not answer
            try:
                folder = _weights(repo, revision, index, single, offline=True)
            except LocalEntryNotFoundError as error:
                raise _no_copy(address, cause) from error
    return HubFolder(folder, f"hf://{repo}@{folder.name}")


def _weights(repo: str, revision: str | None, index: str, single: str, *, offline: bool) -> Path:
    def get(revision: str | None, names: list[str]) -> Path:
        return Path(
            snapshot_download(repo, revision=revision, local_files_only=offline, allow_patterns=names)
        )

    folder = get(revision, ["config.json", index])
    try:
        mapped = json.loads((folder / index).read_bytes())["weight_map"].values()
        names = sorted({str(name) for name in mapped})
    except FileNotFoundError:
        names = [single]
    except (ValueError, KeyError, AttributeError):
        return folder  # its reader says what is wrong with it
    return get(folder.name, names)  # of the same commit


def _no_copy(address: str, cause: Exception) -> SourceError:
    return SourceError(
        f"{address}: the Hub does not answer ({type(cause).__name__}), and the local cache has no copy",
        hint="download it where there is a network, or name a local folder",
    )


@contextmanager
def _refusals(address: str) -> Iterator[None]:
    """The Hub's own refusals as SourceError; whatever else may pass with time is left as it is."""
    try:
        yield
    except GatedRepoError as error:
        raise SourceError(
            f"{address}: access is gated", hint="ask for access on the Hub and set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise SourceError(
            f"{address}: there is no such revision", hint="look for its branches, tags and commits on the Hub"
        ) from error
    except RepositoryNotFoundError as error:
        raise SourceError(
            f"{address}: no such repository, or it is private", hint="check the name; set HF_TOKEN if private"
        ) from error


def _snapshot(
    address: str, *, offline: bool, seconds: float = 10.0, names: Sequence[str] = COPIED
) -> HubFolder:
    repo, revision, folder = _parts(address)
    patterns = [f"{folder}/{name}" if folder else name for name in names]
    found = snapshot_download(
        repo, revision=revision, local_files_only=offline, allow_patterns=patterns, etag_timeout=seconds
    )
    root = Path(found)
    uri = f"hf://{repo}@{root.name}" + (f"/{folder}" if folder else "")
    return HubFolder(root / folder, uri)


def _parts(address: str) -> tuple[str, str | None, str]:
    """(org/name, revision, folder) of an address."""
    match = _ADDRESS.fullmatch(address)
    if match is None or ".." in PurePosixPath(match["folder"] or "").parts:
        raise SourceError(
            f"{address!r} is not a Hub address",
            hint="write hf://org/name, hf://org/name@revision or hf://org/name@revision/folder",
        )
    return match["repo"], match["revision"], match["folder"] or ""


def commit_here(repo: str, revision: str | None) -> str | None:
    """The commit to which this machine's copy of a model belongs; None without one. Asks no server."""
    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    commit = Path(found).parent.name if isinstance(found, str) else ""
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else None
