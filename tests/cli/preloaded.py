"""What ``s3lora-serve`` imports on its way, so that a child of the nursery finds it there."""

from __future__ import annotations

import fastapi
import torch
import transformers.models.auto.modeling_auto
import transformers.models.llama.modeling_llama
import uvicorn.protocols.http.auto

from s3lora_serve.adapters import admission, base_model
from s3lora_serve.cli import admit, banner, launch
from s3lora_serve.engine import vllm_features
from s3lora_serve.runtime import service
from s3lora_serve.server import admin, app

__all__ = [
    "admin",
    "admission",
    "admit",
    "app",
    "banner",
    "base_model",
    "fastapi",
    "launch",
    "service",
    "torch",
    "transformers",
    "uvicorn",
    "vllm_features",
]
