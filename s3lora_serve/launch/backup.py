"""State file and store copied together, as they are at one moment, also beside a running server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3lora_serve import __version__
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.adapters.store_fleets import check_fleet, claim_fleet
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.journal.journal_findings import journal_findings
from s3lora_serve.errors import StateError, StoreError
from s3lora_serve.fleet.planner_record import PlannerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from s3lora_serve.control.journal.agreement import Tables
    from s3lora_serve.engine.port import EngineKind

    Progress = Callable[[str, float | None], None]

FORMAT = 1
MANIFEST, STATE, STORE = "backup.json", "state.db", "store"
ARCHIVES = {".tar": "w", ".tgz": "w:gz", ".gz": "w:gz"}
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ROLES = ("active", "candidate", "previous")


@dataclass(frozen=True)
class BackupManifest:
    """What a backup holds. ``findings`` are what an audit of its state file says, ``left_out`` revisions
    that the journal names and no planner needs, and that could not be copied.
    """

    format: int
    made_at: str
    made_by: str
    engine: str
    fleet: str
    head: str  # SEQ:HASH
    planners: Mapping[str, str]  # name → digest that it shall serve
    revisions: tuple[str, ...]
    left_out: tuple[str, ...]
    state_sha256: str
    findings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def backup(state: Path, store: Path, target: Path, engine: EngineKind, tell: Progress) -> BackupManifest:
    """Copy ``state`` and the revisions that it names to ``target``: a folder, or a .tar, .tgz, .tar.gz file.

    The state file goes first, by SQLite's own copy of a database in use; revisions never change, so those
    that it names are there afterwards. Every byte is read again in the copy; ``target`` appears when it is
    whole. Raises StateError, StoreError; then there is none.
    """
    if target.exists():
        raise StateError(f"{target} is there already", hint="name a file or folder that is not")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as held:
            built = Path(held, "backup")
            built.mkdir(mode=0o700)
            manifest = _fill(built, state, store, engine, tell)
            tell("disk", None)
            if mode := ARCHIVES.get(target.suffix):
                tell("archive", None)
                archive = _archive(built, Path(held, target.name), mode)
                os.sync()
                archive.replace(target)
            else:
                os.sync()
                built.rename(target)
    except OSError as error:
        reason = error.strerror or error
        raise StateError(f"backup to {target}: {reason}", hint="check the disk and the folder") from error
    return manifest


def _fill(built: Path, state: Path, store: Path, engine: EngineKind, tell: Progress) -> BackupManifest:
    tell("state", 0.0)
    with Journal(state, read_only=True) as journal:
        journal.backup(built / STATE, lambda done, whole: tell("state", done / max(1, whole)))
    with Journal(built / STATE, read_only=True) as journal:
        tell("journal", None)
        head, tables, named = journal.head(), journal.tables(), journal.digests()
        findings = [f"{each.subject}: {each.message}" for each in journal_findings(journal) if not each.ok]
        fleet = journal.fleet
    if fleet is None:
        raise StateError(
            f"{state} is of a release that gave fleets no id",
            hint="start a server of this release on it once",
        )
    # A start that found no state file left an empty one: a copy of that must not pass for the night's backup.
    check_fleet(store, state, fleet, used=head.seq > 0)
    taken, left_out = _revisions(built / STORE, store, engine, _needed(tables), named, tell)
    claim_fleet(built / STORE, fleet)
    manifest = BackupManifest(
        format=FORMAT,
        made_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        made_by=f"s3lora-serve {__version__}",
        engine=engine.value,
        fleet=fleet,
        head=f"{head.seq}:{head.hash}",
        planners={r.name: r.active for r in tables.planners.values() if isinstance(r, PlannerRecord)},
        revisions=tuple(taken),
        left_out=tuple(left_out),
        state_sha256=sha256_of(built / STATE),
        findings=tuple(findings),
    )
    (built / MANIFEST).write_text(json.dumps(manifest.to_json(), indent=2) + "\n")
    return manifest


def _needed(tables: Tables) -> dict[str, str]:
    """Digest → whose it is, of what planners serve, try or roll back to."""
    found = {}
    for record in tables.planners.values():
        if isinstance(record, PlannerRecord):
            for role in _ROLES:
                if (digest := getattr(record, role)) is not None:
                    found[str(digest)] = f"{record.name}, {role}"
    return found


def _revisions(
    place: Path, store: Path, engine: EngineKind, needed: Mapping[str, str], named: set[str], tell: Progress
) -> tuple[list[str], list[str]]:
    source, copy = store / "revisions", RevisionStore(place, engine)
    taken, left_out = [], []
    wanted = [*needed, *sorted(named - needed.keys())]
    for number, digest in enumerate(wanted):
        tell(f"revision {digest[:12]}", number / len(wanted))
        try:
            if not _DIGEST.fullmatch(digest):
                raise StoreError(f"{digest[:80]!r} is no revision")
            with as_store_error(digest):
                shutil.copytree(source / digest, place / "revisions" / digest)
            copy.check(digest)
        except StoreError as error:
            if digest in needed:
                why = f"{error.message}, and {needed[digest]} needs it"
                raise StoreError(why, hint=error.hint) from error
            shutil.rmtree(place / "revisions" / digest, ignore_errors=True)
            left_out.append(digest)
        else:
            taken.append(digest)
    return taken, left_out


@contextmanager
def as_store_error(digest: str) -> Iterator[None]:
    """What the system says of a revision's folder, as StoreError."""
    try:
        yield
    except OSError as error:  # copytree's own error is one, and holds a list
        reason = error.strerror or "its folder is not in the store, or cannot be read"
        # A store elsewhere than the configuration says looks like one that lost its folders.
        if error.filename:
            reason = f"{reason}: {error.filename}"
        hint = "the audit says what else is missing"
        raise StoreError(f"revision {digest[:12]}: {reason}", hint=hint) from error


def _archive(built: Path, file: Path, mode: Any) -> Path:
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with tarfile.open(file, mode) as tar:
        for name in (MANIFEST, STATE, STORE):
            tar.add(built / name, name)
    return file


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
