"""How often the rules are wrong and how fast they are right: computed exactly, and simulated."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from math import comb

import numpy as np

from s3lora_serve.config import RollbackConfig
from s3lora_serve.control.rollback_rules import LEVEL, Failed, Window, chance, verdict


@dataclass(frozen=True)
class Figures:
    """What a look after every request comes to."""

    alarm: float  # probability of an alarm at any of them
    median: float  # requests until an alarm, by which half of all runs have one; inf if fewer do
    ninth: float  # by which 90 % have


@cache
def limits(rules: RollbackConfig, margin: float, old: Failed, level: float) -> tuple[int, ...]:
    """For each number of requests of the new revision: the fewest failures that are an alarm."""
    found = [of + 1 for of in range(1, rules.min_requests)]  # more than can fail: no alarm yet
    fewest = 0
    for of in range(rules.min_requests, rules.requests + 1):
        # One more success never makes it worse, so the limit never falls.
        while fewest <= of:
            likely = chance(Failed(fewest, of), old, margin, rules.min_requests)
            if likely is not None and likely <= level:
                break
            fewest += 1
        found.append(fewest)
    return tuple(found)


def exact(
    rules: RollbackConfig, margin: float, old_rate: float, old_of: int, new_rate: float, level=LEVEL
) -> Figures:
    """By summing over all that can happen: every count of the old one, every path of the new one."""
    stopped = np.zeros(rules.requests)
    for failed in range(old_of + 1):
        weight = comb(old_of, failed) * old_rate**failed * (1 - old_rate) ** (old_of - failed)
        if weight > 1e-7:
            stopped += weight * _stops(limits(rules, margin, Failed(failed, old_of), level), new_rate)
    total = np.cumsum(stopped)

    def reached(share: float) -> float:
        return float(np.argmax(total >= share) + 1) if total[-1] >= share else float("inf")

    return Figures(float(total[-1]), reached(0.5), reached(0.9))


def _stops(fewest: tuple[int, ...], rate: float) -> np.ndarray:
    """Probability of the first alarm at each request."""
    alive = np.zeros(len(fewest) + 2)  # by failures so far
    alive[0] = 1.0
    stops = np.zeros(len(fewest))
    for index, limit in enumerate(fewest):
        alive[1:] = alive[1:] * (1 - rate) + alive[:-1] * rate
        alive[0] *= 1 - rate
        stops[index] = alive[limit:].sum()
        alive[limit:] = 0
    return stops


def simulated(
    rules: RollbackConfig, old_rate: float, old_of: int, new_rate: float, runs: int, seed: int
) -> float:
    """Share of runs with an alarm, through the same calls that a server makes."""
    rng = random.Random(seed)
    alarms = 0
    for _ in range(runs):
        new, old = Window(rules.requests), Window(rules.requests)
        for _ in range(old_of):
            old.add("error" if rng.random() < old_rate else "ok", 1.0)
        while (found := verdict(new, old, rules)).decision == "wait":
            new.add("error" if rng.random() < new_rate else "ok", 1.0)
        alarms += found.decision == "bad"
    return alarms / runs


def simulated_latency(ratio: float, slower: float, old_of: int, runs: int, seed: int) -> list[int]:
    """Requests until the alarm, of the runs with one. Seconds are log-normal: one in six over 2.7 medians."""
    rng = random.Random(seed)
    rules = RollbackConfig(error_rate=None, invalid_rate=None, latency_ratio=ratio)
    alarms = []
    for _ in range(runs):
        new, old = Window(rules.requests), Window(rules.requests)
        for _ in range(old_of):
            old.add("ok", rng.lognormvariate(0, 1))
        while (found := verdict(new, old, rules)).decision == "wait":
            new.add("ok", slower * rng.lognormvariate(0, 1))
        if found.decision == "bad":
            alarms.append(new.requests)
    return sorted(alarms)
