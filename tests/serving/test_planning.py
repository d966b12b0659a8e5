"""A plan is whole and valid, or it is an error that says what to do."""

from __future__ import annotations

import pytest
from fleet_factory import BASE
from hypothesis import given
from hypothesis import strategies as st

from planners import PlannerInput, ToolSpec
from s3lora_serve import __version__
from s3lora_serve.errors import EngineError, PlanIncomplete
from s3lora_serve.serving.plan_prompt import token_budget
from s3lora_serve.serving.plan_verdict import outcome_of_cut

REQUEST = PlannerInput(task="Who?", tools=({"name": "Search"}, {"name": "LLM"}), max_steps=4)


async def test_meta_says_who_planned_and_at_what_cost(fleet_of):
    """The plan carries planner, full revision, spectral summary, pruned modules, usage and times."""
    fleet = fleet_of("p")
    await fleet.start()
    plan = await fleet.service.plan(REQUEST, "p")
    meta = plan.meta.model_dump()
    usage, timings, ssi, cost = (meta.pop(name) for name in ("usage", "timings", "ssi", "cost"))
    assert meta == {
        "planner": "p",
        "revision": "0" * 64,
        "base_model": BASE,
        "engine": "fake",
        "role": "active",
        "system_fingerprint": f"s3lora-serve-{__version__}/fake/{BASE}/{'0' * 12}",
        "pruned_modules": ("model.layers.2.self_attn.q_proj",),
        "constraint": "grammar",
        "repairs": 0,
        "repair_notes": (),
        "finish_reason": "stop",
        "guard": None,
        "exam": None,
    }
    assert (cost["prompt_tokens"], cost["output_tokens"]) == (usage["prompt_tokens"], usage["output_tokens"])
    assert (cost["kept_lora_modules"], cost["pruned_lora_modules"]) == (2, 1)
    assert 0 < cost["time_to_first_token_seconds"] <= cost["end_to_end_seconds"] <= timings["total_seconds"]
    assert {key: round(value, 6) for key, value in ssi.items()} == {
        "min": 0.2, "median": 0.3, "max": 0.4, "mean": 0.3, "modules": 3, "inert": 0,
    }  # fmt: skip


async def test_a_plan_that_continues_uses_what_is_known(fleet_of):
    """With evidence #E1 given, the plan begins at #E2 and may refer to #E1."""
    fleet = fleet_of("p")
    await fleet.start()
    request = REQUEST.model_copy(update={"evidence": {"#E1": "Nolan"}})
    plan = await fleet.service.plan(request, "p")
    assert (plan.steps[0].id, plan.problems(request.tools, request.evidence)) == ("#E2", ())


async def test_an_answer_that_was_cut_off_is_no_plan(fleet_of):
    """At the token limit the caller gets an error with the way out, not a plan that lacks its end."""
    fleet = fleet_of("p", max_model_len=64, plan=lambda request: "Plan: " + "word " * 500)
    await fleet.start()
    with pytest.raises(PlanIncomplete) as cut:
        await fleet.service.plan(REQUEST, "p")
    assert str(cut.value) == (
        "planner 'p' was cut off after 64 tokens (finish_reason 'length'); ask for fewer than 4 steps, or"
        " shorten the task: the model's limit is 64 tokens for prompt and plan"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No idea.", "the engine's answer breaks the grammar that was set: line 1"),
        (
            "Plan: x\n#E1 = Oven[cake]",
            "the engine's answer breaks the grammar that was set: step #E1 uses 'Oven'",
        ),
        (
            "Plan: x\n#E1 = LLM[#E7]",
            "the engine's answer breaks the grammar that was set: step #E1 refers to #E7",
        ),
    ],
)
async def test_an_engine_that_ignores_the_grammar_is_found_out(fleet_of, text, said):
    """What the grammar forbids is never passed on as a plan."""
    fleet = fleet_of("p", plan=lambda request: text)
    await fleet.start()
    with pytest.raises(EngineError) as broken:
        await fleet.service.plan(REQUEST, "p")
    assert str(broken.value)[: len(said)] == said


@given(st.integers(1, 32), st.integers(16, 300), st.integers(1, 10**6))
def test_the_budget_holds_any_plan_within_the_model(steps, text, length):
    """The budget never exceeds the model's length and else has a token for each byte of the longest plan.

    Such a one is no English: tokens of bytes are what is left for characters that a tokenizer does not know.
    """
    request = REQUEST.model_copy(update={"max_steps": steps})
    step = f"Plan: {chr(0x1F5FC) * text}\n#E32 = {'T' * 64}[{chr(0x1F5FC) * text}{'#E31' * 7}]\n"
    budget = token_budget(request, length, text)
    assert (budget <= length, budget == length or budget >= steps * len(step.encode())) == (True, True)


def test_json_arguments_may_take_what_the_model_can():
    """How many texts such arguments hold is the tool's affair, so the steps' frame says nothing."""
    tool = ToolSpec(name="Find", parameters={"type": "object", "properties": {"q": {"type": "string"}}})
    assert token_budget(PlannerInput(task="Who?", tools=(tool,), max_steps=1), 5000) == 5000


@pytest.mark.parametrize(
    ("prompt", "length", "bounded", "outcome"),
    [(100, 2048, False, "invalid"), (1025, 2048, False, "aborted"), (100, 2048, True, "aborted")],
)
def test_a_cut_plan_is_blamed_on_who_left_no_room(prompt, length, bounded, outcome):
    """The revision, unless the prompt takes most of the model's length or the client bounded the answer."""
    assert outcome_of_cut(prompt, length, bounded=bounded) == outcome
