"""A LoRA update scored by its spectrum, and which modules to prune: pure functions of tensors."""
