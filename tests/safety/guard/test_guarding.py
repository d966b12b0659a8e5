"""One request's guard: what its judges find decides whether its answer leaves."""

from __future__ import annotations

import pytest

from s3lora_serve.config import GuardConfig
from s3lora_serve.errors import GuardUndecided
from s3lora_serve.safety.guard.guard_question import GuardQuestion, Part
from s3lora_serve.safety.guard.guarding import Guarding
from s3lora_serve.safety.guard.ruling import Found, Ruling


class Told:
    """A judge that has found this."""

    name = "base"

    def __init__(self, ruling):
        self._ruling = ruling

    async def rule(self, question, caller, request_id, priority=0, allowance=None):
        return self._ruling


def guarding(ruling, **settings):
    """The guard of a request about which that was found."""
    config = GuardConfig(action="refuse", **settings)
    return Guarding(
        config, [Told(ruling)], GuardQuestion("x"), caller="", request_id="", told=lambda guarding: None
    )


async def test_what_is_undecided_about_an_observed_part_leaves():
    """It is counted, as a refusal of that part is; about anything else it withholds."""
    ruling = Ruling(Found.UNDECIDED, "base", part=Part.EVIDENCE)
    async with guarding(ruling, observe_parts=("evidence",)) as guard:
        await guard.passed()
    assert (guard.rulings, guard.about()["verdict"]) == ([ruling], "allowed")
    async with guarding(Ruling(Found.UNDECIDED, "base"), observe_parts=("evidence",)) as guard:
        with pytest.raises(GuardUndecided):
            await guard.passed()
