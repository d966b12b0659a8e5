"""What each value of engine.max_lora_rank costs in memory, for ``s3lora config check``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.errors import S3LoRAError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.config import Config, EngineConfig


def rank_lines(config: Config) -> Iterator[str]:
    """The rank and its price; starts nothing and fetches nothing."""
    section = config.engine
    if section.max_lora_rank is None:
        yield "engine.max_lora_rank is not set: a start takes the smallest that fits its planners"
    try:
        elements, exact = _elements(config)
    except S3LoRAError:
        yield "what ranks cost is not known before the base model's config.json is on this machine"
        return
    sizes = ", ".join(f"{_size(section, elements, rank)} up to rank {rank}" for rank in _shown(section))
    yield f"{section.max_loras} slots take {sizes}{'' if exact else ', without embeddings and heads'}"


def _shown(section: EngineConfig) -> list[int]:
    """The rank that is set, or the least that is chosen, and every step up."""
    from s3lora_serve.adapters.verify import RANKS
    from s3lora_serve.config import LEAST_RANK

    return [rank for rank in RANKS if rank >= (section.max_lora_rank or LEAST_RANK)]


def _elements(config: Config) -> tuple[int, bool]:
    """Of the buffers for one slot and rank, and whether the engine itself said so."""
    from s3lora_serve.launch.resolve import engine_names, to_base_model

    model = to_base_model(config.base_model, config.base_model_revision, lambda *_: None, fetch=False)
    served = engine_names().known(model.spec, config.engine.extra_args)
    if served is not None and served.elements is not None:
        return served.elements, True
    return _of_shapes(model.spec), False


def _of_shapes(spec: BaseModelSpec) -> int:
    return sum(out + inner for out, inner in spec.shapes.values())


def _size(section: EngineConfig, elements: int, rank: int) -> str:
    each = 4 if section.dtype == "float32" else 2
    mib = section.max_loras * rank * elements * each / 2**20
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
