"""Which fleets served from a store, by the ids of their state files: a lost one is no first start."""

from __future__ import annotations

import fcntl
import re
from typing import TYPE_CHECKING

from s3lora_serve.errors import StoreError
from s3lora_serve.storage.durable import sync_folder, write_synced

if TYPE_CHECKING:
    from pathlib import Path

FLEETS = "fleets"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_fleet(root: Path, state: Path, fleet: str, *, used: bool) -> None:
    """Refuse a store with revisions that other fleets served and this one did not.

    ``fleet`` is the id of the state file ``state``, ``used`` whether that holds anything. A store
    of a release that noted no fleets is taken to be that of a state file which does. Raises StoreError.
    """
    count = _revisions(root)
    known = known_fleets(root)
    if not count or (used if known is None else (not known or fleet in known)):
        return
    what = "holds another fleet's" if used else "holds nothing"
    raise StoreError(
        f"store {root} has {count} revisions that a fleet served, and the state file {state} {what}:"
        " what was decided about them would be forgotten",
        hint="put that fleet's state file back: from a backup, or by state.path; or begin anew from"
        " planners.yaml, with the revisions kept",
        command="s3lora restore BACKUP --force; or, to begin anew, s3lora-serve --new-state",
    )


def claim_fleet(root: Path, fleet: str) -> None:
    """Note that this fleet serves from the store. Raises StoreError if it cannot be written."""
    try:
        with (root / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)  # others may stage; writing is one rename
            known = known_fleets(root) or ()
            if fleet not in known:
                _write(root, (*known, fleet))
    except OSError as error:
        raise StoreError(f"store {root}: {error}", hint="set store.path to a writable folder") from error


def known_fleets(root: Path) -> tuple[str, ...] | None:
    """The ids of fleets that served from it; None for a store of a release that noted none.

    Raises StoreError if they cannot be read.
    """
    try:
        return tuple((root / FLEETS).read_text("utf-8", errors="replace").split())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"store {root}: its list of fleets cannot be read: {error.strerror or error}",
            hint=f"put its file '{FLEETS}' back, or restore a backup",
        ) from error


def mark_unserved(root: Path) -> None:
    """Note of a new store that no fleet has served from it yet."""
    if not (root / FLEETS).exists():
        _write(root, ())


def _write(root: Path, fleets: tuple[str, ...]) -> None:
    built = root / f".{FLEETS}"
    built.unlink(missing_ok=True)
    write_synced(built, "".join(f"{fleet}\n" for fleet in fleets).encode())
    built.replace(root / FLEETS)
    sync_folder(root)


def _revisions(root: Path) -> int:
    try:
        return sum(1 for place in (root / "revisions").iterdir() if _DIGEST.fullmatch(place.name))
    except OSError:
        return 0
