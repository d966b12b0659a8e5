"""vLLM's own reader finds in a published revision what we think it holds; no engine is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from adapters_factory import adapter_limits
from peft_builder import BASE, SHAPES, factors, write_folder

from s3lora_serve.adapters.admission import admit
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top

if TYPE_CHECKING:
    from pathlib import Path

RANKS = {name: 2 for name in BASE.shapes if "k_proj" in name}
CASES: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "plain": ({}, {}),
    "rslora": ({}, {"use_rslora": True}),
    "patterns": (
        RANKS,
        {"rank_pattern": {r".*\.k_proj": 2}, "alpha_pattern": {"layers.0.self_attn.q_proj": 3}},
    ),
    "rslora-patterns": (RANKS, {"rank_pattern": {"k_proj": 2}, "use_rslora": True}),
}


pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def reader() -> Any:
    """vLLM's reader of adapter folders: path → (configuration, module name → LoRALayerWeights)."""
    pytest.importorskip("vllm", reason="no engine is installed")
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    if not hasattr(PEFTHelper, "get_rank_and_scaling"):
        pytest.skip("this vLLM reads no patterns; Limits.per_module_scaling is for it")

    def read(path: Path) -> tuple[Any, dict[str, Any]]:
        helper = PEFTHelper.from_local_dir(str(path), max_position_embeddings=128)
        helper.validate_legal(LoRAConfig(max_lora_rank=8, max_loras=1))
        expected = {name.rpartition(".")[2] for name in SHAPES}
        model = LoRAModel.from_local_checkpoint(
            str(path), expected, helper, lora_model_id=1, device="cpu", dtype=torch.float32
        )
        return helper, model.loras

    return read


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tau", [0, 3])
def test_vllm_reads_the_same_update(case: str, tau: int, tmp_path: Path, reader: Any):
    """The same modules, factors and scaling, hence the same ΔW; what was pruned is not there."""
    ranks, config = CASES[case]
    source = write_folder(tmp_path / "source", factors(ranks=ranks), **config)
    policy = PrunePolicy(rule=Top(tau))
    revision = admit(
        str(source), base=BASE, policy=policy, limits=adapter_limits(), store=RevisionStore(tmp_path / "s")
    )
    adapter = read_peft(source)
    _, loras = reader(revision.path)
    assert loras.keys() == adapter.modules.keys() - set(revision.lineage.pruned)
    for name, lora in loras.items():
        module = adapter.modules[name]
        assert torch.equal(lora.lora_a, module.a)
        assert torch.equal(lora.lora_b, module.b)
        assert (lora.rank, lora.scaling) == (module.rank, pytest.approx(module.scaling, rel=1e-12))
