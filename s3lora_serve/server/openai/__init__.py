"""/v1/chat/completions and /v1/completions, answered by the engine's own application."""
