"""What tests of orders share."""

from __future__ import annotations

import pytest
from silence import silence


@pytest.fixture
def gate():
    """Where admissions hang."""
    with silence() as gate:
        yield gate
