"""A folder of this machine: two regular files, or the links of a Hub download into its own blobs."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from adapter_files import NEEDED, contents
from peft_builder import write_folder

from s3lora_serve.adapters.fetch import local_folder
from s3lora_serve.adapters.fetch.address import Source
from s3lora_serve.adapters.fetch.local_folder import opened
from s3lora_serve.adapters.fetch.reach import Reach
from s3lora_serve.adapters.fetch.sources import fetch
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import FormatError, LimitError, SourceError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMIT = "0123456789abcdef" * 2 + "01234567"


def hub_download(adapter: Path, root: Path, inside: str = "", *, absolute: bool = False) -> Path:
    """The snapshot that ``hf download`` would leave under ``root``: links into the repository's blobs."""
    repository = root / "models--acme--planner-lora"
    snapshot = repository / "snapshots" / COMMIT / inside
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in adapter.iterdir():
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob if absolute else os.path.relpath(blob, snapshot))
    return snapshot


def blob_of(snapshot: Path, name: str = NEEDED[1]) -> Path:
    """The blob that a snapshot's link leads to."""
    return (snapshot / name).resolve()


@pytest.mark.parametrize("inside", ["", "planners", "a/b"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_hub_download_is_served_from_its_folder(tmp_path: Path, adapter: Path, inside: str, absolute: bool):
    """Links into the same repository's blobs are followed; the copy is of regular files."""
    snapshot = hub_download(adapter, tmp_path / "cache", inside, absolute=absolute)
    fetched = fetch(str(snapshot), tmp_path / "copy", LimitsConfig())
    assert contents(fetched.folder) == contents(adapter)
    assert fetched.sha256 == blob_of(snapshot).name
    assert not any(path.is_symlink() for path in fetched.folder.iterdir())


def test_the_size_of_a_blob_counts_not_that_of_its_link(tmp_path: Path, adapter: Path):
    """A link is 76 bytes long, whatever it leads to."""
    snapshot = hub_download(adapter, tmp_path)
    with pytest.raises(LimitError, match=r"raise limits\.max_adapter_mib"):
        fetch(str(snapshot), tmp_path / "copy", LimitsConfig(max_adapter_mib=2000 / 2**20))


def test_a_download_may_be_reached_by_its_snapshot_alone(tmp_path: Path, adapter: Path):
    """The blobs are a part of the same repository's cache: no line of their own is needed."""
    snapshot = hub_download(adapter, tmp_path / "cache")
    allowed = Reach((Source.parse(str(snapshot)).place,))
    assert fetch(str(snapshot), tmp_path / "copy", LimitsConfig(), reach=allowed).sha256


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("where", ["beside", "up", "etc", "link behind", "in blobs/a", "other repository"])
def test_links_that_lead_elsewhere_are_refused(tmp_path: Path, adapter: Path, name: str, where: str):
    """In a plain folder, and in a snapshot: out of the blobs, through them, or into another repository's."""
    snapshot = hub_download(adapter, tmp_path / "cache")
    blobs, secret = snapshot.parents[1] / "blobs", tmp_path / "secret"
    secret.write_bytes((adapter / name).read_bytes())
    other = hub_download(adapter, tmp_path / "cache/other")
    folder, link = snapshot, snapshot / name
    if where == "beside":
        folder = adapter
        link = adapter / name
    link.unlink()
    match where:
        case "up":
            link.symlink_to(f"../../blobs/../../../{secret.name}")
        case "link behind":
            (blobs / "b").symlink_to(secret)
            link.symlink_to("../../blobs/b")
        case "in blobs/a":
            (blobs / "a").mkdir()
            secret.rename(blobs / "a/b")
            link.symlink_to("../../blobs/a/b")
        case "other repository":
            link.symlink_to(blob_of(other, name))
        case _:
            link.symlink_to(secret)
    with pytest.raises(UnsafeFileError) as caught:
        fetch(str(folder), tmp_path / "copy", LimitsConfig())
    assert caught.value.message.startswith(name)
    assert caught.value.hint
    assert not any(path.stat().st_size for path in (tmp_path / "copy").iterdir() if path.name == name)


def test_blobs_that_are_a_link_are_refused(tmp_path: Path, adapter: Path):
    """The folder is opened by its name, and what stands in its place leads nowhere."""
    snapshot = hub_download(adapter, tmp_path)
    blobs = snapshot.parents[1] / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError, match=r"leads to blobs/'[0-9a-f]+', which is not a file"):
        fetch(str(snapshot), tmp_path / "copy", LimitsConfig())


def test_a_blob_that_is_a_pipe_does_not_block(tmp_path: Path, adapter: Path):
    """Nor is it read."""
    snapshot = hub_download(adapter, tmp_path)
    blob = blob_of(snapshot)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(UnsafeFileError, match=r"adapter_model\.safetensors is not a regular file"):
        fetch(str(snapshot), tmp_path / "copy", LimitsConfig())


@pytest.mark.parametrize("swap", ["link", "file"])
def test_what_is_swapped_once_open_changes_nothing(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, swap: str
):
    """A file is opened once: what was looked at is what is copied and hashed."""
    snapshot = hub_download(adapter, tmp_path / "cache")
    before = contents(adapter)
    real = local_folder._regular
    seen: list[str] = []

    def late(folder: Path, at: int, name: str):
        found = real(folder, at, name)
        if seen:  # the first file is open by now
            (folder / seen[0]).unlink()
            if swap == "link":
                (folder / seen[0]).symlink_to("/etc/passwd")
            else:
                (folder / seen[0]).write_bytes(b"other")
        seen.append(name)
        return found

    monkeypatch.setattr(local_folder, "_regular", late)
    assert contents(fetch(str(snapshot), tmp_path / "copy", LimitsConfig()).folder) == before
    assert len(seen) == 2


def test_a_download_that_is_not_whole_says_so(tmp_path: Path, adapter: Path):
    """Its link leads to a blob that is not there: what to run is named."""
    snapshot = hub_download(adapter, tmp_path)
    blob_of(snapshot).unlink()
    with pytest.raises(SourceError, match="the download is not whole") as caught:
        fetch(str(snapshot), tmp_path / "copy", LimitsConfig())
    assert "hf download" in caught.value.hint


def test_a_link_into_a_cache_from_elsewhere_names_the_way(tmp_path: Path, adapter: Path):
    """Older clients left such folders: the snapshot itself can be served, this folder cannot."""
    snapshot = hub_download(adapter, tmp_path / "cache")
    (tmp_path / "mine").mkdir()
    for name in NEEDED:
        (tmp_path / "mine" / name).symlink_to(blob_of(snapshot, name))
    with pytest.raises(UnsafeFileError, match="into the Hub's cache") as caught:
        fetch(str(tmp_path / "mine"), tmp_path / "copy", LimitsConfig())
    assert "snapshots/<commit>" in caught.value.hint


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("README.md", _link),
        ("checkpoint-10", lambda path: path.mkdir()),
        ("pipe", os.mkfifo),
        ("a\\b", lambda path: path.touch()),
        ("x" * 255, lambda path: path.touch()),
        ("training_args.bin", _link),
    ],
)
def test_files_that_are_not_copied_refuse_nothing(
    tmp_path: Path, adapter: Path, name: str, make: Callable[[Path], None]
):
    """Whatever else lies in the folder, and whatever it leads to, is neither opened nor a reason."""
    make(adapter / name)
    assert fetch(str(adapter), tmp_path / "copy", LimitsConfig()).ignored == (name,)


def test_pipes_and_folders_in_place_of_files_are_refused(tmp_path: Path, adapter: Path):
    """Reading a pipe would wait for ever."""
    for number, make in enumerate((os.mkfifo, os.mkdir)):
        folder = write_folder(tmp_path / f"odd{number}")
        (folder / NEEDED[0]).unlink()
        make(folder / NEEDED[0])
        with pytest.raises(UnsafeFileError, match=r"adapter_config\.json is not a regular file"):
            fetch(str(folder), tmp_path / "copy", LimitsConfig())


def test_too_many_bytes_are_refused(tmp_path: Path, adapter: Path):
    """The sum of the files that would be copied counts."""
    size = sum(len(raw) for raw in contents(adapter).values())
    with opened(adapter, LimitsConfig(max_adapter_mib=size / 2**20)) as (names, _):
        assert names == NEEDED
    with (
        pytest.raises(LimitError, match=f"has {size} bytes > {size - 1}; raise limits.max_adapter_mib"),
        opened(adapter, LimitsConfig(max_adapter_mib=(size - 1) / 2**20)),
    ):
        pytest.fail("it was opened")


def test_the_root_of_a_cached_repository_names_its_snapshots(tmp_path: Path, adapter: Path):
    """A usual slip: the folder above."""
    snapshot = hub_download(adapter, tmp_path)
    with pytest.raises(FormatError) as caught:
        fetch(str(snapshot.parents[1]), tmp_path / "copy", LimitsConfig())
    assert "name a folder in its snapshots" in caught.value.hint
