"""How much of the product a request passes through, and how the tree is built.

    .venv/bin/python benchmarks/structure/run.py > benchmarks/structure/DATE.md

The largest circle is the largest set of files that import each other around; lazy imports and those for types
alone count.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from datetime import UTC, datetime

from passes import Pass, passes
from tree_shape import tree

# At commit 3895ae5, before the tree was made: files entered, changes of file.
BEFORE = {"swap": Pass(48, 614), "rollback": Pass(35, 267), "plan": Pass(51, 287), "chat": Pass(43, 228)}
BEFORE_TREE = {"files": 298, "lines": 33_700, "largest folder": 44, "largest circle": 4}


def main() -> None:
    """Print a Markdown table."""
    found, shape = asyncio.run(passes()), tree()
    print(f"# What a request passes through, {datetime.now(UTC):%Y-%m-%d}\n")
    print(f"Demo planners, fake engine, Python {platform.python_version()}; `before` is commit 3895ae5.\n")
    print("| one | files before | files now | changes of file before | now |\n|---|---|---|---|---|")
    for name, now in found.items():
        print(f"| {name} | {BEFORE[name].files} | {now.files} | {BEFORE[name].changes} | {now.changes} |")
    print("\n| tree | before | now |\n|---|---|---|")
    for name, count in shape.items():
        print(f"| {name} | {BEFORE_TREE.get(name, '')} | {count} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
