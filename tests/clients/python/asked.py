"""What each client is asked in the configuration that its own pages show, and how it tells what came of it.

A script for one client calls ``tell`` with a function for each use that it can be put to; a function fails
with whatever its client raises, or where ``same`` finds another answer than the model wrote.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import warnings
from typing import Any

from pydantic import BaseModel
from written_text import CALLED, CITY, HELLO, REPORT, WEATHER

URL = os.environ["CLIENTS_URL"]  # of /v1
MODEL, KEY = "p", "unused"
HI, QUESTION = "Say hello.", "What is the weather?"
MESSAGES = [{"role": "user", "content": HI}]
PARAMETERS = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
FUNCTION = {"name": "get_weather", "description": "The weather of a city.", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}
PLAN = {"s3lora": {"plan": {"tools": [{"name": "Search"}, {"name": "LLM"}]}}}

__all__ = ["CALLED", "CITY", "HELLO", "REPORT", "WEATHER"]


class Person(BaseModel):
    """A form for an answer."""

    name: str
    age: int


LANA = Person(name="Lana", age=7)


def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name
    """
    return f"{WEATHER} in {city}"


def same(found: Any, expected: Any) -> None:
    """Fail unless the client gives what the model wrote."""
    if found != expected:
        raise AssertionError(f"{found!r} instead of {expected!r}")


def is_plan(text: Any) -> None:
    """Fail unless it is a plan."""
    if not str(text).startswith("Plan: "):
        raise AssertionError(f"{text!r} is no plan")


def tell(**checks: Any) -> None:
    """Run the checks, and print a line of JSON: for each "" or what went wrong."""
    warnings.simplefilter("ignore")
    only = os.environ.get("CLIENTS_USES", "").split()
    with asyncio.Runner() as runner:
        told = {name: _tried(check, runner) for name, check in checks.items() if not only or name in only}
        print("\n" + json.dumps(told), flush=True)
        os._exit(0)  # some leave threads behind that report to somebody


def _tried(check: Any, runner: asyncio.Runner) -> str:
    try:
        made = check()
        if inspect.iscoroutine(made):
            runner.run(asyncio.wait_for(made, 60))
    except BaseException as error:  # also what is no Exception: it is what the client does
        return f"{type(error).__name__}: {error}"[:400]
    return ""
