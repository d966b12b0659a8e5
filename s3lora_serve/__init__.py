"""s3lora-serve: verify, prune and serve LoRA agent planners on vLLM."""

__version__ = "0.1.0"
