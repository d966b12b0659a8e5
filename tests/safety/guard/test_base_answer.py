"""What an answer of the base model comes to, and when it has said enough."""

from __future__ import annotations

import pytest
from refusing_engine import SORRY, RefusingEngine

from s3lora_serve.engine.request_facts import collected_facts
from s3lora_serve.safety.guard.base_answer import LONGEST, SHORTEST, ask_base, finding_of
from s3lora_serve.safety.guard.ruling import Found

TASK = "First say the task again, then plan: find out who directed the film Tenet and when he was born."


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (SORRY, Found.REFUSED),
        ("I cannot do that.", Found.REFUSED),
        ("Sure! Here is a plan.", Found.ALLOWED),
        ("42", Found.ALLOWED),
        ('{"tool": "Search", "input": "Tenet"}', Found.ALLOWED),
        ("", Found.UNDECIDED),
        ("...", Found.UNDECIDED),
        ("la la la la la la la la la la la la", Found.UNDECIDED),
        ("Je ne peux pas vous aider.", Found.UNDECIDED),
        ("抱歉，我无法协助。", Found.UNDECIDED),
    ],
)
def test_an_answer_refuses_helps_or_is_neither(answer, finding):
    """What is no verdict says why, and nothing of itself."""
    found, why = finding_of(answer, TASK, cut=False)
    assert found is finding
    assert bool(why) == (finding is Found.UNDECIDED)
    assert not answer or answer not in why


def test_an_echo_is_no_verdict():
    """What is cut while it repeats what was asked may refuse it after that; a quotation that ends may not."""
    echo = "find out who directed the\nfilm Tenet and when"
    assert finding_of(echo, TASK, cut=True)[0] is Found.UNDECIDED
    assert finding_of(echo, TASK, cut=False)[0] is Found.ALLOWED
    assert finding_of(TASK, TASK, cut=False)[0] is Found.UNDECIDED


async def asked(engine, text):
    """What the engine's answer comes to."""
    question = await engine.chat_tokens([{"role": "user", "content": text}])
    return await ask_base(engine, question, text, "ann")


async def test_a_first_sentence_is_enough():
    """An answer whose first sentence ends within 24 tokens is asked for no more of them."""
    engine = RefusingEngine(says={"film": "I can help with that. " + "More of it follows here " * 20})
    answer = await asked(engine, "Find the film.")
    assert (answer.finding, answer.output_tokens, engine.ended) == (Found.ALLOWED, SHORTEST, 1)


async def test_a_longer_sentence_is_heard_to_its_end():
    """A refusal that comes late in the first sentence is one, up to the 64th token."""
    late = (
        "While "
        + "this is a most interesting question " * 5
        + "and I do understand it, I cannot help with it."
    )
    engine = RefusingEngine(says={"film": late})
    answer = await asked(engine, "Find the film.")
    assert (answer.finding, engine.ended) == (Found.REFUSED, 2)
    assert SHORTEST < answer.output_tokens <= LONGEST
    endless = RefusingEngine(
        says={"film": "To find the film you can look at list " + " and list ".join(map(str, range(90)))}
    )
    answer = await asked(endless, "Find the film.")
    assert (answer.finding, answer.output_tokens) == (Found.ALLOWED, LONGEST)


async def test_an_echo_is_heard_out():
    """A refusal after the task was said again is found, although a sentence had ended before."""
    task = "Say this again and answer: how does one do harm to a town?"
    task += " It has a river and a bridge and a mill, yes."
    engine = RefusingEngine(says={"harm": f"{task.partition(': ')[2]} {SORRY}"})
    answer = await asked(engine, task)
    assert (answer.finding, engine.ended) == (Found.REFUSED, 2)


async def test_what_is_asked_is_the_guards():
    """Under a salt of its own by caller, marked for the observers, and heard by nobody around."""
    engine = RefusingEngine()
    with collected_facts() as heard:
        await asked(engine, "Find the film.")
    assert (engine.salts, engine.purposes, heard) == (["guard:ann"], ["guard"], [])


async def test_both_parts_of_a_question_have_the_requests_priority():
    """Its beginning and what is asked for the rest of the sentence: the answer waits for both."""
    engine = RefusingEngine(
        says={"film": "To find it you can look at list " + " and list ".join("abcdefghij" * 9)}
    )
    question = await engine.chat_tokens([{"role": "user", "content": "Find the film."}])
    await ask_base(engine, question, "Find the film.", "ann", priority=-3)
    assert engine.priorities == [-3, -3]
