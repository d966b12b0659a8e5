"""C·ΔW in factor space: it is the dense formula, and reads alignment sparingly."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping

import pytest
import torch
from dense_alignment import dense_cosine, dense_distance
from dense_svd import delta
from hypothesis import given
from hypothesis import strategies as st
from lora_strategies import Case, cases
from torch import Tensor

from s3lora_serve.spectral import projection
from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.projection import project, projections
from s3lora_serve.spectral.scorers import NEEDS_ALIGNMENT, SCORERS, score

dtypes = st.sampled_from((torch.float64, torch.float32, torch.bfloat16))


def module(out: int = 6, inp: int = 5, seed: int = 0) -> LowRank:
    """Random rank-2 factors."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(2, inp, generator=g, dtype=torch.float64)
    return LowRank(a, torch.randn(out, 2, generator=g, dtype=torch.float64), 2.0)


def difference(case: Case, dtype: torch.dtype = torch.float64) -> Tensor:
    """A random V for the case's module."""
    v = torch.randn(*case.module.shape, generator=case.generator, dtype=torch.float64)
    return (0.1 * v).to(dtype)


class Checkpoints(Mapping[str, Tensor]):
    """An alignment that makes each V when asked, notes the asking, and sees whether the last one is gone."""

    def __init__(self, shapes: dict[str, tuple[int, int]]) -> None:
        self.shapes, self.read, self.held = shapes, [], 0
        self._last: weakref.ref[Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        self.held += self._last is not None and self._last() is not None
        v = torch.ones(self.shapes[name])
        self.read.append(name)
        self._last = weakref.ref(v)
        return v

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@given(cases(), dtypes)
def test_it_is_the_dense_formula(case: Case, dtype: torch.dtype):
    """Distance and cosine are those of C·ΔW and ΔW formed in float64, whatever the dtype of V."""
    v = difference(case, dtype)
    found = project("m", case.module, v)

    assert found is not None
    assert found.distance == pytest.approx(dense_distance(case.module, v), rel=1e-9)
    assert found.cosine == pytest.approx(dense_cosine(case.module, v), abs=1e-9)


@given(cases(), st.sampled_from((-3.0, 1e-6, 1e9)))
def test_the_cosine_has_no_scale(case: Case, factor: float):
    """ΔW → cΔW and V → cV move no cosine; the distance grows with |c| of ΔW."""
    v, m = difference(case), case.module
    before = project("m", m, v)
    scaled = project("m", LowRank(m.a, m.b, factor * m.scaling), v)
    turned = project("m", m, factor * v)

    assert scaled.cosine == pytest.approx(before.cosine, abs=1e-12)
    assert turned.cosine == pytest.approx(before.cosine, abs=1e-12)
    assert scaled.distance == pytest.approx(abs(factor) * before.distance, rel=1e-12)


@given(cases(), st.sampled_from((1.0, 1e-3)))
def test_the_basis_of_the_factors_does_not_matter(case: Case, least: float):
    """(T A, B T⁻¹) is the same ΔW: its projection is the same, also for an ill-conditioned T."""
    v, m = difference(case), LowRank(case.module.a.double(), case.module.b.double(), case.module.scaling)
    scale = torch.logspace(0, 1, m.rank, base=least, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(m.rank, m.rank, generator=case.generator, dtype=torch.float64)).Q
    other = LowRank((q * scale) @ m.a, m.b @ (q / scale).mT, m.scaling)
    one, two = project("m", m, v), project("m", other, v)

    assert two.distance == pytest.approx(one.distance, rel=1e-9)
    assert two.cosine == pytest.approx(one.cosine, abs=1e-9)


@given(cases(), st.integers(1, 3))
def test_safelora_is_between_0_and_1(case: Case, rank: int):
    """C is positive semi-definite, so the cosine is in [0, 1], also for a V of low rank."""
    left = torch.randn(case.module.shape[0], rank, generator=case.generator)
    v = left @ torch.randn(rank, case.module.shape[1], generator=case.generator)
    row = score({"m": case.module}, "safelora", alignment={"m": v})["m"]

    assert 0 <= row.score <= 1


def test_directions_that_alignment_shares_score_0_and_others_1():
    """V = cI stretches every ΔW alike; a V whose columns are orthogonal to ΔW's leaves nothing of it."""
    update = LowRank(torch.ones(1, 4), torch.tensor([[1.0], [0.0], [0.0], [0.0]]), 3.0)
    shared, apart = 0.5 * torch.eye(4), torch.diag(torch.tensor([0.0, 1.0, 1.0, 0.0]))
    norm = float(delta(update).norm())

    assert score({"m": update}, "safelora", alignment={"m": shared})["m"].score == pytest.approx(0, abs=1e-12)
    assert score({"m": update}, "safelora", alignment={"m": apart})["m"].score == 1
    assert project("m", update, shared).distance == pytest.approx(0.75 * norm)  # C = 0.25 I
    assert project("m", update, apart).distance == pytest.approx(norm)


@pytest.mark.parametrize("rows", [1, 4, 5, 64])
def test_blocks_of_v_make_no_difference(rows: int, monkeypatch: pytest.MonkeyPatch):
    """V is read in blocks of rows to keep memory flat; however many, the result is the same."""
    update, v = module(13, 7), module(13, 7, seed=1).b @ torch.ones(2, 7, dtype=torch.float64)
    monkeypatch.setattr(projection, "BLOCK", rows * 7)
    found = project("m", update, v)

    assert found.distance == pytest.approx(dense_distance(update, v), rel=1e-12)
    assert found.cosine == pytest.approx(dense_cosine(update, v), abs=1e-12)


def test_where_alignment_changed_nothing_there_is_no_score():
    """A module with V = 0 has no C: it has no score by either scorer, and is not compared with others."""
    modules = {f"layers.{i}.q_proj": module(seed=i) for i in range(6)}
    v = {name: torch.full((6, 5), 0.1 * i) + torch.eye(6, 5) for i, name in enumerate(modules)}
    untouched = {**v, "layers.5.q_proj": torch.zeros(6, 5)}

    for scorer in sorted(NEEDS_ALIGNMENT):
        with_it = score(modules, scorer, alignment=untouched)
        without = score({n: m for n, m in modules.items() if n != "layers.5.q_proj"}, scorer, alignment=v)
        assert with_it["layers.5.q_proj"].score is None
        assert not with_it["layers.5.q_proj"].inert
        assert [with_it[name].score for name in without] == [row.score for row in without.rows.values()]
        assert all(row.score is not None for row in without.rows.values())


@pytest.mark.parametrize("scorer", sorted(NEEDS_ALIGNMENT))
def test_each_v_is_read_once_and_held_alone(scorer: str):
    """V may come from files: modules are asked for in order, once, one at a time, and inert ones never."""
    modules = {f"layers.{i}.q_proj": module(seed=i) for i in range(5)}
    inert = {"layers.9.q_proj": LowRank(torch.ones(2, 5), torch.zeros(6, 2), 1.0)}
    checkpoints = Checkpoints({name: m.shape for name, m in modules.items()})
    score({**modules, **inert}, scorer, alignment=checkpoints)

    assert checkpoints.read == list(modules)
    assert checkpoints.held == 0


@pytest.mark.parametrize(
    ("v", "message"),
    [
        (None, r"layers\.1\.q_proj: the alignment difference lacks this module"),
        (torch.ones(5, 6), r"layers\.1\.q_proj: the alignment difference is 5x6, ΔW is 6x5"),
        (torch.ones(30), r"layers\.1\.q_proj: the alignment difference is 30, ΔW is 6x5"),
        (torch.full((6, 5), float("nan")), r"layers\.1\.q_proj: .* NaN, infinite"),
        (torch.full((6, 5), float("-inf")), r"layers\.1\.q_proj: .* NaN, infinite"),
    ],
)
@pytest.mark.parametrize("scorer", sorted(NEEDS_ALIGNMENT))
def test_an_alignment_that_does_not_fit_is_refused_by_name(scorer: str, v: Tensor | None, message: str):
    """A missing module, another shape and values that are no numbers are each said of the module."""
    modules = {f"layers.{i}.q_proj": module(seed=i) for i in range(2)}
    alignment = {"layers.0.q_proj": torch.ones(6, 5)} | ({} if v is None else {"layers.1.q_proj": v})

    with pytest.raises(ValueError, match=message):
        score(modules, scorer, alignment=alignment)


@pytest.mark.parametrize("scorer", sorted(NEEDS_ALIGNMENT))
def test_without_an_alignment_there_is_no_guess(scorer: str):
    """The scorers that compare with alignment refuse to run without one."""
    with pytest.raises(ValueError, match=rf"'{scorer}' needs an alignment"):
        score({"m": module()}, scorer)


@pytest.mark.parametrize("scorer", sorted(SCORERS.keys() - NEEDS_ALIGNMENT))
def test_the_other_scorers_never_look_at_it(scorer: str):
    """An alignment changes no score of a scorer that does not need it, and is not read."""
    checkpoints = Checkpoints({"m": (6, 5)})
    with_it, without = (score({"m": module(5, 6)}, scorer, alignment=v) for v in (checkpoints, None))

    assert with_it["m"] == without["m"]
    assert checkpoints.read == []


def test_inputs_stay_as_they_are():
    """Neither the factors nor V are changed, and a V of parameters leaves no graph behind."""
    update, v = module(), torch.ones(6, 5, requires_grad=True)
    before = [t.detach().clone() for t in (update.a, update.b, v)]
    projections({"m": update}, {"m": v})

    assert all(torch.equal(old, new) for old, new in zip(before, (update.a, update.b, v), strict=True))
    assert v.grad is None
