"""A mended revision is an ordinary one: a pure function of the source's weights and the recorded policy."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace

import pytest
from adapters_factory import adapter_limits, write_adapter
from pruning_exams import PASSED, REFUSED, result

from s3lora_serve.adapters.fetch.reach import EVERYWHERE
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.config import ExamConfig
from s3lora_serve.control.operation import Wanted
from s3lora_serve.control.orders.mending import Candidate, Mending
from s3lora_serve.errors import ExamRefused, SourceError
from s3lora_serve.launch.admit_all import StoreAdmission
from s3lora_serve.launch.resolve import to_base_model
from s3lora_serve.safety.exam.rung_exam import RungTrials
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top


class Hands:
    """Admits for real; what prunes ``top`` modules loads, and else the exam refuses it."""

    def __init__(self, admission, top):
        self.admission, self.top, self.entries = admission, top, []

    async def admit(self, planner, wanted):
        return self.admission.admit(planner, wanted, lambda *_: None)

    async def load(self, planner, revision):
        if len(revision.lineage.pruned) != self.top:
            raise ExamRefused("refused")

    def tell(self, stage):
        """Nobody listens."""

    async def note(self, entry):
        self.entries.append(entry)


@asynccontextmanager
async def kept(key):
    """Nothing is loaded here."""
    yield


def admission(root):
    """Of the demo's shapes, without its weights."""
    base = to_base_model("demo", None, lambda *_: None, fetch=False)
    return StoreAdmission(base, adapter_limits(), RevisionStore(root), EVERYWHERE)


class Exams:
    """What prunes ``top`` modules passed before, and nothing else did."""

    def __init__(self, top):
        self.top, self.trials = top, RungTrials()

    def settings(self, planner):
        return ExamConfig(action="mend")

    async def current(self, planner, revision):
        return result(PASSED if len(revision.lineage.pruned) == self.top else REFUSED)


@pytest.mark.parametrize("rule", [Top(10), Top(0)])
async def test_the_same_source_under_the_recorded_policy_has_the_same_digest(tmp_path, rule):
    """Another server that declares ``top: 2`` of the same weights serves the same; so does a restart."""
    source = str(write_adapter(tmp_path / "adapter", layers=range(10)))
    hands = Hands(admission(tmp_path / "store"), top=2)
    wanted = Wanted(source, policy=PrunePolicy(rule=rule))
    first = await hands.admit("p", wanted)
    async with AsyncExitStack() as held:
        mending = Mending(SimpleNamespace(held=kept), Exams(2))
        mended = await mending.load(held, hands, Candidate("p", first, wanted))
    assert mended.lineage.policy == PrunePolicy(rule=Top(2)).to_json()
    assert mended.digest != first.digest
    elsewhere = admission(tmp_path / "elsewhere")
    same = elsewhere.admit("q", Wanted(source, policy=PrunePolicy(rule=Top(2))), lambda *_: None)
    assert (same.digest, same.lineage.pruned) == (mended.digest, mended.lineage.pruned)
    assert hands.admission.restore(mended.digest).digest == mended.digest
    (entry,) = hands.entries
    assert (entry.from_digest, entry.to_digest) == (first.digest, mended.digest)


async def test_rungs_are_of_the_weights_that_were_refused(tmp_path):
    """A source that changes while its ladder is walked is refused: its digest was pinned by the first."""
    folder = write_adapter(tmp_path / "adapter", layers=range(10))
    hands = Hands(admission(tmp_path / "store"), top=2)
    wanted = Wanted(str(folder), policy=PrunePolicy())
    first = await hands.admit("p", wanted)
    write_adapter(folder, layers=range(10), seed=1)
    mending = Mending(SimpleNamespace(held=kept), Exams(2))
    async with AsyncExitStack() as held:
        with pytest.raises(SourceError, match="the source changed"):
            await mending.load(held, hands, Candidate("p", first, wanted))
