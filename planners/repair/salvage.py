"""Finds what can be a step in text that does not keep to the form, and notes what it leaves out.

Every function takes time in proportion to the text: quantifiers are bounded, and no character is read back.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planners.step import CONTROL, shortened
from planners.text.syntax import PLAN, distinct
from planners.tools import TOOL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from planners.tools import ToolSpec

_CALL = re.compile(
    r"(?<!\w)(?P<mark>\#?)[ ]?E[ ]?(?P<number>[0-9]{1,9})(?![0-9])[*_`]{0,3}[ \t]{0,4}(?P<sign>:=|=|:)"
    r"[ \t]{0,4}[*_`]{0,3}(?P<tool>\w[\w.-]{0,127}(?:[ ][\w-]{1,40}){0,3})[*_`]{0,3}[ \t]{0,4}"
    r"(?P<open>[\[({])",
    re.ASCII,
)
_THOUGHT = re.compile(
    r"[ \t>*_#`\ufeff-]{0,12}(?:[0-9]{1,3}[.):]?[ \t]{1,4})?[*_`]{0,3}(?:plan|step|thought|task)[ \t]{0,2}"
    r"#?[0-9]{0,4}[*_` \t]{0,4}(?:[:.)]|[-–—](?=\s))[*_` \t]{0,6}(?P<text>.*)",
    re.IGNORECASE,
)
_BULLET = re.compile(r"[ \t]{0,8}(?:[-*•]|[0-9]{1,3}[.)])[ \t]{1,4}(?P<text>\S.*)")
_UNUSABLE = re.compile(f"{CONTROL.pattern}|[\ud800-\udfff]")
_CLOSING = {"[": "]", "(": ")"}
_JSON = json.JSONDecoder(strict=False, object_pairs_hook=distinct)


@dataclass(frozen=True)
class Draft:
    """One step as it was written; ``notes`` say what was changed to read it.

    ``written`` is what stood before the input. Without ``closed`` the input never ended. ``arguments`` are
    JSON that stood there, ``wrong`` is what was wrong with it.
    """

    number: int
    written: str
    tool: str
    thought: str
    text: str
    arguments: dict[str, Any] | None = None
    closed: bool = True
    wrong: str = ""
    notes: tuple[str, ...] = ()


class Salvage:
    """Reads drafts out of any text. ``rest`` says, after the last one, what was left out at the end."""

    def __init__(self, text: str, find_tool: Callable[[str], ToolSpec | None]) -> None:
        self.rest: tuple[str, ...] = ()
        self.half_a_step = False  # the text ends after a thought
        self._text = text
        self._find_tool = find_tool
        self._notes: list[str] = []
        self._left_out: list[str] = []  # lines

    def numbers(self) -> set[int]:
        """The numbers of all calls in the text, to tell a late step from one that there is not."""
        return {int(found["number"]) for found in _CALL.finditer(self._text)}

    def drafts(self) -> Iterator[Draft]:
        """Each call with the thought before it, in the order of the text."""
        at, thought = 0, ""
        while at < len(self._text):
            end = self._end_of_line(at)
            line = self._text[at:end]
            call = self._call(line)
            if call is None:
                thought = self._other_line(line, thought)
                at = end + 1
                continue
            thought = self._before_call(line[: call.start()], thought)
            at, given = self._input(at + call.end(), call)
            yield Draft(
                number=int(call["number"]),
                written=call.group(),
                tool=call["tool"],
                thought=thought,
                notes=self._taken(),
                **given,
            )
            thought = ""
        self.half_a_step = bool(thought)
        if thought:
            self._leave_out(thought)
        self.rest = self._taken()

    def _call(self, line: str) -> re.Match[str] | None:
        for call in _CALL.finditer(line):
            plain = call["mark"] == "#" and call["sign"] == "=" and TOOL_NAME.fullmatch(call["tool"])
            # "E1: the director (if any)" and "#E1 = 12 (miles)" are no calls, unless there is such a tool.
            plain = plain and not call["tool"][0].isdigit()
            if plain or self._find_tool(call["tool"]) is not None:
                return call
        return None

    def _other_line(self, line: str, thought: str) -> str:
        """The thought after a line that calls nothing."""
        clean, as_written = _printable(line), line.strip()
        found = _THOUGHT.match(clean) or (None if thought else _BULLET.match(clean))
        if clean.startswith(PLAN):
            text = clean.removeprefix(PLAN).strip()
        else:
            text = _without_marks(found["text"]) if found else ""
        if not text:
            self._leave_out(line)
            return thought
        if thought:
            self._leave_out(thought)
        if as_written != f"{PLAN}{text}":
            self._notes.append(f"read {shortened(as_written)} as a thought")
        return text

    def _before_call(self, before: str, thought: str) -> str:
        if not before.strip():
            return thought
        found = _THOUGHT.match(_printable(before))
        if found and (text := _without_marks(found["text"])):
            if thought:
                self._leave_out(thought)
            self._notes.append(f"put the call behind {shortened(text)} on a separate line")
            return text
        self._leave_out(before)
        return thought

    def _input(self, at: int, call: re.Match[str]) -> tuple[int, dict[str, Any]]:
        """Where reading goes on, and the input that begins at ``at``, behind its opening bracket."""
        tool = self._find_tool(call["tool"])
        wants_json = tool is not None and tool.arguments is not None
        start = at - 1 if call["open"] == "{" else self._skip_space(at)
        if call["open"] == "{" or (wants_json and self._text.startswith("{", start)):
            return self._json(start, _CLOSING.get(call["open"], ""))
        return self._words(at, call["open"])

    def _json(self, at: int, closing: str) -> tuple[int, dict[str, Any]]:
        try:
            value, end = _JSON.raw_decode(self._text, at)
        except json.JSONDecodeError as error:
            closed = _CALL.search(self._text, at) is not None
            return len(self._text), {"text": "", "closed": closed, "wrong": f"its JSON is wrong: {error.msg}"}
        except (ValueError, RecursionError) as error:
            wrong = "its JSON is nested too deeply" if isinstance(error, RecursionError) else str(error)
            return len(self._text), {"text": "", "wrong": wrong}
        if _UNUSABLE.search(self._text, at, end):
            self._notes.append("wrote its JSON on one line")
        if closing:
            after = self._skip_space(end)
            end = after + 1 if self._text.startswith(closing, after) else end
        return end, {"text": "", "arguments": value}

    def _words(self, at: int, opening: str) -> tuple[int, dict[str, Any]]:
        closing = _CLOSING[opening]
        line_end = self._end_of_line(at)
        end = _closing_at(self._text, at, line_end, opening, closing)
        if end is None:
            # Unbalanced: the last closing bracket of the line; none at all: one on a line below.
            end = self._text.rfind(closing, at, line_end)
            if end < 0:
                block = self._end_of_block(line_end)
                end = self._text.find(closing, line_end, block)
                if end < 0:
                    closed = block < len(self._text)
                    self._notes.append(f"closed the input {shortened(self._text[at:line_end].strip())}")
                    return line_end, {"text": self._readable(self._text[at:line_end]), "closed": closed}
        return end + 1, {"text": self._readable(self._text[at:end])}

    def _readable(self, text: str) -> str:
        if _UNUSABLE.search(text):
            self._notes.append("removed line breaks or control characters from the input")
        return _printable(text)

    def _end_of_line(self, at: int) -> int:
        end = self._text.find("\n", at)
        return end if end >= 0 else len(self._text)

    def _end_of_block(self, at: int) -> int:
        """Start of the next line that has a thought or a call, or the end of the text."""
        while at < len(self._text):
            end = self._end_of_line(at + 1)
            line = self._text[at + 1 : end]
            if self._call(line) or _THOUGHT.match(line):
                return at + 1
            at = end
        return len(self._text)

    def _skip_space(self, at: int) -> int:
        while self._text[at : at + 1].isspace():
            at += 1
        return at

    def _leave_out(self, line: str) -> None:
        if line.strip():
            self._left_out.append(line.strip())

    def _taken(self) -> tuple[str, ...]:
        """The notes since the last draft."""
        notes = list(self._notes)
        if self._left_out:
            more = f" and {len(self._left_out) - 1} more lines" if len(self._left_out) > 1 else ""
            notes.append(f"left out {shortened(self._left_out[0])}{more}")
        self._notes.clear()
        self._left_out.clear()
        return tuple(notes)


def _closing_at(text: str, at: int, end: int, opening: str, closing: str) -> int | None:
    depth = 1
    for position in range(at, end):
        if text[position] == opening:
            depth += 1
        elif text[position] == closing:
            depth -= 1
            if depth == 0:
                return position
    return None


def _printable(text: str) -> str:
    return _UNUSABLE.sub(" ", text).strip()


def _without_marks(text: str) -> str:
    return text.strip("*`").strip()
