"""How long a plan's grammar takes to compile, cold and again, and what its mask costs a token.

    python benchmarks/plans/compile.py --out FOLDER

xgrammar as vLLM calls it (v1/structured_output/backend_xgrammar.py), one thread, with the demo model's
tokenizer (49,152 tokens). First: in a compiler that has compiled nothing. Warm: in one that has compiled what
the server does at its start (s3lora_serve/serving/warmup.py). Again: the same text a second time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xgrammar
from transformers import AutoTokenizer

from planners import Plan, PlanStep, ToolSpec, plan_grammar, render
from s3lora_serve.demo.demo_base import prepare_demo_base
from s3lora_serve.serving.warmup import SAMPLES

STEPS = (1, 8, 32)
SCHEMA = {
    "type": "object",
    "properties": {
        "query": {"type": "string"},
        "limit": {"type": "integer"},
        "order": {"enum": ["newest", "oldest"]},
    },
    "required": ["query"],
}


def tool_sets() -> dict[str, list[ToolSpec]]:
    """Few and many tools, with text and with JSON arguments."""
    text = [ToolSpec(name=f"Tool{n}") for n in range(64)]
    json_tools = [ToolSpec(name=f"Tool{n}", parameters=SCHEMA) for n in range(8)]
    return {"2 tools": text[:2], "64 tools": text, "2 JSON tools": json_tools[:2], "8 JSON tools": json_tools}


def measure(tools: list[ToolSpec], steps: int, info: xgrammar.TokenizerInfo, repeats: int) -> dict[str, Any]:
    """Medians over fresh compilers, milliseconds; the mask's cost is over every token of one long plan."""
    grammar = plan_grammar(tools, steps)
    taken: dict[str, list[float]] = {"first": [], "warm": [], "again": []}

    def compiled_in(compiler: xgrammar.GrammarCompiler, column: str) -> Any:
        begun = time.perf_counter()
        compiled = compiler.compile_grammar(grammar)
        taken[column].append(time.perf_counter() - begun)
        return compiled

    for _ in range(repeats):
        compiled_in(xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=True), "first")
        compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=True)
        for offered in SAMPLES:
            compiler.compile_grammar(plan_grammar(offered, 8))
        compiled = compiled_in(compiler, "warm")
        compiled_in(compiler, "again")
    medians = {column: statistics.median(values) * 1e3 for column, values in taken.items()}
    return {**medians, "characters": len(grammar), "compiled": compiled}


def mask_us(compiled: Any, text: str, tokenizer: Any, vocabulary: int) -> tuple[float, float]:
    """Median and longest microseconds that one token's mask takes, along a plan that the grammar accepts."""
    matcher = xgrammar.GrammarMatcher(compiled)
    bitmask = xgrammar.allocate_token_bitmask(1, vocabulary)
    took = []
    for token in tokenizer.encode(text, add_special_tokens=False):
        begun = time.perf_counter()
        matcher.fill_next_token_bitmask(bitmask)
        took.append(time.perf_counter() - begun)
        if not matcher.accept_token(token):
            raise SystemExit(f"the grammar refuses {tokenizer.decode([token])!r}")
    return statistics.median(took) * 1e6, max(took) * 1e6


def sample(tools: list[ToolSpec], steps: int) -> str:
    """A plan that uses every earlier result, in tools of both kinds."""
    made = []
    for n in range(1, steps + 1):
        tool = tools[n % len(tools)]
        asked = f"who wrote it, given #E{n - 1}" if n > 1 else "who wrote Hamlet"
        given = {"arguments": {"query": asked, "limit": 3}} if tool.parameters else {"tool_input": asked}
        made.append(PlanStep(id=f"#E{n}", thought="Look it up in the results.", tool=tool.name, **given))
    return render(Plan(steps=tuple(made)))


def main() -> None:
    """Measure, and write OUT/compile.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    folder = prepare_demo_base()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
    lines = [
        f"xgrammar {version('xgrammar')}, {vocabulary} tokens, texts up to 240 characters:",
        "",
        "| tools | steps | grammar, characters | first, ms | warm, ms | again, ms |"
        " mask, µs, median | longest |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, tools in tool_sets().items():
        for steps in STEPS:
            found = measure(tools, steps, info, options.repeats)
            median, longest = mask_us(found["compiled"], sample(tools, steps), tokenizer, vocabulary)
            lines.append(
                f"| {name} | {steps} | {found['characters']} | {found['first']:.0f} | {found['warm']:.0f} |"
                f" {found['again']:.2f} | {median:.0f} | {longest:.0f} |"
            )
            print(lines[-1], flush=True)
    (options.out / "compile.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
