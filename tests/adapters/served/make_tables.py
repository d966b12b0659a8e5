"""Ask the installed vLLM anew what the tests' base models give adapters.

Classes of several media need torchvision; without it put a stand-in on PYTHONPATH, since no layer of a
language model uses it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "helpers"))

from served_bases import ARGUMENTS, CONFIGS, TABLES

from s3lora_serve.engine.vllm.module_table.table_process import ask_vllm


def main(names: list[str]) -> None:
    """Write one file for each base model."""
    for name in names or CONFIGS:
        facts = ask_vllm(CONFIGS[name], ARGUMENTS.get(name, {}))
        (TABLES / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
        print(name, facts.get("trouble") or facts.get("failed") or len(facts.get("modules", {})))


if __name__ == "__main__":
    main(sys.argv[1:])
