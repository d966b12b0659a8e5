"""Every way in which asking a server for a plan can fail, as one tree.

* ``PlannerAPIError`` (``code``, ``status``, ``param``, ``problems``, ``retry_after``, ``request_id``)
    * ``ConnectionFailed``: no answer, or one that broke off; the server may not run, or not there
    * ``UnknownPlanner``: no planner of that name; the message lists them
    * ``RevisionMismatch``: another revision than the one asked for would answer
    * ``PlanIncomplete``: the plan was cut off; ask for fewer steps
    * ``InvalidPlan``: without a grammar the planner wrote something else; ``problems`` says what
    * ``PlanRefused``: the server's guard withholds the plan; ``part`` says what of the request it refused
    * ``Overloaded``: as many requests as are allowed are being answered; try again after ``retry_after``
    * ``ServerUnavailable``: the server, its engine or the planner cannot answer at present
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planners.plan import PlanStep, Problem


class PlannerAPIError(Exception):
    """A request that got no plan. The message says what to do; ``code`` is stable, for programs.

    ``status``: of HTTP, None when there was no answer or the error came in the middle of a stream.
    ``retry_after``: seconds that the server asks for. ``steps``: what a stream brought before it failed.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None = None,
        param: str | None = None,
        problems: Sequence[Problem] = (),
        retry_after: float | None = None,
        request_id: str | None = None,
        steps: Sequence[PlanStep] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.param = param
        self.problems = tuple(problems)
        self.retry_after = retry_after
        self.request_id = request_id
        self.steps = tuple(steps)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt from their positional arguments, which would lose the rest between processes.
        return _rebuilt, (type(self), self.message, self.__dict__)


class ConnectionFailed(PlannerAPIError):
    """No answer arrived, or the connection ended in the middle of one."""


class UnknownPlanner(PlannerAPIError):
    """The server has no planner of that name."""


class RevisionMismatch(PlannerAPIError):
    """Another revision would answer: ``revision``, at ``generation`` of its planner."""

    revision: str | None = None
    generation: int | None = None


class PlanIncomplete(PlannerAPIError):
    """The plan was cut off."""


class InvalidPlan(PlannerAPIError):
    """What the planner wrote, without a grammar, is not a valid plan."""


class PlanRefused(PlannerAPIError):
    """The server's guard withholds the plan. Only with ``retry_after`` may asking the same again help.

    ``part`` is what of the request it refused: "task", "history", "system", "tools", "evidence", "feedback"
    or "documents". None when it came to no verdict: ``code`` is "guard_undecided" then.
    """

    part: str | None = None


class Overloaded(PlannerAPIError):
    """The server's limit of concurrent requests is reached."""


class ServerUnavailable(PlannerAPIError):
    """The server, its engine or the planner cannot answer at present."""


def _rebuilt(kind: type[PlannerAPIError], message: str, state: dict[str, Any]) -> PlannerAPIError:
    error = kind(message, code=state["code"])
    error.__dict__.update(state)
    return error
