"""A backup holds state and store as they are at one moment; a restore puts back that, or nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
from pathlib import Path

import pytest
from adapters_factory import adapter_limits
from journal_factory import record
from peft_builder import BASE, write_folder

from s3lora_serve.adapters.admission import admit
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.adapters.store_fleets import claim_fleet
from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import S3LoRAError, StateError, StoreError
from s3lora_serve.launch.backup import backup
from s3lora_serve.launch.restore import restore
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top

GONE = "e" * 64  # a revision of the past, which nobody needs any more


@pytest.fixture
def place(tmp_path):
    """A fleet whose planner serves one of two revisions and can go back to the other."""
    store = RevisionStore(tmp_path / "here" / "store", "vllm")
    source = str(write_folder(tmp_path / "source"))
    one, two = (
        admit(source, base=BASE, policy=PrunePolicy(rule=Top(tau)), limits=adapter_limits(), store=store)
        for tau in (2, 3)
    )
    with Journal(tmp_path / "here" / "state.db") as journal:
        entry = NewEntry("a", "swap.flipped", "search", "op-1", GONE, two.digest)
        journal.write(entry, planner=record(active=two.digest, previous=one.digest))
    return tmp_path / "here"


def take(place, target):
    """A backup of this place."""
    return backup(place / "state.db", place / "store", target, EngineKind.VLLM, lambda *_: None)


def put(source, place, **options):
    """A backup put into this place."""
    return restore(source, place / "state.db", place / "store", EngineKind.VLLM, lambda *_: None, **options)


def left(folder):
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_the_state_of_no_fleet_is_no_backup(place, tmp_path):
    """Beside revisions that a fleet served, an empty state file is a lost one: no backup."""
    with Journal(place / "state.db") as journal:
        claim_fleet(place / "store", str(journal.fleet))
    (place / "state.db").unlink()
    with Journal(place / "state.db"):
        pass
    with pytest.raises(StoreError, match="holds nothing"):
        take(place, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["copy", "copy.tar", "copy.tar.gz", "copy.tgz"])
def test_what_was_there_is_there_again(place, tmp_path, name):
    """State, ids and the revisions that planners need, in every byte; private, and nothing left beside it."""
    taken = take(place, tmp_path / "kept" / name)
    assert (len(taken.revisions), taken.left_out, left(tmp_path / "kept")) == (2, (GONE,), [name])
    assert (tmp_path / "kept" / name).stat().st_mode & 0o077 == 0
    there = tmp_path / "there"
    assert put(tmp_path / "kept" / name, there) == taken
    with Journal(there / "state.db") as new, Journal(place / "state.db", read_only=True) as old:
        assert (new.planners(), new.head(), new.fleet) == (old.planners(), old.head(), old.fleet)
    store = RevisionStore(there / "store", "vllm")
    assert [store.check(digest).digest for digest in taken.revisions] == list(taken.revisions)
    assert [name for name in left(there) if name.startswith(".")] == []


def test_it_is_one_moment_of_a_file_that_is_written(place, tmp_path):
    """Decisions go on meanwhile: each backup is a whole prefix of them, and its chain holds."""
    over = threading.Event()

    def decide():
        with Journal(place / "state.db") as journal:
            planner = journal.planners()["search"]
            while not over.is_set():
                journal.write(NewEntry("a", "swap.flipped", "search"), planner=planner)

    thread = threading.Thread(target=decide)
    thread.start()
    try:
        for number in range(3):
            assert take(place, tmp_path / f"copy{number}").findings == ()
            put(tmp_path / f"copy{number}", tmp_path / f"there{number}")
    finally:
        over.set()
        thread.join()


def flip_byte(path, at=None):
    """One byte of a file is another one."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at or path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("what", ["state", "revision", "manifest", "missing", "link", "tar", "cut"])
def test_a_backup_that_was_changed_is_refused(place, tmp_path, what):
    """Nothing of it is put in place, whatever was damaged."""
    copy = tmp_path / ("copy.tar" if what in ("tar", "cut") else "copy")
    taken = take(place, copy)
    weights = copy / "store" / "revisions" / taken.revisions[0] / "adapter_model.safetensors"
    match what:
        case "state":
            flip_byte(copy / "state.db")
        case "revision":
            flip_byte(weights)
        case "manifest":
            data = json.loads((copy / "backup.json").read_text())
            (copy / "backup.json").write_text(json.dumps({**data, "head": "1:" + "0" * 64}))
        case "missing":
            shutil.rmtree(weights.parent)
        case "link":
            weights.unlink()
            weights.symlink_to("/etc/hostname")
        case "tar":
            flip_byte(copy, copy.read_bytes().index(b"SQLite format 3") + 5000)
        case "cut":
            os.truncate(copy, copy.stat().st_size // 2)
    there = tmp_path / "there"
    with pytest.raises(S3LoRAError) as caught:
        put(copy, there)
    assert caught.value.hint
    assert not (there / "state.db").exists()
    assert not (there / "store").exists()


def test_what_is_there_is_kept_unless_forced(place, tmp_path):
    """With force the old state file stays beside the new one, and a damaged revision is mended."""
    taken = take(place, tmp_path / "copy")
    with pytest.raises(StateError, match="holds a fleet's state already"):
        put(tmp_path / "copy", place)
    (place / "state.db").rename(place / "other.db")
    with pytest.raises(StateError, match="holds revisions already"):
        put(tmp_path / "copy", place)
    (place / "other.db").rename(place / "state.db")
    with Journal(place / "state.db") as journal:
        with pytest.raises(StateError, match="in use by another server"):
            put(tmp_path / "copy", place, force=True)
        journal.write(NewEntry("a", "later"))
    flip_byte(place / "store" / "revisions" / taken.revisions[0] / "adapter_model.safetensors")
    put(tmp_path / "copy", place, force=True)
    (kept,) = [name for name in left(place) if re.search(r"\.replaced-\w+$", name)]
    with Journal(place / kept, read_only=True) as old, Journal(place / "state.db") as new:
        assert (old.head().seq, new.head().seq) == (2, 1)
    RevisionStore(place / "store").check(taken.revisions[0])


def test_a_store_may_be_a_file_system_of_its_own(place, tmp_path, monkeypatch):
    """A mounted volume, or a link to a larger disk: nothing can be renamed into it from beside it."""
    take(place, tmp_path / "copy")
    store = tmp_path / "there" / "store"
    store.mkdir(parents=True)
    rename = Path.rename

    def on_one_disk(path, target):
        if (store in path.parents) != (store in Path(target).parents):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", on_one_disk)
    manifest = put(tmp_path / "copy", tmp_path / "there")
    assert {path.name for path in (store / "revisions").iterdir()} == set(manifest.revisions)
    assert [name for name in left(store) if name.startswith(".")] == []


def test_a_revision_that_a_planner_needs_must_be_there(place, tmp_path):
    """The backup fails as a whole, names it, and leaves nothing behind."""
    with Journal(place / "state.db", read_only=True) as journal:
        shutil.rmtree(place / "store" / "revisions" / journal.planners()["search"].previous)
    with pytest.raises(StoreError, match=r"search, previous needs it"):
        take(place, tmp_path / "kept" / "copy")
    assert left(tmp_path / "kept") == []
