"""A source that never answers: the total limit ends the wait, the driver's limits end it sooner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fsspec
import pytest
from adapters_factory import adapter_limits
from fsspec.implementations.memory import MemoryFileSystem
from peft_builder import BASE
from silence import silence, silent_server

from s3lora_serve.adapters.admission import admit
from s3lora_serve.adapters.fetch import sources
from s3lora_serve.adapters.fetch.deadline import driver_limits
from s3lora_serve.adapters.fetch.sources import fetch
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import SourceError
from s3lora_serve.spectral.prune_policy import PrunePolicy
from s3lora_serve.storage.daemon_threads import DaemonCall, abandoned

if TYPE_CHECKING:
    from pathlib import Path

SHORT = LimitsConfig(fetch_seconds=0.1)


@pytest.fixture
def gate():
    """Where sources hang."""
    with silence() as gate:
        yield gate


@pytest.mark.parametrize("kind", ["folder", "hub", "driver", "driver, in the file"])
def test_the_total_limit_holds_for_every_source(
    kind, tmp_path: Path, adapter: Path, memory, gate, monkeypatch
):
    """The error names source, seconds and setting; what was left behind is counted, and writes nothing."""
    memory.put(str(adapter), "/a", recursive=True)
    source = {"folder": str(adapter), "hub": "hf://org/name"}.get(kind, "memory://a")
    hangs = {"folder": "opened", "hub": "list_folder", "driver": "driver_limits"}.get(kind)
    if hangs:
        real = getattr(sources, hangs)
        monkeypatch.setattr(sources, hangs, lambda *given: (gate(), real(*given))[1])
    else:
        monkeypatch.setattr(MemoryFileSystem, "open", gate)
    with pytest.raises(SourceError) as caught:
        fetch(source, tmp_path / "copy", SHORT)
    assert caught.value.message == f"{source} was not fetched within 0.1 s (limits.fetch_seconds)"
    assert (gate.waiting, abandoned()) == (1, 1)
    gate.end()
    assert [path.name for path in (tmp_path / "copy").iterdir() if path.stat().st_size] == []


def test_nothing_is_published_that_was_given_up(tmp_path: Path, adapter: Path, memory, gate, monkeypatch):
    """An admission that nothing waits for ends when its source answers at last, and leaves nothing."""
    memory.put(str(adapter), "/a", recursive=True)
    real = MemoryFileSystem.open
    monkeypatch.setattr(MemoryFileSystem, "open", lambda *given, **more: (gate(), real(*given, **more))[1])
    store = RevisionStore(tmp_path / "store")
    call = DaemonCall(
        "test",
        lambda: admit("memory://a", base=BASE, policy=PrunePolicy(), limits=adapter_limits(), store=store),
    )
    while not gate.waiting:
        assert not call.wait(0.005), call.result()
    call.give_up()
    assert call.wait(30)
    with pytest.raises(SourceError, match="was given up"):
        call.result()
    gate.end()
    assert (store.list(), list((tmp_path / "store" / "staging").iterdir())) == ((), [])


def test_a_web_server_that_says_nothing(tmp_path: Path, monkeypatch):
    """It accepts and is silent: the wait for its next bytes is limited, and the error names both settings."""
    monkeypatch.setattr(sources, "ATTEMPTS", 1)
    limits = LimitsConfig(fetch_read_seconds=0.2)
    with silent_server() as url, pytest.raises(SourceError) as caught:
        fetch(f"{url}/adapter", tmp_path / "copy", limits)
    assert f"{url}/adapter does not answer" in caught.value.message
    for name in ("10 s (limits.fetch_connect_seconds)", "0.2 s (limits.fetch_read_seconds)"):
        assert name in caught.value.message
    assert abandoned() == 0


def test_drivers_get_their_limits_beside_what_is_configured(monkeypatch):
    """fsspec's own configuration stays; a driver without such limits gets none."""
    limits = LimitsConfig(fetch_connect_seconds=1, fetch_read_seconds=2)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"proxies": "p"}, "anon": True})
    given = {"config_kwargs": {"proxies": "p", "connect_timeout": 1, "read_timeout": 2}}
    assert driver_limits("s3", limits) == {"s3": given}
    assert driver_limits("memory", limits) == {}
