"""planners.yaml: typed settings (``settings``) and how a file becomes them (``load``)."""

from s3lora_serve.config.load import json_schema, load_config
from s3lora_serve.config.settings import (
    PLANNER_NAME,
    AdaptiveRule,
    Config,
    EngineConfig,
    LimitsConfig,
    PlannerConfig,
    PolicyConfig,
    ServerConfig,
    StoreConfig,
)

__all__ = [
    "PLANNER_NAME",
    "AdaptiveRule",
    "Config",
    "EngineConfig",
    "LimitsConfig",
    "PlannerConfig",
    "PolicyConfig",
    "ServerConfig",
    "StoreConfig",
    "json_schema",
    "load_config",
]
