"""Every planner is admitted or named, whatever went wrong with another."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from s3lora_serve.adapters.fetch.reach import Reach
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.config import Config
from s3lora_serve.errors import AdapterError, FormatError, StoreError
from s3lora_serve.fleet.planner import DesiredPlanner
from s3lora_serve.fleet.planner_record import PlannerRecord
from s3lora_serve.launch import admit_all
from s3lora_serve.spectral.prune_policy import PrunePolicy

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Three planners: admitting the first raises an unexpected exception, the second is refused."""

    def pretend(name: str, *_: object) -> object:
        match name:
            case "one":
                raise ZeroDivisionError("by \x1b[31mzero" + "o" * 9000)
            case "two":
                raise FormatError("its weights are torn", hint="mend them")
        return name

    monkeypatch.setattr(admit_all, "_revision", pretend)
    monkeypatch.setattr(admit_all, "to_base_model", lambda *_, **__: SimpleNamespace(name="base"))
    planners = {name: {"source": str(tmp_path)} for name in ("one", "two", "three")}
    return Config.model_validate(
        {"base_model": "org/base", "store": {"path": tmp_path / "store"}, "planners": planners}
    )


def test_an_unexpected_failure_does_not_hide_the_others(
    config: Config, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    """It is told as its planner's failure, by type and message; the traceback is for the log."""
    caplog.set_level(logging.DEBUG, logger=admit_all.__name__)
    with pytest.raises(AdapterError) as caught:
        admit_all.admit_fleet(config)
    shown = capsys.readouterr().err
    assert caught.value.message == "2 of 3 planners refused, none served: one, two"
    assert "error: one: admission failed unexpectedly: ZeroDivisionError: by \\x1b[31mzerooo" in shown
    assert "error: two: its weights are torn" in shown
    assert "Traceback" not in shown
    assert len(shown) < 2000
    (record,) = caplog.records
    assert (record.levelname, record.exc_info[0]) == ("DEBUG", ZeroDivisionError)


def test_a_revision_that_went_from_the_store_is_told_with_the_ways_out(tmp_path: Path):
    """It may be one that an operator swapped in: admitting what the file names is a decision, and offered."""
    want = DesiredPlanner.of("hf://org/math", PrunePolicy())
    record = PlannerRecord("math", "a" * 64, None, None, None, want.declared, 1)
    admission = admit_all.StoreAdmission(None, None, RevisionStore(tmp_path / "store"), Reach())
    with pytest.raises(StoreError, match="is in the store, and math served it last") as caught:
        admit_all._revision("math", want, admission, record)
    assert "change the planner's source, sha256 or policy" in caught.value.hint
