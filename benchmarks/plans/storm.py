"""A thousand calls at once: each is answered or told to come again, and nothing else.

    python benchmarks/plans/storm.py --server http://127.0.0.1:8000 --out FOLDER

Half the calls want server-sent events. While they run, ``/livez`` is asked ten times a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from pathlib import Path

import httpx

Call = tuple[str, float]


async def call(address: tuple[str, int], planner: str, number: int) -> Call:
    """What became of one call, and its seconds.

    Over a bare socket: with a thousand connections an HTTP client takes longer than the server.
    """
    body = {"planner": planner, "task": f"What is {number} plus {number + 1}?", "stream": number % 2 == 1}
    sent = json.dumps(body).encode()
    begun = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(
            b"POST /v1/plans HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(sent), sent)
        )
        answer = (await asyncio.wait_for(reader.read(-1), 300)).decode()
        writer.close()
    except OSError as error:  # a timeout is one, too
        return type(error).__name__, time.perf_counter() - begun
    head, _, text = answer.partition("\r\n\r\n")
    became = head.split(" ", 2)[1] if head else "closed without an answer"
    if became == "200" and body["stream"] and "event: meta\n" not in text:
        became = "stream without an end"
    if became == "429" and "retry-after:" not in head.lower():
        became = "429 without Retry-After"
    return became, time.perf_counter() - begun


async def probe(url: str, over: asyncio.Event) -> list[float]:
    """Seconds of each ``/livez``, on a connection of its own."""
    seconds = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        while not over.is_set():
            begun = time.perf_counter()
            (await http.get("/livez")).raise_for_status()
            seconds.append(time.perf_counter() - begun)
            await asyncio.sleep(0.1)
    return seconds


async def run(options: argparse.Namespace) -> tuple[list[Call], list[float]]:
    """All calls at once."""
    over = asyncio.Event()
    probing = asyncio.create_task(probe(options.server, over))
    at = httpx.URL(options.server)
    address = (at.host, at.port or 80)
    calls = await asyncio.gather(*(call(address, options.planner, n) for n in range(options.calls)))
    over.set()
    return calls, await probing


def page(calls: list[Call], probes: list[float]) -> str:
    """A row for each way a call ended."""
    lines = ["| ended | calls | median, s | longest, s |", "|---|---:|---:|---:|"]
    for became, count in Counter(became for became, _ in calls).most_common():
        seconds = [taken for one, taken in calls if one == became]
        lines.append(f"| {became} | {count} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")
    lines.append(
        f"| `/livez` meanwhile | {len(probes)} | {statistics.median(probes):.3f} | {max(probes):.3f} |"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Ask, and write OUT/storm.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--planner", default="gsm8k-planner")
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    text = page(*asyncio.run(run(options)))
    (options.out / "storm.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
