"""A climbed ladder as a self-contained HTML page: the choice, the picture of the rungs, their table."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from s3lora_serve import __version__
from s3lora_serve.cli.exam.mend_charts import rungs_figure
from s3lora_serve.cli.exam.mend_table import mend_notes, mend_rows
from s3lora_serve.evaluation.report.page_charts import Chart
from s3lora_serve.evaluation.report.page_parts import environment, style

if TYPE_CHECKING:
    from s3lora_serve.cli.exam.mended import Mended


def mend_page(mended: Mended) -> str:
    """The page; every text in it is escaped, no question stands on it."""
    chart = Chart(
        "rungs",
        rungs_figure(mended),
        f"Attack success and lost utility of {len(mended.rungs)} rungs over the share of modules pruned",
        "Lines from a mark are its 95 % interval. Pruning makes any adapter more like its base model: only"
        " what as many modules at random do not reach is the ranking's doing.",
    )
    template = environment().from_string(
        files(__package__).joinpath("mend_page.html.jinja").read_text("utf-8")
    )
    return template.render(
        mended=mended,
        chart=chart,
        rows=mend_rows(mended),
        notes=mend_notes(mended),
        version=__version__,
        style=style(),
    )
