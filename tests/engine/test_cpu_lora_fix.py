"""The CPU LoRA fix: what vLLM's own ops do wrong, and that ours do it right."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from s3lora_serve.engine.vllm.plugins import cpu_lora_fix
from s3lora_serve.engine.vllm.plugins.cpu_lora_fix import OPS, affected, install

RANK, HIDDEN, OUT, SLOTS = 8, 64, 48, 3
# Slot of each token: three requests without an adapter among requests with one, slot 2 twice in a row.
TOKENS = [-1, -1, 0, 0, 0, -1, 2, 2, 2, 1, -1]


@pytest.fixture(scope="module")
def vllm_ops():
    """vLLM's own ops, as they are in the installed release."""
    return pytest.importorskip("vllm.lora.ops.torch_ops")


@pytest.fixture
def ours():
    """Our ops under the names that vLLM calls them by."""
    namespace = SimpleNamespace()
    install(namespace)
    return namespace


class Layer:
    """One wrapped linear layer with an adapter in each slot, and the result that a batch should have."""

    def __init__(self, dtype=torch.bfloat16):
        torch.manual_seed(0)
        self.x = torch.randn(len(TOKENS), HIDDEN).to(dtype)  # [tokens, in]
        self.a = torch.randn(SLOTS, 1, RANK, HIDDEN).to(dtype)  # [slots, 1, r, in]
        self.b = torch.randn(SLOTS, 1, OUT, RANK).to(dtype)  # [slots, 1, out, r]
        self.base = torch.randn(len(TOKENS), OUT + 16).to(dtype)  # [tokens, out of the fused layer]
        self.scaling = 0.5

    def expected(self):
        """float64, token by token: rows of -1 are the base's."""
        y = self.base.double()
        for row, slot in enumerate(TOKENS):
            if slot >= 0:
                delta = self.b[slot, 0].double() @ (self.a[slot, 0].double() @ self.x[row].double())
                y[row, 16:] += self.scaling * delta
        return y

    def run(self, ops, segments=True):
        """As PunicaWrapperCPU calls them: shrink into float32, expand into a slice of the layer's output."""
        buffer = torch.zeros(len(TOKENS), RANK)
        y = self.base.clone()
        if segments:
            slots, lengths = torch.unique_consecutive(torch.tensor(TOKENS), return_counts=True)
            starts = lengths.cumsum(0) - lengths
            meta = (starts, lengths, slots, len(slots), int(lengths.max()), len(TOKENS))
            ops.sgmv_shrink(self.x, self.a, buffer, *meta, self.scaling)
            ops.sgmv_expand_slice(buffer, self.b, y, *meta, 16, OUT, True)
        else:
            index = torch.tensor(TOKENS)
            ops.bgmv_shrink(self.x, self.a, buffer, index, self.scaling)
            ops.bgmv_expand_slice(buffer, self.b, y, index, 16, OUT, True)
        return y


def error(got, expected, rows):
    """Largest error on these rows, relative to the largest value."""
    return float((got.double() - expected)[rows].abs().max() / expected.abs().max())


WITHOUT = [row for row, slot in enumerate(TOKENS) if slot < 0]
WITH = [row for row, slot in enumerate(TOKENS) if slot >= 0]


@pytest.mark.parametrize("segments", [True, False], ids=["sgmv", "bgmv"])
def test_vllm_gives_rows_without_adapter_the_last_slot(vllm_ops, segments):
    """Why the fix is needed: affected releases get LoRA rows right and base rows wrong."""
    import vllm

    layer = Layer()
    got = layer.run(vllm_ops, segments)
    assert error(got, layer.expected(), WITH) < 0.02
    assert (error(got, layer.expected(), WITHOUT) > 0.2) == affected(vllm.__version__)


@pytest.mark.parametrize("segments", [True, False], ids=["sgmv", "bgmv"])
def test_ours_leave_rows_without_adapter_alone(ours, segments):
    """Base rows are bit for bit the base model's, LoRA rows are within bf16 of float64."""
    layer = Layer()
    got = layer.run(ours, segments)
    assert torch.equal(got[WITHOUT], layer.base[WITHOUT])
    assert error(got, layer.expected(), WITH) < 0.02


def test_ours_equal_vllms_where_vllm_is_right(ours, vllm_ops):
    """On rows with an adapter the two agree to rounding in float32."""
    layer = Layer(torch.float32)
    assert torch.allclose(layer.run(ours)[WITH], layer.run(vllm_ops)[WITH], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("add", [True, False])
def test_expand_writes_what_fits(ours, vllm_ops, add):
    """Outputs narrower or wider than the layer's are cut alike, added or assigned."""
    index = torch.tensor([0, 1, 1])
    x, b = torch.randn(3, RANK), torch.randn(SLOTS, OUT, RANK)  # weights without the extra dimension
    for width in (OUT - 8, OUT, OUT + 8):
        y = torch.randn(3, width)
        results = [y.clone(), y.clone()]
        for ops, result in zip((ours, vllm_ops), results, strict=True):
            ops.bgmv_expand(x, b, result, index, add)
        assert torch.allclose(*results, atol=1e-5)


def test_shrink_zeroes_rows_without_adapter(ours):
    """What a reused buffer held before cannot leak into a base request."""
    layer = Layer()
    buffer = torch.full((len(TOKENS), RANK), 7.0)
    ours.bgmv_shrink(layer.x, layer.a, buffer, torch.tensor(TOKENS), 1.0)
    assert not buffer[WITHOUT].any()
    assert buffer[WITH].all()


def test_prompt_logits_of_a_mixed_batch_do_not_raise(ours, vllm_ops):
    """More rows than indices: vLLM's op raises, which kills the engine; ours leaves the rows alone."""
    import vllm

    x, a, few = torch.randn(39, HIDDEN), torch.randn(SLOTS, 1, RANK, HIDDEN), torch.tensor([0, 1, -1])
    buffer = torch.zeros(39, RANK)
    ours.bgmv_shrink(x, a, buffer, few, 1.0)
    assert not buffer.any()
    if affected(vllm.__version__):
        with pytest.raises(RuntimeError, match="does not broadcast"):
            vllm_ops.bgmv_shrink(x, a, buffer, few, 1.0)


def test_one_index_holds_for_all_rows(ours, vllm_ops):
    """A batch of one request: its prompt's rows all have its adapter, as with vLLM's op."""
    x, a = torch.randn(39, HIDDEN), torch.randn(SLOTS, 1, RANK, HIDDEN)
    buffers = torch.zeros(39, RANK), torch.zeros(39, RANK)
    for ops, buffer in zip((ours, vllm_ops), buffers, strict=True):
        ops.bgmv_shrink(x, a, buffer, torch.tensor([1]), 1.0)
    assert torch.allclose(*buffers, rtol=1e-4, atol=1e-4)


def test_runs_of_one_adapter_are_one_product(ours, monkeypatch):
    """Neighbouring segments with one index are merged: -1, 0, 2, 1 take three products for eleven tokens."""
    products = []
    monkeypatch.setattr(
        cpu_lora_fix, "_matrix", lambda w, i, dtype: products.append(i) or w[i].squeeze(0).to(dtype)
    )
    split = torch.tensor([-1, 0, 0, -1, 2, 2, 1, -1])
    lengths = torch.tensor([2, 1, 2, 1, 1, 2, 1, 1])
    layer, buffer = Layer(), torch.zeros(len(TOKENS), RANK)
    ours.sgmv_shrink(layer.x, layer.a, buffer, lengths, lengths, split, 8, 2, 11, 1.0)
    assert products == [0, 2, 1]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.19.0", False),
        ("0.19.1", True),
        ("0.26.0", True),
        ("0.32.0", True),
        ("0.32.0+cpu", True),
        ("0.33.0", False),
    ],
)
def test_only_affected_releases_are_changed(version, expected):
    """vLLM 0.19.1 up to, not including, 0.33."""
    assert affected(version) == expected


def test_the_plugin_is_installed_under_vllms_group():
    """vLLM finds ``register`` by entry point, in each process that it starts."""
    from importlib.metadata import entry_points

    found = [e for e in entry_points(group="vllm.general_plugins") if e.name == "s3lora_cpu_lora_fix"]
    assert [e.load() for e in found] == [cpu_lora_fix.register]


def test_register_replaces_what_vllm_calls(vllm_ops):
    """After ``register``, the wrapper's module holds our six ops; registering again changes nothing."""
    if not cpu_lora_fix.needed():
        pytest.skip("this vLLM does not need the fix")
    from vllm.lora.punica_wrapper import punica_cpu

    cpu_lora_fix.register()
    cpu_lora_fix.register()
    assert cpu_lora_fix.active()
    assert [getattr(punica_cpu, op.__name__) for op in OPS] == list(OPS)
