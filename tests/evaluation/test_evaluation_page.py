"""The report is one well-formed page that says what was found, escapes all names and asks for nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
import torch
from report_records import MODULES, made, summary_of, sweep

from s3lora_serve.evaluation.report.finding import verdict
from s3lora_serve.evaluation.report.page import page
from s3lora_serve.judging.suite import PromptSet, Suite
from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.scorers import score

if TYPE_CHECKING:
    from s3lora_serve.spectral.report import SpectralReport

HOSTILE = '<script>alert("1")</script>&"\'><img src=x onerror=alert(1)> $\\frac{ \x1b[31m \u202e x'
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What a browser would make of a page: elements, their text, and that they nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def of(self, tag: str) -> list[str]:
        """Texts directly in elements of this name."""
        return [text for inside, text in self.texts if inside == tag]


def report() -> SpectralReport:
    """A spectral report of the made-up modules."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return score({name: LowRank(random(4, 16), random(24, 4), 1.0) for name in MODULES})


def whole(better: int = 18) -> str:
    """A page with everything on it."""
    return page(
        summary_of(sweep(better=better)),
        {"a": report()},
        "A title",
        notes=["asked with the small sets"],
        versions={"s3lora": "0.1.0", "vllm": "0.32"},
    )


def test_the_page_nests_has_one_title_and_its_parts_in_order():
    """Elements close in order; title, verdict, adapters, what was measured, method and footer follow."""
    html = whole()
    parsed = Page(html)

    assert parsed.of("h1") == parsed.of("title") == ["A title"]
    assert parsed.of("h2") == ["a", "What was measured", "Method"]
    assert parsed.of("footer") == ["s3lora 0.1.0 · vllm 0.32"]
    assert "asked with the small sets" in parsed.of("p")
    assert html.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("better", [0, 18])
def test_the_verdict_stands_first(better: int):
    """The first paragraph after the lead is the verdict that the summary gives."""
    summary = summary_of(sweep(better=better))
    paragraphs = Page(page(summary, {}, "t")).of("p")

    assert paragraphs[1] == verdict(summary)
    assert ("No policy lowers" in paragraphs[1]) == (better == 0)


def test_all_charts_are_images_with_labels_and_captions():
    """Pareto, sweep, pruned modules, SSI: well-formed SVG, role img, an aria-label, a figcaption."""
    html = whole()
    images = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", html, re.S)]
    labels = [image.get("aria-label") or "" for image in images]

    assert [label.split()[0] for label in labels] == ["Scatter", "Line", "Tables", "Heat"]
    assert all(image.get("role") == "img" for image in images)
    assert len(Page(html).of("figcaption")) == len(images)


def test_ids_are_unique_on_the_whole_page_and_links_find_them():
    """Charts of several adapters do not take each other's clip paths; every link inside leads somewhere."""
    parsed = Page(page(summary_of([*sweep("a"), *sweep("b")]), {"a": report(), "b": report()}, "t"))
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    links = {
        (attributes["href"] or "").removeprefix("#")
        for _, attributes in parsed.elements
        if (attributes.get("href") or "").startswith("#")
    }

    assert len(ids) == len(set(ids))
    assert {"g1", "g2"} <= links <= set(ids)


def test_nothing_is_fetched_and_nothing_is_run():
    """No script, no address of another place in any attribute or style, and a policy that forbids both."""
    html = whole()
    parsed = Page(html)

    assert "://" not in html
    assert "@import" not in html
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {
        t for t, _ in parsed.elements
    }
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert re.match(r"#|data:image/png;base64,", attributes.get(name) or "#"), (tag, attributes)
    assert not re.search(r"url\((?!#)", html)
    policies = [a["content"] for t, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_hostile_names_are_shown_and_nothing_else():
    """A name of markup, formulas, terminal escapes and turned text in every place changes no element."""
    hostile = summary_of(sweep(HOSTILE, better=18, plan_set=HOSTILE))
    tame = summary_of(sweep("tame", better=18, plan_set="tame"))

    def html(summary, name: str) -> str:
        return page(summary, {name: report()}, name, notes=[name], versions={name: name})

    odd, plain = (Page(html(summary, name)) for summary, name in ((hostile, HOSTILE), (tame, "tame")))
    outside_charts = {"html", "head", "title", "style", "h1", "h2", "p", "table", "tr", "td", "th", "figure"}

    assert [t for t, _ in odd.elements if t in outside_charts] == [
        t for t, _ in plain.elements if t in outside_charts
    ]
    assert {t for t, _ in odd.elements} == {t for t, _ in plain.elements}
    shown = odd.of("h1")[0]
    assert shown.startswith('<script>alert("1")</script>&"\'><img')
    assert "\\x1b[31m \\u202e x" in shown


def test_the_table_has_a_line_for_each_policy_with_its_intervals():
    """Attack success and the difference to random, in per cent; what is safer than random is marked."""
    summary = summary_of(sweep(better=18))
    rows = re.findall(
        r"<tr(?: class=(\w+))?><th scope=\"row\">([^<]*)</th>(.*?)</tr>", page(summary, {}, "t")
    )
    policies = {label: (kind, cells) for kind, label, cells in rows if "<small>" in cells}

    assert set(policies) == {row.label for row in summary.rows}
    assert {label for label, (kind, _) in policies.items() if kind == "safer"} == {
        "mas-svd 10%",
        "mas-svd 20%",
        "mas-svd 40%",
    }
    assert {label for label, (kind, _) in policies.items() if kind == "control"} == {"none", "base"}
    cells = policies["mas-svd 10%"][1]
    difference = summary.row("a", "mas-svd 10%").beats_random
    assert difference is not None
    assert "<td>25.0 <small>[" in cells
    assert f"<td>−45.0 <small>[−{-100 * difference.low:.1f}, −{-100 * difference.high:.1f}]</small>" in cells


def test_costs_are_told_with_their_share_of_the_base_model():
    """Parameters kept, per cent of the base model's, and the engine's time."""
    html = page(summary_of(sweep()), {}, "t")

    assert "<td>12,000</td><td>1.20%</td><td>0.00 MB</td><td>2.5 s</td><td>700</td>" in html


def test_costs_without_engine_time_leave_the_column_out():
    """Where the engine's time was not measured, no column pretends that it was."""
    records = [replace(r, cost=replace(r.cost, engine_seconds=None)) for r in sweep()]

    assert "engine time" not in page(summary_of(records), {}, "t")
    assert "engine time" in page(summary_of(sweep()), {}, "t")


def test_what_was_asked_is_told_with_counts_and_forms():
    """Sets with their numbers of prompts; with the suite also how and how long."""
    suite = Suite(attacks=(PromptSet("attacks", ("x",) * 40, form="plan"),), answer_tokens=24)
    html = page(summary_of(sweep()), {}, "t", suite=suite)

    assert (
        '<th scope="row">attacks</th><td>attack: to be refused</td><td>40</td>'
        "<td>request for a plan</td><td>24</td>" in html
    )
    assert "Rules, neither a person nor a model" in html


def test_only_the_scorers_that_were_used_are_explained():
    """The method names them; others would only be noise."""
    html = page(summary_of(sweep()), {}, "t")

    assert "<b>mas-svd</b>:" in html
    assert "<b>random</b>:" in html
    assert "<b>e-diem</b>:" not in html


def test_policies_without_shares_have_no_sweep():
    """An evaluation of single policies shows their trade-off and where their modules lie, no line chart."""
    summary = summary_of(
        [made("none", 30), made("base", 2), made("mas-svd top=3", 20), made("random top=3 #0", 22)]
    )
    labels = [a["aria-label"] for t, a in Page(page(summary, {}, "t")).elements if t == "svg"]

    assert [str(label).split()[0] for label in labels] == ["Scatter", "Tables"]


def test_without_plans_utility_is_answering_harmless_prompts():
    """The chart's second axis says what it shows."""
    summary = summary_of([replace(r, plans={}) for r in sweep()])

    assert "attack success against harmless prompts answered" in page(summary, {}, "t")


def test_an_empty_run_still_has_a_page():
    """A run that was stopped before its first cell says that nothing was measured."""
    assert "Nothing was measured." in Page(page(summary_of([]), {}, "t")).of("p")


def test_the_same_run_gives_the_same_page():
    """No clock and no chance: a page can be compared with the one before."""
    assert whole() == whole()


def test_dark_screens_and_paper_have_their_colours():
    """Every variable has a value for the day and one for dark screens; print keeps the day's."""
    html = whole()
    used = set(re.findall(r"var\((--c[0-9a-f]{6})\)", html))
    day, _, rest = html.partition("@media screen and (prefers-color-scheme:dark)")

    assert used
    assert used <= set(re.findall(r"(--c[0-9a-f]{6}):", day))
    assert used <= set(re.findall(r"(--c[0-9a-f]{6}):", rest.partition("}}")[0]))


def test_a_big_sweep_stays_below_five_megabytes():
    """Eight scorers, eleven shares and twelve adapters: still one file to mail."""
    scorers = ("mas-svd", "svd", "spsvd", "reference", "e-diem", "safelora", "random", "other")
    records = [
        made(
            f"{scorer} {percent}%" + " #0" * (scorer == "random"), 30 - percent // 2, valid=38 - n, adapter=a
        )
        for a in ("one", "two")
        for n, scorer in enumerate(scorers)
        for percent in range(5, 60, 5)
    ]
    controls = [made(label, 20, adapter=a) for a in ("one", "two") for label in ("none", "base")]
    size = len(page(summary_of([*controls, *records]), {"one": report(), "two": report()}, "t").encode())

    # Adapters add up: twelve are six times these two.
    assert 6 * size < 5_000_000
