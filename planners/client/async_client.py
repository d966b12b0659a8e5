"""The same client for coroutines. It belongs to the event loop that it was first used in."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, Unpack

import httpx

from planners.client.answers import PlanEvents, check, plan_in, planners_in, unreachable
from planners.client.asking import Question
from planners.client.base import EVENTS, RETRIES, TIMEOUT, ClientBase
from planners.client.errors import PlanIncomplete
from planners.client.retry import async_retrying

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from planners.client.asking import Asking, ToolLike
    from planners.plan import Plan
    from planners.tools import PlannerInput


class AsyncPlannerClient(ClientBase):
    """Asks one server for plans, from one event loop. As ``PlannerClient``, with await and async for."""

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
        """As ``PlannerClient.plan``."""
        question = Question.of(task, tools, self._planner, asking)
        question, response = await self._asked(self._whole, question)
        return question.noted(plan_in(response))

    def stream(
        self, task: PlannerInput | str, tools: Sequence[ToolLike] | None = None, **asking: Unpack[Asking]
    ) -> AsyncGenerator[Plan, None]:
        """As ``PlannerClient.stream``; in ``contextlib.aclosing`` it is closed at once when it is left."""
        return self._stream(Question.of(task, tools, self._planner, asking))

    async def planners(self) -> list[dict[str, Any]]:
        """As ``PlannerClient.planners``."""
        response: httpx.Response = await async_retrying(self._retries)(self._send, self._listing())
        return planners_in(response)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _stream(self, question: Question) -> AsyncGenerator[Plan, None]:
        question, response = await self._asked(self._opened, question)
        async with aclosing(response):
            events = PlanEvents(response.headers.get("x-request-id"))
            try:
                async for data in response.aiter_bytes():
                    for chunk in events.feed(data):
                        yield question.noted(chunk)
            except httpx.RequestError as error:
                raise events.failed(self.base_url, error) from error
            events.finish()

    async def _asked(
        self, ask: Callable[[Question], Awaitable[httpx.Response]], question: Question
    ) -> tuple[Question, httpx.Response]:
        """The answer, and the question that it is to: shorter than the one given where that was of no use."""
        while True:
            try:
                response: httpx.Response = await async_retrying(self._retries)(ask, question)
                return question, response
            except PlanIncomplete:
                if (shorter := question.shorter()) is None:
                    raise
                question = shorter

    async def _whole(self, question: Question) -> httpx.Response:
        return await self._send(self._planning(question))

    async def _opened(self, question: Question) -> httpx.Response:
        return await self._send(self._planning(question, stream=True), media=EVENTS)

    async def _send(self, request: dict[str, Any], media: str = "application/json") -> httpx.Response:
        """A successful answer in this format; a stream is open. Raises PlannerAPIError."""
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
