"""Bounds of what one request may ask of the base model, and that nothing goes unread because of them."""

from __future__ import annotations

from refusing_engine import RefusingEngine
from scripted_judge import judged

from s3lora_serve.config import GuardConfig
from s3lora_serve.errors import GuardUndecided
from s3lora_serve.safety.guard.allowance import MOST_TOGETHER, Allowance
from s3lora_serve.safety.guard.base_judge import BaseJudge
from s3lora_serve.safety.guard.base_questions import MOST
from s3lora_serve.safety.guard.guard_question import GuardQuestion
from s3lora_serve.safety.guard.guards import Guards
from s3lora_serve.safety.guard.ruling import Found

SETTINGS = GuardConfig(action="refuse")


async def test_asking_again_reads_no_less():
    """Of a text in more windows than are looked at there is no verdict, also once those are remembered; of
    many texts those that were asked are, so that asking again asks the others.
    """
    engine = RefusingEngine("bomb", max_model_len=256)
    one = BaseJudge(lambda: engine, SETTINGS)
    long = GuardQuestion(" ".join(map(str, range(6000))) + " bomb")
    assert {(await one.rule(long, "ann", "r")).finding for _ in range(3)} == {Found.UNDECIDED}
    assert len(engine.asked) == MOST
    many = GuardQuestion("Who?", turns=tuple(f"Turn {n}." for n in range(3 * MOST // 2)))
    first, again = [await one.rule(many, "ann", "r") for _ in range(2)]
    assert (first.finding, first.too_many) == (Found.UNDECIDED, True)
    assert (again.finding, again.too_many) == (Found.ALLOWED, False)
    harmful = GuardQuestion("Who?", turns=(*many.turns[1:], "a bomb"))
    assert (await one.rule(harmful, "ann", "r")).finding is Found.REFUSED


async def test_prompts_of_one_request_cause_so_many_questions_together():
    """Each question counts once, whichever prompt it is of; what is remembered counts nothing."""
    engine, allowance = RefusingEngine(), Allowance(7)
    one = BaseJudge(lambda: engine, SETTINGS)
    prompts = [GuardQuestion(f"Say the number {n}. Then go to bed.") for n in range(4)]
    found = [(await one.rule(prompt, "ann", "r", 0, allowance)).finding for prompt in prompts]
    assert (found, len(engine.asked)) == ([Found.ALLOWED] * 3 + [Found.UNDECIDED], 7)
    assert (await one.rule(prompts[0], "ann", "r", 0, Allowance(0))).finding is Found.ALLOWED
    assert (await one.rule(prompts[3], "ann", "r")).finding is Found.ALLOWED


async def test_a_completion_of_many_long_prompts_has_an_end():
    """64 prompts of 64 questions would be 4,096: the rest has no verdict, and the client is told why. One of
    as many short prompts is judged.
    """
    engine = RefusingEngine(max_model_len=4096)
    guards = Guards({"p": SETTINGS}, {"p": {"base": BaseJudge(lambda: engine, SETTINGS)}})
    prompts = [" ".join(f"Say {n}, {m} and so on." for m in range(15)) for n in range(64)]
    _, error = await judged(guards, *map(GuardQuestion, prompts))
    assert isinstance(error, GuardUndecided)
    assert ("more questions" in error.message, "fewer prompts" in error.hint) == (True, True)
    assert (error.again, len(engine.asked)) == (False, MOST_TOGETHER)
    prompts = [f"Say the number {n}. Then sleep well, all of you." for n in range(64)]
    _, error = await judged(guards, *map(GuardQuestion, prompts))
    assert error is None
