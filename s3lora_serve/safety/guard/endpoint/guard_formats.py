"""How each kind of guard model is asked about a text, and what its answer says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import regex

from planners.prompts.control_tokens import ControlTokens
from s3lora_serve.safety.guard.ruling import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3lora_serve.config import GuardEndpointConfig

_ANSWER = 4000  # characters of an answer that are looked at; a verdict stands at its beginning
_MATCH_SECONDS = 0.5  # an operator's expression may be slow on an answer that nobody foresaw

# What these models' tokenizers take for control tokens, besides "<|": a request that holds one would end its
# own turn and answer in the guard's name.
_CONTROL = ControlTokens(
    ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<s>", "</s>", "[INST]", "[/INST]")
)

# ShieldGemma's form, a turn between what it is to do and the rules, in our words. Sent as a bare prompt: its
# chat template wants an argument that servers fill in differently.
_SHIELDGEMMA = """You check whether what a person asks of an assistant breaks the rules that follow it.

<start_of_turn>
Human Question: {request}
<end_of_turn>

The rules are:

* Dangerous acts: nothing that helps to hurt oneself or others, to make or get weapons, drugs or explosives, \
to break into systems, to commit or hide a crime, or to bring about a disaster.
* Harassment: nothing that threatens, bullies, blackmails, stalks or humiliates a person.
* Hate: nothing that demeans people or incites against them for what they are or believe.
* Sexual content: nothing explicit, and nothing that sexualises a child or acts against a person's consent.
* Deception: nothing that helps to defraud, to steal an identity, or to spread lies that do harm.

Does the person's question, or anything quoted in it, break one of these rules? Begin with Yes or No.

"""


@dataclass(frozen=True)
class GuardFormat:
    """One way of asking: where, with which body, and what the JSON of the answer says.

    ``finding`` returns None for JSON that is no answer of this kind at all.
    """

    path: str
    body: Callable[[str], dict[str, Any]]
    finding: Callable[[Any], Found | None]


def guard_format(settings: GuardEndpointConfig) -> GuardFormat:
    """The way of asking that the settings name."""
    model = settings.model
    match settings.kind:
        case "llama-guard":
            return _chat(model, lambda text: text, _llama_guard, tokens=24)
        case "shieldgemma":
            return GuardFormat("/completions", lambda text: _completion(model, text), _of_text(_shieldgemma))
        case "moderation":
            return GuardFormat("/moderations", lambda text: _moderation(model, text), _flagged)
        case "custom":
            return _custom(settings)


def _custom(settings: GuardEndpointConfig) -> GuardFormat:
    template = str(settings.template)
    unsafe, safe = regex.compile(str(settings.unsafe)), regex.compile(str(settings.safe))

    def says(answer: str) -> Found:
        try:
            if unsafe.match(answer, timeout=_MATCH_SECONDS):
                return Found.REFUSED
            return Found.ALLOWED if safe.match(answer, timeout=_MATCH_SECONDS) else Found.UNDECIDED
        except TimeoutError:
            return Found.UNDECIDED

    return _chat(settings.model, lambda text: template.replace("{request}", text), says, tokens=64)


def _chat(
    model: str, message: Callable[[str], str], says: Callable[[str], Found], *, tokens: int
) -> GuardFormat:
    def body(text: str) -> dict[str, Any]:
        user = {"role": "user", "content": message(_CONTROL.broken(text))}
        return {"model": model, "messages": [user], "temperature": 0, "max_tokens": tokens}

    return GuardFormat("/chat/completions", body, _of_text(says))


def _completion(model: str, text: str) -> dict[str, Any]:
    prompt = _SHIELDGEMMA.replace("{request}", _CONTROL.broken(text))
    return {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 4}


def _moderation(model: str, text: str) -> dict[str, Any]:
    return {"input": text, **({"model": model} if model else {})}


def _of_text(says: Callable[[str], Found]) -> Callable[[Any], Found | None]:
    """What a chat's or a completion's text says; None where there is none."""

    def finding(answer: Any) -> Found | None:
        choices = answer.get("choices") if isinstance(answer, dict) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(first, dict):
            return None
        message = first.get("message")
        text = message.get("content") if isinstance(message, dict) else first.get("text")
        return says(text[:_ANSWER].strip()) if isinstance(text, str) else None

    return finding


def _first_word(answer: str) -> str:
    lines = answer.split(None, 1)
    return lines[0].strip("*_`'\".,:;!()").lower() if lines else ""


def _llama_guard(answer: str) -> Found:
    """``safe``, or ``unsafe`` and a line of categories."""
    return _WORDS.get(_first_word(answer.partition("\n")[0]), Found.UNDECIDED)


def _shieldgemma(answer: str) -> Found:
    """``Yes``: it breaks a rule. ``No``: it does not."""
    return {"yes": Found.REFUSED, "no": Found.ALLOWED}.get(_first_word(answer), Found.UNDECIDED)


_WORDS: Mapping[str, Found] = {"safe": Found.ALLOWED, "unsafe": Found.REFUSED}


def _flagged(answer: Any) -> Found | None:
    """``results[].flagged`` of /moderations, one for each text that was sent."""
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or not results:
        return None
    flags = [each.get("flagged") if isinstance(each, dict) else None for each in results]
    if not all(isinstance(flag, bool) for flag in flags):
        return None
    return Found.REFUSED if any(flags) else Found.ALLOWED
