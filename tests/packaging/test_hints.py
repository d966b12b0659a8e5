"""What an error says next is in words of no face: a shell's commands stand apart; HTTP shows the rest."""

from __future__ import annotations

import ast
import re

from source_tree import ROOT, SOURCES

FACES = ("cli", "launch", "terminal", "evaluation", "demo", "config", "engine")
SHELL = re.compile(r"\bs3lora(-serve)? [a-z-]+|(^|\s)--[a-z]")


def hints():
    """(file, text) of each text that is given as ``hint`` below the faces; of f-strings the fixed parts."""
    for path in SOURCES:
        part = path.relative_to(ROOT).parts[1]
        if path.relative_to(ROOT).parts[0] != "s3lora_serve" or part in FACES:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                for text in ast.walk(node.value):
                    if isinstance(text, ast.Constant) and isinstance(text.value, str):
                        yield path.relative_to(ROOT).as_posix(), text.value


def test_no_hint_below_the_faces_names_a_shell_command():
    """``command`` is for that; the same error reaches clients over HTTP, who have no shell there."""
    found = list(hints())
    assert len(found) > 50
    assert [(file, text) for file, text in found if SHELL.search(text)] == []
