"""The annotated tree of docs/architecture.md (`make tree`): every folder, and the files of the data path.

A folder's line is the first one of its ``__init__.py``, a file's that of its docstring.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("planners", "s3lora_serve") for path in (ROOT / package).rglob("*.py"))
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- tree -->\n", "<!-- /tree -->"
# What stands on nothing first, then the data path, then what puts it together.
ORDER = (
    "storage",
    "spectral",
    "adapters",
    "fetch",
    "peft",
    "evidence",
    "engine",
    "vllm",
    "fake",
    "judging",
    "safety",
    "guard",
    "exam",
    "fleet",
    "serving",
    "checks",
    "control",
    "orders",
    "journal",
    "service",
    "server",
    "plans",
    "openai",
    "admin",
    "launch",
    "cli",
    "terminal",
    "evaluation",
    "measuring",
    "statistics",
    "report",
    "metrics",
    "config",
    "demo",
)
# Files by which an adapter, a request, a swap and an evaluation pass, by folder; other names say enough.
_LISTED: dict[str, tuple[str, ...]] = {
    "s3lora_serve": ("errors",),
    "s3lora_serve/spectral": ("scorers", "prune_policy"),
    "s3lora_serve/adapters": ("admission", "verify", "store", "lineage"),
    "s3lora_serve/adapters/fetch": ("sources",),
    "s3lora_serve/adapters/peft": ("peft_format",),
    "s3lora_serve/adapters/evidence": ("gather",),
    "s3lora_serve/engine": ("port", "in_flight"),
    "s3lora_serve/engine/vllm": ("vllm_engine", "vllm_errors"),
    "s3lora_serve/engine/fake": ("fake_engine",),
    "s3lora_serve/config": ("settings", "policy", "plans", "engine", "listeners", "live", "load"),
    "s3lora_serve/judging": ("suite", "refusal", "judge", "outcomes"),
    "s3lora_serve/safety/guard": ("guard_question", "guarding", "base_judge"),
    "s3lora_serve/fleet": ("fleet", "deployment", "states", "planner", "leases", "routing"),
    "s3lora_serve/serving": (
        "acquire",
        "planning",
        "plan_prompt",
        "plan_verdict",
        "leased_stream",
        "local_replica",
        "loading",
        "loader",
        "slot_allocator",
        "engine_supervisor",
        "shadow",
    ),
    "s3lora_serve/serving/checks": ("check", "effect", "trial", "examining", "exam_check"),
    "s3lora_serve/control": (
        "steps",
        "operations",
        "auto_rollback",
        "rollback_rules",
        "recovery",
        "audit",
        "replica_port",
    ),
    "s3lora_serve/control/orders": ("orders", "execution", "swap", "rollback", "canary", "promote", "apply"),
    "s3lora_serve/control/journal": ("entry", "journal", "derived", "reconciliation"),
    "s3lora_serve/service": ("planner_service",),
    "s3lora_serve/server": ("app", "concurrency", "catalogue", "health", "middleware"),
    "s3lora_serve/server/access": ("auth", "access_log"),
    "s3lora_serve/server/plans": ("plan_route",),
    "s3lora_serve/server/openai": ("openai_route", "plan_chat", "stamp"),
    "s3lora_serve/server/admin": ("admin_app", "order_routes", "state", "state_events"),
    "s3lora_serve/launch": ("serve", "launch", "resolve", "admit_all"),
    "s3lora_serve/cli": ("main",),
    "s3lora_serve/evaluation/measuring": ("run", "engine_subject", "records_file"),
    "s3lora_serve/evaluation/statistics": ("summary",),
    "s3lora_serve/evaluation/report": ("finding", "page"),
    "planners": ("plan", "mcp"),
    "planners/tools": ("tool_spec", "planner_input"),
    "planners/text": ("stream",),
    "planners/grammar": ("plan_grammar",),
    "planners/client": ("client",),
}
DATA_PATH = [f"{folder}/{name}.py" for folder, names in _LISTED.items() for name in names]


def module_of(path: Path) -> str:
    """The dotted module of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def tree() -> str:
    """Both packages, a line a folder, folders before files."""
    lines = [line for package in ("s3lora_serve", "planners") for line in _folder(ROOT / package, "")]
    return "\n".join(["```", *lines, "```", ""])


def written() -> str:
    """What stands in the document now."""
    return DOCUMENT.read_text().split(BEGIN)[1].split(END)[0]


def write() -> None:
    """Put the current tree into the document."""
    before, rest = DOCUMENT.read_text().split(BEGIN)
    DOCUMENT.write_text(before + BEGIN + tree() + END + rest.split(END, 1)[1])


def purpose(file: Path) -> str:
    """The first line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    return docstring.splitlines()[0].rstrip(".:").replace("``", "") if docstring else ""


def _folder(folder: Path, indent: str) -> list[str]:
    lines = [f"{indent}{folder.name + '/':<{26 - len(indent)}} {purpose(folder / '__init__.py')}".rstrip()]
    inner = indent + "  "
    folders = [p for p in folder.iterdir() if (p / "__init__.py").exists()]
    for child in sorted(
        folders, key=lambda p: (ORDER.index(p.name) if p.name in ORDER else len(ORDER), p.name)
    ):
        lines += _folder(child, inner)
    for file in sorted(folder.glob("*.py")):
        if file.relative_to(ROOT).as_posix() in DATA_PATH:
            lines.append(f"{inner}{file.name:<{26 - len(inner)}} {purpose(file)}")
    return lines


if __name__ == "__main__":
    write()
