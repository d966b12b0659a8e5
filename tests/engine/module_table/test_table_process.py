"""The process that asks vLLM for its modules: bounded, and ended with all it started."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from s3lora_serve.engine.vllm.module_table.table_process import TableAbandoned, ask_vllm

PROGRAM = "odd_table_program"
PLACE = str(Path(__file__).parents[2] / "helpers" / "processes")


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", PLACE)


def alive(pid: int) -> bool:
    """Whether a process runs: one that ended and was not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    """Whether these have ended, soon."""
    until = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


@pytest.mark.process
def test_a_process_that_hangs_is_killed_with_what_it_started(tmp_path: Path):
    """vLLM starts processes itself. What was said before stays, and is not kept for the next time."""
    told = tmp_path / "told"
    facts = ask_vllm({}, {"mode": "hang", "told": str(told)}, seconds=1.5, program=PROGRAM)
    assert facts["passing"]
    assert facts["trouble"] == "it took more than 1.5 s"
    assert facts["renames"] == [["prefix", "a.", "b."]]
    assert gone([int(pid) for pid in told.read_text().split()])


@pytest.mark.process
def test_an_order_that_was_cancelled_ends_it(tmp_path: Path):
    """Nothing is left running for an answer that nothing waits for."""
    told = tmp_path / "told"
    with pytest.raises(TableAbandoned):
        ask_vllm(
            {},
            {"mode": "hang", "told": str(told)},
            lambda: told.exists() and bool(told.read_text()),
            program=PROGRAM,
        )
    assert gone([int(pid) for pid in told.read_text().split()])


@pytest.mark.process
def test_memory_is_bounded():
    """A configuration of absurd sizes must not take the server's memory."""
    facts = ask_vllm({}, {"mode": "grow"}, most_mib=200, program=PROGRAM)
    assert "MiB of memory, more than 200" in facts["trouble"]
    assert facts["passing"]


@pytest.mark.process
def test_a_crash_is_an_answer():
    """Code of kernels may end the process; the class's attributes stay."""
    facts = ask_vllm({}, {"mode": "die"}, program=PROGRAM)
    assert facts["trouble"].startswith("its process ended with code -")
    assert facts["lora"] is True


@pytest.mark.process
def test_it_is_given_the_configuration_and_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """It runs far from the caller's folder, offline, with no token in its environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "S3LORA_API_KEY", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "https_proxy"):
        monkeypatch.setenv(name, "secret")
    facts = ask_vllm({"model_type": "llama"}, {"mode": "tell"}, program=PROGRAM)
    assert facts["config"] == {"model_type": "llama"}
    assert facts["offline"] == "1"
    assert not {name for name in facts["environment"] if os.environ.get(name) == "secret"}
    assert facts["path"] not in ("", str(tmp_path))


def test_what_cannot_be_started_is_an_answer(monkeypatch: pytest.MonkeyPatch):
    """A machine without room for another process still serves."""

    def refuse(*_: object, **__: object):
        raise OSError("no room")

    monkeypatch.setattr("subprocess.Popen", refuse)
    assert ask_vllm({}, {}) == {"trouble": "its process did not start: no room", "passing": True}
