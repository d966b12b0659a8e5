"""From settings to exams: questions, who asks them, and where results are kept"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from s3lora_serve.launch.resolve import to_exams, to_guards, to_recorded
from s3lora_serve.launch.safety.base_identity import base_identity
from s3lora_serve.safety.exam.exam_questions import exam_questions
from s3lora_serve.safety.exam.exam_record import ExamRecord, exam_key
from s3lora_serve.safety.exam.examiner import Examiner
from s3lora_serve.safety.exam.kept_answers import KeptAnswers
from s3lora_serve.safety.exam.rung_exam import rung_halves
from s3lora_serve.safety.guard.guards import FLEET
from s3lora_serve.service.service_exams import ExamSetup
from s3lora_serve.serving.checks.examining import PlannerExam
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3lora_serve.config import Config, ExamConfig
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.launch.resolve import BaseModel
    from s3lora_serve.safety.exam.exam_questions import ExamQuestions


class FleetExams:
    """Planners whose settings are the same share an examiner; all share what the base model answered."""

    def __init__(self, config: Config) -> None:
        """Reads the questions of every planner that is examined. Raises ConfigError for bad ones, and for
        too few to be divided where one is mended.
        """
        self._settings = to_exams(config)
        self._guards = {name: canonical_digest(to_recorded(g)) for name, g in to_guards(config).items()}
        self._file = config.state.exam_file
        self._questions: Callable[[ExamConfig], ExamQuestions] = cache(exam_questions)
        for settings in self._settings.values():
            if settings.asks:
                questions = self._questions(settings)
                if settings.action == "mend":
                    rung_halves(questions)

    @contextmanager
    def opened(self, base: BaseModel, engine: Callable[[], Engine]) -> Iterator[ExamSetup]:
        """What a service takes, while the file of results is open: also of planners whose exam is off, which
        an order may examine.

        Weights that nothing names are taken for others at each start: what was found of them is asked anew.
        """
        weights, answers = base_identity(base) or f"unknown-{uuid.uuid4().hex}", KeptAnswers()
        with ExamRecord(self._file) as record:

            @cache
            def examiner(settings: ExamConfig) -> Examiner:
                questions, seqs = self._questions(settings), engine().max_num_seqs
                return Examiner(settings, questions, record, weights, seqs, answers=answers)

            @cache
            def halves(settings: ExamConfig) -> tuple[Examiner, Examiner]:
                seqs = engine().max_num_seqs
                one, other = (
                    Examiner(settings, half, None, weights, seqs, answers=answers)
                    for half in rung_halves(self._questions(settings))
                )
                return one, other

            def key(settings: ExamConfig, served: str, version: str) -> str:
                return exam_key(served, weights, version, self._questions(settings).digest, settings)

            def of(planner: str) -> PlannerExam:
                whose = planner if planner in self._settings else FLEET
                settings = self._settings[whose]
                asks, rungs = partial(examiner, settings), partial(halves, settings)
                return PlannerExam(settings, partial(key, settings), asks, self._guards[whose], rungs)

            yield ExamSetup(of, record)
