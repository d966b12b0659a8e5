"""The journal's head, given out while it moves: log, file, URL; by it a journal made anew shows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from s3lora_serve.errors import S3LoRAError
from s3lora_serve.storage.daemon_threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from s3lora_serve.config import StateConfig
    from s3lora_serve.control.journal.chain import Head
    from s3lora_serve.control.journal.journal import Journal

log = logging.getLogger(__name__)

ENTRIES = 100  # so many new ones are given out at once, however little time has passed
LOOK_SECONDS = 1.0
POST_SECONDS = WRITE_SECONDS = 5.0


@dataclass
class HeadNotes:
    """Gives the head out: when a server begins, every ``head_seconds`` in which it moved, and at the end.

    A file or an address that cannot be reached is logged; nothing waits for it but the end, for seconds.
    """

    journal: Journal
    settings: StateConfig
    threads: DaemonThreads = field(default_factory=lambda: DaemonThreads("head", 1))

    @contextlib.asynccontextmanager
    async def given(self) -> AsyncIterator[None]:
        """Give heads out for as long as the block runs."""
        over = asyncio.Event()
        task = asyncio.create_task(self._follow(over))
        try:
            yield
        finally:
            over.set()
            await task

    async def _follow(self, over: asyncio.Event) -> None:
        await self.give()
        given_at = time.monotonic()
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), min(LOOK_SECONDS, self.settings.head_seconds))
            moved = self.journal.last.seq - self.journal.announced.seq
            if moved >= ENTRIES or (moved and time.monotonic() - given_at >= self.settings.head_seconds):
                await self.give()
                given_at = time.monotonic()
        await self.give()

    async def give(self) -> None:
        """Give the head out now, unless it was given out already."""
        try:
            head = self.journal.last
        except S3LoRAError as error:
            log.error("the journal's head cannot be read: %s", error)
            return
        if head == self.journal.announced:
            return
        self.journal.announced = head
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        log.info("journal head %s:%s", head.seq, head.hash)
        if self.settings.head_file is not None:
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self.threads.run(_append, self.settings.head_file, f"{at} {head.seq}:{head.hash}\n")
            except TimeoutError:
                log.error("state.head_file %s: not written in %g s", self.settings.head_file, WRITE_SECONDS)
        if self.settings.head_url is not None:
            await _post(self.settings.head_url, self.journal.fleet, head, at)


def _append(path: Path, line: str) -> None:
    # Appended: the file may be one that this user cannot rewrite (chattr +a), or a pipe.
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab", buffering=0) as file:
            file.write(line.encode())
            with contextlib.suppress(OSError):  # a pipe has no disk
                os.fsync(file.fileno())
    except OSError as error:
        log.error("state.head_file %s: %s", path, error.strerror or error)


async def _post(url: str, fleet: str | None, head: Head, at: str) -> None:
    import httpx

    body = {"head": f"{head.seq}:{head.hash}", "seq": head.seq, "hash": head.hash, "fleet": fleet, "at": at}
    try:
        async with (
            asyncio.timeout(POST_SECONDS),
            httpx.AsyncClient(timeout=POST_SECONDS) as client,
            client.stream("POST", url, json=body) as answer,
        ):
            pass  # its body is of no account, and may have no end
        if not answer.is_success:
            log.error("state.head_url at %s answers %d", _host(url), answer.status_code)
    except Exception as error:  # whatever it is: the journal holds the entry, and the next head names it too
        log.error("state.head_url at %s: %s", _host(url), type(error).__name__)


def _host(url: str) -> str:
    """Of an address, what a log may show."""
    with contextlib.suppress(ValueError):
        return urlsplit(url).hostname or "?"
    return "?"
