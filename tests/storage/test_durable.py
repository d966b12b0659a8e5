"""Writes that leave the old file or the new one, and nothing between."""

from __future__ import annotations

from s3lora_serve.storage.durable import replace_synced


def test_a_file_is_replaced_whole(tmp_path):
    """Written anew, written again, and also over what a killed writer left behind."""
    path = tmp_path / "found.json"
    replace_synced(path, b"one")
    assert path.read_bytes() == b"one"
    (tmp_path / "found.json.new").write_bytes(b"half of ano")
    replace_synced(path, b"another")
    assert path.read_bytes() == b"another"
    assert [entry.name for entry in tmp_path.iterdir()] == ["found.json"]
