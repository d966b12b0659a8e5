"""vLLM behind the port; the only folder that imports vllm."""
