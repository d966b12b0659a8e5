"""Running the command lines as a user does, in this process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from nursery import Nursery
from stub_admin import TOKEN, Stub, operation, running, write_access

from s3lora_serve.cli import main
from s3lora_serve.launch import serve


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def s3lora(monkeypatch, capfd):
    """Run ``s3lora`` with these arguments."""
    return _runner(main.main, "s3lora", monkeypatch, capfd)


@pytest.fixture
def s3lora_serve(monkeypatch, capfd):
    """Run ``s3lora-serve`` with these arguments."""
    return _runner(serve.main, "s3lora-serve", monkeypatch, capfd)


def _runner(entry, name, monkeypatch, capfd):
    # Wide and plain, so that no table is wrapped and no message coloured. The real entry point, so that exit
    # codes and what reaches stderr are those of the command.
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        capfd.readouterr()
        try:
            entry()
            code = 0
        except SystemExit as left:
            code = left.code or 0
        text = capfd.readouterr()
        return Done(code, text.out, text.err)

    return run


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A stub of an admin listener, found as a running server is: by .s3lora/admin.json of this folder."""
    for name in ("S3LORA_ADMIN_URL", "S3LORA_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with running(Stub(steps=[operation()])) as served:
        write_access(tmp_path / ".s3lora" / "admin.json", served.url, TOKEN)
        yield served


@pytest.fixture(scope="session")
def nursery():
    """Where tests get processes that start at once: the server with a fake engine, or what stands in for it.

    Consoles take width and colours when they are imported, so these are set for all.
    """
    nursery = Nursery("fake_server", "dying_fleet", "preloaded", COLUMNS="200", NO_COLOR="1")
    yield nursery
    nursery.close()
