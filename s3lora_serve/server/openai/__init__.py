"""/v1/chat/completions, /v1/completions and /v1/responses, answered by the engine's own application."""
