"""Adapters of other formats, made into PEFT folders: pickles in a locked process, MLX's safetensors."""
