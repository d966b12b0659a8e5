"""On PYTHONPATH: torch and vLLM take the processor for one with AVX2 and nothing newer.

Together with ``ONEDNN_MAX_CPU_ISA``, ``ATEN_CPU_CAPABILITY`` and ``MKL_ENABLE_INSTRUCTIONS`` it shows on a
newer processor what common older ones do, short of their clock and caches.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from types import MappingProxyType, ModuleType
from typing import Any

_NEWER = ("avx512", "avx10", "amx")


class _TorchCpu(importlib.abc.MetaPathFinder):
    """Changes ``torch.cpu.get_capabilities`` once ``torch.cpu`` is imported; vLLM asks it, and so do we."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "torch.cpu":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None  # torch is installed
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            known = module.get_capabilities
            module.get_capabilities = lambda: MappingProxyType(
                {what: False if what.startswith(_NEWER) else has for what, has in known().items()}
            )

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _TorchCpu())
