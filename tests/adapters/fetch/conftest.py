"""An adapter to fetch, an empty in-memory file system to fetch it from, and retries without waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fsspec
import pytest
import tenacity
from fsspec.implementations.memory import MemoryFileSystem
from peft_builder import write_folder

from s3lora_serve.adapters.fetch import address

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch):
    """Retries without their waits."""
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda seconds: None)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A PEFT folder."""
    return write_folder(tmp_path / "adapter")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch):
    """An empty in-memory file system, read as a bucket is."""
    monkeypatch.setattr(address, "BUCKETS", address.BUCKETS | {"memory"})
    yield _emptied()
    _emptied()


def _emptied() -> MemoryFileSystem:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    return fsspec.filesystem("memory")
