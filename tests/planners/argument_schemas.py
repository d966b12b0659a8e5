"""Schemas of a tool's arguments, as the tests write them."""

from __future__ import annotations


def one(schema, **more) -> dict:
    """The schema of an object with one optional property, ``a``."""
    return {"type": "object", "properties": {"a": schema}, **more}
