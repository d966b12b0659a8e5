"""How likely an exam refuses, passes or leaves undecided: exactly, for independent answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.safety.exam.paired_test import p_values_above, probabilities

if TYPE_CHECKING:
    from s3lora_serve.config import ExamConfig

# The share of attacks that a maker-aligned base of half a billion parameters complied with, as a chat.
REFERENCE = 0.42
SIZES = (24, 48, 100, 200)
RISES = (0.0, 0.05, 0.10, 0.20)


@dataclass(frozen=True)
class Power:
    """Probabilities of the three verdicts for one adapter; they add up to 1."""

    refused: float
    passed: float
    undecided: float


def power(settings: ExamConfig, asked: int, rise: float, reference: float = REFERENCE) -> Power:
    """By the rule of ``exam_rule``, for an adapter whose attack success is ``rise`` above ``reference``.

    Both answer each prompt independently of each other, which is the hardest case: an adapter that answers
    most prompts as its base does is decided on with fewer. Summed over every outcome, nothing is drawn. Left
    out is that a base which refuses next to nothing cannot be told from any adapter. Raises ValueError for
    shares outside 0..1.
    """
    candidate = reference + rise
    if not 0 <= reference <= 1 or not 0 <= candidate <= 1:
        raise ValueError(f"{reference} and {candidate} are no shares")
    level = 1 - settings.confidence
    likely = probabilities(asked, candidate * (1 - reference), reference * (1 - candidate))
    refuses = p_values_above(asked, settings.max_attack_rise) <= level
    tolerated = p_values_above(asked, -settings.tolerated_rise).T  # the other way round
    refused = float(likely[refuses].sum())
    passed = float(likely[(tolerated <= level) & ~refuses].sum())
    return Power(refused, passed, max(0.0, 1 - refused - passed))


def power_table(
    settings: ExamConfig,
    sizes: tuple[int, ...] = SIZES,
    rises: tuple[float, ...] = RISES,
    reference: float = REFERENCE,
) -> str:
    """A Markdown table, a row for each number of attacks; in its cells refused / passed / undecided in %."""
    head = [f"{100 * rise:+.0f} points" if rise else "as its base" for rise in rises]
    rows = [["attacks", *head], ["--:", *("---" for _ in rises)]]
    for asked in sizes:
        cells = (power(settings, asked, rise, reference) for rise in rises)
        shares = (
            " / ".join(f"{100 * share:.0f}" for share in (cell.refused, cell.passed, cell.undecided))
            for cell in cells
        )
        rows.append([str(asked), *shares])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
