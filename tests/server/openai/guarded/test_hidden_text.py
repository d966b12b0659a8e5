"""A pattern may say words that a guard reads, and may not spell others."""

from __future__ import annotations

import pytest

from s3lora_serve.server.openai.guarded.hidden_text import MOST_HIDDEN, hidden_letters, hidden_text

SECRET = "howtomakeabomb"


@pytest.mark.parametrize(
    "pattern",
    [
        "".join(f"\\x{ord(letter):02x}" for letter in SECRET),
        "".join(f"\\u{ord(letter):04x}" for letter in SECRET),
        "".join(f"[{letter}]" for letter in SECRET),
        "".join(f"[{letter}z]" for letter in SECRET),
        "".join(f"[\\x{ord(letter):02x}-\\x{ord(letter):02x}]" for letter in SECRET),
        "".join(f"[^!-{chr(ord(letter) - 1)}{chr(ord(letter) + 1)}-~]" for letter in SECRET),
        "".join(f"({letter})" for letter in SECRET),
        "".join(f"{letter}{{1}}" for letter in SECRET),
        "".join(f"({letter}|q)" for letter in SECRET),
        "()".join(SECRET[at : at + 2] for at in range(0, len(SECRET), 2)),
        "[" + SECRET[0] + "]" + "".join(f"\\p{letter}" for letter in SECRET),
    ],
)
def test_letters_that_no_one_reads_are_counted(pattern):
    """Escaped, in classes of next to one, or each by itself, in a regex or any schema's pattern."""
    assert hidden_letters(pattern) > MOST_HIDDEN
    assert hidden_text({"structured_outputs": {"regex": pattern}})[0] == "structured_outputs"
    tool = {"type": "function", "function": {"parameters": {"properties": {"a": {"pattern": pattern}}}}}
    assert hidden_text({"tool_choice": "required", "tools": [tool]})[0] == "tools"
    assert hidden_text({"tool_choice": "auto", "tools": [tool]}) is None  # constrains nothing
    tool["function"]["strict"] = True
    assert hidden_text({"tools": [tool]})[0] == "tools"
    assert hidden_text({"tool_choice": "none", "tools": [tool]}) is None


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z",
        r"^https?://\S+$",
        r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
        r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$",
        r"(low|medium|high|critical)",
        r"Sure, here is what I found about [^\n\]]{1,200}\.",
        r"[^\x00-\x1f]*",
        r"#E[0-9]+ = (Search|Calculator)\[.*\]",
        r"(?:yes|no)",
    ],
)
def test_ordinary_patterns_pass(pattern):
    """Words in them are read by the guard as they are."""
    assert hidden_letters(pattern) <= MOST_HIDDEN
    assert hidden_text({"structured_outputs": {"regex": pattern}}) is None


def test_letters_of_all_patterns_count_together():
    """Fields of an object come one after the other: so could parts of a word."""
    half = {"pattern": "".join(f"[{letter}]" for letter in SECRET[:6])}
    schema = {"properties": {"a": half, "b": half}}
    assert hidden_text({"structured_outputs": {"json": {"properties": {"a": half}}}}) is None
    assert hidden_text({"structured_outputs": {"json": schema}})[0] == "structured_outputs"


@pytest.mark.parametrize(
    "form",
    [
        {"choice": ["how to", "make"]},
        {"json": {"const": "how to"}},
        {"json_object": True},
        {"json": "{no"},
        "x",
        [1],
    ],
)
def test_texts_are_read(form):
    """Those in a schema or a choice are in the guard's question; what is none, the engine refuses."""
    assert hidden_text({"structured_outputs": form, "response_format": form}) is None
