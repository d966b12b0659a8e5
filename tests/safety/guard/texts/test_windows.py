"""Nothing goes unread, however long it is."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.safety.guard.texts.windows import OVERLAP, windows

HEAD, TAIL = (901, 902), (903,)


def test_what_fits_is_one_window():
    """Itself, up to the last token that there is room for."""
    whole = tuple(range(10))
    assert list(windows(whole, 10, (0, 1))) == [whole]
    assert len(list(windows(whole, 9, (0, 9)))) > 1


@given(st.integers(0, 400), st.integers(8, 60))
def test_windows_cover_everything(length, room):
    """Each fits, begins and ends as the whole does, and shares its last quarter with the next one."""
    middle = tuple(range(length))
    whole = (*HEAD, *middle, *TAIL)
    found = list(windows(whole, room, (*HEAD, 777, *TAIL)))
    assert all(len(window) <= room for window in found)
    assert all((window[:2], window[-1:]) == (HEAD, TAIL) for window in found)
    pieces = [window[2:-1] for window in found]
    assert set(middle) == {token for piece in pieces for token in piece}
    shared = (room - 3) // OVERLAP
    assert all(one[len(one) - shared :] == other[:shared] for one, other in pairwise(pieces))


def test_a_short_opening_stands_in_each_window_and_a_long_one_is_cut_itself():
    """The first likeness that leaves half of the room decides; else the last."""
    task, passages = tuple(range(100, 104)), tuple(range(200, 260))
    whole = (*HEAD, *task, *passages, *TAIL)
    likes = ((*HEAD, *task, *TAIL), (*HEAD, 777, *TAIL))
    assert {window[:6] for window in windows(whole, 20, *likes)} == {(*HEAD, *task)}
    found = list(windows(whole, 12, *likes))
    assert {window[:2] for window in found} == {HEAD}
    assert {*task, *passages} <= {token for window in found for token in window}


def test_without_room_there_is_no_window():
    """Rather none than one that leaves something out."""
    assert list(windows((*HEAD, *range(50), *TAIL), 6, (*HEAD, 777, *TAIL))) == []


def test_a_text_that_imitates_the_likeness_loses_nothing():
    """A task that begins and ends as the compared one does."""
    whole = (*HEAD, 777, *range(50), 777, *TAIL)
    found = list(windows(whole, 20, (*HEAD, 777, *TAIL)))
    assert {token for window in found for token in window} == set(whole)
