"""`s3lora backup` and `s3lora restore` as commands: where they look, what they print, how they end."""

from __future__ import annotations

import json

import pytest

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Journal


@pytest.fixture
def config(tmp_path):
    """A planners.yaml whose state file has one entry and names no revision."""
    file = tmp_path / "fleet" / "planners.yaml"
    file.parent.mkdir()
    file.write_text(
        "base_model: demo\nplanners:\n  math: {source: hf://o/m@v1}\nstore: {path: store}\n"
        "state: {path: state.db}\n"
    )
    with Journal(file.parent / "state.db") as journal:
        journal.write(NewEntry("a", "b"))
    return file


def test_a_round_trip_and_its_exit_codes(s3lora, config, tmp_path):
    """0 with what it holds, 1 for what is there already or cannot be, 2 for what is no backup's name."""
    target = tmp_path / "copy.tar"
    done = s3lora("backup", target, "--config", config, "--json")
    assert done.code == 0
    assert json.loads(done.out)["head"].startswith("1:")
    again = s3lora("backup", target, "--config", config, "--json")
    assert (again.code, json.loads(again.out)["error"]["code"]) == (1, "state_error")
    occupied = s3lora("restore", target, "--config", config)
    assert (occupied.code, "--force" in occupied.err) == (1, True)
    assert s3lora("restore", target, "--config", config, "--force").code == 0
    (config.parent / "state.db").unlink()
    lost = s3lora("backup", tmp_path / "other", "--config", config)
    assert (lost.code, "there is no state file" in lost.err) == (1, True)
    restored = s3lora("restore", target, "--config", config)
    assert (restored.code, restored.out) == (0, "")
    assert "restore" in restored.err
    with Journal(config.parent / "state.db") as journal:
        assert journal.last.seq == 1
    assert s3lora("restore", tmp_path / "nothing", "--config", config).code == 2


def test_the_other_engines_state_is_named(s3lora, config, tmp_path):
    """Where only the fake engine's server ran, backup and restore say how to reach its state."""
    folder = config.parent / "fake"
    folder.mkdir()
    (config.parent / "state.db").rename(folder / "state.db")
    lost = s3lora("backup", tmp_path / "copy", "--config", config)
    assert (lost.code, "hint:  one of the fake engine is there: --engine fake" in lost.err) == (1, True)
    assert s3lora("backup", tmp_path / "copy", "--config", config, "--engine", "fake").code == 0
    other = s3lora("restore", tmp_path / "copy", "--config", config)
    assert (other.code, "hint:  restore it with --engine fake" in other.err) == (1, True)
    assert not (config.parent / "state.db").exists()
    assert s3lora("restore", tmp_path / "copy", "--config", config, "--engine", "fake", "--force").code == 0


def test_a_warning_for_what_its_audit_says(s3lora, config, tmp_path):
    """A damaged account is backed up all the same, said, and restored as it is."""
    with Journal(config.parent / "state.db") as journal:
        journal._db.execute("DROP TRIGGER journal_keeps_entries")
        journal._db.execute("UPDATE journal SET reason = 'x'")
    done = s3lora("backup", tmp_path / "copy", "--config", config)
    assert (done.code, "warning: its audit says: journal: entry 1" in done.err) == (0, True)
    assert s3lora("restore", tmp_path / "copy", "--config", config, "--force").code == 0
