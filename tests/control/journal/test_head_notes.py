"""The journal's head leaves the machine while it moves, and nothing waits for where it goes."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from orders import until

from s3lora_serve.config import StateConfig
from s3lora_serve.control.journal import head_notes
from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.head_notes import HeadNotes
from s3lora_serve.control.journal.journal import Journal


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "state.db") as journal:
        yield journal


def heads(path):
    """What the file was given."""
    return [int(line.split()[1].split(":")[0]) for line in path.read_text().splitlines()]


async def test_it_is_given_out_as_it_moves_and_at_the_end(journal, tmp_path, caplog):
    """At once when there are many new entries, else every so many seconds, and once more at the end."""
    caplog.set_level(logging.INFO, logger=head_notes.__name__)
    file = tmp_path / "heads.txt"
    settings = StateConfig(head_file=file, head_seconds=0.02)
    journal.write(NewEntry("a", "b"))
    async with HeadNotes(journal, settings).given():
        await until(lambda: journal.announced.seq == 1)
        journal.write(NewEntry("a", "b"))
        await until(lambda: journal.announced.seq == 2)
        journal.write(NewEntry("a", "b"))
    assert heads(file) == [1, 2, 3]
    assert caplog.messages[-1] == f"journal head 3:{journal.head().hash}"
    assert file.stat().st_mode & 0o777 == 0o600


async def test_metrics_show_it_in_two_series(fleet_of):
    """The number as it is, and the head that was given out last: however many entries there were."""
    fleet = await fleet_of("p").start()
    notes = HeadNotes(fleet.service.journal, StateConfig())
    for _ in range(3):
        await fleet.service._operations.note(NewEntry("a", "b"))
        await notes.give()
    shown = fleet.service.metrics.exposition().decode()
    head = fleet.service.journal.head()
    found = [line for line in shown.splitlines() if line.startswith("s3lora_journal_head")]
    assert found == [
        f's3lora_journal_head_info{{head="{head.seq}:{head.hash}"}} 1.0',
        f"s3lora_journal_head_seq {head.seq}.0",
    ]


async def test_it_is_posted_and_whoever_does_not_answer_is_logged(journal, tmp_path, monkeypatch, caplog):
    """JSON with the fleet's id; a host that hangs or refuses costs a line, without what the URL holds. What
    it says beside its status is not read: that may have no end.
    """
    posted, hang = [], asyncio.Event()

    async def endless():
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0)

    async def answer(request):
        posted.append(request.read())
        if len(posted) == 1:
            return httpx.Response(200, content=endless())
        await hang.wait()
        return httpx.Response(204)

    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **_: real(transport=httpx.MockTransport(answer)))
    monkeypatch.setattr(head_notes, "POST_SECONDS", 0.05)
    url = "https://notary.test/in?key=secret"
    settings = StateConfig(head_url=url, head_file=tmp_path / "no" / "folder", head_seconds=0.02)
    notes = HeadNotes(journal, settings)
    journal.write(NewEntry("a", "b"))
    await notes.give()
    assert f'"head":"1:{journal.head().hash}"'.encode() in posted[0].replace(b" ", b"")
    assert journal.fleet.encode() in posted[0]
    assert ["state.head_file" in text for text in caplog.messages] == [True]
    journal.write(NewEntry("a", "b"))
    await notes.give()
    assert (len(posted), "notary.test: TimeoutError" in caplog.messages[-1]) == (2, True)
    assert "secret" not in caplog.text
