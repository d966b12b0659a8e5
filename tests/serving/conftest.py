"""A fleet whose revisions are examined before they serve."""

from __future__ import annotations

import pytest
from scripted_exams import ScriptedExams, examined_fleet


@pytest.fixture
def exams():
    """Exams that pass every revision, under ``action: refuse``."""
    return ScriptedExams()


@pytest.fixture
async def fleet(fleet_of, exams):
    """Planners p and q serve 0 and 1; 2 and 3 lie under "new" and "newer"."""
    return await examined_fleet(fleet_of, exams)
