"""A client of a server's planners: a task in, a plan out, whole or step by step.

Errors are in ``planners.client.errors``. A request that met 429, 503 or a broken connection is sent again,
but never after the first step of a stream, nor when the server's guard refused it (``PlanRefused``).
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, Unpack

import httpx

from planners.client.answers import PlanEvents, check, plan_in, planners_in, unreachable
from planners.client.asking import Question
from planners.client.base import EVENTS, JSON, RETRIES, TIMEOUT, ClientBase
from planners.client.errors import PlanIncomplete
from planners.client.retry import async_retrying

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from planners.client.asking import Asking, ToolLike
    from planners.plan import Plan
    from planners.tools import PlannerInput


class AsyncPlannerClient(ClientBase):
    """Asks one server for plans. Close it, or use it as a context manager.

    Threads may share a ``PlannerClient``; an ``AsyncPlannerClient`` belongs to the event loop that first
    used it.

    ``base_url`` (with or without /v1) and ``api_key`` default to S3LORA_BASE_URL and S3LORA_API_KEY.
    ``timeout``: seconds without a byte, None for ever. ``http``: a client of your own, yours to close.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        planner: str | None = None,
        timeout: float | None = TIMEOUT,
        retries: int = RETRIES,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(base_url, api_key, planner, timeout, retries)
        self._http = http if http is not None else httpx.AsyncClient(**self._options())
        self._owned = http is None

    async def plan(
        self, task: PlannerInput | str, tools: Sequence[ToolLike] | None = None, **asking: Unpack[Asking]
    ) -> Plan:
        """A whole plan. Without ``tools`` the server takes those it has for the planner.

        Raises ValueError before anything is sent, PlannerAPIError after.
        """
        question, response = await self._asked(Question.of(task, tools, self._planner, asking), stream=False)
        return question.noted(plan_in(response))

    def stream(
        self, task: PlannerInput | str, tools: Sequence[ToolLike] | None = None, **asking: Unpack[Asking]
    ) -> AsyncGenerator[Plan, None]:
        """The plan in chunks that add up with ``+``: each step as it is made, then the meta.

        Leaving the loop closes the connection, which stops the engine; ``async for`` needs
        ``contextlib.aclosing`` to do so at once. Raises as ``plan`` does; an error in mid-stream has the
        ``steps`` that came before it.
        """
        return self._stream(Question.of(task, tools, self._planner, asking))

    async def planners(self) -> list[dict[str, Any]]:
        """What ``GET /v1/planners`` says of each: id, state, revision, ... Raises PlannerAPIError."""
        return planners_in(await self._sent(self._listing(), JSON))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _stream(self, question: Question) -> AsyncGenerator[Plan, None]:
        question, response = await self._asked(question, stream=True)
        async with aclosing(response):
            events = PlanEvents(response.headers.get("x-request-id"))
            try:
                async for data in response.aiter_bytes():
                    for chunk in events.feed(data):
                        yield question.noted(chunk)
            except httpx.RequestError as error:
                raise events.failed(self.base_url, error) from error
            events.finish()

    async def _asked(self, question: Question, *, stream: bool) -> tuple[Question, httpx.Response]:
        """The answer, and the question that it is to: shorter than the one given where that was of no use."""
        while True:
            try:
                request = self._planning(question, stream=stream)
                return question, await self._sent(request, EVENTS if stream else JSON)
            except PlanIncomplete:
                if (shorter := question.shorter()) is None:
                    raise
                question = shorter

    async def _sent(self, request: dict[str, Any], media: str) -> httpx.Response:
        """A successful answer in this format, asked for again where that may help. Raises PlannerAPIError."""
        response: httpx.Response = await async_retrying(self._retries)(self._send, request, media)
        return response

    async def _send(self, request: dict[str, Any], media: str) -> httpx.Response:
        try:
            response = await self._http.send(self._http.build_request(**request), stream=True)
            if response.status_code != 200 or media != EVENTS:
                await response.aread()
        except httpx.RequestError as error:
            raise unreachable(self.base_url, error) from error
        try:
            check(response, media)
        except BaseException:
            await response.aclose()
            raise
        return response
