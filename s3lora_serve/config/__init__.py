"""planners.yaml: typed settings (``settings`` and a file for each group of sections), read by ``load``."""

from s3lora_serve.config.engine import LEAST_RANK, EngineConfig, MaxLoraRank
from s3lora_serve.config.exam import ExamConfig
from s3lora_serve.config.guard import GuardConfig, GuardEndpointConfig
from s3lora_serve.config.listeners import AdminConfig, ServerConfig
from s3lora_serve.config.live import RollbackConfig, SlotsConfig, StateConfig, SwapConfig
from s3lora_serve.config.load import json_schema, load_config
from s3lora_serve.config.plans import PlansConfig, ToolConfig
from s3lora_serve.config.policy import (
    AdaptiveRule,
    AlignmentConfig,
    AnomalyConfig,
    PolicyConfig,
    ValidatedRule,
)
from s3lora_serve.config.settings import (
    PLANNER_NAME,
    Config,
    LimitsConfig,
    PlannerConfig,
    SourcesConfig,
    StoreConfig,
)

__all__ = [
    "LEAST_RANK",
    "PLANNER_NAME",
    "AdaptiveRule",
    "AdminConfig",
    "AlignmentConfig",
    "AnomalyConfig",
    "Config",
    "EngineConfig",
    "ExamConfig",
    "GuardConfig",
    "GuardEndpointConfig",
    "LimitsConfig",
    "MaxLoraRank",
    "PlannerConfig",
    "PlansConfig",
    "PolicyConfig",
    "RollbackConfig",
    "ServerConfig",
    "SlotsConfig",
    "SourcesConfig",
    "StateConfig",
    "StoreConfig",
    "SwapConfig",
    "ToolConfig",
    "ValidatedRule",
    "json_schema",
    "load_config",
]
