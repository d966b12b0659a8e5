"""What a configuration examines and what follows, and what of that will not go as it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.errors import S3LoRAError
from s3lora_serve.safety.exam.exam_facts import exam_settings_line
from s3lora_serve.safety.exam.exam_power import REFERENCE
from s3lora_serve.safety.exam.exam_questions import exam_questions
from s3lora_serve.safety.exam.exam_rule import prompts_needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3lora_serve.config import Config, ExamConfig

_DIFFERING = 2 * REFERENCE * (1 - REFERENCE)  # prompts on which two that answer independently differ


def exam_lines(config: Config) -> tuple[str, ...]:
    """One line for planners with the same exam, in the order of the file."""
    lines: dict[str, list[str]] = {}
    for name in config.planners:
        lines.setdefault(exam_settings_line(config.exam_of(name)), []).append(name)
    return tuple(f"{', '.join(names)}: {line}" for line, names in lines.items())


def exam_remarks(config: Config) -> Iterator[str]:
    """What goes wrong with exams, or is easily overlooked: sentences that begin with their section."""
    exams = {"exam": config.exam}
    for name, planner in config.planners.items():
        if planner.exam is not None:
            exams[f"planners.{name}.exam"] = planner.exam
            if config.exam.asks and not planner.exam.asks:
                yield f"planners.{name}.exam: its revisions are not examined, though the fleet's are"
    for where, exam in exams.items():
        if exam.asks:
            yield from (f"{where}{remark}" for remark in _of(config, exam))
        elif ignored := sorted(exam.model_fields_set - {"action"}):
            yield f"{where}.action is off: only exams by order (s3lora exam) go by {', '.join(ignored)}"


def _of(config: Config, exam: ExamConfig) -> Iterator[str]:
    try:
        asked = len(exam_questions(exam).attacks)
    except (S3LoRAError, OSError) as error:
        yield f".questions: {str(error).removeprefix('exam.questions: ')}; the server will not start"
        return
    holds = exam.undecided == "hold" and exam.action != "observe"
    then = "no revision will serve" if holds else "it will say so of every revision"
    if exam.against == "base" and config.base_model == "demo":
        yield f": the demo's base model refuses next to nothing, so that no rise can be proved: {then}"
    if asked < exam.attacks:
        yield f".attacks is {exam.attacks}, and there are {asked}"
    if (needed := prompts_needed(exam, 1 - exam.confidence, _DIFFERING)) > asked:
        yield (
            f".attacks: {asked} often decide nothing; it takes about {needed} for an adapter like its base to"
            " pass nearly always"
        )
    if exam.against != "base":
        yield f".against: each exam takes one more of engine.max_loras {config.engine.max_loras} slots"
    if exam.action == "observe" and "undecided" in exam.model_fields_set:
        yield ".undecided has no effect under action observe"
