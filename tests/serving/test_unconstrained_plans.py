"""Without a grammar a plan is valid, mended and counted, asked for again and counted, or refused."""

from __future__ import annotations

import pytest

from planners import PlannerInput
from s3lora_serve.errors import EngineError, InvalidPlan, PlanIncomplete, PlanTimeout
from s3lora_serve.serving.planning import ASKS, PlanOptions

REQUEST = PlannerInput(task="Who?", tools=({"name": "Search"}, {"name": "LLM"}), max_steps=4)
FREE = PlanOptions(constraint="none")
MENDED = PlanOptions(constraint="none", repair=True)
VALID = "Plan: look\n#E1 = Search[who]\nPlan: read\n#E2 = LLM[#E1]"


@pytest.fixture
def planner_that_says(fleet_of):
    """A started fleet whose planner p gives these answers, one after the other."""

    async def make(*texts, **engine):
        answers = list(texts)
        fleet = fleet_of("p", plan=lambda request: answers.pop(0), **engine)
        return await fleet.start()

    return make


@pytest.fixture
def outcomes(monkeypatch):
    """What each lease was worth when it was given back."""
    from s3lora_serve.fleet.leases import LeaseBook

    seen, give_back = [], LeaseBook.give_back

    def watched(book, lease):
        seen.append(lease.outcome)
        give_back(book, lease)

    monkeypatch.setattr(LeaseBook, "give_back", watched)
    return seen


async def test_a_valid_plan_is_passed_on_as_it_is(planner_that_says, outcomes):
    """What needs no mending is not touched, and the meta says that no grammar was set."""
    fleet = await planner_that_says(VALID)
    plan = await fleet.service.plan(REQUEST, "p", MENDED)
    assert (plan.to_rewoo(), plan.meta.repairs, plan.meta.constraint) == (VALID, 0, "none")
    assert outcomes == ["ok"]


async def test_an_invalid_plan_is_refused_unless_repair_was_asked_for(planner_that_says, outcomes):
    """Nothing is mended silently: without ``repair`` the caller learns every problem."""
    fleet = await planner_that_says("Plan: x\n#E1 = Oven[cake]")
    with pytest.raises(InvalidPlan) as invalid:
        await fleet.service.plan(REQUEST, "p", FREE)
    assert [(problem.kind, problem.step) for problem in invalid.value.problems] == [("unknown_tool", "#E1")]
    assert "planner 'p' wrote no valid plan: step #E1 uses 'Oven'" in str(invalid.value)
    assert outcomes == ["invalid"]


async def test_what_can_be_mended_is_mended_and_counted(planner_that_says, outcomes):
    """Chatter and gaps in the numbers go, with a note for each, in one engine request."""
    fleet = await planner_that_says(f"Sure, here is a plan.\n{VALID}".replace("#E2 =", "#E5 ="))
    plan = await fleet.service.plan(REQUEST, "p", MENDED)
    assert (plan.to_rewoo(), plan.problems(REQUEST.tools)) == (VALID, ())
    assert plan.meta.repairs == len(plan.meta.repair_notes) > 0
    assert outcomes == ["ok"]


async def test_what_cannot_be_mended_is_asked_for_again(planner_that_says):
    """The second prompt names what was wrong; that it was needed is counted, and both requests are paid."""
    fleet = await planner_that_says("I do not know.", VALID)
    plan = await fleet.service.plan(REQUEST, "p", MENDED)
    alone = await (await planner_that_says(VALID)).service.plan(REQUEST, "p", MENDED)
    assert (plan.to_rewoo(), plan.meta.repairs) == (VALID, 1)
    assert plan.meta.repair_notes[0].startswith("asked again, since ")
    assert plan.meta.cost.prompt_tokens > 2 * alone.meta.cost.prompt_tokens  # the feedback is part of it
    assert plan.meta.usage.output_tokens == plan.meta.cost.output_tokens


async def test_asking_ends(planner_that_says):
    """A planner that never plans is asked a few times, and then the request fails with the last problems."""
    fleet = await planner_that_says(*["No."] * (ASKS + 1))
    with pytest.raises(InvalidPlan, match=f"in {ASKS + 1} attempts"):
        await fleet.service.plan(REQUEST, "p", MENDED)


async def test_a_cut_answer_is_no_plan_unless_it_may_be_mended(planner_that_says):
    """At the token limit: an error, or the whole steps before it with the cut counted."""
    rambling = VALID + "\nPlan: and" + " so on" * 500
    fleet = await planner_that_says(rambling, rambling, max_model_len=64)
    with pytest.raises(PlanIncomplete):
        await fleet.service.plan(REQUEST, "p", FREE)
    plan = await fleet.service.plan(REQUEST, "p", MENDED)
    assert (plan.to_rewoo(), plan.meta.finish_reason) == (VALID, "length")
    assert (plan.meta.repairs > 0, plan.problems(REQUEST.tools)) == (True, ())


async def test_a_cut_plan_under_a_grammar_can_be_mended_too(planner_that_says):
    """The grammar bounds texts, not the model's length: with repairs its complete steps are a plan."""
    rambling = VALID + "\nPlan: and" + " so on" * 500
    fleet = await planner_that_says(rambling, max_model_len=64)
    plan = await fleet.service.plan(REQUEST, "p", PlanOptions(repair=True))
    assert (plan.to_rewoo(), plan.meta.constraint, plan.meta.repairs > 0) == (VALID, "grammar", True)


async def test_a_grammar_that_is_broken_is_not_mended(planner_that_says):
    """An engine that ignores its grammar has a defect; mending would hide it."""
    fleet = await planner_that_says("I do not know.")
    with pytest.raises(EngineError, match="breaks the grammar"):
        await fleet.service.plan(REQUEST, "p", PlanOptions(repair=True))


async def test_a_plan_that_takes_too_long_ends(planner_that_says, outcomes):
    """Its time is over all attempts; the engine's request has ended, and no revision is blamed."""
    fleet = await planner_that_says("word " * 200, seconds_per_token=0.01)
    with pytest.raises(PlanTimeout, match=r"no plan within 0\.05 s"):
        await fleet.service.plan(REQUEST, "p", PlanOptions(seconds=0.05))
    deployment = fleet.service.get("p").active
    assert (fleet.running.running(deployment.slot), outcomes) == (0, ["aborted"])
