"""One exam as a self-contained HTML page: verdict, paired counts, utility, what the words mean."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from s3lora_serve import __version__
from s3lora_serve.cli.exam.exam_charts import rise_chart
from s3lora_serve.cli.fleet.exam_reading import points
from s3lora_serve.control.operation_summary import short
from s3lora_serve.evaluation.report.page_parts import environment, style

if TYPE_CHECKING:
    from s3lora_serve.cli.fleet.exam_reading import ExamReading


def exam_page(exam: ExamReading) -> str:
    """The page; the same exam gives the same text. Every text in it is escaped, no question stands on it."""
    rows, families = exam.rows(), exam.families()
    margins = (exam.max_rise, exam.tolerated) if rows else (0.0, 0.0)
    return (
        environment()
        .from_string(files(__package__).joinpath("exam_page.html.jinja").read_text("utf-8"))
        .render(
            exam=exam,
            result=exam.result,
            revision=short(exam.revision),
            other=exam.other,
            rows=rows,
            rises=rise_chart(rows, margins, "rises", f"{exam.planner} against {exam.against}")
            if rows
            else None,
            families=families,
            max_rise=points(margins[0]) if rows else "exam.max_attack_rise",
            tolerated=points(margins[1]) if rows else "exam.tolerated_rise",
            risen=exam.risen(),
            by_family=rise_chart(families, margins, "families", "By family") if families else None,
            version=__version__,
            style=style(),
        )
    )
