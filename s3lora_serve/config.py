"""planners.yaml as typed, frozen settings."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from s3lora_serve.errors import ConfigError

ENGINE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vllm/config/lora.py accepts no other max_lora_rank
PLANNER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdaptiveRule(_Section):
    """Prune modules whose robust z-score within the adapter exceeds ``z``, at most ``max_share`` of them."""

    z: float = Field(3.5, gt=0)
    max_share: float = Field(0.25, gt=0, le=1)


class PolicyConfig(_Section):
    """How a planner's modules are scored and what happens to the sharp ones. The default is the paper's."""

    scorer: Literal["mas-svd", "svd", "spsvd", "reference", "random"] = "mas-svd"
    top: int | None = Field(None, ge=0, description="prune this many of the highest-scoring modules")
    threshold: float | None = Field(None, description="prune every module that scores above this")
    adaptive: AdaptiveRule | None = None
    action: Literal["prune", "observe", "reject"] = Field(
        "prune", description="prune; observe: score and report only; reject: refuse what would have been pruned"
    )
    seed: int = Field(0, ge=0, description="seed of the random scorer")

    @model_validator(mode="before")
    @classmethod
    def _default_rule(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            given = [k for k in ("top", "threshold", "adaptive") if data.get(k) is not None]
            if len(given) > 1:
                raise ValueError(f"give one of top, threshold, adaptive, not {' and '.join(given)}")
            if not given:
                return {**data, "top": 10}
        return data

    @model_validator(mode="after")
    def _reject_needs_a_bar(self) -> PolicyConfig:
        if self.action == "reject" and self.top:
            raise ValueError("action: reject with top would refuse every adapter; use threshold or adaptive")
        return self


class LimitsConfig(_Section):
    """What an adapter may be at most before it is refused."""

    max_adapter_mib: float = Field(2048, gt=0)
    max_files: int = Field(64, gt=0)


class PlannerConfig(_Section):
    """One public planner name and the adapter behind it."""

    source: str = Field(description="local folder, hf://org/name[@revision] or any fsspec URL")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="expected digest of the source's weights file")
    description: str = ""
    policy: PolicyConfig | None = Field(None, description="overrides the fleet's policy as a whole")


class EngineConfig(_Section):
    """The vLLM engine. Unset values are vLLM's own defaults."""

    max_loras: int = Field(4, ge=1)
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int | None = Field(None, ge=64)
    enforce_eager: bool = False
    tensor_parallel_size: int = Field(1, ge=1)
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    cpu_kv_cache_gib: int = Field(1, ge=1, description="KV cache of the CPU engine, GiB")
    extra_args: dict[str, Any] = Field(default_factory=dict, description="further vLLM engine arguments, by their Python names")


class ServerConfig(_Section):
    """Where to listen and who may ask."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_key_env: str = Field("S3LORA_API_KEY", description="environment variable that holds the API key")
    max_body_mib: float = Field(4, gt=0)


class StoreConfig(_Section):
    """Where published revisions live."""

    path: Path = Path(".s3lora/store")


class Config(_Section):
    """A whole planners.yaml."""

    base_model: str = Field(description="'demo', a local folder, or a Hugging Face id")
    base_model_revision: str | None = None
    planners: dict[str, PlannerConfig] = Field(min_length=1)
    policy: PolicyConfig = Field(default_factory=lambda: PolicyConfig())
    limits: LimitsConfig = LimitsConfig()
    engine: EngineConfig = EngineConfig()
    server: ServerConfig = ServerConfig()
    store: StoreConfig = StoreConfig()

    @field_validator("planners")
    @classmethod
    def _names(cls, planners: dict[str, PlannerConfig]) -> dict[str, PlannerConfig]:
        for name in planners:
            if not PLANNER_NAME.fullmatch(name):
                raise ValueError(f"planner name {name!r}: use a-z, 0-9, '.', '_' and '-', starting with a letter or digit")
        return planners

    def policy_of(self, planner: str) -> PolicyConfig:
        """The planner's own policy, or the fleet's."""
        return self.planners[planner].policy or self.policy
