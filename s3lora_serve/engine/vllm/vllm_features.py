"""What the installed vLLM can do, found without importing it, since an import takes eight seconds."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def reads_module_patterns() -> bool:
    """Whether adapters' ``rank_pattern`` and ``alpha_pattern`` are obeyed. 0.26 ignores them, 0.32 does not.

    An engine that ignores them applies such an adapter with the wrong strength and says nothing. True where
    no vLLM is installed: then nothing can be wrong.
    """
    found = find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return True
    reader = Path(found.submodule_search_locations[0]) / "lora" / "peft_helper.py"
    try:
        return "alpha_pattern" in reader.read_text(encoding="utf-8")
    except OSError:
        return False
