"""Writes down what guards found, behind the requests and never in their way."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Self

from s3lora_serve.errors import StateError
from s3lora_serve.safety.guard.verdicts.verdict_file import VerdictFile, oldest
from s3lora_serve.safety.guard.verdicts.verdict_record import EXEMPT, VerdictCount, records_of
from s3lora_serve.storage.daemon_threads import DaemonCall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3lora_serve.safety.guard.guarding import Guarding
    from s3lora_serve.safety.guard.verdicts.verdict_record import VerdictRecord

    _Item = tuple[tuple[VerdictCount, ...], tuple[VerdictRecord, ...]]

log = logging.getLogger(__name__)

WAITING = 10_000  # requests whose records wait for a slow disk; further ones are lost, and counted
BATCH = 500  # requests that are written in one transaction
TIDY_SECONDS = 600.0
CLOSE_SECONDS = 5.0


class VerdictLog:
    """Use as a context: the file is opened when it is made, and what waits is written before it is closed.

    A full disk costs records, never a request: they are counted in ``lost``, and it is logged once, until
    writing works again.
    """

    def __init__(self, path: Path, days: float) -> None:
        """Raises StateError for a file that cannot be used. ``days`` is how long records are kept."""
        self.path = path
        self.lost = 0
        self._days = days
        self._file = VerdictFile(path)
        self._queue: queue.Queue[_Item | threading.Event | None] = queue.Queue(WAITING)
        self._failing = False
        self._writing: DaemonCall[None] | None = None

    def __enter__(self) -> Self:
        self._writing = DaemonCall("guard-log", self._write)
        return self

    def __exit__(self, *_: object) -> None:
        """What waits is written, for at most five seconds."""
        assert self._writing is not None, "it was entered"
        try:
            self._queue.put(None, timeout=CLOSE_SECONDS)
        except queue.Full:
            log.error("%s: the disk does not answer; the last records are lost", self.path)
        if not self._writing.wait(CLOSE_SECONDS):
            self._writing.give_up()

    def add(self, planner: str, guarding: Guarding) -> None:
        """Keep what became of a judged request. Returns at once, and raises nothing."""
        self._put(records_of(planner, guarding, time.time()))

    def exempt(self, planner: str, caller: str) -> None:
        """Count a request that nobody judged. Returns at once, and raises nothing."""
        self._put(((VerdictCount(time.time(), planner, caller, "", EXEMPT),), ()))

    def _put(self, item: _Item) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self.lost += 1

    def settled(self, seconds: float = 2.0) -> bool:
        """Wait until all that was added by now is written or lost, for at most this time; whether it is."""
        written = threading.Event()
        try:
            self._queue.put(written, timeout=seconds)
        except queue.Full:
            return False
        return written.wait(seconds)

    def _write(self) -> None:
        tidied = 0.0
        with self._file:
            while True:
                items, waiting, ends = self._taken()
                if items:
                    self._try(lambda items=items: self._add(items), len(items))  # type: ignore[misc]
                for each in waiting:
                    each.set()
                if ends:
                    return
                if time.monotonic() - tidied > TIDY_SECONDS or not tidied:
                    tidied = time.monotonic()
                    self._try(lambda: self._file.forget(oldest(self._days)), 0)

    def _taken(self) -> tuple[list[_Item], list[threading.Event], bool]:
        """What waits, at least one thing; events of those who wait for it, and whether this is the end."""
        items: list[_Item] = []
        waiting: list[threading.Event] = []
        try:
            item = self._queue.get(timeout=TIDY_SECONDS)
            while True:
                if item is None:
                    return items, waiting, True
                if isinstance(item, threading.Event):
                    waiting.append(item)
                else:
                    items.append(item)
                if len(items) >= BATCH:
                    break
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        return items, waiting, False

    def _add(self, items: list[_Item]) -> None:
        counts = [count for each, _ in items for count in each]
        self._file.add(counts, [record for _, each in items for record in each])

    def _try(self, act: Callable[[], None], lost: int) -> None:
        try:
            act()
        except StateError as error:
            self.lost += lost
            if not self._failing:
                log.error("verdicts of guards are lost until it can be written again: %s", error)
            self._failing = True
        except Exception:  # a defect of ours must not end the thread, and with it all records
            self.lost += lost
            log.exception("verdicts of guards could not be written down")
        else:
            if self._failing and lost:
                log.warning("%s is written again; %d requests' verdicts were lost", self.path, self.lost)
                self._failing = False
