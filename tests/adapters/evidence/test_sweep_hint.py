"""The command in a hint can be run: what is known is filled in, what is built in is not named as a file."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import replace

import pytest
from peft_builder import BASE

from s3lora_serve.adapters.evidence.sweep_hint import BUILT_IN_PLANS, DRAWS, Called, sweep_command
from s3lora_serve.cli.lab.sweep_command import sweep
from s3lora_serve.judging import sets

CALLED = Called("demo://calm", "demo")


def command(called: Called = CALLED, base=BASE, **changes: object) -> str:
    """Of an ordinary policy."""
    return sweep_command(called, base, **{"scorer": "mas-svd", "seed": 0, "task": "plans", **changes})


def test_for_the_built_in_set_it_runs_as_it_stands():
    """The set that is asked without an option, which is not a file of the operator's."""
    assert sets.PLANS.stem == BUILT_IN_PLANS
    assert command() == "s3lora sweep demo://calm --base demo --scorer mas-svd --out NEW"


def test_for_other_sets_it_asks_for_the_files():
    """Attacks too: one kind of file leaves out all built-in sets, and without attacks no tau is safest."""
    assert command(task="tasks") == (
        "s3lora sweep demo://calm --base demo --scorer mas-svd"
        " --attack <your attack file> --plans <your plans file> --out NEW"
    )


def test_seeds_of_random_beyond_the_usual_draws_are_asked_for():
    """Seeds count from 0, so one more than the last is needed."""
    assert inspect.signature(sweep).parameters["random_seeds"].default == DRAWS
    assert "--random-seeds" not in command(scorer="random", seed=DRAWS - 1)
    assert "--random-seeds 8 " in command(scorer="random", seed=7)
    assert "--random-seeds" not in command(seed=7)


def test_scorers_that_need_checkpoints_get_theirs():
    """Which was the model before alignment is not known here."""
    assert "--scorer e-diem --alignment-base BEFORE " in command(scorer="e-diem")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (None, "ADAPTER"),
        ("/a b/c", "'/a b/c'"),
        ("hf://org/name@v2", "hf://org/name@v2"),
        ("s3://bucket/adapter", "s3://bucket/adapter"),
        ("https://me:secret@host/adapter", "ADAPTER"),
        ("https://host/adapter?X-Signature=secret", "ADAPTER"),
    ],
)
def test_the_adapter_is_named_as_it_was_given(source: str | None, shown: str):
    """As one word of a shell, and never with what may be a password."""
    text = command(Called(source, "demo"))
    assert text.startswith(f"s3lora sweep {shown} --base demo ")
    if source and shown != "ADAPTER":
        assert shlex.split(text)[2] == source


def test_the_base_model_is_named_as_well_as_it_is_known():
    """As given, or where it was read from; a revision can only be named by a configuration."""
    unnamed = Called("a")
    assert " --base demo " in command(base=replace(BASE, location="/cache/demo"))
    assert " --base /cache/demo " in command(unnamed, replace(BASE, location="/cache/demo"))
    assert " --base BASE " in command(unnamed)
    assert " --base BASE " in command(unnamed, None)
    pinned = command(Called("a", "org/name"), replace(BASE, revision="v1"))
    assert pinned.startswith("s3lora sweep a --config <your planners.yaml> --scorer ")
