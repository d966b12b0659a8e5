"""Adapters from folders, the Hugging Face Hub and URLs into a private copy."""
