"""What all our HTML pages are made with: the template engine, the style sheet, charts as inline SVG."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from s3lora_serve.evaluation.report.finding import minus
from s3lora_serve.evaluation.report.palette import stylesheet
from s3lora_serve.evaluation.report.svg import inline_svg
from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from s3lora_serve.evaluation.report.page_charts import Chart


def environment() -> Environment:
    """Escapes every text; characters that are invisible or turn others are written out."""
    found = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if hasattr(value, "__html__") else printable(str(value), one_line=True),
    )
    found.filters["percent"] = _percent
    found.globals["draw"] = _draw
    return found


def style() -> str:
    """The style sheet: dark on dark screens, light elsewhere and on paper; refers to nothing outside."""
    return f"{stylesheet()}\n{files(__package__).joinpath('page.css').read_text('utf-8')}"


def _draw(chart: Chart, key: str) -> str:
    return inline_svg(chart.figure, f"{key}-{chart.kind}", chart.label)


def _percent(value: float, signed: bool = False) -> str:
    """A share in per cent, or a difference of shares in points."""
    return minus(f"{100 * value:{'+' if signed else ''}.1f}".replace("+0.0", "0.0"))
