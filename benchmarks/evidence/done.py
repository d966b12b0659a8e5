"""What a job has measured so far, so that one that was interrupted goes on where it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Done:
    """What a job has measured so far, a line each: a job that was interrupted goes on after the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        path.write_text("".join(whole), encoding="utf-8")
        self._known = dict(json.loads(line) for line in whole)

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        """What is known under the name; measured now if nothing is."""
        if name not in self._known:
            self._known[name] = measure()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, self._known[name]]) + "\n")
        return self._known[name]
