"""What a folder may hold is checked before any of it is opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from adapter_files import NEEDED
from peft_builder import write_folder

from s3lora_serve.adapters.fetch.listing import check_files, check_listing
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import FormatError, LimitError, UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_two_files_are_let_in(tmp_path: Path):
    """A folder with the two files alone passes."""
    check_files(write_folder(tmp_path), LimitsConfig())


@pytest.mark.parametrize("name", ["adapter_model.bin", "weights.pt", "x.pth", "x.pkl", "x.pickle", "x.CKPT"])
def test_pickles_are_refused_unopened(tmp_path: Path, name: str):
    """A pickle runs code when it is opened: this one is a pipe, and opening it would block."""
    folder = write_folder(tmp_path)
    (folder / "adapter_model.safetensors").unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UnsafeFileError) as caught:
        check_files(folder, LimitsConfig())
    assert caught.value.message == f"{name} is a pickle, which can run code when it is opened; it was not"
    assert "safe_serialization=True" in caught.value.hint


@pytest.mark.parametrize("name", NEEDED)
def test_symlinks_are_refused(tmp_path: Path, name: str):
    """Even one that stays inside: what it points to can be changed behind the check."""
    folder = write_folder(tmp_path / "in")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError, match=f"{name} is a symbolic link"):
        check_files(folder, LimitsConfig())


def test_other_symlinks_are_refused_too(tmp_path: Path):
    """A folder with links is not a plain folder, whichever file they stand for."""
    folder = write_folder(tmp_path)
    (folder / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(UnsafeFileError, match=r"README\.md is a symbolic link"):
        check_files(folder, LimitsConfig())


def test_pipes_and_folders_in_place_of_files_are_refused(tmp_path: Path):
    """Reading a pipe would wait for ever."""
    folder = write_folder(tmp_path)
    (folder / NEEDED[0]).unlink()
    os.mkfifo(folder / NEEDED[0])
    with pytest.raises(UnsafeFileError, match=r"adapter_config\.json is not a regular file"):
        check_files(folder, LimitsConfig())


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b"])
def test_names_that_leave_the_folder_are_refused(name: str):
    """Listings of archives and object stores may say anything."""
    with pytest.raises(UnsafeFileError, match="leaves the adapter's folder"):
        check_listing([*NEEDED, name], LimitsConfig())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "there is no adapter_model.safetensors in the folder"),
        (["README.md"], "there is no adapter_model.safetensors in the folder"),
        (NEEDED[:1], "there is no adapter_model.safetensors in the folder"),
        (NEEDED[1:], "there is no adapter_config.json in the folder"),
    ],
)
def test_missing_files_are_named(names: list[str], message: str):
    """Both files are needed."""
    with pytest.raises(FormatError) as caught:
        check_listing(names, LimitsConfig())
    assert caught.value.message == message


def test_too_many_files_are_refused():
    """The folder is counted before anything is opened."""
    with pytest.raises(LimitError, match=r"the folder holds 5 files > 4; raise limits\.max_files"):
        check_listing([*NEEDED, "a", "b", "c"], LimitsConfig(max_files=4))


def test_too_many_bytes_are_refused(tmp_path: Path):
    """The sum of the files that would be copied counts."""
    folder = write_folder(tmp_path)
    size = sum((folder / name).stat().st_size for name in NEEDED)
    check_files(folder, LimitsConfig(max_adapter_mib=(size) / 2**20))
    with pytest.raises(LimitError, match=f"has {size} bytes > {size - 1}; raise limits.max_adapter_mib"):
        check_files(folder, LimitsConfig(max_adapter_mib=(size - 1) / 2**20))
