"""What ``s3lora-serve`` imports on its way, so that a child of the nursery finds it there."""

from __future__ import annotations

import fastapi
import torch
import transformers.models.auto.modeling_auto
import transformers.models.llama.modeling_llama
import uvicorn.protocols.http.auto

from s3lora_serve.adapters import admission, base_model
from s3lora_serve.engine.vllm import vllm_features
from s3lora_serve.launch import admit_all, banner, launch
from s3lora_serve.server import app
from s3lora_serve.server.admin import admin_app
from s3lora_serve.service import planner_service

__all__ = [
    "admin_app",
    "admission",
    "admit_all",
    "app",
    "banner",
    "base_model",
    "fastapi",
    "launch",
    "planner_service",
    "torch",
    "transformers",
    "uvicorn",
    "vllm_features",
]
