"""Folders that must not become slots."""

from __future__ import annotations

from pathlib import Path


def bad_folder(defect, tmp_path, adapter):
    """A folder with this defect; one that needs files is made in ``tmp_path``."""
    if defect == "missing":
        return tmp_path / "nowhere"
    if defect == "relative":
        return Path("adapters/x")
    if defect == "rank":
        return adapter(seed=1, rank=32)
    (tmp_path / "adapter_config.json").write_text((adapter(seed=1) / "adapter_config.json").read_text())
    weights = tmp_path / "adapter_model.safetensors"
    if defect == "no tensors":
        weights.write_bytes((2).to_bytes(8, "little") + b"{}")
    if defect == "not safetensors":
        weights.write_bytes(b"PK\x03\x04 this is a zip")
    return tmp_path
