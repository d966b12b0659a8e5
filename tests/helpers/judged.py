"""Requests that were judged already, for tests of what is written down of them."""

from __future__ import annotations

from typing import Any

from guard_questions import question

from s3lora_serve.config import GuardConfig
from s3lora_serve.safety.guard.guarding import Guarding
from s3lora_serve.safety.guard.ruling import Found, Ruling


def judged(*rulings: Ruling, task: str = "a task of more than six words in all", **settings: Any) -> Guarding:
    """A guarding that has come to these rulings; allowed by the base without any."""
    terms = GuardConfig(**{"action": "refuse", **settings})
    guarding = Guarding(terms, (), question(task), caller="ops", request_id="r-1", told=lambda guarding: None)
    guarding.revision = "e" * 64
    guarding.rulings = list(rulings) or [Ruling(Found.ALLOWED, "base")]
    return guarding


def refused(by: str = "base", part: str = "task") -> Ruling:
    """A refusal."""
    return Ruling(Found.REFUSED, by, part)
