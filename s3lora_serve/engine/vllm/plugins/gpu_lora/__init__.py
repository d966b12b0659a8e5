"""LoRA on a GPU at a few per cent of a token: kernels in Triton, and the plugin that brings them into vLLM.

``plugin`` registers; ``adoption`` decides layer by layer; ``linear_op`` chooses a kernel by shape from
``shape_table``; each kernel is a file: ``fused_linear``, ``expand_add``, ``expand_silu``.
"""
