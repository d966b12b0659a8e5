"""Progress of a run: a bar with the time left on a terminal, elsewhere a line for each cell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import err, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3lora_serve.evaluation.measuring.cells import Cell
    from s3lora_serve.evaluation.measuring.run import Progress as Finished


class Measuring:
    """Shows cells and, within them, questions. ``answered`` is called for each, ``finished`` for each cell.

    The rest is estimated by whole cells, which are alike; questions are not: a plan takes ten times
    as long as a refusal.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        questions: int,
        took: Sequence[float] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``cells`` have no record yet; each asks ``questions``. ``took``: seconds of those before."""
        self._cells = list(cells)
        self._questions = questions
        self._took = list(took)
        self._now = now
        self._begun = 0.0  # the current cell
        self._within = 0  # questions answered in it
        self._done = 0  # cells
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        self._begun = self._now()
        if err.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("measure"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[cell]}", style="dim", markup=False),
                TextColumn("{task.fields[rest]}", markup=False),
                console=err,
                transient=True,
            )
            self._bar.start()
            self._bar.add_task("", total=len(self._cells), cell="", rest="")
            self._show()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def answered(self) -> None:
        """A question of the current cell was answered."""
        self._within += 1
        self._show()

    def finished(self, progress: Finished) -> None:
        """A cell was finished, if it was one of ours."""
        if self._done == len(self._cells) or progress.cell.key != self._cells[self._done].key:
            return
        self._done += 1
        self._within, self._begun = 0, self._now()
        if progress.measured:
            self._took.append(progress.seconds)
        self._show()
        if self._bar is None:
            took = f"{progress.seconds:.1f} s" if progress.measured else "the same modules as a cell before"
            rest = f", {self.rest}" if self.rest else ""
            say(f"  {self._done}/{len(self._cells)} {progress.cell.key}: {took}{rest}", "dim")

    @property
    def rest(self) -> str:
        """How long it goes on, in words; empty before the first cell is measured and at the end."""
        left = len(self._cells) - self._done
        if not self._took or not left:
            return ""
        each = sum(self._took) / len(self._took)
        seconds = each * left - min(self._now() - self._begun, each)
        if seconds < 90:
            return f"about {max(seconds, 1):.0f} s left"
        minutes = seconds / 60
        return f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"

    def _show(self) -> None:
        if self._bar is None:
            return
        current = self._cells[self._done].key if self._done < len(self._cells) else ""
        self._bar.update(
            self._bar.task_ids[0],
            completed=self._done,
            cell=printable(f"{current} {self._within}/{self._questions}" if current else ""),
            rest=self.rest,
        )
