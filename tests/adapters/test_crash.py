"""Whatever moment an admission dies at, a revision is whole or absent, and the next admission succeeds."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import TYPE_CHECKING

import pytest
from crash_worker import admit_and_die, admit_into, admit_together, interrupt
from peft_builder import write_folder

from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.errors import S3LoRAError

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that start in milliseconds: torch is imported once, in the server that forks them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["s3lora_serve.adapters.admission"])
    return context


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adapter to admit."""
    return str(write_folder(tmp_path_factory.mktemp("adapter")))


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory, source: str) -> str:
    """The revision that an undisturbed admission leads to."""
    return admit_into(str(tmp_path_factory.mktemp("undisturbed")), source).digest


def check_whole(root: Path, digest: str) -> int:
    """Reopen the store as after a crash: nothing half-done is left. Returns the number of revisions."""
    store = RevisionStore(root)
    assert list((root / "staging").iterdir()) == []
    folders = sorted(path.name for path in (root / "revisions").iterdir())
    assert folders in ([], [digest])
    for name in folders:
        store.check(name)
    return len(folders)


def test_a_killed_admission_leaves_a_whole_revision_or_none(
    tmp_path: Path, processes: ForkServerContext, source: str, digest: str
):
    """SIGKILL before every step that touches the disk, one process each."""
    outcomes = []
    for nth in range(1, 500):
        root = tmp_path / str(nth)
        child = processes.Process(target=admit_and_die, args=(str(root), source, nth))
        child.start()
        child.join(60)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        outcomes.append(check_whole(root, digest))
        assert admit_into(str(root), source).digest == digest
        assert check_whole(root, digest) == 1
    else:
        pytest.fail("the admission never ran to its end")
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {0, 1}


def test_a_failing_disk_leaves_a_whole_revision_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, digest: str
):
    """The same with an error at every step: it is ours, it cleans up, and the next admission succeeds."""
    messages: list[str] = []
    for nth in range(1, 500):
        root = tmp_path / str(nth)

        def fail() -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            steps = interrupt(nth, fail, lambda name, step: patched.setattr(os, name, step))
            try:
                admit_into(str(root), source)
            except S3LoRAError as error:
                messages.append(error.message)
        if steps() < nth:
            break
        check_whole(root, digest)
        assert admit_into(str(root), source).digest == digest
        assert check_whole(root, digest) == 1
    assert len(messages) >= 8
    assert [message for message in messages if "No space left on device" not in message] == []


def test_processes_that_publish_the_same_revision_both_succeed(
    tmp_path: Path, processes: ForkServerContext, source: str, digest: str
):
    """The second finds the first's revision in its place, and takes it."""
    barrier, results = processes.Barrier(2), processes.Queue()
    children = [
        processes.Process(target=admit_together, args=(str(tmp_path / "store"), source, barrier, results))
        for _ in range(2)
    ]
    for child in children:
        child.start()
    found = [results.get(timeout=180) for _ in children]
    for child in children:
        child.join(60)
    assert found == [digest, digest]
    assert check_whole(tmp_path / "store", digest) == 1
