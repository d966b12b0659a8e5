"""Cells of a run, asked on an engine, recorded line by line."""
