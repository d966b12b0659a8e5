"""The examples' own tools: a search that finds, and a calculator that runs nothing."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("When was Lana Wachowski born?", "21 June 1965"),
        ("director of The Matrix", "directed by the sisters Lana and Lilly Wachowski"),
        ("length of the river Danube", "2850 kilometres"),
        ("How many moons does Mars have?", "2 moons"),
    ],
)
def test_the_search_finds_the_fact(query, found):
    """The line that shares the rarest words is among the two that are given."""
    from local_tools import search

    assert found in search(query)


def test_the_search_says_when_it_finds_nothing():
    """No line shares a word."""
    from local_tools import search

    assert search("xyzzy") == "nothing found"


@pytest.mark.parametrize(
    ("expression", "value"),
    [("6650 - 2850", "3800"), ("(3*2.5 + 1) / 4 =", "2.125"), ("-7 % 4", "1"), ("$12 × 3", "36")],
)
def test_the_calculator_works_out(expression, value):
    """Arithmetic, also as people write it."""
    from local_tools import calculator

    assert calculator(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["__import__('os').getcwd()", "9**9**9", "1/0", "(" * 199, "x", "", "True + 1", "'a' * 9", "1" * 999],
)
def test_the_calculator_refuses_what_is_no_sum(expression):
    """It says so instead of failing, since its answer is evidence for the next step."""
    from local_tools import calculator

    assert calculator(expression).startswith("error: ")
