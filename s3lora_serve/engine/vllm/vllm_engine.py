"""The vLLM engine behind the port: vLLM's engine client and its OpenAI app, in this process."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.engine.signs_of_life import SignsOfLife
from s3lora_serve.engine.vllm import vllm_cpu, vllm_gpu_lora
from s3lora_serve.engine.vllm.vllm_client import beside, kill_client, start_client, stop_client, while_alive
from s3lora_serve.engine.vllm.vllm_control_tokens import control_tokens
from s3lora_serve.engine.vllm.vllm_requests import VllmRequests
from s3lora_serve.engine.vllm.vllm_settings import VllmSettings, engine_arguments
from s3lora_serve.engine.vllm.vllm_slots import VllmSlots
from s3lora_serve.engine.vllm.vllm_start import check_cpu_fix, import_vllm, set_environment
from s3lora_serve.engine.vllm.vllm_tap import RequestTap
from s3lora_serve.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import AsyncGenerator, Callable, Sequence

    from starlette.applications import Starlette

    from s3lora_serve.engine.port import Completion, Delta, Observer, Sampling, Slot
    from s3lora_serve.engine.signs_of_life import EngineProgress

log = logging.getLogger(__name__)

__all__ = ["VllmEngine", "VllmSettings"]


class VllmEngine:
    """One vLLM engine and the OpenAI app in front of it. Made by ``start``, ended by ``close``.

    The methods are those of the Engine protocol in ``engine/port.py``, which says what each promises.
    """

    def __init__(
        self,
        version: str,
        client: Any,
        tap: RequestTap,
        app: Starlette,
        signs: SignsOfLife,
        lora_kernels: str | None,
    ) -> None:
        self._version = version
        self._lora_kernels = lora_kernels
        self._client = client
        self._tap = tap
        self._app = app
        self._signs = signs
        self._closed = False
        self._killed = False
        self._slots = VllmSlots(client, tap, app.state.openai_serving_models, signs)
        self._requests = VllmRequests(client, tap, self._slots, app.state.online_renderer)
        self._control_tokens = control_tokens(
            getattr(client.renderer, "tokenizer", None), app.state.online_renderer.chat_template
        )

    @classmethod
    async def start(cls, settings: VllmSettings, progress: Callable[[str], None] | None = None) -> VllmEngine:
        """Start vLLM and return once it can answer; ``progress`` is told of each long step.

        Takes 15 to 30 s on CPU, in which other tasks run: what is long happens in a thread. Another engine
        may have run in this process before. Raises ConfigError for settings that vLLM refuses, EngineError
        for anything else; then, and when cancelled, no process stays.
        """
        say = progress or log.info
        set_environment(settings.engine)
        say("importing vLLM")
        version, arguments = await beside(lambda: _prepare(settings))
        say("starting vLLM")
        signs = SignsOfLife()
        try:
            client = await start_client(arguments, signs.sign)
            try:
                tap, app = await _build_app(client, arguments, signs)
                kernels = await vllm_gpu_lora.lora_kernels(client, settings.engine.gpu_lora, version)
            except BaseException:
                await stop_client(client)
                raise
        except EngineError:
            raise
        except ValueError as error:  # pydantic's ValidationError is one
            raise ConfigError(f"vLLM refuses the engine settings: {error}") from error
        except Exception as error:
            raise EngineError(
                f"vLLM did not start: {error}", hint="the lines of EngineCore above name the cause"
            ) from error
        return cls(version, client, tap, app, signs, kernels)

    @property
    def kind(self) -> EngineKind:
        return EngineKind.VLLM

    @property
    def version(self) -> str:
        return f"vllm {self._version}"

    @property
    def lora_kernels(self) -> str | None:
        return self._lora_kernels

    @property
    def vocab_size(self) -> int:
        return int(self._client.model_config.get_vocab_size())

    @property
    def max_model_len(self) -> int:
        return int(self._client.model_config.max_model_len)

    @property
    def base_name(self) -> str:
        return self._slots.base_name

    @property
    def control_tokens(self) -> tuple[str, ...]:
        return self._control_tokens

    @property
    def calls_tools(self) -> bool:
        given = self._app.state.args
        harmony = self._client.model_config.hf_config.model_type == "gpt_oss"  # vLLM always parses its calls
        return harmony or bool(given.enable_auto_tool_choice and given.tool_call_parser)

    @property
    def capacity(self) -> int:
        return self._slots.capacity

    @property
    def max_num_seqs(self) -> int:
        return int(self._client.vllm_config.scheduler_config.max_num_seqs)

    async def load(self, slot: Slot) -> None:
        await self._slots.load(slot)

    async def unload(self, slot: Slot) -> None:
        await self._slots.unload(slot)

    def running(self, slot: Slot) -> int:
        return self._tap.running(slot.name)

    async def loaded(self) -> frozenset[int]:
        return await self._slots.listed()

    async def score(self, token_ids: Sequence[int], slot: Slot | None) -> tuple[float, ...]:
        return await self._requests.score(list(token_ids), slot)

    async def answer_scores(
        self, messages: Sequence[dict[str, str]], answer: str, slot: Slot | None
    ) -> tuple[float, ...]:
        return await self._requests.answer_scores(messages, answer, slot)

    async def chat(
        self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling
    ) -> Completion:
        return await self._requests.chat(messages, slot, sampling)

    def stream(
        self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        return self._requests.stream(messages, slot, sampling)

    async def chat_tokens(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        return await self._requests.chat_tokens(messages)

    async def continue_tokens(
        self,
        token_ids: Sequence[int],
        slot: Slot | None,
        sampling: Sampling,
        *,
        salt: str = "",
        priority: int = 0,
    ) -> Completion:
        return await self._requests.continue_tokens(list(token_ids), slot, sampling, salt, priority)

    async def healthy(self) -> bool:
        return not (self._closed or self._killed or self._client.errored)

    def progress(self) -> EngineProgress:
        return self._signs.progress(self._tap.count)

    def kill(self) -> None:
        if not (self._closed or self._killed):
            self._killed = True
            kill_client(self._client)

    def observe(self, observer: Observer) -> None:
        self._tap.add(observer)

    def openai_app(self) -> Starlette:
        return self._app

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await stop_client(self._client)


def _prepare(settings: VllmSettings) -> tuple[str, Namespace]:
    version = import_vllm()
    check_cpu_fix()
    _app_functions()  # imported here rather than in the event loop's thread
    if vllm_cpu.on_cpu():
        settings = _on_cpu(settings)
    return version, engine_arguments(settings)


def _on_cpu(settings: VllmSettings) -> VllmSettings:
    vllm_cpu.refuse_speculation(settings.engine.extra_args)
    vllm_cpu.set_cpu_environment()
    dtype = vllm_cpu.cpu_dtype(settings.engine.dtype)
    if dtype != settings.engine.dtype:
        log.info(
            "this processor has no bfloat16 instructions: engine.dtype %s is %s", settings.engine.dtype, dtype
        )
    return replace(settings, engine=settings.engine.model_copy(update={"dtype": dtype}))


def _app_functions() -> tuple[Callable[..., Any], Callable[..., Any]]:
    with warnings.catch_warnings():
        # 0.32 moved these two; the old place still works, in every release from 0.19 to 0.33.
        warnings.simplefilter("ignore", DeprecationWarning)
        from vllm.entrypoints.openai.api_server import build_app, init_app_state
    return build_app, init_app_state


async def _build_app(client: Any, arguments: Namespace, signs: SignsOfLife) -> tuple[RequestTap, Starlette]:
    build_app, init_app_state = _app_functions()
    tap = RequestTap(client.generate, signs)
    client.generate = tap.generate  # before the app is made, so that no route can have kept the original
    await while_alive(client, client.reset_mm_cache())  # dummy data of the start
    tasks = await while_alive(client, client.get_supported_tasks())
    app: Starlette = await beside(lambda: build_app(arguments, tasks, client.model_config))
    await init_app_state(client, app.state, arguments, tasks)
    return tap, app
