"""Prometheus metrics, counted per planner."""
