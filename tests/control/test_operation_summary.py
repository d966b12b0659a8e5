"""One sentence for each way an operation can be."""

from __future__ import annotations

import pytest

from s3lora_serve.control.operation import Kind, Operation, Order, Step
from s3lora_serve.control.operation_summary import summary

OLD, NEW = "a" * 64, "b" * 64
A, B = OLD[:12], NEW[:12]


def operation(kind=Kind.SWAP, step=Step.DONE, **changes):
    """A swap of p from OLD to NEW, but for the changes."""
    terms = {"planner": "p", "from_digest": OLD, "to_digest": NEW, **changes}
    return Operation("op-1", kind, terms.pop("planner"), Order("alice"), step, 0.0, **terms)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (operation(), f"{A} → {B}"),
        (operation(step=Step.LOADING), "loading"),
        (operation(step=Step.ADMITTING, progress="score"), "admitting: score"),
        (operation(to_digest=OLD, details={"same": True}), f"p serves {A} already"),
        (operation(details={"dry_run": True}), f"{B} was admitted, nothing else changed"),
        (
            operation(details={"dry_run": True, "same": True}),
            f"{B} was admitted, nothing else changed; it serves already",
        ),
        (
            operation(Kind.CANARY, details={"share": 0.25}),
            f"{B} answers a share of 0.25; {A} answers the rest",
        ),
        (
            operation(Kind.CANARY, to_digest=None, details={"share": 1.0}),
            f"the candidate answers a share of 1; {A} answers the rest",
        ),
        (
            operation(Kind.SHADOW, details={"share": 0.1}),
            f"{B} shadows a share of 0.1 and answers no requests; {A} answers",
        ),
        (
            operation(Kind.ROLLBACK, to_digest=None, details={"gives_up": f"p@{B}"}),
            f"the candidate {B} is given up; {A} serves",
        ),
        (operation(Kind.ROLLBACK), f"{A} → {B}"),
        (
            operation(Kind.EXAM, details={"exam": {"verdict": "passed", "why": "none rose"}}),
            f"{B} passed on the public prompts: none rose",
        ),
        (
            operation(
                Kind.EXAM, details={"exam": {"verdict": "passed", "why": "the base answers", "key": ""}}
            ),
            f"{B} passed unasked: the base answers",
        ),
        (
            operation(
                Kind.EXAM,
                details={
                    "kept": True,
                    "exam": {"verdict": "refused", "why": "40 rose", "own_questions": True, "stale": True},
                },
            ),
            f"{B} refused on your prompts, by an exam that is stale (kept from an earlier exam): 40 rose",
        ),
        (operation(Kind.APPLY, planner=None, details={"changes": [{}]}), "1 planner changed"),
        (operation(Kind.APPLY, planner=None, details={"changes": [{}, {}]}), "2 planners changed"),
        (
            operation(Kind.APPLY, planner=None, details={"changes": [{}], "dry_run": True}),
            "nothing was changed",
        ),
        (operation(step=Step.FAILED, error={"message": "no weights"}), f"no weights; {A} still serves"),
        (
            operation(step=Step.FAILED, error={"code": "engine_dead", "message": "it died"}),
            "it died; nothing serves until the engine is back",
        ),
        (
            operation(step=Step.UNDONE),
            f"the server ended before it was decided, so it was undone; {A} still serves",
        ),
    ],
)
def test_it_says_what_came_of_it(made, said):
    """What serves now is in every sentence of an order that has ended."""
    assert summary(made) == said


def test_an_apply_of_nothing_says_why():
    """An operator who edited the file must see that the server read the same as before."""
    said = summary(operation(Kind.APPLY, planner=None, details={"changes": []}))
    assert said.startswith("nothing to change: planners and policies are declared as they were applied last")
