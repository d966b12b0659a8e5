"""ChatS3LoRA: planners as LangChain chat models, with the server's metadata and its plans"""

from __future__ import annotations

from collections.abc import Awaitable, Callable  # noqa: TC003  (pydantic reads the annotations)
from contextlib import aclosing
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, Self

import openai
from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.utils import from_env
from langchain_openai.chat_models.base import BaseChatOpenAI
from pydantic import Field, SecretStr, field_validator, model_validator

from planners.langchain.loop_clients import Late, LoopClients
from planners.langchain.metadata import extras
from planners.langchain.payload import Ours, for_server, joined, offered
from planners.langchain.withheld import REFUSAL, refusal_in, refusals, withheld_answer, withheld_chunk
from planners.request import LEAST_TEXT, MOST_TEXT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from langchain_core.language_models import LangSmithParams, LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult
    from langchain_core.runnables import Runnable

    from planners.langchain.tool_conversion import AnyTool

PROVIDER = "s3lora"
_ENV_KEY, _ENV_URL = "S3LORA_API_KEY", "S3LORA_BASE_URL"
_LOCAL = "http://127.0.0.1:8000/v1"
_NO_KEY = "none"  # a server without a key ignores it, and openai's client refuses to have none


class ChatS3LoRA(BaseChatOpenAI):
    """Chat with a planner of an s3lora-serve server; also LangChain's way to structured output and tools.

        model = ChatS3LoRA(model="hotpot", base_url="http://127.0.0.1:8000/v1")
        message = model.invoke("Who directed Inception?")
        message.response_metadata["s3lora"]["revision"], message.response_metadata["cost"]

        plan = (model.with_plan([ToolSpec(name="Search")]) | plan_of).invoke("Where was its director born?")

    Construct it directly: ``init_chat_model`` knows only LangChain's own providers. Without ``base_url`` and
    ``api_key`` the variables S3LORA_BASE_URL and S3LORA_API_KEY are read, and OpenAI's never: a key for
    OpenAI is not for this server. ``response_metadata`` has "s3lora" (planner, revision, SSI, ...) and
    "cost", of a stream on its last chunk.

    An answer that the server's guard withheld is a message without content and tool calls: the refusal is in
    ``additional_kwargs["refusal"]``, as of OpenAI's models, and "s3lora" says which part was refused.

    Each event loop has separate connections, unless you bring ``http_async_client``,
    ``http_socket_options`` or ``openai_proxy``. Errors are langchain-openai's.
    """

    model_name: str = Field(alias="model")
    """Name of a planner, or of the base model."""

    openai_api_key: SecretStr | Callable[[], str] | Callable[[], Awaitable[str]] | None = Field(
        alias="api_key", default=None, validate_default=True
    )
    """The server's key; None: S3LORA_API_KEY, and without that variable none."""

    openai_api_base: str | None = Field(alias="base_url", default=None, validate_default=True)
    """With or without /v1; None: S3LORA_BASE_URL, and without that variable this machine's port 8000."""

    openai_proxy: str | None = None
    stream_usage: bool | None = True
    use_responses_api: bool | None = False  # the server has none, and names like "codex" would choose it

    revision: str | None = Field(None, pattern="^[0-9a-f]{8,64}$")
    """Answer from this revision only (its digest or the beginning of it), else the server refuses."""

    max_text: int | None = Field(None, ge=LEAST_TEXT, le=MOST_TEXT)
    """Characters of a string in structured output, tool arguments and plans, where nothing else bounds it.

    A small model may otherwise write one string until its tokens are used up, and the JSON never ends.
    """

    # Validators have distinct names: one called like langchain-openai's would replace it.

    @field_validator("openai_api_key", mode="before")
    @classmethod
    def _s3lora_key(cls, given: Any) -> Any:
        return from_env(_ENV_KEY, default=_NO_KEY)() if given is None else given

    @field_validator("openai_api_base", mode="before")
    @classmethod
    def _s3lora_url(cls, given: Any) -> Any:
        url = from_env(_ENV_URL, default=_LOCAL)() if given is None else given
        if isinstance(url, str):  # the other clients take the variable with and without /v1
            url = f"{url.rstrip('/').removesuffix('/v1')}/v1"
        return url

    @model_validator(mode="before")
    @classmethod
    def validate_temperature(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Replaces langchain-openai's, which changes the temperature of models with names like OpenAI's."""
        return values

    @model_validator(mode="after")
    def _s3lora_clients(self) -> Self:
        brought = self.http_async_client or self.http_socket_options or self.openai_proxy
        if not brought and isinstance(self.root_async_client, openai.AsyncOpenAI):
            clients = LoopClients(self.root_async_client)
            self.root_async_client = Late(clients.current)
            self.async_client = Late(lambda: clients.current().chat.completions)
        return self

    @model_validator(mode="after")
    def _s3lora_version(self) -> Self:
        self._add_version("s3lora-serve", _version())
        return self

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where ``langchain_core.load`` finds the class."""
        return ["planners", "langchain"]

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It can be written as JSON, without its key."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The variable that stands for the key in the JSON."""
        return {"openai_api_key": _ENV_KEY}

    @property
    def _llm_type(self) -> str:
        return "s3lora-chat"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": PROVIDER}

    def _resolve_model_profile(self) -> ModelProfile | None:
        # Not OpenAI's for a planner that is called like one of its models.
        return ModelProfile(text_inputs=True, text_outputs=True, tool_calling=True, structured_output=True)

    def get_token_ids(self, text: str) -> list[int]:
        """``custom_get_token_ids``, or NotImplementedError: the tokenizer is the server's."""
        if self.custom_get_token_ids is None:
            raise NotImplementedError(
                f"the tokenizer of {self.model_name!r} is the server's; "
                "give ChatS3LoRA(custom_get_token_ids=...) that of its base model"
            )
        return self.custom_get_token_ids(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None, **_: Any
    ) -> int:
        """Tokens of the messages' text by ``get_token_ids``."""
        return BaseChatModel.get_num_tokens_from_messages(self, list(messages), tools)

    def with_plan(
        self,
        tools: Sequence[AnyTool] = (),
        *,
        max_steps: int | None = None,
        evidence: Mapping[str, str] | None = None,
        feedback: Sequence[str] = (),
        max_text: int | None = None,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind a planning request: one user message is the task, and the answer is a valid plan.

        Its content is the plan as ReWOO text, as it streams; ``plan_of(message)`` gives the Plan. Without
        ``tools`` the server takes the planner's own. The same as the call option ``plan={"tools": ...}``.
        A ``max_tokens`` counts for plans too, and may cut one. Raises ValueError as ``tool_specs`` does.
        """
        asked = {
            "tools": offered(tools),
            "max_steps": max_steps,
            "evidence": dict(evidence or {}),
            "feedback": list(feedback),
            "max_text": max_text,
        }
        return self.bind(plan={name: value for name, value in asked.items() if value})

    def with_structured_output(
        self,
        schema: Any = None,
        *,
        method: Literal["function_calling", "json_mode", "json_schema"] = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """As in langchain-openai, but by JSON schema: the server decodes under it, so the answer fits."""
        return super().with_structured_output(
            schema, method=method, include_raw=include_raw, strict=strict, **kwargs
        )

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The body to send, from the instance's settings and the call's options."""
        plan = kwargs.pop("plan", None)
        revision = kwargs.pop("revision", self.revision)
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        # The call's extra_body joins the instance's, which langchain-openai would drop.
        extra_body = joined(self.extra_body or {}, kwargs.get("extra_body") or {})
        return for_server(payload, Ours(extra_body, revision, plan, self.max_text))

    def _create_chat_result(
        self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        metadata, more = extras(response if isinstance(response, dict) else response.model_extra or {})
        choices = response["choices"] if isinstance(response, dict) else getattr(response, "choices", ())
        for generation, refusal in zip(result.generations, refusals(choices), strict=False):
            generation.message.response_metadata.update(metadata)
            generation.message.additional_kwargs.update(more)
            if refusal is not None:
                generation.message.additional_kwargs[REFUSAL] = refusal
        output = result.llm_output or {}
        result.llm_output = {
            **output,
            "model_provider": PROVIDER,
            "token_usage": _measured(output.get("token_usage") or {}),
        }
        return result

    def _convert_chunk_to_generation_chunk(
        self,
        chunk: dict[str, Any],
        default_chunk_class: type,
        base_generation_info: dict[str, Any] | None,
    ) -> ChatGenerationChunk | None:
        made = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        if made is None:
            return None
        if "model_provider" in made.message.response_metadata:
            made.message.response_metadata["model_provider"] = PROVIDER
        sent = chunk.get("chunk") or chunk  # openai wraps the chunks of structured output
        metadata, more = extras(sent)
        made.message.response_metadata.update(metadata)
        made.message.additional_kwargs.update(more)
        if (refusal := refusal_in(sent)) is not None:  # langchain-openai drops it
            made.message.additional_kwargs[REFUSAL] = refusal
        return made

    # With a response_format openai's client fails at an answer that a guard withheld.

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        try:
            return super()._generate(*args, **kwargs)
        except openai.ContentFilterFinishReasonError as error:
            return self._create_chat_result(withheld_answer(error))

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        try:
            return await super()._agenerate(*args, **kwargs)
        except openai.ContentFilterFinishReasonError as error:
            return self._create_chat_result(withheld_answer(error))

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        try:
            yield from super()._stream(*args, **kwargs)
        except openai.ContentFilterFinishReasonError as error:
            yield withheld_chunk(error)

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        try:
            chunks = super()._astream(*args, **kwargs)
            async with aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk
        except openai.ContentFilterFinishReasonError as error:
            yield withheld_chunk(error)


def _measured(usage: dict[str, Any]) -> dict[str, Any]:
    """The usage without None: LangChain adds up several, and warns of what it cannot add."""
    return {
        name: _measured(value) if isinstance(value, dict) else value
        for name, value in usage.items()
        if value is not None
    }


def _version() -> str:
    try:
        return version("s3lora-serve")
    except PackageNotFoundError:  # a source tree on the path
        return "unknown"
