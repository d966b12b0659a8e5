"""A store serves one kind of engine, from its first day on."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("first", "second"), [("fake", "vllm"), ("vllm", "fake")])
def test_another_kind_of_engine_is_refused(tmp_path: Path, first: str, second: str):
    """The error names the folder, both kinds and what to do; the store stays as it was, and its own's."""
    root = tmp_path / "store"
    RevisionStore(root, first)
    before = sorted(root.rglob("*"))
    with pytest.raises(
        StoreError, match=rf"store {root} was used with engine '{first}'.* engine {second}"
    ) as no:
        RevisionStore(root, second)
    assert "store.path" in no.value.hint
    assert sorted(root.rglob("*")) == before
    assert (root / "engine").read_text() == f"{first}\n"
    RevisionStore(root, first)


def test_a_store_from_before_the_mark_was_used_by_vllm(tmp_path: Path):
    """It goes on serving vLLM, and is no place for a fake engine."""
    RevisionStore(tmp_path)  # marks nothing, as then
    assert not (tmp_path / "engine").exists()
    with pytest.raises(StoreError, match="was used with engine 'vllm'"):
        RevisionStore(tmp_path, "fake")
    RevisionStore(tmp_path, "vllm")


def test_an_empty_folder_is_a_new_store(tmp_path: Path):
    """A folder made beforehand, as a volume is, belongs to the engine kind that opens it first."""
    RevisionStore(tmp_path, "fake")
    RevisionStore(tmp_path, "fake")


def test_who_only_reads_is_not_asked(tmp_path: Path):
    """Checking what is published, as ``s3lora audit`` does, needs no engine."""
    RevisionStore(tmp_path, "fake")
    RevisionStore(tmp_path)


def test_a_mark_that_nobody_wrote_fits_nobody(tmp_path: Path):
    """It is quoted, and not taken for one or the other."""
    RevisionStore(tmp_path, "vllm")
    (tmp_path / "engine").write_bytes(b"\xff\x1b[31m" * 999)
    for engine in ("vllm", "fake"):
        with pytest.raises(StoreError) as no:
            RevisionStore(tmp_path, engine)
        assert len(no.value.message) < 400
        assert no.value.message.isprintable()


def test_two_that_come_at_once_agree(tmp_path: Path):
    """One kind gets the new store, and every opener of the other is refused, also later."""

    def begin(engine: str) -> str | None:
        try:
            RevisionStore(root, engine)
        except StoreError:
            return None
        return engine

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            root = tmp_path / "store"
            began = {engine for engine in pool.map(begin, ("vllm", "fake") * 4) if engine}
            assert len(began) == 1
            assert {begin("vllm"), begin("fake")} == {*began, None}
            shutil.rmtree(root)
