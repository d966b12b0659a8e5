"""What vLLM's own loader and manager make of adapters on tiny base models: ``IN`` → ``OUT``, both JSON.

No engine: the classes have no weights. ``IN`` is a list of ``{folder, adapters}``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from s3lora_serve.engine.vllm.module_table import table_program


def main(given: str, out: str) -> None:
    """Write, for each base model, its table and what became of each adapter."""
    from vllm.config import set_current_vllm_config

    started, found = False, []
    for base in json.loads(Path(given).read_bytes()):
        facts: dict[str, Any] = {}
        config = table_program.make_config(base["folder"], {"max_lora_rank": 256}, facts.update)
        table_program.describe(config, facts.update)
        with set_current_vllm_config(config):
            if not started:
                table_program.start_parallel()
                started = True
            worker, linear = table_program.wrapped(config)
        facts |= table_program.table(worker._adapter_manager, linear)
        found.append({"facts": facts, "adapters": [_load(worker, path) for path in base["adapters"]]})
    Path(out).write_text(json.dumps(found))


def _load(worker: Any, path: str) -> dict[str, Any]:
    """The loader's refusal; or what of the adapter no module of the class takes, and what does not fit."""
    from vllm.lora.request import LoRARequest

    _load.count += 1  # type: ignore[attr-defined]
    manager = worker._adapter_manager
    try:
        lora = worker._load_adapter(LoRARequest("x", _load.count, path))  # type: ignore[attr-defined]
        manager._create_merged_loras_inplace(lora)
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:300]}
    return {
        "applied": sorted(set(lora.loras) & set(manager.modules)),
        "ignored": sorted(set(lora.loras) - set(manager.modules)),
    }


_load.count = 0  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(*sys.argv[1:3])
