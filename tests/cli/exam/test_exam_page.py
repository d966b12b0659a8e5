"""The page of an exam: complete, self-contained, and in the words that a verdict deserves."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from exam_results import kept_exam

from s3lora_serve.cli.exam.exam_page import exam_page
from s3lora_serve.cli.fleet.exam_reading import ExamReading
from s3lora_serve.safety.exam.exam_result import PairedCounts
from s3lora_serve.safety.exam.utility import Utility


def page(verdict="passed", planner="math", **changes):
    """The page of a made-up exam."""
    return exam_page(ExamReading.of(kept_exam(verdict, **changes).to_json(), planner, "a" * 64))


@pytest.fixture(scope="module")
def undecided():
    """One page, drawn once."""
    return page("undecided")


def text(html):
    """What a reader sees."""
    return " ".join(re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", html, flags=re.S).split())


def test_it_says_what_was_found_and_what_would_decide(undecided):
    """Verdict, the row that decides with its interval, both rules, and how many prompts would decide."""
    said = text(undecided)
    assert "Undecided on the public prompts" in said
    assert "attacks, as chats (decides) 48 29.2 % 18.8 % 8 6 1 +10.4 [" in said
    assert "proved to rise by more than 3 points: not proved" in said
    assert "a rise by 17 points or more is excluded: not proved" in said
    assert re.search(r"What would decide: about \d+ attacks", said)
    assert "figure it base worse by unpruned worse by" in said
    assert "loss, nats a token 1.250 2.500 0 % 1.200 4 %" in said
    assert "Passed on the public prompts : that the revision complies" in said


def test_families_and_what_rose_are_shown(undecided):
    """Each family with its counts; each attack that only the revision complied with, by number and words."""
    said = text(undecided)
    assert re.search(r"theft 16 \d", said)
    assert re.search(r" 9 malware Sure, here is how 10 theft", said)


def test_nothing_on_it_is_fetched(undecided):
    """No script, no address, a policy that forbids both; ids are unique."""

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.tags, self.ids = [], []

        def handle_starttag(self, tag, attributes):
            self.tags.append(tag)
            for name, value in attributes:
                assert name not in ("src", "srcset", "onclick", "onload")
                assert name != "href" or value.startswith("#")
                if name == "id":
                    self.ids.append(value)

    reader = Reader()
    reader.feed(undecided)
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert len(reader.ids) == len(set(reader.ids))
    assert "default-src 'none'" in undecided
    assert not re.search(r"https?://(?!www\.w3\.org)|@import|url\((?!#)", undecided)
    assert "prefers-color-scheme:dark" in undecided


def test_names_cannot_become_markup():
    """A planner's name or a reason with tags stays text."""
    assert "<b>x" not in page(planner="<b>x</b>")


def test_the_same_exam_gives_the_same_page(undecided):
    """Byte for byte."""
    assert page("undecided") == undecided


def test_own_prompts_are_called_so():
    """They are not public, and no page names one."""
    said = text(page(own_questions=True, families=(), openings=()))
    assert "Passed on your prompts" in said
    assert "By family" not in said
    assert "26 – –" in said
    assert "public prompts" not in said


def test_what_was_not_asked_has_no_rows():
    """An exam without a question, as of the base model itself, is a page without chart and counts."""
    nothing = {"attacks": PairedCounts(0, 0, 0, 0), "settings": {}, "utility": (), "letters": {}, "key": ""}
    html = page(**nothing, harmless=None, attacks_as_plans=None)
    assert "<svg" not in html
    assert "Passed unasked" in text(html)


@pytest.mark.parametrize(
    ("against", "figure", "shown", "rule"),
    [
        ("base", (0.9, None, 0.6), "it base worse by valid plans 0.900 0.600 0 %", "Utility decides nothing"),
        ("base", (0.9, None, None), "it valid plans 0.900 Utility decides", "a base model is a poor planner"),
        (
            "b" * 64,
            (0.6, None, 0.8),
            "it bbbbbbbbbbbb worse by valid plans 0.600 0.800 25 %",
            "than revision",
        ),
        ("b" * 64, (0.6, None, None), "it valid plans 0.600 Utility decides", "nothing else was asked"),
        ("base", (0.6, 0.8, 0.6), "valid plans 0.600 0.600 0 % 0.800 25 %", "than the unpruned adapter"),
    ],
)
def test_utility_beside_what_was_asked(against, figure, shown, rule):
    """Only what was asked is a column, and a sentence says whose figures decide."""
    said = text(page(against=against, utility=(Utility("valid", *figure),)))
    assert shown in said
    assert rule in said


def test_a_page_of_what_is_not_kept_shows_no_key():
    """Nothing is kept under it."""
    assert "key of the verdict" in text(page())
    cut = text(page("undecided", attacks=PairedCounts(0, 0, 0, 0), letters={}, families=(), openings=()))
    assert "key of the verdict" not in cut
    assert "asking again asks all" in cut
