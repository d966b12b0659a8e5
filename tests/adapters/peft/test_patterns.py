"""Patterns mean what they mean to PEFT, and cannot stall or exhaust the server."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from s3lora_serve.adapters.peft.patterns import PatternTable, check_pattern
from s3lora_serve.errors import FormatError

PARTS = st.sampled_from(
    ["model", "layers", "0", "1", "10", "self_attn", "q_proj", "k_proj", "xq_proj", "proj"]
)
NAMES = st.lists(PARTS, min_size=1, max_size=6).map(".".join)
PATTERNS = st.one_of(
    NAMES,
    NAMES.map(lambda name: "^" + name),
    NAMES.map(lambda name: name.replace(".", r"\.")),
    NAMES.map(lambda name: ".*" + name),
    st.sampled_from(
        [r"layers\.\d+\.self_attn\..*", "(q|k)_proj", "q_proj|k_proj", "[qk]_proj", "self_attn", "a)|(b"]
    ),
)


@settings(deadline=None)
@given(st.lists(PATTERNS, max_size=4, unique=True), NAMES)
def test_the_first_match_is_pefts(patterns: list[str], name: str):
    """The rule is ``(.*\\.)?(pattern)$`` in order, as in PEFT's get_pattern_key."""
    key = get_pattern_key(patterns, name)
    expected = key if key in patterns else None
    assert next(iter(PatternTable(patterns).matches(name)), None) == expected


@pytest.mark.parametrize(
    "pattern", ["((a{1000}){1000}){1000}", "(" * 60 + "a" + "+)" * 60, "(?R)", "(?e)(x)"]
)
def test_compile_bombs_are_refused_unread(pattern: str):
    """Compiling these takes all memory before any time limit can apply."""
    with pytest.raises(FormatError, match="uses a construct that can exhaust memory"):
        check_pattern(pattern)


def test_slow_patterns_run_into_one_common_time_limit():
    """The budget is for all matching of one table, so many slow patterns are no way round it."""
    table = PatternTable(["(a|aa)*" * 20] * 100, seconds=0.3)
    start = time.thread_time()  # what others do meanwhile is not counted
    with pytest.raises(FormatError, match=r"patterns take over 0\.3 s to match; the last was '\(a\|aa\)"):
        table.matches("x." + "a" * 200 + "?")
    assert time.thread_time() - start < 3


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is not a regular expression"),
        ("[", "is not a regular expression"),
        (r"\w" * 300, "has 600 characters > 512"),
    ],
)
def test_malformed_patterns_are_refused(pattern: str, message: str):
    """A regular expression's own error, as ours."""
    with pytest.raises(FormatError, match=message):
        check_pattern(pattern)
