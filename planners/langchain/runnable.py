"""S3LoRAPlanner: a LangChain Runnable that asks a server's planner; a task in, a Plan out."""

from __future__ import annotations

from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Literal

import httpx  # noqa: TC002  (pydantic reads the annotations)
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import merge_configs
from langchain_core.utils import secret_from_env
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator

from planners.client.asking import KEY_ENV, Asking, Endpoint
from planners.client.base import RETRIES, TIMEOUT
from planners.langchain.planner_clients import ClientCache, ClientSettings
from planners.langchain.question import PlanQuestion, S3LoRAPlannerInput, added, asked_with
from planners.langchain.tool_conversion import tool_specs
from planners.plan import Plan
from planners.request import LEAST_TEXT, MOST_TEXT
from planners.tools import MAX_STEPS, ToolSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun as ForAsyncRun
    from langchain_core.callbacks import CallbackManagerForChainRun as ForRun
    from pydantic import BaseModel


class S3LoRAPlanner(RunnableSerializable[PlanQuestion, Plan]):
    """Plan with a planner of an s3lora-serve server.

        planner = S3LoRAPlanner(planner="hotpotqa", tools=[search, calculator])
        plan = planner.invoke("Where was the director of Inception born?")

    The input is a task as text, as messages, or as a prompt template makes it (``prompt | planner``), a
    ``PlannerInput``, or a dict with "task" ("input", "messages") and whatever else of ``PlannerTask``; it
    goes before the fields, and what is bound (``planner.bind(max_steps=4)``) before both. ``tools`` may be
    LangChain's, see ``tool_specs``; without any the server takes the planner's own.
    Streamed, chunks are plans that add up: each step as it is made, then the meta.

    ``repair`` mends in this order: the server renumbers steps and strips what is no plan, cuts at the last
    valid step, and asks the planner again; when not even one step was whole, the task is asked again for
    half the steps and half the text, twice at most. ``meta.repairs`` counts it all, and ``meta.repair_notes``
    say what. Requests that met 429, 503 or a broken connection are sent again ``max_retries`` times; one that
    the server's guard refused is not, and raises ``PlanRefused``.

    A thread of LangGraph ("thread_id" in the config) is one session, unless ``session`` names another: its
    plans come from one revision while that is offered. Errors are those of ``planners.client.errors``.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    planner: str = Field(min_length=1)
    """Name of a planner of the server."""
    base_url: str | None = None
    """With or without /v1; None: S3LORA_BASE_URL, and without that variable this machine's port 8000."""
    api_key: SecretStr | None = Field(default_factory=secret_from_env(KEY_ENV, default=None))
    """The server's key; left out: S3LORA_API_KEY, and without that variable none."""
    tools: tuple[ToolSpec, ...] = ()
    max_steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = Field(None, ge=0, lt=2**63)
    constraint: Literal["grammar", "none"] | None = None
    repair: bool | None = None
    max_text: int | None = Field(None, ge=LEAST_TEXT, le=MOST_TEXT)
    """Characters of a thought or an input, at most."""
    revision: str | None = Field(None, pattern="^[0-9a-f]{8,64}$")
    """Answer from this revision only (its digest or the beginning of it), else RevisionMismatch."""
    session: str | None = None
    """An agent's episode, whose plans come from one revision while that is offered."""
    max_retries: int = Field(RETRIES, ge=0)
    timeout: float | None = Field(TIMEOUT, gt=0)
    """Seconds without a byte from the server; None: for ever."""
    http_client: httpx.Client | None = Field(None, exclude=True, repr=False)
    """Yours, for sync calls: for proxies, certificates and tests."""
    http_async_client: httpx.AsyncClient | None = Field(None, exclude=True, repr=False)
    """Yours, for async calls; it belongs to one event loop."""

    _clients: ClientCache = PrivateAttr(default_factory=ClientCache)

    @field_validator("tools", mode="before")
    @classmethod
    def _as_specs(cls, given: Any) -> Any:
        return given if isinstance(given, str) else tool_specs(given or ())

    @field_validator("base_url")
    @classmethod
    def _address(cls, given: str | None) -> str | None:
        Endpoint.of(given, "")
        return given

    # Runnable

    def invoke(self, input: PlanQuestion, config: RunnableConfig | None = None, **kwargs: Any) -> Plan:
        """A whole plan. Raises PlannerAPIError (PlanRefused, ...), and ValueError for what is no question."""
        return self._call_with_config(self._plan, input, self._traced(config), **kwargs)

    async def ainvoke(self, input: PlanQuestion, config: RunnableConfig | None = None, **kwargs: Any) -> Plan:
        """As ``invoke``."""
        return await self._acall_with_config(self._aplan, input, self._traced(config), **kwargs)

    def transform(
        self, input: Iterator[PlanQuestion], config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> Iterator[Plan]:
        """The plan in chunks, once the question is whole: its own chunks are added up."""
        yield from self._transform_stream_with_config(input, self._chunks, self._traced(config), **kwargs)

    async def atransform(
        self, input: AsyncIterator[PlanQuestion], config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> AsyncIterator[Plan]:
        """As ``transform``."""
        chunks = self._atransform_stream_with_config(input, self._achunks, self._traced(config), **kwargs)
        async with aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                yield chunk

    def stream(
        self, input: PlanQuestion, config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> Iterator[Plan]:
        """The plan in chunks that add up: each step as it is made, then the meta."""
        yield from self.transform(iter([input]), config, **kwargs)

    async def astream(
        self, input: PlanQuestion, config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> AsyncIterator[Plan]:
        """As ``stream``."""

        async def only() -> AsyncIterator[PlanQuestion]:
            yield input

        chunks = self.atransform(only(), config, **kwargs)
        async with aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                yield chunk

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """A task as text, or with tools and more."""
        return S3LoRAPlannerInput

    def close(self) -> None:
        """Close the connections of sync calls; the next call opens new ones."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections that the running event loop opened."""
        await self._clients.aclose()

    # Serializable

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It can be written as JSON, without its key."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where ``langchain_core.load`` finds the class."""
        return ["planners", "langchain"]

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The key is written as the name of its variable."""
        return {"api_key": KEY_ENV}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Tools as plain dicts, which every reader of JSON can build again."""
        return {"tools": [tool.model_dump(exclude_defaults=True) for tool in self.tools]}

    # What the methods above do inside their traces

    def _plan(
        self, question: PlanQuestion, run_manager: ForRun, config: RunnableConfig, **bound: Any
    ) -> Plan:
        return self._clients.sync(self._settings()).plan(**self._asked(question, config, bound))

    async def _aplan(
        self, question: PlanQuestion, run_manager: ForAsyncRun, config: RunnableConfig, **bound: Any
    ) -> Plan:
        return await self._clients.current(self._settings()).plan(**self._asked(question, config, bound))

    def _chunks(
        self, questions: Iterator[PlanQuestion], run_manager: ForRun, config: RunnableConfig, **bound: Any
    ) -> Iterator[Plan]:
        whole: Any = None
        for part in questions:
            whole = added(whole, part)
        asked = self._asked(whole, config, bound)
        with closing(self._clients.sync(self._settings()).stream(**asked)) as chunks:
            yield from chunks

    async def _achunks(
        self,
        questions: AsyncIterator[PlanQuestion],
        run_manager: ForAsyncRun,
        config: RunnableConfig,
        **bound: Any,
    ) -> AsyncIterator[Plan]:
        whole: Any = None
        async for part in questions:
            whole = added(whole, part)
        asked = self._asked(whole, config, bound)
        async with aclosing(self._clients.current(self._settings()).stream(**asked)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _asked(self, question: Any, config: RunnableConfig, bound: Mapping[str, Any]) -> dict[str, Any]:
        names = sorted(type(self).model_fields.keys() & {"tools", *Asking.__annotations__})
        own = {name: value for name in names if (value := getattr(self, name)) not in (None, ())}
        return asked_with(own, question, bound, config)

    def _settings(self) -> ClientSettings:
        return ClientSettings(
            self.base_url,
            self.api_key,
            self.timeout,
            self.max_retries,
            self.http_client,
            self.http_async_client,
        )

    def _traced(self, config: RunnableConfig | None) -> RunnableConfig:
        return merge_configs({"metadata": {"s3lora_planner": self.planner}}, config)
