"""Reads a plan while it is written: each step as soon as its last line has ended."""

from __future__ import annotations

from planners.step import MAX_STEP_CHARS, PlanStep
from planners.text.syntax import PlanSyntaxError, read_call, read_thought

MAX_LINE_CHARS = MAX_STEP_CHARS + 1_000  # with room for id, tool and margins


class PlanReader:
    """Strict reader of ReWOO text in pieces; however the text is cut, it gives the same steps.

    Takes time in proportion to the text, and holds one line of at most MAX_LINE_CHARS and the steps so far.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []  # of the line that has not ended
        self._length = 0
        self._line = 1
        self._thought: str | None = None
        self._thought_line = 0
        self._steps: list[PlanStep] = []
        self._error: PlanSyntaxError | None = None
        self._finished = False

    def feed(self, text: str) -> tuple[PlanStep, ...]:
        """The steps that ``text`` completes: a step is complete at the newline after it.

        Raises PlanSyntaxError, and again on every later call; its ``steps`` are all that were read.
        """
        self._check_open()
        before = len(self._steps)
        # Not splitlines(): it also breaks at form feeds and U+2028, which would let a thought forge a step.
        *ended, rest = text.split("\n")
        for piece in ended:
            self._hold(piece)
            self._end_line()
        self._hold(rest)
        return tuple(self._steps[before:])

    def finish(self) -> tuple[PlanStep, ...]:
        """The step that the end of the text completes, if any. Raises PlanSyntaxError for half a plan."""
        self._check_open()
        before = len(self._steps)
        self._end_line()
        if self._thought is not None:
            self._fail(
                "the text ends after 'Plan: ...', before its '#E... = Tool[input]'", self._thought_line
            )
        if not self._steps:
            self._fail("there is no step", 1)
        self._finished = True
        return tuple(self._steps[before:])

    def _check_open(self) -> None:
        if self._error is not None:
            raise self._error
        if self._finished:
            raise RuntimeError("this plan was finished; read another one with another PlanReader")

    def _hold(self, piece: str) -> None:
        # Margins count: a line of spaces that never ends must not be held either.
        self._length += len(piece)
        if self._length > MAX_LINE_CHARS:
            self._fail(f"the line has more than {MAX_LINE_CHARS} characters", self._line)
        if piece:
            self._pieces.append(piece)

    def _end_line(self) -> None:
        line = "".join(self._pieces).strip()
        self._pieces.clear()
        self._length = 0
        if line:
            self._read(line)
        self._line += 1

    def _read(self, line: str) -> None:
        try:
            if self._thought is None:
                self._thought, self._thought_line = read_thought(line), self._line
            else:
                self._steps.append(read_call(line, self._thought, len(self._steps) + 1))
                self._thought = None
        except ValueError as error:
            self._fail(str(error), self._line, error)

    def _fail(self, message: str, line: int, cause: Exception | None = None) -> None:
        self._pieces.clear()
        self._error = PlanSyntaxError(message, line=line, steps=tuple(self._steps))
        raise self._error from cause
