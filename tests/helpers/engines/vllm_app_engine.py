"""vLLM's own OpenAI application over a model that only keeps to its constraints: no weights, no processes.

What a client sends is read, rendered, constrained, parsed and streamed by vLLM; what it says is written by
``written_text``. Slots and the base model's plans are the fake engine's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine_factory import engine_settings
from faulty_engine import FaultyEngine
from written_text import written

from s3lora_serve.engine.fake.fake_text import answer
from s3lora_serve.engine.vllm.vllm_engine import _app_functions
from s3lora_serve.engine.vllm.vllm_settings import engine_arguments
from s3lora_serve.engine.vllm.vllm_start import import_vllm, set_environment
from s3lora_serve.engine.vllm.vllm_tap import RequestTap

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette

    from s3lora_serve.engine.port import Slot


class Writer:
    """Stands in for ``AsyncLLM``: all that vLLM's application asks of one."""

    errored = is_stopped = False
    is_running = True
    dead_error = RuntimeError("never")

    def __init__(self, config: Any) -> None:
        from vllm.renderers import renderer_from_config
        from vllm.v1.engine.input_processor import InputProcessor

        self.vllm_config, self.model_config = config, config.model_config
        self.renderer = renderer_from_config(config)
        self.input_processor = InputProcessor(config, self.renderer)
        self.constraints: list[Any] = []  # of each request, as vLLM made them

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Always."""

    async def is_tracing_enabled(self) -> bool:
        """Never."""
        return False

    async def get_tokenizer(self) -> Any:
        """The base model's."""
        return self.renderer.get_tokenizer()

    def get_kv_event_sources(self) -> dict[str, Any]:
        """None."""
        return {}

    async def generate(self, prompt: Any, params: Any, request_id: str, **options: Any) -> Any:
        """Outputs of the kind that is asked for, a token each."""
        from vllm.outputs import CompletionOutput, RequestOutput

        tokenizer, given = self.renderer.get_tokenizer(), prompt["prompt_token_ids"]
        text = self._text(tokenizer.decode(given), params.structured_outputs)
        ids = tokenizer.encode(text, add_special_tokens=False)
        cut = params.max_tokens is not None and len(ids) > params.max_tokens
        ids = ids[: params.max_tokens]
        delta = params.output_kind.name == "DELTA"
        steps = range(len(ids)) if delta else (len(ids) - 1,)
        for last in steps:
            new = ids[last : last + 1] if delta else ids
            end = last == len(ids) - 1
            reason = ("length" if cut else "stop") if end else None
            # Token by token: of this tokenizer and these texts each is whole characters.
            output = CompletionOutput(0, tokenizer.decode(new), new, None, None, finish_reason=reason)
            yield RequestOutput(
                request_id, None, given, None, [output], end, num_cached_tokens=0,
                lora_request=options.get("lora_request"),
            )  # fmt: skip

    def _text(self, prompt: str, constraint: Any | None) -> str:
        self.constraints.append(constraint)
        if constraint is not None and constraint.grammar is not None:
            return answer(prompt, constraint.grammar, "", self.plan)
        return written(prompt, constraint)


class VllmAppEngine(FaultyEngine):
    """Made with ``starting(demo_base)``, which gives a class: a fleet makes its engines itself."""

    app: Starlette
    writer: Writer

    @property
    def calls_tools(self) -> bool:
        return True

    def openai_app(self) -> Starlette:
        return self.app

    async def load(self, slot: Slot) -> None:
        from vllm.lora.request import LoRARequest

        await super().load(slot)
        lora = LoRARequest(slot.name, slot.id, str(slot.path))
        self.app.state.openai_serving_models.lora_requests[slot.name] = lora
        self.tap.admit(lora)


async def vllm_app_engine(demo_base: Path, base_name: str) -> type[VllmAppEngine]:
    """The engine's class, with the one application that its instances share. Imports vLLM."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    settings = engine_settings(demo_base, base_name)
    set_environment(settings.engine)
    import_vllm()
    arguments = engine_arguments(settings)
    made = Writer(AsyncEngineArgs.from_cli_args(arguments).create_engine_config())
    served_tap = RequestTap(made.generate)
    made.generate = served_tap.generate  # type: ignore[method-assign]
    build_app, init_app_state = _app_functions()
    served_app = build_app(arguments, ("generate",), made.model_config)
    await init_app_state(made, served_app.state, arguments, ("generate",))

    class Engine(VllmAppEngine):
        app, writer, tap = served_app, made, served_tap

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.tap._in_flight = self._in_flight  # so that observers hear of them
            self.writer.plan = self._plan

    return Engine
