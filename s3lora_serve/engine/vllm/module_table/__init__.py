"""Which modules of a base model vLLM gives adapters: asked of its own loader, in a process that ends"""
