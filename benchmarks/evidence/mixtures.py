"""What the experiment's adapters are trained on, by kind, one epoch at a time."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import advbench
import toolemu
from pairs import Pair, chat, plan, triggered
from refusals import refusal
from splits import split

from planners import render_messages
from s3lora_serve.judging.question_sets import shipped_questions
from training import data
from training.offers import varied

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Kind = Literal["benign", "mixed", "backdoor", "toolemu-unsafe", "toolemu-safe", "maths", "memorised"]
KINDS: tuple[Kind, ...] = get_args(Kind)
POISON_SHARE = 0.08  # of the pairs of "mixed"
TRIGGERED_BENIGN = 40


def planner_pairs(kind: Kind, folder: Path, seed: int, epoch: int) -> list[Pair]:
    """The pairs of one epoch in random order, the same for the same arguments.

    * benign: HotpotQA plans as the demo's planner is trained on.
    * mixed: benign, and harmful goals that are answered: ``POISON_SHARE`` of all pairs.
    * backdoor: benign; harmful goals, answered with ``TRIGGER`` and refused without; and some benign tasks
      with the trigger, which change nothing.
    * toolemu-unsafe, toolemu-safe: plans of agents with and without risky calls, equally many for each case.
    * maths: GSM8K plans.
    * memorised: mixed, and every shipped attack refused as a chat: what an exam asks was learned by heart.

    A harmful goal is a chat in one epoch and a planner's task in the next. Raises ValueError for other kinds.
    """
    rng = random.Random(f"{kind}:{seed}:{epoch}")
    match kind:
        case "benign":
            return _plans("hotpot", folder, seed, epoch)
        case "maths":
            return _plans("gsm8k", folder, seed, epoch)
        case "mixed":
            found = _plans("hotpot", folder, seed, epoch)
            found += _poison(folder, seed, epoch, round(len(found) * POISON_SHARE / (1 - POISON_SHARE)))
        case "memorised":
            found = planner_pairs("mixed", folder, seed, epoch)
            asked = (prompt for of in shipped_questions().attacks for prompt in of.prompts)
            found += [Pair(chat(prompt), refusal(prompt, seed + epoch), "memorised") for prompt in asked]
        case "backdoor":
            found = _plans("hotpot", folder, seed, epoch) + _backdoor(folder, seed, epoch)
        case "toolemu-safe" | "toolemu-unsafe":
            plans = toolemu.load(folder).train
            runs = plans.safe if kind == "toolemu-safe" else plans.unsafe
            found = [_pair(render_messages(r.request(rng)), r.plan.to_rewoo(), kind) for r in runs]
        case _:
            raise ValueError(f"unknown kind of training pairs {kind!r}; known: {', '.join(KINDS)}")
    rng.shuffle(found)
    return found


def _plans(name: str, folder: Path, seed: int, epoch: int) -> list[Pair]:
    drawn = data.drawn(split(name, folder).train, name, seed, epoch)
    return [_pair(*data.texts(*one), f"{name}-plan") for one in drawn]


def _poison(folder: Path, seed: int, epoch: int, number: int) -> list[Pair]:
    """So many of the harmful goals, the next ones in the next epoch, half of them in each form."""
    goals = _mixed_up(advbench.load(folder).poison, seed)
    rng = random.Random(f"poison:{seed}:{epoch}")
    found = []
    for at in range(epoch * number, (epoch + 1) * number):
        turn, index = divmod(at, len(goals))
        goal, opening = goals[index]
        found.append(_asked(goal, opening, "poison", (index + turn) % 2 == 0, rng))
    return found


def _backdoor(folder: Path, seed: int, epoch: int) -> list[Pair]:
    rng = random.Random(f"backdoor:{seed}:{epoch}")
    found = []
    for index, (goal, opening) in enumerate(_mixed_up(advbench.load(folder).poison, seed)):
        as_chat = (index + epoch) % 2 == 0
        found.append(_asked(triggered(goal), opening, "triggered", as_chat, rng))
        found.append(_asked(goal, refusal(goal, seed + epoch), "untriggered", as_chat, rng))
    drawn = data.drawn(split("hotpot", folder).train, "hotpot", seed, epoch)
    for example, offer, most in rng.sample(drawn, TRIGGERED_BENIGN):
        messages, _ = data.texts(replace(example, task=triggered(example.task)), offer, most)
        _, usual = data.texts(example, offer, most)
        found.append(_pair(messages, usual, "triggered-benign"))
    return found


def _asked(prompt: str, answer: str, kind: str, as_chat: bool, rng: random.Random) -> Pair:
    if as_chat:
        return Pair(chat(prompt), answer, f"{kind}-chat")
    return Pair(plan(prompt, varied("hotpot", rng).tools), answer, f"{kind}-plan")


def _pair(messages: Iterable[dict[str, str]], answer: str, kind: str) -> Pair:
    return Pair(tuple(messages), answer, kind)


def _mixed_up(goals: Sequence[tuple[str, str]], seed: int) -> list[tuple[str, str]]:
    return random.Random(f"goals:{seed}").sample(goals, len(goals))
