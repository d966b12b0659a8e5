"""What vLLM loads in each process that it starts."""
