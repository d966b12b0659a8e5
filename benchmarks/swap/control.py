"""The detector is tried before it is trusted: revisions must be recognised, and a known fault seen."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from answers import REVISIONS_OF
from load import Load
from stock import Stock

if TYPE_CHECKING:
    from column import Setting
    from telltale import Words


async def control(setting: Setting, words: Words, port: int) -> dict[str, Any]:
    """Against vLLM's own server: which revisions answer with their own word in mixed batches, and what is
    seen when weights change in place under one path, so that the prefix cache keeps what the old ones wrote.
    """
    column = Stock(setting, port, in_place=True)
    column.process.start()
    try:
        revisions = [each for group in REVISIONS_OF.values() for each in group]
        names = {f"r{revision:02d}": revision for revision in revisions}
        await column.prepare(names)
        load = Load(column.process.url, column.base_model)
        answers = []
        for start in range(0, len(revisions), 4):  # four adapters and the base model in one batch
            batch = [*list(names)[start : start + 4], None]
            answers += await asyncio.gather(*(load.once(name, tokens=16, limit=120) for name in batch))
        right = {
            answer.planner
            for answer in answers
            if answer.planner and set(answer.text.split()) == {words.of(names[answer.planner])}
        }
        base = [answer for answer in answers if answer.planner is None]
        return {
            "revisions": len(revisions),
            "right": len(right),
            "wrong": [answer.brief() for answer in answers if answer.planner and answer.planner not in right],
            "base": [answer.text for answer in base[:1]],
            "base_with_words": sum(
                any(word in words.meaning for word in answer.text.split()) for answer in base
            ),
            **await _same_path(setting, words, column, load),
        }
    finally:
        column.process.stop()


async def _same_path(setting: Setting, words: Words, column: Stock, load: Load) -> dict[str, Any]:
    """What is seen after new weights were written over the old ones' files and loaded in place."""
    path = setting.work / "overwritten"
    over = Stock.__new__(Stock)
    over.__dict__.update(column.__dict__)
    over._setting = replace(setting, adapters=path)
    place = path / "r00"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(setting.adapter(0), place)
    await over.swap("same-path", 0, "revision")
    await load.once("same-path", tokens=16)
    shutil.copy(setting.adapter(1) / "adapter_model.safetensors", place)
    await over.swap("same-path", 0, "revision")
    answer = await load.once("same-path", tokens=16)
    seen = Counter(words.meaning.get(word) for word in answer.text.split())
    told = [
        f"{count} tokens with weights of r{pair[0]:02d} and a cache of r{pair[1]:02d}"
        if pair
        else f"{count} unknown"
        for pair, count in seen.most_common()
    ]
    caught = any(pair and pair[0] != pair[1] for pair in seen)
    return {"same_path": ", ".join(told) or answer.error, "caught": caught}
