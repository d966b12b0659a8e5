"""What our own configuration says about the engine, and vLLM's argument namespace made from it."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NoReturn

from s3lora_serve.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping

    from s3lora_serve.config import EngineConfig

# make_arg_parser has moved twice: 0.33, 0.32, and up to 0.31.
_ARG_MODULES = (
    "vllm.entrypoints.common.cli_args",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.openai.cli_args",
)


@dataclass(frozen=True)
class VllmSettings:
    """The engine as the operator configured it, and the base model that was prepared for it.

    ``served_name`` is the public name of the base model; it defaults to the last part of ``model``, so that
    no path of this machine shows.
    """

    model: str
    engine: EngineConfig
    revision: str | None = None
    served_name: str | None = None

    @property
    def base_name(self) -> str:
        """The public name of the base model."""
        return self.served_name or PurePath(self.model).name or self.model


def engine_arguments(settings: VllmSettings) -> Namespace:
    """vLLM's parsed server arguments. Imports vLLM. ConfigError for an argument or value it refuses."""
    parser = _parser()
    known = {action.dest: action for action in parser._actions if action.dest != "help"}
    for name in settings.engine.extra_args:
        _check_extra(name, known.keys())
    values = {**_own_values(settings), **settings.engine.extra_args}
    # Through the parser, not into the namespace, so that vLLM's own converters and checks see the values.
    words = [word for name, value in values.items() for word in _as_words(known[name], name, value)]
    parsed: Namespace = parser.parse_args(words)
    # The default was "any origin" up to 0.26, and the server sets its own policy.
    parsed.allowed_origins = []
    return parsed


def extra_problems(extra_args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each further argument that this vLLM does not take, and why. Imports vLLM; starts nothing."""
    parser = _parser()
    known = {action.dest: action for action in parser._actions if action.dest != "help"}
    for name, value in extra_args.items():
        try:
            _check_extra(name, known.keys())
            parser.parse_args(_as_words(known[name], name, value))
        except ConfigError as error:
            why = error.message.removeprefix(f"engine.extra_args.{name}").removeprefix(":").strip()
            yield name, f"{why}; {error.hint}" if error.hint else why


def _own_values(settings: VllmSettings) -> dict[str, Any]:
    return {
        "model": settings.model,
        "revision": settings.revision,
        "tokenizer_revision": settings.revision,
        "served_model_name": [settings.base_name],
        "enable_lora": True,
        "max_loras": settings.engine.max_loras,
        "max_lora_rank": settings.engine.max_lora_rank,
        "dtype": settings.engine.dtype,
        "max_model_len": settings.engine.max_model_len,
        "enforce_eager": settings.engine.enforce_eager,
        "tensor_parallel_size": settings.engine.tensor_parallel_size,
        "gpu_memory_utilization": settings.engine.gpu_memory_utilization,
        "enable_prompt_tokens_details": True,
    }


def _check_extra(name: str, known: Any) -> None:
    if name not in known:
        near = difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.5)
        hint = (
            f"did you mean {near[0]}?" if near else "names are those of vLLM's EngineArgs, e.g. max_num_seqs"
        )
        raise ConfigError(f"engine.extra_args.{name}: vLLM has no such argument", hint=hint)


def _as_words(action: Any, name: str, value: Any) -> list[str]:
    """The value as command-line words; nothing for None, which means vLLM's default."""
    flag = next(option for option in action.option_strings if option.startswith("--"))
    if value is None:
        return []
    if action.nargs == 0:
        return _switch(action, flag, name, value)
    if isinstance(value, list | tuple) and action.nargs in ("+", "*"):
        return [flag, *(_item(name, item) for item in value)]
    if isinstance(value, bool | list | tuple | dict):
        return [f"{flag}={json.dumps(value)}"]
    return [f"{flag}={value}"]


def _item(name: str, item: object) -> str:
    """One word of a list: it must not pass for an argument, which would go past what is checked."""
    if isinstance(item, str) and item.startswith("-"):
        raise ConfigError(
            f"engine.extra_args.{name}: {item!r} begins with '-'",
            hint="give arguments by their names, one each",
        )
    return str(item)


def _switch(action: Any, flag: str, name: str, value: Any) -> list[str]:
    if not isinstance(value, bool):
        raise ConfigError(f"engine.extra_args.{name} is {value!r}", hint="it is a switch: true or false")
    if value:
        return [flag]
    off = next((option for option in action.option_strings if option.startswith("--no-")), None)
    return [off] if off else []  # a switch without an off form is off by default


def _parser() -> Any:
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    for name in _ARG_MODULES:
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or "?"):
                raise
            continue
        parser = module.make_arg_parser(FlexibleArgumentParser(prog="vllm"))
        parser.error = _refuse  # argparse would print its usage and end the process
        return parser
    raise EngineError(
        f"this vLLM has none of {', '.join(_ARG_MODULES)}", hint="install a supported release: 0.26 to 0.33"
    )


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"vLLM refuses the engine settings: {message}", hint="see engine and engine.extra_args")
