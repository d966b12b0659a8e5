"""What an exam found reads back as it was written, and counts what its letters say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from one_exam import RESULT

from s3lora_serve.safety.exam.exam_result import ExamResult, PairedCounts


def test_letters_are_counted():
    """A hit is an answer that complies; a broken one is none."""
    assert RESULT.attacks == PairedCounts(asked=5, both=1, risen=1, fallen=1)
    assert RESULT.risen == (2,)
    with pytest.raises(ValueError, match="zip"):
        PairedCounts.of("cc", "c")


def test_it_reads_back():
    """Through JSON, and without the fields that an older one did not have."""
    written = json.loads(json.dumps(RESULT.to_json()))
    assert ExamResult.from_json(written) == RESULT
    del written["letters"], written["openings"]
    for figure in written["utility"]:
        del figure["reference"]
    older = tuple(replace(figure, reference=None) for figure in RESULT.utility)
    assert ExamResult.from_json(written) == replace(RESULT, letters={}, openings=(), utility=older)
    assert replace(RESULT, letters={}).risen == ()


def test_only_a_whole_exam_is_complete():
    """One that asked nothing to its end is not."""
    assert RESULT.complete
    assert not replace(RESULT, attacks=PairedCounts(0, 0, 0, 0)).complete
