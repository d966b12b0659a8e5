"""A private copy is made from any source, within limits, and nothing unsafe is copied."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from adapter_files import NEEDED, archive, contents
from fsspec.implementations.memory import MemoryFileSystem

from s3lora_serve.adapters.fetch import sources
from s3lora_serve.adapters.fetch.sources import Fetched, fetch
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import LimitError, UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_local_folder_is_copied_and_hashed(tmp_path: Path, adapter: Path):
    """Bytes, digests of both files, and an address that says where it was."""
    fetched = fetch(str(adapter), tmp_path / "copy", LimitsConfig())
    assert contents(fetched.folder) == contents(adapter)
    assert fetched.sha256 == hashlib.sha256((adapter / NEEDED[1]).read_bytes()).hexdigest()
    assert fetched.config.sha256 == hashlib.sha256((adapter / NEEDED[0]).read_bytes()).hexdigest()
    assert fetched.bytes == sum(len(raw) for raw in contents(adapter).values())
    assert fetched.uri == adapter.resolve().as_uri()


def test_the_copy_does_not_change_with_its_source(tmp_path: Path, adapter: Path):
    """No link, hard or soft, between them."""
    before = contents(adapter)
    fetched = fetch(str(adapter), tmp_path / "copy", LimitsConfig())
    for name in NEEDED:
        with (adapter / name).open("r+b") as file:
            file.write(b"x" * 10)
    assert contents(fetched.folder) == before


def test_the_source_is_left_as_it_was(tmp_path: Path, adapter: Path):
    """Read-only sources work, and nothing is written beside them."""
    before = contents(adapter)
    for path in adapter.iterdir():
        path.chmod(0o444)
    fetch(str(adapter), tmp_path / "copy", LimitsConfig())
    assert contents(adapter) == before


def test_only_the_two_known_files_are_copied(tmp_path: Path, adapter: Path):
    """Whatever else lies there stays there, and is listed; a pickle earns a warning."""
    for name in ("README.md", "training_args.bin", "tokenizer.json"):
        (adapter / name).write_bytes(b"?")
    (adapter / "checkpoint-10").mkdir()
    fetched = fetch(str(adapter), tmp_path / "copy", LimitsConfig())
    assert sorted(contents(fetched.folder)) == NEEDED
    assert fetched.ignored == ("README.md", "checkpoint-10", "tokenizer.json", "training_args.bin")
    assert fetched.warnings == ("training_args.bin is a pickle: ignored, never opened",)


def test_a_linked_folder_is_the_operators_choice(tmp_path: Path, adapter: Path):
    """``current -> v3`` is how folders are deployed; the address names the real one."""
    (tmp_path / "current").symlink_to(adapter)
    fetched = fetch(str(tmp_path / "current"), tmp_path / "copy", LimitsConfig())
    assert fetched.uri == adapter.resolve().as_uri()


def test_progress_ends_at_one(tmp_path: Path, adapter: Path):
    """Fractions never fall and never pass 1."""
    seen: list[tuple[str, float]] = []
    fetch(
        str(adapter),
        tmp_path / "copy",
        LimitsConfig(),
        lambda stage, fraction: seen.append((stage, fraction)),
    )
    assert {stage for stage, _ in seen} == {"fetch"}
    assert [fraction for _, fraction in seen] == sorted(fraction for _, fraction in seen)
    assert seen[-1] == ("fetch", 1.0)


@pytest.mark.parametrize(
    "form", ["memory", "zip", "zip-folder", "zip-memory", "tar", "tar-gz", "file", "local"]
)
def test_fsspec_urls_are_fetched(tmp_path: Path, adapter: Path, memory: MemoryFileSystem, form: str):
    """Object stores, archives and local URLs give the same copy."""
    match form:
        case "memory":
            memory.put(str(adapter), "/adapters/a", recursive=True)
            source = "memory://adapters/a"
        case "zip":
            source = f"zip://::{archive(adapter, tmp_path / 'a.zip').as_uri()}"
        case "zip-folder":
            source = f"zip://in/side::{archive(adapter, tmp_path / 'a.zip', 'in/side/')}"
        case "zip-memory":
            memory.put(str(archive(adapter, tmp_path / "a.zip")), "/adapters/a.zip")
            source = "zip://::memory://adapters/a.zip"
        case "tar" | "tar-gz":
            path = tmp_path / ("a.tar" if form == "tar" else "a.tar.gz")
            with tarfile.open(path, "w" if form == "tar" else "w:gz") as file:
                file.add(adapter, "in/side")
            source = f"tar://in/side::{path}"
        case _:
            source = f"{form}://{adapter}"
    fetched = fetch(source, tmp_path / "copy", LimitsConfig())
    assert contents(fetched.folder) == contents(adapter)
    assert fetched.ignored == ()


@pytest.mark.parametrize("evil", ["../evil.txt", "/etc/evil.txt", "..\\evil.txt"])
def test_archives_with_names_that_leave_the_folder_are_refused(tmp_path: Path, adapter: Path, evil: str):
    """Zip slip: nothing is written outside the private copy, nor anything else."""
    path = archive(adapter, tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(evil, "?")
    with pytest.raises(UnsafeFileError, match="leaves the adapter's folder"):
        fetch(f"zip://::{path}", tmp_path / "box/copy", LimitsConfig())
    assert not (tmp_path / "box/evil.txt").exists()
    assert not (tmp_path / "evil.txt").exists()


def test_a_lying_size_does_not_get_past_the_limit(
    tmp_path: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    """Bytes are counted while they come: a listing that says 0 changes nothing."""
    memory.pipe({f"/a/{NEEDED[0]}": b"{}", f"/a/{NEEDED[1]}": b"x" * 5000})
    listing = memory.ls("/a", detail=True)
    monkeypatch.setattr(MemoryFileSystem, "ls", lambda *args, **kw: [{**row, "size": 0} for row in listing])
    with pytest.raises(LimitError, match=r"adapter_model\.safetensors has more > 4999 bytes") as caught:
        fetch("memory://a", tmp_path / "copy", LimitsConfig(max_adapter_mib=4999 / 2**20))
    assert "limits.max_adapter_mib" in caught.value.hint


def test_a_declared_size_over_the_limit_is_refused_unread(tmp_path: Path, memory: MemoryFileSystem):
    """Nothing is downloaded that would be thrown away."""
    memory.pipe({f"/a/{NEEDED[0]}": b"{}", f"/a/{NEEDED[1]}": b"x" * 5000})
    with pytest.raises(LimitError, match=r"adapter_model\.safetensors has 5000 bytes > 4999 bytes"):
        fetch("memory://a", tmp_path / "copy", LimitsConfig(max_adapter_mib=4999 / 2**20))
    assert not (tmp_path / "copy" / NEEDED[1]).exists()


def test_a_huge_configuration_is_refused(tmp_path: Path, adapter: Path):
    """It is read into memory as a whole."""
    (adapter / NEEDED[0]).write_bytes(b" " * (2 << 20))
    with pytest.raises(LimitError, match=r"adapter_config\.json has 2097152 bytes > 1048576 bytes"):
        fetch(str(adapter), tmp_path / "copy", LimitsConfig())


def test_remote_pickles_are_refused_unopened(
    tmp_path: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    """The listing is enough."""
    memory.pipe({f"/a/{NEEDED[0]}": b"{}", "/a/adapter_model.bin": b"x"})
    monkeypatch.setattr(MemoryFileSystem, "open", lambda *args, **kw: pytest.fail("it was opened"))
    with pytest.raises(UnsafeFileError, match=r"adapter_model\.bin is a pickle"):
        fetch("memory://a", tmp_path / "copy", LimitsConfig())


def test_fetched_is_exported():
    """For type annotations of callers."""
    assert sources.Fetched is Fetched
