"""Run in a process that ends: vLLM's own LoRA manager over the served class, without weights, as JSON.

``python -m … OUT FOLDER ARGUMENTS`` writes OUT twice: what the class says of itself, then its modules. What
stands there when it ended, however it ended, is the answer.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

_FILE_BYTES = 256 << 20  # of anything written; the largest table of a public model has 3 MB
_PR_SET_PDEATHSIG = 1  # linux/prctl.h: end with the thread that waits for this process
_MOST = 20_000  # names of modules that get no adapter: enough to explain any refusal


def main(out: str, folder: str, arguments: str) -> None:
    """Write what is known of the class to ``out``, and its modules once they are."""
    _bound()
    facts: dict[str, Any] = {}

    def tell(**more: Any) -> None:
        facts.update(more)
        part = Path(f"{out}.part")
        part.write_text(json.dumps(facts), encoding="utf-8")
        part.replace(out)

    config = make_config(folder, json.loads(arguments), tell)
    goes_on = config is not None and describe(config, tell)
    if "failed" in facts:
        _explain(folder, tell)
    if not goes_on:
        return
    try:
        tell(**_modules(config))
    except Exception as error:  # each model's constructor raises its own types
        tell(trouble=_line(error))


def _bound() -> None:
    """No core file, no large file, no connection from Python: a table needs none."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    os.nice(5)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def refuse(event: str, given: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" and given[0] not in (None, "localhost", "127.0.0.1", "::1"):
            raise PermissionError("the module table is made without a network")

    sys.addaudithook(refuse)


def _explain(folder: str, tell: Any) -> None:
    """What vLLM hides when it says that a class failed to be inspected: a package that its module imports."""
    from vllm.model_executor.models import registry

    for name in json.loads((Path(folder) / "config.json").read_bytes()).get("architectures") or ():
        if (last := getattr(registry, "_PREVIOUSLY_SUPPORTED_MODELS", {}).get(name)) is not None:
            tell(architecture=name, last_release=str(last))
        place = getattr(registry.ModelRegistry.models.get(name), "module_name", None)
        if place is None:
            continue
        try:
            importlib.import_module(place)
        except ModuleNotFoundError as error:
            tell(architecture=name, missing=error.name or str(error))
        except Exception as error:  # kernels of another platform raise their own types
            tell(architecture=name, trouble=_line(error))


def make_config(folder: str, arguments: dict[str, Any], tell: Any) -> Any:
    """vLLM's settings for the model in ``folder``; None, and told why, if it takes none."""
    from vllm.engine.arg_utils import EngineArgs

    given = {"max_model_len": 128, "dtype": "bfloat16", "max_lora_rank": 8, **arguments}
    try:
        return EngineArgs(
            model=folder,
            skip_tokenizer_init=True,
            enforce_eager=True,
            enable_lora=True,
            max_loras=1,
            load_format="dummy",
            **given,
        ).create_engine_config()
    except Exception as error:
        tell(failed=_line(error))
        return None


def describe(config: Any, tell: Any) -> bool:
    """Tell the class by its attributes. False if nothing more is to be found out."""
    from vllm.model_executor.models.interfaces import supports_lora
    from vllm.model_executor.models.registry import ModelRegistry

    model = config.model_config
    try:
        cls, architecture = ModelRegistry.resolve_model_cls(model.architectures, model_config=model)
    except Exception as error:
        tell(failed=_line(error))
        return False
    tell(
        architecture=architecture,
        lora=bool(supports_lora(cls)),
        towers_can=bool(getattr(cls, "supports_tower_connector_lora", False)),
        **_renames(getattr(cls, "hf_to_vllm_mapper", None)),
    )
    return bool(supports_lora(cls))


def _renames(mapper: Any) -> dict[str, Any]:
    """The class's renaming as data. vLLM drops stacking, since adapters name the parts themselves."""
    if mapper is None:
        return {"renames": []}
    plain = (getattr(mapper, "get_rename_mapper", None) or mapper.get_unstacked_mapper)()
    if getattr(plain, "orig_to_new_renaming", None):
        return {"renames": [], "renames_by_code": True}
    steps: list[list[Any]] = []
    for pattern, new in plain.orig_to_new_regex.items():
        compiled = pattern if isinstance(pattern, re.Pattern) else re.compile(pattern)
        steps.append(["regex", compiled.pattern, new])
    for kind in ("substr", "prefix", "suffix"):
        steps += [[kind, old, new] for old, new in getattr(plain, f"orig_to_new_{kind}").items()]
    return {"renames": steps}


def _modules(config: Any) -> dict[str, Any]:
    """The wrapped modules of the class with the shapes of each slice, by vLLM's own manager."""
    from vllm.config import set_current_vllm_config

    with set_current_vllm_config(config):
        start_parallel()
        worker, linear = wrapped(config)
    return table(worker._adapter_manager, linear)


def start_parallel() -> None:
    """The group of one process that constructors of layers ask for."""
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment

    init_distributed_environment(
        world_size=1,
        rank=0,
        distributed_init_method=f"file://{tempfile.mkdtemp()}/rendezvous",
        local_rank=0,
        backend="gloo",
    )
    ensure_model_parallel_initialized(1, 1)


def wrapped(config: Any) -> tuple[Any, list[str]]:
    """vLLM's LoRA worker over the class, without weights, and the names of its linear layers."""
    import torch
    from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
        model = initialize_model(vllm_config=config, prefix="")
    linear = _linear(model)
    _without_kernels()
    _without_processors()
    embeddings = getattr(model, "embedding_modules", {})
    worker = LRUCacheWorkerLoRAManager(config, torch.device("cpu"), embeddings)
    worker.create_lora_manager(model, config)
    return worker, linear


def _linear(model: Any) -> list[str]:
    from vllm.model_executor.layers.linear import LinearBase

    return [name for name, module in model.named_modules() if isinstance(module, LinearBase)]


def _without_kernels() -> None:
    """Experts are wrapped without a kernel: there is one only once weights were loaded."""
    try:
        import vllm.lora.layers.fused_moe as fused
    except ImportError:
        return
    import torch

    def init(self: Any, base_layer: Any) -> None:
        fused.BaseLayerWithLoRA.__init__(self)
        self.base_layer = base_layer
        self.moe_config = base_layer.moe_config
        self._shared_experts = getattr(base_layer, "_shared_experts", None)
        parallel = self.moe_config.moe_parallel_config
        self.tp_size, self.tp_rank = parallel.tp_size, parallel.tp_rank
        self.device = torch.device("meta")
        self._w13_slices = 2 if self.moe_config.is_act_and_mul else 1
        self.enable_moe_shared_loras = False
        self.n_slices = self.moe_config.num_local_experts * (self._w13_slices + 1)

    fused.FusedMoEWithLoRA.__init__ = init
    fused.FusedMoEWithLoRA.set_mapping = lambda self, wrapper: None


def _without_processors() -> None:
    """Towers are given adapters without knowing how many tokens an image has, which takes a tokenizer."""
    import vllm.lora.model_manager as managing

    class Budget:
        """Of one item of 64 tokens."""

        def __init__(self, *_: Any) -> None:
            self.mm_max_items_per_prompt = {"image": 1}
            self.mm_max_toks_per_item = {"image": 64}

        def get_encoder_budget(self) -> int:
            return 64

    if hasattr(managing, "MultiModalBudget"):
        managing.MultiModalBudget = Budget


def table(manager: Any, linear: list[str]) -> dict[str, Any]:
    """The manager's modules as data."""
    modules: dict[str, list[list[Any]]] = {}
    embeddings, together, unread, elements = [], [], [], 0
    for name, module in manager.modules.items():
        kind = type(module).__name__
        packed = manager.packed_modules.get(name)
        elements += _elements(module)
        if kind.startswith("VocabParallelEmbedding"):
            base = module.base_layer
            modules[name] = [[name, base.embedding_dim, base.org_vocab_size]]
            embeddings.append(name)
        elif kind == "LogitsProcessorWithLoRA":
            rows = getattr(module.base_layer, "org_vocab_size", None) or module.lora_b_stacked.shape[-2]
            modules[name] = [[name, rows, module.lora_a_stacked.shape[-1]]]
        elif kind == "FusedMoE3DWithLoRA":
            unread.append(name)  # its factors are three-dimensional parameters
        else:
            shapes = [
                (b.shape[-2], a.shape[-1])
                for a, b in zip(module.lora_a_stacked, module.lora_b_stacked, strict=True)
            ]
            modules[name] = _parts(name, packed, shapes)
            if kind == "FusedMoEWithLoRA":
                together.append(name)
    parents = {*modules, *unread}
    return {
        "modules": modules,
        "embeddings": embeddings,
        "together": together,
        "unread": unread,
        "unserved": [name for name in linear if name not in parents][:_MOST],
        "elements": elements // manager.lora_config.max_lora_rank,  # for each rank
    }


def _parts(name: str, packed: list[str] | None, shapes: list[tuple[int, int]]) -> list[list[Any]]:
    """Each part's name and (out, in). The first of too few parts spans several slices, as vLLM splits it."""
    if not packed:
        return [[name, sum(out for out, _ in shapes), shapes[0][1]]]
    packed = packed[: len(shapes)]
    wide = len(shapes) - len(packed) + 1
    first = (sum(out for out, _ in shapes[:wide]), shapes[0][1])
    return [[part, out, inner] for part, (out, inner) in zip(packed, [first, *shapes[wide:]], strict=True)]


def _elements(module: Any) -> int:
    """Elements of its buffers for one adapter."""
    found = []
    for name in ("lora_a_stacked", "lora_b_stacked"):
        many = [f"{part}_{name}" for part in ("w13", "w2") if hasattr(module, f"{part}_{name}")]
        for which in many or [name]:
            held = getattr(module, which)
            found += list(held) if isinstance(held, list | tuple) else [held]
    return sum(int(tensor.numel()) for tensor in found)


def _line(error: BaseException) -> str:
    """What was raised, with what caused it: vLLM hides a missing package behind a name of its own."""
    causes: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(causes) < 4:
        causes.append(f"{type(seen).__name__}: {seen}")
        seen = seen.__cause__ or seen.__context__
    return " | ".join(causes)[:4000]


if __name__ == "__main__":
    main(*sys.argv[1:4])
