"""A figure as inline SVG: text stays text, colours follow the page's theme, no address is referred to."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib
from matplotlib.text import Text

from s3lora_serve.evaluation.report.chart_axes import other_scripts
from s3lora_serve.evaluation.report.palette import variable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d{2,}(?![\w%])")
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_URL = re.compile(r"url\(#([\w.-]+)\)")
_FONT = re.compile(r"\s*font-family:[^;]*;?")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def inline_svg(figure: Figure, key: str, label: str) -> str:
    """An ``<svg role="img">`` for a page, well-formed without namespaces.

    ``key`` is unique among the page's figures and begins all ids; ``label`` is what a screen reader says. The
    same figure gives the same text. Dollar signs are no formulas.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    out = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key, "text.parse_math": False}),
        other_scripts(),
    ):
        figure.savefig(out, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(_NOT_XML.sub("\ufffd", out.getvalue()))
    for child in root.findall(f"{_SVG}metadata"):
        root.remove(child)
    # matplotlib's one style sheet would hold for the whole page; the page has its rule for figures.
    for parent in root.iter(f"{_SVG}defs"):
        for style in parent.findall(f"{_SVG}style"):
            parent.remove(style)
    used = _references(root)
    for element in root.iter():
        _rewrite(element, key, used)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    root.attrib.pop("version", None)
    root.attrib |= {
        "role": "img",
        "aria-label": _NOT_XML.sub("\ufffd", label),
        "style": f"--width:{width:.0f}",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _references(root: ElementTree.Element) -> set[str]:
    values = [value for element in root.iter() for value in element.attrib.values()]
    links = {element.get(_LINK, "").removeprefix("#") for element in root.iter()}
    return links | {name for value in values for name in _URL.findall(value)}


def _rewrite(element: ElementTree.Element, key: str, used: set[str]) -> None:
    """In place: plain names, short numbers, ids of this figure only, and colours as the theme's variables."""
    element.tag = element.tag.removeprefix(_SVG)
    element.text, element.tail = (t if t and t.strip() else None for t in (element.text, element.tail))
    old, element.attrib = element.attrib, {}
    for name, value in old.items():
        if name == "id":
            if value in used:
                element.set("id", f"{key}-{value}")
        elif name == _LINK:
            element.set("href", f"#{key}-{value[1:]}" if value.startswith("#") else value)
        elif name == "style":
            if style := _style(value, key):
                element.set("style", style)
        else:
            element.set(name, _short(" ".join(_own(value, key).split())))


def _own(value: str, key: str) -> str:
    return _URL.sub(rf"url(#{key}-\1)", value)


def _style(value: str, key: str) -> str:
    value = _own(_FONT.sub("", value), key)
    value = _COLOUR.sub(lambda match: variable(match[0]) or match[0], value)
    return value.replace("; ", ";").replace(": ", ":").strip("; ")


def _short(value: str) -> str:
    return _NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), value)
