"""A plan is read while it is written."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_strategies import any_plans, json_plans, valid_plans

from planners import PlanReader, PlanSyntaxError, parse, render
from planners.text.stream import MAX_LINE_CHARS

TWO = 'Plan: Find it.\n#E1 = Search[Heat]\r\n\nPlan: Look it up.\n  #E2 = Lookup{"who": "#E1\\n"} '


def read(pieces: list[str]) -> tuple[list, tuple | None]:
    """The steps of a text in pieces, and line, message and steps of the error, if one was raised."""
    reader, steps = PlanReader(), []
    try:
        for piece in pieces:
            steps += reader.feed(piece)
        steps += reader.finish()
    except PlanSyntaxError as error:
        return list(error.steps), (error.line, str(error))
    return steps, None


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    """The text, cut at these positions."""
    at = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(at)]


def test_a_step_is_there_when_its_line_ends():
    """Neither earlier, since more could follow on the line, nor with the next step."""
    reader = PlanReader()
    assert reader.feed("Plan: Find it.\n#E1 = Search[Heat]") == ()
    assert [s.id for s in reader.feed("\nPlan: x\n#E2 = LLM[x]")] == ["#E1"]
    assert [s.id for s in reader.finish()] == ["#E2"]


def test_every_cut_in_two_gives_the_same_steps():
    """Wherever a text is cut, also inside a reference or an escape, the same steps come out."""
    whole = list(parse(TWO).steps)
    assert len(whole) == 2
    assert [read([TWO[:at], TWO[at:]]) for at in range(len(TWO) + 1)] == [(whole, None)] * (len(TWO) + 1)


def test_character_by_character():
    """The smallest pieces give the same steps."""
    assert read(list(TWO)) == (list(parse(TWO).steps), None)


@given(any_plans() | json_plans() | valid_plans(), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_pieces_give_the_same_steps(plan, cuts):
    """The reader agrees with the parser on every plan, however it is cut."""
    assert "".join(pieces_of(render(plan), cuts)) == render(plan)
    expected = (list(plan.steps), None) if plan.steps else ([], (1, "line 1: there is no step"))
    assert read(pieces_of(render(plan), cuts)) == expected


@given(
    st.text(st.sampled_from('Plan: #E1=T[x]{"}\n\r\x0b 0a'), max_size=80).map(
        "Plan: a\n#E1 = T[x]\n".__add__
    ),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_any_pieces_give_the_same_error(text, cuts):
    """An error names the same line, in the same words, after the same steps, however the text was cut."""
    assert read(pieces_of(text, cuts)) == read([text])


def test_an_error_keeps_the_steps_before_it():
    """Also those of the very piece that holds the error, and those that were handed out before."""
    reader = PlanReader()
    reader.feed("Plan: a\n#E1 = T[x]\n")
    with pytest.raises(PlanSyntaxError) as caught:
        reader.feed("Plan: b\n#E2 = T[y]\nno plan\n")
    assert ([s.id for s in caught.value.steps], caught.value.line) == (["#E1", "#E2"], 5)


def test_after_an_error_nothing_is_read():
    """Every later call raises the same error: what follows a broken line is not trusted."""
    reader = PlanReader()
    errors = []
    for call in (lambda: reader.feed("no plan\n"), lambda: reader.feed("Plan: a\n"), reader.finish):
        with pytest.raises(PlanSyntaxError) as caught:
            call()
        errors.append(caught.value)
    assert errors == [errors[0]] * 3


def test_after_the_end_nothing_is_read():
    """A finished plan cannot grow."""
    reader = PlanReader()
    reader.feed("Plan: a\n#E1 = T[x]")
    reader.finish()
    for call in (lambda: reader.feed("\nPlan: b"), reader.finish):
        with pytest.raises(RuntimeError, match="this plan was finished"):
            call()


@pytest.mark.parametrize("piece", ["x", " ", "Plan: " + "y" * 97])
def test_a_line_that_never_ends_is_not_held(piece):
    """One character over MAX_LINE_CHARS reading ends, and what was held is let go."""
    reader = PlanReader()
    for _ in range(MAX_LINE_CHARS // len(piece)):
        assert reader.feed(piece) == ()
    with pytest.raises(PlanSyntaxError, match=f"line 1: the line has more than {MAX_LINE_CHARS} characters"):
        reader.feed(piece)
    assert reader._pieces == []


def test_empty_pieces_cost_nothing():
    """A server that sends empty deltas does not fill the reader."""
    reader = PlanReader()
    for _ in range(1000):
        reader.feed("")
    assert reader._pieces == []


def test_no_character_is_copied_again_for_the_next_one():
    """Reading takes time in proportion to the text: pieces of a line are put together once, at its end."""
    reader = PlanReader()
    for character in "Plan: " + "x" * 500:
        reader.feed(character)
    assert reader._pieces == list("Plan: " + "x" * 500)
    reader.feed("\n")
    assert reader._pieces == []
