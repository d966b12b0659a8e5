"""Charts hold what they were given, and become SVG that a page can take in."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from s3lora_serve.evaluation.report.charts import shares_chart, tau_chart
from s3lora_serve.evaluation.report.palette import INK, PAPER, RANDOM, looks, stylesheet, variable
from s3lora_serve.evaluation.report.pareto import Point, front, pareto_chart
from s3lora_serve.evaluation.report.svg import inline_svg
from s3lora_serve.evaluation.statistics.intervals import Interval
from s3lora_serve.spectral.scorers import SCORERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def about(mean: float, room: float = 0.1) -> Interval:
    """An interval around a mean, inside 0..1."""
    return Interval(mean, max(0.0, mean - room), min(1.0, mean + room))


def point(label: str, attack: float, utility: float) -> Point:
    """A policy of the scorer that its label begins with, or a control."""
    scorer = None if label in ("none", "base") else label.split()[0]
    return Point(label, scorer, about(attack), about(utility))


POINTS = [
    point("none", 0.8, 0.9),
    point("base", 0.1, 0.2),
    point("mas-svd 10%", 0.4, 0.8),
    point("svd 10%", 0.5, 0.7),
    point("random 10%", 0.6, 0.6),
]
LINES = {
    "random": ((0.1, about(0.7)), (0.2, about(0.6))),
    "mas-svd": ((0.1, about(0.5)), (0.2, about(0.3))),
}


def drawn(figure: Figure) -> ElementTree.Element:
    """The figure's SVG, parsed."""
    return ElementTree.fromstring(inline_svg(figure, "k", "a chart"))


def words(figure: Figure) -> list[str]:
    """All text of the figure's SVG, which has to be text."""
    return [element.text or "" for element in drawn(figure).iter("text")]


def relative_luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio."""
    light, dark = sorted((relative_luminance(one), relative_luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_front_is_what_nothing_beats_from_the_safest_on():
    """A point that is less safe and less useful than another one is not in it."""
    assert [p.label for p in front(POINTS)] == ["base", "mas-svd 10%", "none"]


def test_equal_points_are_all_on_the_front():
    """Two scorers that choose alike do not hide each other."""
    assert len(front([point("mas-svd 5%", 0.4, 0.8), point("spsvd 5%", 0.4, 0.8)])) == 2


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=12))
def test_the_front_beats_all_others_and_no_one_of_its_own(places: list[tuple[float, float]]):
    """Whatever is not on it is beaten by a point on it; on it, safer is never more useful as well."""
    points = [point(f"svd {n}%", *place) for n, place in enumerate(places)]
    best = front(points)

    assert best
    for other in points:
        covered = [
            p for p in best if p.attack.mean <= other.attack.mean and p.utility.mean >= other.utility.mean
        ]
        assert covered
    for one in best:
        for other in best:
            if one.attack.mean < other.attack.mean:
                assert one.utility.mean < other.utility.mean


def test_a_pareto_chart_names_front_controls_and_what_is_marked():
    """Others have a marker and an entry of their scorer, no label."""
    shown = words(pareto_chart(POINTS, "heading", "valid plans", ["svd 10%"]))

    for label in ("none", "base", "mas-svd 10%", "svd 10%", "heading", "Pareto front", "random"):
        assert label in shown
    assert "random 10%" not in shown


def test_both_intervals_of_every_point_are_drawn():
    """A horizontal bar from low to high attack success, a vertical one for utility."""
    axes = pareto_chart(POINTS, "heading", "valid plans").axes[0]
    bars = {
        (tuple(map(float, line.get_xdata())), tuple(map(float, line.get_ydata())))
        for line in axes.get_lines()
    }
    for p in POINTS:
        assert ((p.attack.low, p.attack.high), (p.utility.mean,) * 2) in bars
        assert ((p.attack.mean,) * 2, (p.utility.low, p.utility.high)) in bars


def test_labels_in_the_same_place_share_one():
    """Two policies that prune the same modules are both named, and not on top of each other."""
    same = [point("mas-svd 5%", 0.4, 0.8), point("spsvd 5%", 0.4, 0.8)]

    assert "mas-svd 5%, spsvd 5%" in words(pareto_chart(same, "heading", "valid plans"))


def test_labels_do_not_lie_on_each_other():
    """Of forty points on one front, the labels that are drawn are apart."""
    crowd = [point(f"svd {n}%", 0.4 + n / 400, 0.5 + n / 400) for n in range(40)]
    figure = pareto_chart(crowd, "heading", "valid plans")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]

    assert boxes
    for n, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[n + 1 :])


def test_a_sweep_has_a_line_with_its_band_for_each_scorer_and_levels_across():
    """Means as lines in the scorer's colour, random in grey, controls as level lines."""
    levels = {"unpruned": about(0.8), "base model": about(0.1)}
    axes = tau_chart({"attack success": (LINES, levels)}, ["heading"]).axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}

    assert set(lines) == {"random", "mas-svd", "unpruned", "base model"}
    assert [float(y) for y in lines["mas-svd"].get_ydata()] == [0.5, 0.3]
    assert lines["random"].get_color() == RANDOM
    assert {float(y) for y in lines["unpruned"].get_ydata()} == {0.8}
    bands = {to_hex(band.get_facecolor()[0]): band.get_datalim(axes.transData) for band in axes.collections}
    assert bands[looks("mas-svd")[0]].y0 == pytest.approx(0.2)
    assert bands[looks("mas-svd")[0]].y1 == pytest.approx(0.6)


def test_a_table_of_shares_writes_them_where_there_is_room():
    """Few columns have numbers; many have colours and a scale."""
    few = {"q_proj": 0.5, "v_proj": 0.0}
    many = {str(n): n / 40 for n in range(30)}
    shown = words(shares_chart({"projection": {"svd": few}, "layer": {"svd": many}}, "heading"))

    assert {"50%", "0%", "q_proj", "v_proj"} <= set(shown)
    assert "layer (strongest colour: 72%)" in shown
    assert "25%" not in shown


def test_every_scorer_has_a_look_of_its_own_that_stands_out_by_day_and_by_night():
    """Colour, marker and dashes all differ; each colour has 3:1 on the paper of its time (WCAG 1.4.11)."""
    all_looks = [looks(scorer) for scorer in SCORERS]
    night = dict(re.findall(r"--c([0-9a-f]{6}):(#[0-9a-f]{6});", stylesheet().partition("@media")[2]))

    for part in range(3):
        assert len({look[part] for look in all_looks}) == len(SCORERS)
    for colour in [look[0] for look in [*all_looks, looks("unknown")]]:
        assert contrast(colour, PAPER) >= 3
        assert contrast(night[colour[1:]], night[PAPER[1:]]) >= 3
    assert contrast(night[INK[1:]], night[PAPER[1:]]) >= 7


def test_svg_refers_to_itself_alone_and_says_what_it_is():
    """No address, no style sheet, no namespace; an image with a label."""
    svg = inline_svg(pareto_chart(POINTS, "heading", "valid plans"), "k", 'label "&<')
    root = ElementTree.fromstring(svg)

    assert (root.tag, root.get("role"), root.get("aria-label")) == ("svg", "img", 'label "&<')
    assert "://" not in svg
    assert not {"style", "metadata", "script"} & {element.tag for element in root.iter()}


def test_every_reference_in_svg_has_its_element_and_ids_bear_the_key():
    """Clip paths and markers are found, and never another figure's."""
    figure = tau_chart({"attack success": (LINES, {})}, ["heading"])
    root = ElementTree.fromstring(inline_svg(figure, "g1-sweep", "a chart"))
    ids = [i for element in root.iter() if (i := element.get("id"))]
    used = {
        name
        for element in root.iter()
        for value in element.attrib.values()
        for name in re.findall(r"url\(#([^)]+)\)|^#(.+)$", value)
        for name in name
        if name
    }

    assert used == set(ids)
    assert len(ids) == len(set(ids)) > 0
    assert all(i.startswith("g1-sweep-") for i in ids)


def test_colours_of_the_day_become_variables():
    """What is drawn in ink or in a scorer's colour follows the theme; no such colour is left as it is."""
    svg = inline_svg(pareto_chart(POINTS, "heading", "valid plans"), "k", "a chart")

    for colour in (INK, looks("mas-svd")[0], "#000000"):
        assert not re.search(rf"{colour}\b", svg)
    assert variable(looks("mas-svd")[0]) in svg


def test_the_same_figure_gives_the_same_svg():
    """No clock and no chance in it."""
    one, other = (inline_svg(pareto_chart(POINTS, "h", "u"), "k", "l") for _ in range(2))

    assert one == other


@pytest.mark.parametrize("name", ["$\\frac{$", "<b>&\"'", "a\x00b\x1b[31m", "計画 план", "x" * 500, "_$_^"])
def test_odd_names_neither_break_a_chart_nor_warn(name: str):
    """Formulas, markup, control characters, other scripts and long names are drawn as text."""
    lines = {name: LINES["mas-svd"]}
    figures = [
        pareto_chart([point("none", 0.8, 0.9), Point(name, name, about(0.4), about(0.5))], name, name),
        tau_chart({name: (lines, {name: about(0.4)})}, [name]),
        shares_chart({"projection": {name: {name: 0.5}}}, name),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("default", ResourceWarning)  # of what another test left, found just now
        for figure in figures:
            ElementTree.fromstring(inline_svg(figure, "k", name))
