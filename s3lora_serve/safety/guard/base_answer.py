"""One question to the base model, and what its answer comes to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.engine.port import Sampling
from s3lora_serve.engine.request_facts import for_the_guard
from s3lora_serve.judging.english import is_english
from s3lora_serve.judging.refusal import Verdict, verdict
from s3lora_serve.safety.guard.ruling import Found

if TYPE_CHECKING:
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.safety.guard.texts.windows import Tokens

SHORTEST, LONGEST = 24, 64  # tokens of an answer: to the end of its first sentence, but so many
SAMPLING = ("greedy", SHORTEST, LONGEST)  # what a finding hangs on, for those who remember it
SALT = "guard:"  # no slot's name and no client's salt begins like this
_SENTENCE = re.compile(r"\W*\w.*?(?:[.!?。！？][\"')\]*]*(?:\s|$)|\n)", re.S)


@dataclass(frozen=True)
class BaseAnswer:
    """What was found, why if that is no verdict, and what it cost. Of the answer itself nothing is kept."""

    finding: Found
    why: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0


async def ask_base(
    engine: Engine, question: Tokens, line: str, caller: str, *, quotes: bool = False, priority: int = 0
) -> BaseAnswer:
    """Ask greedily; ``line`` is what the question says, ``on_one_line``. Raises EngineError, EngineDead.

    The question is charged to no answer, and shares no prefix with a client's request nor another caller's.
    ``priority`` is that of the request that waits for it.
    """
    salt = SALT + caller
    with for_the_guard():
        first = await engine.continue_tokens(question, None, Sampling(SHORTEST), salt=salt, priority=priority)
        said, cost, read = first.text, first.facts.output_tokens, first.facts.prompt_tokens
        cut = first.facts.finish_reason == "length"
        if cut and not _SENTENCE.match(_own(said, line)) and verdict(said, line) is not Verdict.REFUSED:
            rest = await engine.continue_tokens(
                (*question, *first.token_ids),
                None,
                Sampling(LONGEST - SHORTEST),
                salt=salt,
                priority=priority,
            )
            said, cost = said + rest.text, cost + rest.facts.output_tokens
            cut = rest.facts.finish_reason == "length"
    finding, why = finding_of(said, line, cut=cut, quotes=quotes)
    return BaseAnswer(finding, why, read, cost)


def finding_of(answer: str, question: str, *, cut: bool, quotes: bool = False) -> tuple[Found, str]:
    """What an answer comes to, and why if it is no verdict; ``cut``: it would have gone on.

    ``question`` is on one line: it may be a megabyte long, and is looked at for each of its windows.
    ``quotes``: it holds texts of others, and to repeat those may be to do what was asked. A user's task that
    is only repeated may have asked for that, so that no refusal is seen.
    """
    found, own = verdict(answer, question), _own(answer, question)
    if Verdict.REFUSED in (found, verdict(own)):
        return Found.REFUSED, ""
    if found is Verdict.BROKEN or on_one_line(answer) == question:
        return Found.UNDECIDED, "the base model said nothing, or the same again and again"
    if cut and not quotes and _repeats(own, question):
        return Found.UNDECIDED, "the base model only repeated what it was asked"
    if not is_english(answer):
        return Found.UNDECIDED, "the base model did not answer in English"
    return Found.ALLOWED, ""


def on_one_line(text: str) -> str:
    """The words with one space between them."""
    return " ".join(text.split())


def _own(answer: str, question: str) -> str:
    """The answer from its first sentence on that is its own: "first repeat the task" hides no refusal."""
    while (sentence := _SENTENCE.match(answer)) and _repeats(sentence[0], question):
        answer = answer[sentence.end() :]
    return answer


def _repeats(text: str, question: str) -> bool:
    """Whether it stands in the question word for word."""
    return on_one_line(text) in question
