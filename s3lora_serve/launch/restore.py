"""A backup put in place: verified first, in every byte, and never over what is there unless that is asked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.adapters.store_fleets import claim_fleet
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.journal.journal_findings import journal_findings
from s3lora_serve.control.journal.state_file import take_lock
from s3lora_serve.errors import StateError, StoreError
from s3lora_serve.launch.backup import (
    FORMAT,
    MANIFEST,
    STATE,
    STORE,
    BackupManifest,
    as_store_error,
    sha256_of,
)

if TYPE_CHECKING:
    from s3lora_serve.engine.port import EngineKind
    from s3lora_serve.launch.backup import Progress

_BESIDE = ("", "-wal", "-shm")
_OTHER = "take another backup; this one was changed or is not whole"


def restore(
    source: Path, state: Path, store: Path, engine: EngineKind, tell: Progress, *, force: bool = False
) -> BackupManifest:
    """Verify the backup at ``source`` and put it in the place of this engine's ``state`` and ``store``.

    With ``force`` over what is there: the state file that was there is kept beside the new one, revisions
    that are sound stay. Nothing is changed before all is verified. Raises StateError, also for a backup of
    another kind of engine, and StoreError.
    """
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with (
            contextlib.closing(take_lock(state.resolve())),
            # On the store's file system, which may be another one than that of the folder that it lies in.
            tempfile.TemporaryDirectory(
                dir=store if store.exists() else store.parent, prefix=".restore-"
            ) as held,
        ):
            if not force:
                _refuse_occupied(state, store)
            copy = Path(held, "backup")
            _bring(source, copy, tell)
            manifest = _verified(copy, tell)
            _refuse_other_engine(source, manifest, engine)
            _place(copy, manifest, state, store)
    except OSError as error:
        reason = error.strerror or error
        raise StateError(f"restore from {source}: {reason}", hint="check the disk and the folders") from error
    return manifest


def _refuse_occupied(state: Path, store: Path) -> None:
    if _holds_something(state):
        raise StateError(
            f"{state} holds a fleet's state already", hint="restore elsewhere, or over it: --force"
        )
    revisions = store / "revisions"
    if revisions.is_dir() and any(revisions.iterdir()):
        raise StateError(f"{store} holds revisions already", hint="restore elsewhere, or into it: --force")


def _refuse_other_engine(source: Path, manifest: BackupManifest, engine: EngineKind) -> None:
    if manifest.engine != engine.value:
        raise StateError(
            f"{source} is of a server with the engine {manifest.engine}, and this place is of {engine.value}",
            hint=f"restore it with --engine {manifest.engine}",
        )


def _holds_something(state: Path) -> bool:
    if not state.exists() or not state.stat().st_size:
        return False
    try:
        with Journal(state, read_only=True) as journal:
            return journal.head().seq > 0
    except StateError:
        return True


def _bring(source: Path, copy: Path, tell: Progress) -> None:
    tell("copy", None)
    if source.is_dir():
        shutil.copytree(source, copy, symlinks=True)
        return
    try:
        with tarfile.open(source) as tar:
            tar.extractall(copy, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise StateError(f"{source} is no backup, or was cut: {error}", hint=_OTHER) from error


def _verified(copy: Path, tell: Progress) -> BackupManifest:
    if any(path.is_symlink() for path in copy.rglob("*")):
        raise StateError("a backup has no symbolic links, and this one does", hint=_OTHER)
    manifest = _manifest(copy / MANIFEST)
    tell("state", None)
    state = copy / STATE
    if not state.is_file() or sha256_of(state) != manifest.state_sha256:
        raise StateError("the backup's state file is not the one that was written", hint=_OTHER)
    with Journal(state, read_only=True) as journal:
        head, fleet = journal.head(), journal.fleet
        findings = {f"{each.subject}: {each.message}" for each in journal_findings(journal) if not each.ok}
    if (f"{head.seq}:{head.hash}", fleet) != (manifest.head, manifest.fleet):
        raise StateError("the backup's state file is not the one that its manifest describes", hint=_OTHER)
    if new := sorted(findings - set(manifest.findings)):
        raise StateError(f"the backup's state file does not hold: {new[0]}", hint=_OTHER)
    store = RevisionStore(copy / STORE)
    for number, digest in enumerate(manifest.revisions):
        tell(f"revision {digest[:12]}", number / len(manifest.revisions))
        store.check(digest)
    return manifest


def _manifest(path: Path) -> BackupManifest:
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}, this release reads {FORMAT}")
        known = {each.name for each in fields(BackupManifest)}
        lists = {name: tuple(data[name]) for name in ("revisions", "left_out", "findings")}
        return BackupManifest(**{**{name: data[name] for name in known}, **lists})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"no backup: {MANIFEST} cannot be read ({error})", hint=_OTHER) from error


def _place(copy: Path, manifest: BackupManifest, state: Path, store: Path) -> None:
    """Revisions first, then the state that names them."""
    target = RevisionStore(store, manifest.engine)
    for digest in manifest.revisions:
        place = store / "revisions" / digest
        if place.exists():
            try:
                target.check(digest)
                continue
            except StoreError:
                with as_store_error(digest):
                    shutil.rmtree(place)
        (copy / STORE / "revisions" / digest).rename(place)
    claim_fleet(store, manifest.fleet)
    new = state.with_name(f".{state.name}.restored")
    shutil.copyfile(copy / STATE, new)
    new.chmod(0o600)
    os.sync()  # what is renamed must be on the disk first
    if _holds_something(state):
        kept = f"{state.name}.replaced-{time.strftime('%Y%m%dT%H%M%S')}"
        for end in _BESIDE:
            with contextlib.suppress(FileNotFoundError):
                state.with_name(state.name + end).rename(state.with_name(kept + end))
    for end in _BESIDE:
        state.with_name(state.name + end).unlink(missing_ok=True)
    new.replace(state)
