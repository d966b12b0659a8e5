"""The page on LoRA's cost is read off timed rounds rightly, and the driver names its cells and pruned modules
rightly."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu_lora"


@pytest.fixture
def loaded(monkeypatch):
    """Imports a module of the benchmark, which finds those beside it, for one test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("lora_cells", "lora_table", "lora_adapters", "spread_weights", "llama_8b"):
        sys.modules.pop(name, None)


def test_a_ratio_is_of_medians_over_common_rounds(loaded):
    """One slow round does not move it, a round that only one cell has does not count, and the interval holds
    it."""
    table = loaded("lora_table")
    base = {r: 1.0 + 0.01 * (r % 3) for r in range(15)} | {0: 9.0}
    ours = {r: 1.1 * base[r] for r in range(15)} | {99: 50.0}
    found = table.ratio(ours, base)
    assert found.value == pytest.approx(1.1)
    assert found.low == pytest.approx(1.1)
    assert found.high == pytest.approx(1.1)
    assert found.repeats == 15
    noisy = table.ratio({r: 1.1 + 0.05 * (r % 5) for r in range(15)}, base)
    assert noisy.low < noisy.value < noisy.high


def test_a_goal_is_met_in_or_above_the_interval(loaded):
    """What the issue of a goal says: the interval includes it, or lies below it."""
    ratio = loaded("lora_table").Ratio
    assert ratio(1.05, 1.03, 1.07, 15).meets(1.04)
    assert ratio(1.05, 1.03, 1.07, 15).meets(1.09)
    assert not ratio(1.05, 1.045, 1.07, 15).meets(1.04)


def test_the_page(loaded, tmp_path):
    """Goals are judged cell by cell, base requests against the stock engine; a cut-off line is left out."""
    table, cells = loaded("lora_table"), loaded("lora_cells")
    seconds = {
        "none | base | 1": 1.0, "stock | base | 1": 1.25, "ours | base | 1": 1.25,
        "ours | one adapter | 1": 1.03, "ours | everything pruned | 1": 1.05, "stock | one adapter | 1": 1.3,
        "none | base | 0": 2.0, "ours | one adapter | 0": 2.1,
    }  # fmt: skip
    rows = [
        {
            "kind": "engine",
            "engine": "ours",
            "ready": 61.2,
            "lora": "LoRA by our kernels in 128 of 128 layers",
        }
    ]
    rows += [{"cell": key, "round": r, "seconds": value} for r in range(4) for key, value in seconds.items()]
    file = tmp_path / "times.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + '\n{"cell": "ours | one ad')
    page = table.page(*table.read(file)).splitlines()

    def line(start, number=0):
        return [each for each in page if each.startswith(start)][number]

    assert "1.030 (1.030–1.030), ≤ 1.04 met |" in line("| one adapter |")
    assert line("| one adapter |").endswith("1.050 (1.050–1.050), ≤ 1.09 met |")
    assert "≤ 1.02 **not met**" in line("| everything pruned |")
    assert "1.000 (1.000–1.000), ≤ 1.02 met" in line("| base |")
    assert "1.300 (1.300–1.300)" in line("| one adapter |", 1)
    assert any("ready after 61 s. LoRA by our kernels in 128" in each for each in page)
    assert all(name in {t.name for _, t in cells.OFTEN} for name in cells.GOALS)


def test_every_goal_is_timed_in_each_round(loaded):
    """Cells with a goal, and what they are held against, are in each round; no cell is in one twice."""
    cells = loaded("lora_cells")
    for number in (0, 1):
        keys = [cell.key for cell in cells.cells_of(number)]
        assert len(keys) == len(set(keys))
        for name, goals in cells.GOALS.items():
            for batch in goals:
                assert {
                    f"ours | {name} | {batch}",
                    f"none | base | {batch}",
                    f"stock | base | {batch}",
                } <= set(keys)


@pytest.mark.parametrize("share", [25, 50, 75])
def test_pruned_adapters_lack_what_they_say(loaded, share):
    """So many per cent of 224 modules at random, or of 32 layers whole."""
    adapters = loaded("lora_adapters")
    assert len(adapters.kept_of(share, scattered=True)) == 224 * (100 - share) // 100
    whole = adapters.kept_of(share, scattered=False)
    assert len(whole) == 224 * (100 - share) // 100
    assert all(sum(m.startswith(f"model.layers.{i}.") for m in whole) in (0, 7) for i in range(32))


def test_plugins_are_found_without_an_installation(loaded, tmp_path, monkeypatch):
    """The folder on the engine's path announces the plugins as an installed package does."""
    from importlib.metadata import distributions

    folder = loaded("run")._distribution(tmp_path, {"s3lora_gpu_lora": "package.module:register"})
    sys.modules.pop("run", None)
    (found,) = distributions(path=[str(folder)])
    (entry,) = found.entry_points
    assert (entry.group, entry.name, entry.value) == (
        "vllm.general_plugins", "s3lora_gpu_lora", "package.module:register"
    )  # fmt: skip


def test_the_committed_page_has_the_tables_of_its_raw_lines(loaded):
    """Every table of engines and of served plans is what its script makes of the lines beside the page."""
    page = (FOLDER / "2026-11-30-h200.md").read_text(encoding="utf-8")
    table, served = loaded("lora_table"), loaded("served_plans")
    assert table.page(*table.read(FOLDER / "2026-11-30-h200.jsonl")) in page
    lines = (FOLDER / "2026-11-30-h200-served.jsonl").read_text(encoding="utf-8").splitlines()
    assert served.page([json.loads(line) for line in lines]) in page
    sys.modules.pop("served_plans", None)
