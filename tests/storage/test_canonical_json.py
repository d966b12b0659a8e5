"""JSON out of files is read with nothing glossed over, at a cost that grows with its length and no faster."""

from __future__ import annotations

import pytest

from s3lora_serve.storage.canonical_json import _no_duplicates, excerpt, strict_loads


class CountedName(str):
    """A key that counts how often it is compared with another."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountedName.compared += 1
        return str.__eq__(self, other)


def test_the_first_repeated_key_is_named():
    """The one whose repetition comes first, and no more than a part of it."""
    with pytest.raises(ValueError, match=r"^key 'b' appears twice$"):
        strict_loads(b'{"a": 1, "b": 2, "b": 3, "a": 4}')
    with pytest.raises(ValueError, match=r"^key 'kkk.*k\.\.\. appears twice$") as caught:
        strict_loads(b'{"%b": 1, "%b": 2}' % (b"k" * 5000, b"k" * 5000))
    assert len(str(caught.value)) < 120


def test_looking_for_a_repeated_key_takes_one_pass():
    """A hostile header has a million keys: each may be compared with a few others, not with all of them."""
    count = 2000
    pairs = [(CountedName(f"key {i}"), i) for i in range(count)] + [(CountedName("key 1999"), 0)]
    CountedName.compared = 0
    with pytest.raises(ValueError, match="key 'key 1999' appears twice"):
        _no_duplicates(pairs)
    assert CountedName.compared < 10 * count


@pytest.mark.parametrize(
    ("value", "shown"),
    [("ab", "'ab'"), ("x" * 100, "'xxxxxx..."), ([1] * 50, "[1, 1, ..."), ("\x1b[31m", r"'\x1b[31m'")],
)
def test_excerpts_are_short_and_printable(value: object, shown: str):
    """Terminal escapes are written out, and what is cut says so."""
    limit = 11 if shown.endswith("m'") else 10
    assert excerpt(value, limit) == shown
