"""``s3lora-serve`` with the fake engine in vLLM's place: the real command in every other respect.

Variables that only this double reads: NO_EFFECT names slots that shall change nothing, DIE_AT the moment
(``deaths.py``) at which the process is killed. With REFUSES the base model refuses what has that word in it,
and with REFUSES_ATTACKS the shipped attacks, too; then the engine passes for vLLM. COMPLIES names the planner
whose adapters refuse nothing, where all else refuses what has "bomb" in it; with MENDED_AT only while fewer
of their modules are pruned.
"""

from __future__ import annotations

import json
import os
import sys

from examined_engine import ExaminedEngine
from faulty_engine import FaultyEngine
from refusing_engine import RefusingEngine

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.judging.question_sets import shipped_questions
from s3lora_serve.launch import engine_choice, serve


class AlignedEngine(RefusingEngine):
    """Passes for vLLM: a fake engine's base model is tested by nobody, since its answers are made up."""

    @property
    def kind(self):
        return EngineKind.VLLM


class PrunedEngine(ExaminedEngine):
    """Knows how many modules of what it loaded were pruned."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self._paths = {}

    async def load(self, slot):
        self._paths[slot.name] = slot.path
        await super().load(slot)

    def pruned(self, name):
        """Of the slot of this name, by its published lineage."""
        return len(json.loads((self._paths[name] / "lineage.json").read_text())["pruned"])


async def start_fake(settings, say):
    """An engine that starts at once."""
    say("starting")
    made = {"base_name": settings.base_name, "max_loras": settings.engine.max_loras}
    if (word := os.environ.get("REFUSES")) is not None:
        told = os.environ.get("REFUSES_ATTACKS")
        attacks = [prompt for each in shipped_questions().attacks for prompt in each.prompts] if told else []
        return AlignedEngine(word, *attacks, max_model_len=100_000, **made)
    if (planner := os.environ.get("COMPLIES")) is not None:
        least = int(os.environ.get("MENDED_AT", sys.maxsize))

        def refuses(subject, prompt):
            complies = subject.startswith(f"{planner}@") and examined.pruned(subject) < least
            return "bomb" in prompt and not complies

        examined = PrunedEngine(refuses, max_model_len=100_000, **made)
        return examined
    engine = FaultyEngine(**made)
    if pattern := os.environ.get("NO_EFFECT"):
        engine.no_effect(pattern)
    return engine


def main(*arguments: str) -> None:
    """The command with these arguments."""
    engine_choice.start_vllm = start_fake
    if moment := os.environ.get("DIE_AT"):
        from deaths import Deaths

        Deaths(moment).install()
    sys.argv = ["s3lora-serve", *arguments]
    serve.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
