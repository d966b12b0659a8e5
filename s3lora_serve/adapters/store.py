"""Published revisions, each in a folder named by its digest.

::

    <root>/revisions/<digest>/   adapter_config.json, adapter_model.safetensors, lineage.json; never changed
    <root>/keys/<key>            the digest that an admission with this key led to: a cache, safe to delete
    <root>/staging/              work in progress; what a crash leaves is swept when the store is opened
    <root>/lock                  held shared while staging, exclusively while sweeping
    <root>/engine                the kind of engine that it is used with: vllm, or fake
    <root>/fleets                the ids of the fleets that served from it, a line each

A revision appears by one rename of a synced folder, so after a crash it is whole or absent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.adapters.lineage import Lineage, Revision
from s3lora_serve.adapters.peft.adapter_config import CONFIG_NAME
from s3lora_serve.adapters.peft.peft_format import WEIGHTS_NAME, config_bytes
from s3lora_serve.adapters.store_fleets import mark_unserved
from s3lora_serve.adapters.store_mark import claim
from s3lora_serve.errors import StoreError
from s3lora_serve.storage.durable import rename_unless_there, sync_folder, write_synced

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LINEAGE_NAME", "Lineage", "Revision", "RevisionStore"]

LINEAGE_NAME = "lineage.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class RevisionStore:
    """Content-addressed revisions under ``root``, shared by any number of processes of one machine."""

    def __init__(self, root: Path, engine: str | None = None) -> None:
        """Open or create the store, and sweep what a crash left. Raises StoreError if it is not writable.

        ``engine`` is the kind of engine that is to load its revisions; StoreError if another kind did before.
        None: they are not loaded.
        """
        self._root = root.expanduser().resolve()
        self._revisions, self._keys, self._staging = (
            self._root / name for name in ("revisions", "keys", "staging")
        )
        try:
            new = not self._revisions.is_dir()
            if engine is not None:
                claim(self._root, engine, self._revisions)
            if new:
                self._root.mkdir(parents=True, exist_ok=True)
                mark_unserved(self._root)
            for folder in (self._revisions, self._keys, self._staging):
                folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
        except OSError as error:
            raise StoreError(f"store {root}: {error}", hint="set store.path to a writable folder") from error

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A private folder on the store's file system, removed afterwards.

        Raises StoreError for an OSError inside it: what is not the source's fault is the disk's.
        """
        try:
            with self._locked(fcntl.LOCK_SH):
                folder = Path(tempfile.mkdtemp(dir=self._staging))
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise StoreError(
                f"store {self._root.name}: {error}", hint="is its disk full or read-only?"
            ) from error

    def publish(self, built: Path, lineage: Lineage, *, key: str | None = None) -> Revision:
        """Publish ``built`` (from ``write_peft``, in ``staging``) atomically; never overwrites a revision.

        If the revision exists already, that one is returned, with the lineage of its first admission. ``key``
        is remembered for ``find``. Raises StoreError if the existing revision is damaged in any byte.
        """
        place = self._revisions / lineage.digest
        if place.exists():
            revision = self.check(lineage.digest)
        else:
            text = json.dumps(lineage.to_json(), allow_nan=False)
            write_synced(built / LINEAGE_NAME, text.encode())
            for file in built.iterdir():
                file.chmod(0o444)
            sync_folder(built)
            rename_unless_there(built, place)
            sync_folder(self._revisions)
            revision = self.get(lineage.digest)
        if key is not None:
            self._remember(key, lineage.digest)
        return revision

    def get(self, digest: str) -> Revision:
        """The revision of this digest; looks at sizes only. Raises StoreError if it is absent or damaged."""
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"{digest!r} is not a revision: expected 64 hex digits")
        place = self._revisions / digest
        if not place.is_dir():
            raise StoreError(f"revision {digest[:12]} is not in the store", hint="admit its adapter again")
        try:
            lineage = Lineage.from_json(json.loads(_file(place / LINEAGE_NAME).read_bytes()))
            size = _file(place / WEIGHTS_NAME).stat().st_size if lineage.kept else 0
            _file(place / CONFIG_NAME)
        except FileNotFoundError as error:
            raise _damaged(digest, f"{Path(error.filename).name} is missing") from error
        except OSError as error:
            why = f"{Path(str(error.filename)).name} cannot be read: {error.strerror or error}"
            raise _damaged(digest, why) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(
                digest, f"{LINEAGE_NAME} is unreadable ({type(error).__name__}: {error})"
            ) from error
        if size != lineage.weights_bytes:
            raise _damaged(digest, f"{WEIGHTS_NAME} has {size} bytes, published with {lineage.weights_bytes}")
        return Revision(digest, place, lineage)

    def resolve(self, prefix: str) -> str:
        """The digest that begins with these digits. Raises StoreError when none or several do."""
        found = self._names()
        matching = sorted(name for name in found if prefix and name.startswith(prefix))
        if len(matching) == 1:
            return matching[0]
        if not matching:
            raise StoreError(f"no revision {prefix[:64]!r} is in the store", hint="admit its adapter again")
        shown = ", ".join(name[:16] for name in matching[:3])
        raise StoreError(f"{prefix!r} begins {len(matching)} revisions: {shown}", hint="give more digits")

    def find(self, key: str) -> Revision | None:
        """The revision that an admission with this key led to, if it is there and not visibly damaged.

        It looks at sizes only; ``check`` reads every byte.
        """
        try:
            return self.get(_file(self._keys / key).read_text().strip())
        except (OSError, ValueError, StoreError):
            return None

    def list(self) -> tuple[Revision, ...]:
        """All revisions, oldest first. Raises StoreError at the first damaged one."""
        found = [self.get(name) for name in self._names()]
        return tuple(sorted(found, key=lambda revision: (revision.lineage.created_at, revision.digest)))

    def check(self, digest: str) -> Revision:
        """Read every byte of a revision again. Raises StoreError if anything is not what was published."""
        try:
            return self._check(digest)
        except OSError as error:
            raise _damaged(digest, f"it cannot be read: {error.strerror or error}") from error

    def _check(self, digest: str) -> Revision:
        revision = self.get(digest)
        lineage, place = revision.lineage, revision.path
        if lineage.digest != digest:
            raise _damaged(digest, f"{LINEAGE_NAME} describes revision {lineage.digest[:12]}")
        if (place / CONFIG_NAME).read_bytes() != config_bytes(lineage.config):
            raise _damaged(digest, f"{CONFIG_NAME} was changed after publication")
        if lineage.kept:
            with (place / WEIGHTS_NAME).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != lineage.weights_sha256:
                raise _damaged(digest, f"{WEIGHTS_NAME} has sha256 {found}, not {lineage.weights_sha256}")
        expected = {CONFIG_NAME, LINEAGE_NAME} | ({WEIGHTS_NAME} if lineage.kept else set())
        if extra := {entry.name for entry in place.iterdir()} - expected:
            raise _damaged(digest, f"{min(extra)!r} was not published")
        return revision

    def _names(self) -> tuple[str, ...]:
        try:
            places = tuple(self._revisions.iterdir())
        except OSError as error:
            raise StoreError(
                f"the store's folder cannot be read: {error.strerror or error}",
                hint="put it back, or restore a backup",
            ) from error
        return tuple(place.name for place in places if _DIGEST.fullmatch(place.name))

    def _remember(self, key: str, digest: str) -> None:
        with self.staging() as folder:
            (folder / "key").write_text(digest)  # not synced: what a crash leaves of it names no revision
            (folder / "key").replace(self._keys / key)

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """The kernel drops the lock when its holder dies, however it dies."""
        with (self._root / "lock").open("ab") as file:
            fcntl.flock(file, how)
            yield

    def _sweep(self) -> None:
        """Remove what crashed admissions left; do nothing while an admission stages."""
        with contextlib.suppress(BlockingIOError), self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            for left in self._staging.iterdir():
                shutil.rmtree(left, ignore_errors=True)


def _file(path: Path) -> Path:
    """The path, if it is a regular file's: reading a pipe would never end. Raises OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return path


def _damaged(digest: str, what: str) -> StoreError:
    hint = "restore it from a backup, or remove its folder and admit the adapter again"
    return StoreError(f"revision {digest[:12]}: {what}", hint=hint)
