"""A deterministic engine without a model: `--engine fake`, and tests."""
