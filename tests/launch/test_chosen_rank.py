"""The rank that the engine starts with: as planners.yaml says, or the smallest that takes its planners."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tiny_model import write_adapter, write_base

from s3lora_serve.adapters.fetch.progress import silent
from s3lora_serve.config import Config
from s3lora_serve.control.operation import Wanted
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import AdapterError, LimitError
from s3lora_serve.fleet.planner_record import PlannerRecord
from s3lora_serve.launch.admit_all import admit_fleet
from s3lora_serve.launch.resolve import to_desired, to_engine_settings

if TYPE_CHECKING:
    from pathlib import Path

    from s3lora_serve.launch.admit_all import AdmittedFleet

RESTART = "an engine's rank is fixed when it starts: set it in planners.yaml and restart the server"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base model and adapters of three ranks."""
    write_base(tmp_path / "base")
    for rank in (8, 24, 40):
        write_adapter(tmp_path / f"r{rank}", rank=rank)
    return tmp_path


def config(folder: Path, *ranks: int, max_lora_rank: int | None = None) -> Config:
    """A fleet of adapters of these ranks."""
    return Config.model_validate(
        {
            "base_model": str(folder / "base"),
            "policy": {"action": "observe"},
            "planners": {f"p{rank}": {"source": str(folder / f"r{rank}")} for rank in ranks},
            "sources": {"allow": [str(folder)]},
            "store": {"path": folder / "store"},
            "engine": {"max_lora_rank": max_lora_rank},
        }
    )


def started(settings: Config, **others: object) -> AdmittedFleet:
    """Its fleet, as a start admits it."""
    return admit_fleet(settings, engine=EngineKind.FAKE, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(("ranks", "chosen"), [((8,), 16), ((8, 24), 32), ((40, 8), 64)])
def test_the_smallest_that_takes_all_planners_is_chosen(folder: Path, ranks: tuple[int, ...], chosen: int):
    """Of those that vLLM takes, and never below its own default."""
    settings = config(folder, *ranks)
    fleet = started(settings)
    assert fleet.max_lora_rank == chosen
    assert to_engine_settings(settings, fleet.base, fleet.max_lora_rank).engine.max_lora_rank == chosen


def test_what_is_set_is_kept(folder: Path):
    """Even where less would do: later orders may need it."""
    assert started(config(folder, 8, max_lora_rank=64)).max_lora_rank == 64
    assert started(config(folder, 8, max_lora_rank=8)).max_lora_rank == 8


def test_a_rank_above_what_is_set_names_the_value_that_takes_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    """The refusal of a start is the next step: nothing has to be looked up."""
    with pytest.raises(AdapterError):
        started(config(folder, 24, max_lora_rank=16))
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"has rank 24 > max_lora_rank 16; raise engine\.max_lora_rank to 32", said)


def test_a_later_order_is_held_to_what_was_chosen(folder: Path):
    """The engine's buffers are made once; the refusal says so, and the adapter served before goes on."""
    settings = config(folder, 8, 24)
    admission = started(settings).admission
    wanted = Wanted.of(next(iter(to_desired(config(folder, 40)).values())))
    with pytest.raises(
        LimitError, match=r"rank 40 > max_lora_rank 32; raise engine\.max_lora_rank to 64"
    ) as caught:
        admission.admit("p8", wanted, silent)
    assert caught.value.hint == RESTART


def test_a_known_revision_is_held_to_it_too(folder: Path):
    """Whatever was admitted under a higher rank before: as a rollback's goal, or admitted again."""
    high = started(config(folder, 40))
    low = started(config(folder, 8, max_lora_rank=16)).admission
    with pytest.raises(LimitError, match="rank 40 > max_lora_rank 16"):
        low.restore(high.revisions["p40"].digest)
    wanted = Wanted.of(next(iter(to_desired(config(folder, 40)).values())))
    with pytest.raises(LimitError, match="rank 40 > max_lora_rank 16"):
        low.admit("p8", wanted, silent)


def test_what_a_rollback_or_a_promotion_would_serve_counts(folder: Path):
    """A restart must not make the way back impossible."""
    high = started(config(folder, 24)).revisions["p24"].digest
    higher = started(config(folder, 40)).revisions["p40"].digest
    settings = config(folder, 8)
    served, declared = started(settings).revisions["p8"].digest, to_desired(settings)["p8"].declared
    for previous, candidate, chosen in ((high, None, 32), (high, higher, 64), ("0" * 64, None, 16)):
        record = PlannerRecord("p8", served, previous, candidate, None, declared, 1)
        assert started(settings, records={"p8": record}).max_lora_rank == chosen
