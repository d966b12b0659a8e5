"""How often a plan is valid: {grammar, JSON schema, unconstrained} × {planner, base model} × temperature.

    python benchmarks/plans/validity.py --server http://127.0.0.1:8000 --data FOLDER --out FOLDER

Asks a running server that has the two demo planners. Every cell sends the same prompt, rendered by the
planners package, through ``/v1/chat/completions`` with the same token limit. ``--data`` holds fireact/ and
gsm8k/. Answers go to OUT/validity.jsonl as they come; what is there already is not asked again.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from questions import tasks, tools
from verdict import VALID, faults, interval, mended, schema, verdict

from planners import PlannerInput, render_messages

PLANNERS = ("hotpot-planner", "gsm8k-planner")
MODES = ("grammar", "schema", "none")
MAX_STEPS = 8


@dataclass(frozen=True)
class Cell:
    """One kind of request."""

    planner: str
    weights: str  # planner or base
    offer: str  # standard or unseen tools
    mode: str
    temperature: float


CELLS = [
    Cell(*values)
    for values in itertools.product(PLANNERS, ("planner", "base"), ("standard", "unseen"), MODES, (0.0, 1.0))
]


def body(cell: Cell, request: PlannerInput, base: str, seed: int, max_tokens: int) -> dict[str, Any]:
    """The chat request: only the constraint differs between the modes."""
    plan: dict[str, Any] = {
        "model": cell.planner if cell.weights == "planner" else base,
        "messages": render_messages(request),
        "temperature": cell.temperature,
        "seed": seed,
        "max_tokens": max_tokens,
    }
    if cell.mode == "grammar":
        offered = [tool.model_dump(exclude_none=True) for tool in request.tools]
        plan["messages"] = [{"role": "user", "content": request.task}]  # the server renders the same
        plan["s3lora"] = {"plan": {"tools": offered, "max_steps": request.max_steps}}
    elif cell.mode == "schema":
        wanted = {"name": "plan", "schema": schema(request)}
        plan["response_format"] = {"type": "json_schema", "json_schema": wanted}
    return plan


async def ask(
    http: httpx.AsyncClient, cell: Cell, task: str, number: int, base: str, max_tokens: int
) -> dict[str, Any]:
    """One answer and its verdict."""
    request = PlannerInput(task=task, tools=tools(cell.planner, cell.offer), max_steps=MAX_STEPS)
    while True:
        try:
            answer = await http.post(
                "/v1/chat/completions", json=body(cell, request, base, number, max_tokens)
            )
        except httpx.ReadError:  # a connection that the server closed while it was idle
            continue
        if answer.status_code != 429:
            break
        await asyncio.sleep(float(answer.headers.get("retry-after", "1")))
    if answer.status_code != 200:
        return {
            **asdict(cell),
            "number": number,
            "verdict": f"status {answer.status_code}",
            "text": answer.text,
        }
    found = answer.json()
    choice = found["choices"][0]
    text = choice["message"]["content"] or ""
    return {
        **asdict(cell),
        "number": number,
        "verdict": verdict(text, choice["finish_reason"], request, cell.mode),
        "mended": mended(text, request) if cell.mode == "none" else None,
        "tokens": found["usage"]["completion_tokens"],
        "text": text,
    }


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every cell, cell by cell."""
    path = options.out / "validity.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    have = {(tuple(row[key] for key in asdict(CELLS[0])), row["number"]) for row in done}
    limits = httpx.Limits(max_connections=options.concurrency)
    async with httpx.AsyncClient(base_url=options.server, timeout=600, limits=limits) as http:
        models = (await http.get("/v1/models")).raise_for_status().json()["data"]
        base = next(model["id"] for model in models if model["parent"] is None)
        with path.open("a") as file:
            for cell in CELLS:
                questions = tasks(cell.planner, options.data, options.questions)
                missing = [
                    (number, task)
                    for number, task in enumerate(questions)
                    if (tuple(asdict(cell).values()), number) not in have
                ]
                begun = time.perf_counter()
                asked = [ask(http, cell, task, number, base, options.max_tokens) for number, task in missing]
                for row in await asyncio.gather(*asked):
                    done.append(row)
                    file.write(json.dumps(row) + "\n")
                file.flush()
                rows = of(done, cell)
                valid = sum(row["verdict"] == VALID for row in rows)
                print(f"{cell}: {valid} of {len(rows)} in {time.perf_counter() - begun:.0f} s", flush=True)
    return done


def of(rows: list[dict[str, Any]], cell: Cell) -> list[dict[str, Any]]:
    """The rows of one cell."""
    return [row for row in rows if all(row[key] == value for key, value in asdict(cell).items())]


def table(rows: list[dict[str, Any]]) -> str:
    """A row a cell, as Markdown."""
    columns = "planner|weights|tools|constraint|temp.|plans|valid|95 %|after mending|tokens|first fault"
    lines = [_row(*columns.split("|")), _row(*["---"] * 4, *["---:"] * 3, "---", "---:", "---:", "---")]
    for cell in CELLS:
        if not (found := of(rows, cell)):
            continue
        verdicts = [row["verdict"] for row in found]
        valid = verdicts.count(VALID)
        low, high = interval(valid, len(found))
        mendable = "–"
        if cell.mode == "none":
            share = sum(row["verdict"] == VALID or bool(row.get("mended")) for row in found) / len(found)
            mendable = f"{share:.1%}"
        lines.append(
            _row(
                cell.planner,
                "adapter" if cell.weights == "planner" else "base",
                cell.offer,
                {"grammar": "grammar", "schema": "JSON schema", "none": "none"}[cell.mode],
                f"{cell.temperature:g}",
                str(len(found)),
                f"{valid / len(found):.1%}",
                f"{low:.1%} to {high:.1%}",
                mendable,
                str(sorted(row.get("tokens", 0) for row in found)[len(found) // 2]),
                faults(verdicts),
            )
        )
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Ask, and write OUT/validity.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=200, help="of each planner")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=1024)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = asyncio.run(run(options))
    (options.out / "validity.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
