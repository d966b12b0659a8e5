"""LoRA of a linear layer in two products a slice: what vLLM's wrapper computes, with less on the way."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from s3lora_serve.engine.vllm.plugins import cpu_lora_linear
from s3lora_serve.engine.vllm.plugins.token_runs import runs

IN, RANK, SLICES, SLOTS = 64, 8, (48, 16, 32), 3
IDS = [7, None, 9]  # which adapter is in which slot
BATCH = [0, 0, 9, 9, 7, 0, 7]  # the adapter of each token; 0 is the base model


@pytest.fixture
def wrappers():
    """A wrapper of ours and one of vLLM's, both told of the batch; base rows get nothing in either."""
    punica_cpu = pytest.importorskip("vllm.lora.punica_wrapper.punica_cpu")
    from s3lora_serve.engine.vllm.plugins import cpu_lora_fix

    if not cpu_lora_fix.needed():
        pytest.skip("this vLLM does not need the fix")
    cpu_lora_fix.install(punica_cpu)
    stock = type("Stock", (punica_cpu.PunicaWrapperCPU,), dict(vars(punica_cpu.PunicaWrapperCPU)))
    ours = type("Ours", (punica_cpu.PunicaWrapperCPU,), {})
    cpu_lora_linear.install(ours)
    made = []
    for each in (ours, stock):
        wrapper = each(32, 8, "cpu")
        wrapper.update_metadata(mapping(BATCH), IDS, SLOTS, 100)
        made.append(wrapper)
    return SimpleNamespace(ours=made[0], stock=made[1])


def mapping(batch):
    """As vLLM's runner makes it of the adapters of a batch, for prefill and decode alike."""
    return SimpleNamespace(index_mapping=tuple(batch), prompt_mapping=tuple(batch), is_prefill=True)


def layer(dtype, tokens=7):
    """x, y, A and B of a layer of three slices, as vLLM stacks them."""
    torch.manual_seed(0)
    a = tuple(torch.randn(SLOTS, 1, RANK, IN).to(dtype) for _ in SLICES)
    b = tuple(torch.randn(SLOTS, 1, size, RANK).to(dtype) for size in SLICES)
    return torch.randn(tokens, IN).to(dtype), torch.randn(tokens, sum(SLICES)).to(dtype), a, b


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.5)])
def test_it_computes_what_vllm_computes(wrappers, dtype, near, scale):
    """Rows with an adapter agree to rounding, in every slice; rows of the base model stay bit for bit."""
    x, base, a, b = layer(dtype)
    got, expected = base.clone(), base.clone()
    wrappers.ours.add_lora_linear(got, x, a, b, scale, SLICES)
    wrappers.stock.add_lora_linear(expected, x, a, b, scale, SLICES)
    assert torch.allclose(got.float(), expected.float(), atol=near, rtol=0.02)
    without = [row for row, adapter in enumerate(BATCH) if not adapter]
    assert torch.equal(got[without], base[without])
    others = [row for row, adapter in enumerate(BATCH) if adapter]
    assert (got[others] != base[others]).any(dim=1).all()


def test_a_new_adapter_in_a_slot_is_used_at_once(wrappers):
    """Views of the weights are kept, and vLLM writes an adapter into the memory that they show."""
    x, base, a, b = layer(torch.float32)
    wrappers.ours.add_lora_linear(base.clone(), x, a, b, 1.0, SLICES)
    for each in (*a, *b):
        each[0].mul_(3)
        each[2].zero_()
    got, expected = base.clone(), base.clone()
    wrappers.ours.add_lora_linear(got, x, a, b, 1.0, SLICES)
    wrappers.stock.add_lora_linear(expected, x, a, b, 1.0, SLICES)
    assert torch.allclose(got, expected, atol=1e-3)


def test_each_step_has_its_own_runs(wrappers):
    """After a step of the base model alone nothing is added; a step later the adapter is back."""
    x, base, a, b = layer(torch.float32, tokens=2)
    for adapter, changed in ((0, False), (9, True), (0, False)):
        wrappers.ours.update_metadata(mapping([adapter] * 2), IDS, SLOTS, 100)
        y = base.clone()
        wrappers.ours.add_lora_linear(y, x, a, b, 1.0, SLICES)
        assert torch.equal(y, base) != changed


def test_installing_twice_wraps_once(wrappers):
    """vLLM calls a plugin in every process, and more than once in some."""
    before = type(wrappers.ours).add_lora_linear
    cpu_lora_linear.install(type(wrappers.ours))
    assert type(wrappers.ours).add_lora_linear is before


def test_neighbours_with_one_adapter_are_one_run():
    """Lengths are added up, empty stretches are none, and an adapter that comes again is a separate run."""
    assert list(runs([1, 1, -1, 2, 1], [2, 3, 1, 0, 4])) == [(0, 5, 1), (5, 6, -1), (6, 10, 1)]
    assert list(runs([], [])) == []
