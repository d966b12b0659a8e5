"""GSM8K's worked answers (MIT) as plans for a calculator.

Each ``<<48/2=24>>`` becomes a step, and a number that an earlier step computed becomes a reference to it. The
sentence around it becomes the thought, with the computed number asked for instead of told. Every plan is run:
one that does not give the answer is left out.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import TYPE_CHECKING

from training.arithmetic import evaluate
from training.example import Draft, Example

if TYPE_CHECKING:
    from pathlib import Path

MAX_CALCULATIONS = 6
_MARK = re.compile(r"<<([^=<>]+)=([^<>]+)>>")
_NUMBER = re.compile(r"\d[\d,]*\.?\d*|\.\d+")
# "12/60 = $<<12/60=0.2>>0.2": the written calculation, the mark and the result.
_WRITTEN = re.compile(r"[(\[]?\$?[\d.,%$()+*/x×÷ -]*=?\s*(?P<money>\$?)<<[^<>]+>>[\d.,]*\d%?")
# Numbers that a question states in words.
_WORDS = {
    **{
        word: n
        for n, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight"), start=1)
    },
    **{"nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "dozen": 12, "half": 2, "twice": 2, "double": 2},
    **{"triple": 3, "third": 3, "quarter": 4, "week": 7, "year": 12, "day": 24, "hour": 60, "minute": 60},
    **{"percent": 100, "%": 100},
}


def load(path: Path) -> list[Example]:
    """Plans from ``train.jsonl`` or ``test.jsonl``, in file order, without what cannot be planned cleanly."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [plan for row in rows if (plan := _example(row["question"].strip(), row["answer"])) is not None]


def _example(task: str, worked: str) -> Example | None:
    body, _, answer = worked.partition("####")
    steps: list[Draft] = []
    values: list[Fraction] = []
    stated = _stated(task)
    for sentence in re.split(r"\n|(?<=[.!?])\s+(?=[A-Z])", body.strip()):
        marks = _MARK.findall(sentence)
        if not marks:
            continue
        if len(marks) > 1:
            return None  # one sentence for two steps would give both the same thought
        expression, thought = marks[0][0].replace(" ", ""), _thought(sentence)
        text = _referring(expression, values, stated)
        value = _value(text, values) if text else None
        if not text or not thought or value is None or _tells(thought, values, stated) or len(text) > 80:
            return None
        steps.append(Draft("calculator", thought, text))
        values.append(value)
    if (
        not 1 <= len(steps) <= MAX_CALCULATIONS
        or values[-1] != _exact(answer.strip())
        or not _all_used(steps)
    ):
        return None
    return Example(task, tuple(steps), answer.strip())


def _referring(expression: str, values: list[Fraction], stated: set[Fraction]) -> str | None:
    """The expression with computed numbers as references; None if a number comes from nowhere."""
    parts: list[str] = []
    at = 0
    for number in _NUMBER.finditer(expression):
        value = _exact(number.group())
        parts.append(expression[at : number.start()])
        at = number.end()
        if value in values and value not in stated:
            if values.count(value) > 1:
                return None  # which of the two steps is meant cannot be known
            parts.append(f"{{{values.index(value) + 1}}}")
        elif value in stated:
            parts.append(re.sub(r"^\.", "0.", number.group().replace(",", "")))
        else:
            return None
    return re.sub(r"([+*/-])", r" \1 ", "".join(parts) + expression[at:]).strip()


def _value(text: str, values: list[Fraction]) -> Fraction | None:
    filled = re.sub(r"\{(\d+)\}", lambda m: f"({values[int(m[1]) - 1]})", text)
    try:
        return evaluate(filled)
    except (ValueError, ZeroDivisionError):
        return None


def _thought(sentence: str) -> str | None:
    """The sentence with "how many" or "how much" for its calculation; None if that leaves too little."""
    asked = _WRITTEN.sub(
        lambda m: " how much " if m["money"] or "$" in m.group() else " how many ", sentence, count=1
    )
    asked = re.sub(r"\s+", " ", asked).strip(" .,:=")
    asked = re.sub(r"\s+([,.;%])", r"\1", asked)
    if len(asked.split()) < 4 or set(asked) & set("[]#{}<>=+*$") or "how m" not in asked:
        return None
    return f"{asked[0].upper()}{asked[1:]}?"


def _tells(thought: str, values: list[Fraction], stated: set[Fraction]) -> bool:
    return any(
        _exact(n.group()) in values and _exact(n.group()) not in stated for n in _NUMBER.finditer(thought)
    )


def _stated(task: str) -> set[Fraction]:
    found = {value for n in _NUMBER.finditer(task) if (value := _exact(n.group())) is not None}
    found |= {Fraction(number) for word, number in _WORDS.items() if word in task.lower()}
    found |= {value / 100 for value in found} if "%" in task or "percent" in task else set()
    return found


def _all_used(steps: list[Draft]) -> bool:
    used = {int(n) for step in steps for n in re.findall(r"\{(\d+)\}", step.text)}
    return used == set(range(1, len(steps)))  # all but the last feed a later step


def _exact(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", "").replace("$", "").rstrip(".%"))
    except ValueError:
        return None
