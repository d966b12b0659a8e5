"""Desired state and every decision, chained, in one SQLite file."""
