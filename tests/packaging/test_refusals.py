"""Every refusal of an adapter says what to do next."""

from __future__ import annotations

import ast

from source_tree import ROOT, SOURCES

from s3lora_serve import errors


def refusals():
    """(place, message, hint) of each refusal that is made by name; a hint that is not given is None."""
    kinds = {name for name, kind in vars(errors).items() if _is_refusal(kind)}
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] != "s3lora_serve" or path.name == "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                hint = next((word.value for word in node.keywords if word.arg == "hint"), None)
                place = f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
                yield place, ast.unparse(node.args[0]), None if hint is None else ast.unparse(hint)


def _is_refusal(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, errors.AdapterError)


def test_every_refusal_has_a_next_step():
    """A hint, or a limit's setting in the message itself."""
    found = list(refusals())
    assert len(found) > 90
    assert [
        place
        for place, message, hint in found
        if hint in (None, "''") and not ("raise limits." in message or "raise engine." in message)
    ] == []
