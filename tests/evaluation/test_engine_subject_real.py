"""What only a real engine shows: an evaluation asks what the server would serve."""

from __future__ import annotations

import itertools

import pytest
from adapters_factory import adapter_limits

from planners import PlannerInput, ToolSpec, render_messages
from s3lora_serve.adapters.admission import admit
from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.demo import adapter_path
from s3lora_serve.evaluation.measuring.engine_subject import EngineSubject
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top

pytestmark = pytest.mark.engine

TOOLS = (ToolSpec(name="Search", description="finds facts"), ToolSpec(name="LLM", description="answers"))
CHATS = [
    ({"role": "user", "content": "What is a lighthouse for?"},),
    *(
        tuple(render_messages(PlannerInput(task=task, tools=TOOLS)))
        for task in ("Who directed the film Tenet?", "Which is older, Rome or Paris?")
    ),
]
PLAN = "Plan: Find the director.\n#E1 = Search[director of Tenet]"
EXAMPLES = [(chat, PLAN) for chat in CHATS]
TOKENS = 16
NOISE = 0.1  # nats a token: what shares a batch moves bfloat16 results

# Far from the ids that other tests hand out on the shared engine.
_ids = itertools.count(2_000_000)


@pytest.fixture
def adapter_folder():
    """The demo planner that plans look-ups."""
    return adapter_path("hotpot-planner")


@pytest.fixture
def asked(vllm_engine):
    """What slot each request from now on runs on."""
    slots = []
    vllm_engine.observe(lambda facts: slots.append(facts.slot))
    return slots


async def losses_of(engine, slot):
    """What ``losses`` must find for a slot."""
    scores = [await engine.answer_scores(*example, slot) for example in EXAMPLES]
    return pytest.approx([-sum(each) / len(each) for each in scores], abs=NOISE)


async def test_it_asks_what_admission_publishes(
    vllm_engine, demo_base, adapter_folder, new_slot, asked, tmp_path
):
    """The losses are those of the published revision, others unpruned; its answers come from that slot."""
    revision = admit(
        str(adapter_folder),
        base=BaseModelSpec.from_pretrained(demo_base),
        policy=PrunePolicy(rule=Top(60)),
        limits=adapter_limits(),
        store=RevisionStore(tmp_path / "store"),
    )
    dropped = revision.lineage.pruned
    assert len(dropped) == 60
    subject = EngineSubject(vllm_engine, read_peft(adapter_folder), tmp_path / "work", ids=_ids, concurrent=1)
    async with subject:
        losses = await subject.losses(EXAMPLES, dropped)
        answers = await subject.answers(CHATS, dropped, TOKENS)
        whole_losses = await subject.losses(EXAMPLES, ())
    assert [1 <= answer.tokens <= TOKENS for answer in answers] == [True] * len(CHATS)
    pruned, whole = dict.fromkeys(asked)  # two slots, one after the other
    assert asked == [pruned] * 2 * len(CHATS) + [whole] * len(CHATS)
    slot = new_slot(revision.path)
    await vllm_engine.load(slot)
    try:
        assert losses == await losses_of(vllm_engine, slot)
    finally:
        await vllm_engine.unload(slot)
    assert max(abs(one - other) for one, other in zip(losses, whole_losses, strict=True)) > 4 * NOISE


async def test_all_pruned_is_the_base_model(vllm_engine, adapter_folder, asked, tmp_path):
    """It is asked itself, with no adapter in the batch; and nothing is loaded."""
    peft = read_peft(adapter_folder)
    before = await vllm_engine.loaded()
    async with EngineSubject(vllm_engine, peft, tmp_path, ids=_ids, concurrent=1) as subject:
        await subject.answers(CHATS, peft.modules, TOKENS)
        losses = await subject.losses(EXAMPLES, peft.modules)
        assert before == await vllm_engine.loaded()
    assert asked == [None] * 2 * len(CHATS)
    assert losses == await losses_of(vllm_engine, None)
