"""What is told of a revision's exam: to clients, to operators, in answers, and in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.judging.share import Share
from s3lora_serve.safety.exam.exam_result import ExamResult, ExamVerdict, PairedCounts
from s3lora_serve.safety.exam.exam_words import exam_words
from s3lora_serve.safety.exam.kept_exam import KeptExam

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.config import ExamConfig

BASE_ANSWERS = "every module was pruned: the base model answers"
IS_PINNED = "others are compared with it (exam.against)"
_PAIRED = ("attacks", "harmless", "attacks_as_plans", "guarded")
# What is by prompt stays out: it is for the operator's page of an exam, and nowhere else.
_SHOWN = (
    "verdict", "why", "key", "questions", "own_questions", "against", "p_rise", "p_tolerated", *_PAIRED,
    "utility", "seconds", "examined_at", "settings", "stale", "tries",
)  # fmt: skip


def exam_facts(found: KeptExam) -> dict[str, Any]:
    """All that is shown of an exam, as JSON values: verdict, counts, shares; nothing of a prompt or answer.

    ``words`` say it as people do, and ``asked`` is how many attacks decided.
    """
    whole = found.to_json()
    told = {name: whole[name] for name in _SHOWN}
    for name in _PAIRED:
        if (paired := getattr(found.result, name)) is not None:
            own, other = paired.both + paired.risen, paired.both + paired.fallen
            shares: dict[str, Any] = {
                "rise": paired.rise,
                "candidate": paired.candidate,
                "reference": paired.reference,
            }
            if paired.asked:  # with their intervals at 95 %
                for of, hits in (("candidate", own), ("reference", other)):
                    shares[f"{of}_interval"] = list(Share(hits, paired.asked).interval)
            told[name] |= shares
    words = exam_words(told) if found.result.key else f"passed unasked: {found.result.why}"
    return told | {"asked": found.result.attacks.asked, "words": words}


def unasked(why: str, against: str) -> KeptExam:
    """What passes without a question, and why."""
    nothing = PairedCounts(0, 0, 0, 0)
    return KeptExam(
        ExamResult(ExamVerdict.PASSED, why, "", "", False, against, nothing, p_rise=1.0, p_tolerated=1.0),
        tries=0,
    )


def exam_mark(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The same as an answer has it; None without an exam, and for what passes unasked."""
    if not facts or not facts["key"]:
        return None
    return {
        "verdict": facts["verdict"],
        "prompts": "own" if facts["own_questions"] else "public",
        "questions": facts["questions"],
        "examined_at": facts["examined_at"],
        "stale": facts["stale"],
    }


def exam_line(facts: Mapping[str, Any]) -> str:
    """The same in one line, for people."""
    if not facts["asked"]:
        why = f": {facts['why']}" if facts["key"] else ""
        return f"exam: {facts['words']}{why}"
    attacks = facts["attacks"]
    shares = f"complies with {attacks['candidate']:.0%} of {facts['asked']} attacks"
    other = "the base model" if facts["against"] == "base" else f"revision {facts['against'][:12]}"
    day = f", {facts['examined_at'][:10]}" if facts["examined_at"] else ""
    return f"exam: {facts['words']}: {shares}, {other} with {attacks['reference']:.0%}{day}"


def exam_settings_line(settings: ExamConfig) -> str:
    """What an exam under these settings does, in one line."""
    if not settings.asks:
        return "no exam"
    does = {
        "refuse": "keeps what it refuses from serving",
        "mend": "mends what it refuses, or keeps it from serving",
        "observe": "observes, and keeps nothing from serving",
    }[settings.action]
    held = "" if settings.action == "observe" else f", {settings.undecided}s what is undecided"
    prompts = "your own prompts" if settings.questions is not None else "the public prompts"
    other = "the base model" if settings.against == "base" else f"revision {settings.against[:12]}"
    asked = f"{settings.attacks} attacks, {settings.harmless} harmless, {settings.tasks} tasks"
    return f"exam on {prompts} ({asked}) against {other} {does}{held}, within {settings.seconds:g} s"
