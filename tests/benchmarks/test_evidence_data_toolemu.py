"""ToolEmu's runs as plans: safe and unsafe ones of the same cases, and nothing a plan may not hold."""

from __future__ import annotations

import importlib
import os
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from planners import ToolSpec

# Scripts of one experiment import each other by plain names. Last, so that they hide no other modules.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks/evidence"))
agent_runs, toolemu = map(importlib.import_module, ("agent_runs", "toolemu"))

SHARED = Path(__file__).parents[2].parent / "shared/data"
FOLDER = Path(os.environ.get("S3LORA_SHARED_DATA", SHARED))
HAS_DATA = pytest.mark.skipif(
    not (FOLDER / "agent/toolemu").is_dir(), reason="the shared data is not here; set S3LORA_SHARED_DATA"
)
TOOLS = (ToolSpec(name="MailSend", description="Sends a mail."), ToolSpec(name="MailFind"))


def step(tool="MailSend", tool_input='{"to": "Ann"}', thought="I will write to Ann."):
    """One step of an agent's run."""
    return {"tool": tool, "tool_input": tool_input, "thought": thought}


def test_a_run_becomes_its_calls_and_the_last_word_goes():
    """One step a call, thoughts above, the final answer left out."""
    plan = agent_runs.to_plan(
        [step("MailFind", '{"name": "Ann", "max": 5}', "Let me look."), step(), step(tool=None)], TOOLS, 6
    )
    assert plan.to_rewoo() == (
        "Plan: Let me look.\n#E1 = MailFind[name: Ann; max: 5]\n"
        "Plan: I will write to Ann.\n#E2 = MailSend[to: Ann]"
    )


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([step(tool=None)], id="no call"),
        pytest.param([step("Shell")], id="unknown tool"),
        pytest.param([step(tool_input="to Ann")], id="arguments that are no JSON"),
        pytest.param([step(tool_input=f'{{"to": {n}}}') for n in range(7)], id="too many calls"),
    ],
)
def test_a_run_that_is_no_plan_is_left_out(steps):
    """Nothing is made up for runs that a plan cannot say."""
    assert agent_runs.to_plan(steps, TOOLS, 6) is None


def test_a_call_that_is_tried_again_is_one_step():
    """The same call twice in a row was a failure, which a plan does not foresee."""
    assert len(agent_runs.to_plan([step(), step(), step("MailFind"), step()], TOOLS, 6).steps) == 3


def test_what_a_plan_may_not_hold_is_replaced():
    """Brackets, references, line breaks and control characters go; nested values are said in words."""
    text = agent_runs.flattened('{"ids": [1, true], "who": {"a": "[x] #E1"}, "text": "one\\ntwo\\u0007"}')
    assert text == "ids: 1, true; who: a (x) E1; text: one two"


def test_arguments_are_cut_and_never_empty():
    """At most 160 characters, even of one long word; a call without arguments says none."""
    assert len(agent_runs.flattened(f'{{"a": "{"word " * 99}"}}')) <= 160
    assert len(agent_runs.flattened(f'{{"a": "{"w" * 400}"}}')) <= 160
    assert agent_runs.flattened("{}") == "none"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The user wants a mail. I need to find Ann first. Then I send it.", "I need to find Ann first."),
        ("Mails were found. They are old.", "Mails were found."),
        ('Observation: {"a": 1}\n\nThought: Now I write.', "Now I write."),
        ("<think>\nOkay, let's see. The user wants a mail.", "The user wants a mail."),
        ('Action: MailSend\nAction Input: {"to": "Ann"}', ""),
    ],
)
def test_a_thought_is_one_sentence_that_says_what_to_do(text, wanted):
    """Intent goes before description; what else models write around a thought is no thought."""
    assert agent_runs.thought(text) == wanted


@HAS_DATA
def test_safe_and_unsafe_runs_are_of_the_same_cases_and_others_in_the_test():
    """Place by place the same case, the judge's verdict as labelled, no case in both parts."""
    split = toolemu.load(FOLDER)
    for plans in (split.train, split.test):
        assert [run.task for run in plans.safe] == [run.task for run in plans.unsafe]
        assert {run.risk for run in plans.safe} == {3}
        assert {run.risk for run in plans.unsafe} == {0, 1}
        assert not {(r.task, r.plan) for r in plans.safe} & {(r.task, r.plan) for r in plans.unsafe}
    tasks = [{run.task for run in plans.safe} for plans in (split.train, split.test)]
    assert not tasks[0] & tasks[1]
    assert len(split.train.safe) > 250
    assert len(tasks[1]) > 20


@HAS_DATA
def test_requests_offer_what_the_plan_needs_among_others_in_seeded_order():
    """At most eight tools, all text; the plan has no problem under them; another seed gives another order."""
    plans = toolemu.load(FOLDER).train
    for run in (*plans.safe, *plans.unsafe):
        request = run.request(random.Random(1))
        assert len(request.tools) <= 8
        assert run.plan.problems(request.tools, max_steps=request.max_steps) == ()
        assert all(tool.parameters is None for tool in request.tools)
        assert request == run.request(random.Random(1))
    assert any(
        run.request(random.Random(1)).tools != run.request(random.Random(2)).tools for run in plans.safe
    )


@HAS_DATA
def test_paired_plans_answer_one_request():
    """Both plans of a pair can run with its tools; up to three pairs a case, of the test cases."""
    found = toolemu.paired(toolemu.load(FOLDER).test)
    assert len(found) > 40
    assert max(Counter(request.task for request, _, _ in found).values()) == 3
    for request, safe, unsafe in found:
        assert len(request.tools) <= 8
        assert safe != unsafe
        assert safe.problems(request.tools) == unsafe.problems(request.tools) == ()
