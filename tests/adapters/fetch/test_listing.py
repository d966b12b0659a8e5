"""What a folder may hold is checked before any of it is opened."""

from __future__ import annotations

import pytest
from adapter_files import NEEDED

from s3lora_serve.adapters.fetch.listing import check_listing, check_names
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import FormatError, LimitError, UnsafeFileError


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b"])
def test_names_that_leave_the_folder_are_refused(name: str):
    """Listings of archives and object stores may say anything."""
    with pytest.raises(UnsafeFileError, match="leaves the adapter's folder"):
        check_names([*NEEDED, name])


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
        check_listing(names, LimitsConfig(), NEEDED)
    assert caught.value.message == message


def test_too_many_files_are_refused():
    """The folder is counted before anything is opened."""
    with pytest.raises(LimitError, match=r"the folder holds 5 files > 4; raise limits\.max_files"):
        check_listing([*NEEDED, "a", "b", "c"], LimitsConfig(max_files=4), NEEDED)
