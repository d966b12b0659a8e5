"""What cannot be fetched says why: faults that pass and faults that last, absent sources, a full disk."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from adapter_files import NEEDED, archive, contents
from fsspec.implementations.memory import MemoryFileSystem

from s3lora_serve.adapters.fetch import sources
from s3lora_serve.adapters.fetch.sources import fetch
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import FormatError, SourceError, StoreError
from s3lora_serve.storage import hashing_file

if TYPE_CHECKING:
    from pathlib import Path


def test_passing_faults_are_tried_again(
    tmp_path: Path, adapter: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    """A connection that breaks in the middle starts the file anew; the digest is that of one whole file."""
    memory.put(str(adapter), "/a", recursive=True)
    real, faults = MemoryFileSystem.open, iter([ConnectionResetError("reset"), TimeoutError("slow")])

    def flaky(self: MemoryFileSystem, path: str, *args: object, **kw: object):
        if path.endswith(".safetensors") and (fault := next(faults, None)):
            raise fault
        return real(self, path, *args, **kw)

    monkeypatch.setattr(MemoryFileSystem, "open", flaky)
    fetched = fetch("memory://a", tmp_path / "copy", LimitsConfig())
    assert contents(fetched.folder) == contents(adapter)
    assert fetched.sha256 == hashlib.sha256((adapter / NEEDED[1]).read_bytes()).hexdigest()


def test_lasting_faults_are_given_up(
    tmp_path: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    """After a few attempts the error says what happened, in our terms."""
    tries = []

    def broken(*args: object, **kw: object):
        tries.append(1)
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(MemoryFileSystem, "ls", broken)
    with pytest.raises(SourceError) as caught:
        fetch("memory://a", tmp_path / "copy", LimitsConfig())
    assert caught.value.message == "memory://a could not be read: ConnectionResetError: reset by peer"
    assert len(tries) == sources.ATTEMPTS


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "/no/such/folder is not there; an adapter is a folder"),
        ("memory://nothing", "memory://nothing: there is no such folder"),
        ("s3://bucket/x", "s3://bucket/x: its driver is not installed"),
        ("zip://::/no/such.zip", "zip://::/no/such.zip: there is no such folder"),
    ],
)
def test_absent_sources_say_so(tmp_path: Path, memory: MemoryFileSystem, source: str, message: str):
    """And are asked once only."""
    if source.startswith("s3:") and __import__("importlib").util.find_spec("s3fs"):
        pytest.skip("the driver is installed")
    with pytest.raises(SourceError) as caught:
        fetch(source, tmp_path / "copy", LimitsConfig())
    assert caught.value.message.startswith(message)


def test_a_file_is_no_folder(tmp_path: Path, adapter: Path, memory: MemoryFileSystem):
    """A path to the weights themselves is a usual mistake."""
    with pytest.raises(SourceError, match=r"adapter_model\.safetensors is a file; an adapter is a folder"):
        fetch(str(adapter / NEEDED[1]), tmp_path / "copy", LimitsConfig())
    memory.pipe("/a/x", b"1")
    with pytest.raises(SourceError, match="is a file; an adapter is a folder"):
        fetch("memory://a/x", tmp_path / "copy", LimitsConfig())


def test_an_empty_folder_is_refused(tmp_path: Path):
    """It says what it looked for."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=r"there is no adapter_model\.safetensors in the folder"):
        fetch(str(tmp_path / "empty"), tmp_path / "copy", LimitsConfig())


def test_errors_hold_no_credentials(
    tmp_path: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    """Of any address that a driver quotes."""

    def quote(*args: object, **kw: object):
        raise ValueError("cannot list https://o:pw@host/a?sig=hidden/adapter_config.json of memory://host/a")

    monkeypatch.setattr(MemoryFileSystem, "ls", quote)
    with pytest.raises(SourceError) as caught:
        fetch("memory://host/a", tmp_path / "copy", LimitsConfig())
    assert caught.value.message == (
        "memory://host/a could not be read: ValueError: cannot list https://host/a of memory://host/a"
    )


@pytest.mark.parametrize("call", ["__init__", "write", "finish"])
def test_a_full_disk_is_not_blamed_on_the_source(tmp_path: Path, adapter: Path, monkeypatch, call: str):
    """What fails in writing the copy is the store's, says where to look, and is not tried again."""
    calls = []

    def full(*_: object, **__: object) -> None:
        calls.append(call)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hashing_file.HashingWriter, call, full)
    zipped = archive(adapter, tmp_path / "adapter.zip")
    for source in (str(adapter), f"zip://::{zipped.as_uri()}"):
        calls.clear()
        with pytest.raises(StoreError, match="No space left on device") as caught:
            fetch(source, tmp_path / "copy", LimitsConfig())
        assert "store.path" in caught.value.hint
        assert len(calls) == 1


def test_what_a_source_refuses_stays_its_own(tmp_path: Path, adapter: Path, monkeypatch):
    """A file that cannot be read to its end is no fault of the disk that is written to."""

    class Breaking:
        def __enter__(self) -> Breaking:
            return self

        def __exit__(self, *_: object) -> None: ...

        def readinto(self, _: memoryview) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sources, "nullcontext", lambda _: Breaking())
    with pytest.raises(SourceError, match="Input/output error"):
        fetch(str(adapter), tmp_path / "copy", LimitsConfig())
