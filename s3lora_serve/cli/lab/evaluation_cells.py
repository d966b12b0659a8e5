"""Policies and shares from the command line, and the cells that they give for an adapter."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.resolve import to_policy, to_served
from s3lora_serve.terminal.console import Stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from s3lora_serve.adapters.evidence.gather import Evidence
    from s3lora_serve.cli.lab.evaluation_inputs import Loaded
    from s3lora_serve.evaluation.measuring.cells import Cell
    from s3lora_serve.evaluation.measuring.header import MeasuredAlignment
    from s3lora_serve.launch.resolve import BaseModel
    from s3lora_serve.spectral.prune_policy import Alignment, PrunePolicy

POLICY_HELP = (
    "SCORER:RULE, such as mas-svd:top=10, svd:threshold=0.4, mas-svd:adaptive,z=3.5 or"
    " mas-svd:sweep=FOLDER,task=NAME,floor=0.9. Repeatable."
)
TAU_HINT = "such as 0,5,...,50"
_PART = re.compile(r"(?P<key>[a-z_]+)(?:=(?P<value>.*))?", re.DOTALL)
_ADAPTIVE, _VALIDATED = ("z", "max_share"), ("sweep", "task", "floor", "utility")


@dataclass(frozen=True)
class Chosen:
    """What is measured of one adapter."""

    cells: list[Cell]
    alignment: MeasuredAlignment | None = None  # the checkpoints that scored, if any did


def read_policies(texts: Iterable[str], alignment: Alignment | None) -> list[PrunePolicy]:
    """Policies as ``POLICY_HELP`` says; ``alignment`` for the scorers that need one. Raises ConfigError."""
    return [_policy(text, alignment) for text in texts]


def read_taus(text: str) -> tuple[float, ...]:
    """Shares from per cents: ``0,5,10`` or, with steps that go on, ``0,5,...,50``. Raises ConfigError."""
    taus = tuple(_per_cents(text))
    if odd := next((tau for tau in taus if not 0 <= tau <= 100), None):
        raise ConfigError(f"--tau {odd:g} is not a share of the modules", hint="give per cents, 0 to 100")
    return tuple(tau / 100 for tau in taus)


def check_scorers(scorers: Iterable[str], alignment: Alignment | None) -> None:
    """Refuse scorers that are not known, and those that lack their checkpoints. Raises ConfigError."""
    from s3lora_serve.spectral.scorers import NEEDS_ALIGNMENT, SCORERS

    for scorer in scorers:
        if scorer not in SCORERS:
            raise ConfigError(f"scorer {scorer!r} is not known", hint=f"use {', '.join(SCORERS)}")
        if scorer in NEEDS_ALIGNMENT and alignment is None:
            raise ConfigError(
                f"scorer {scorer} compares with what alignment changed, and no checkpoints are named",
                hint="give --alignment-base, the model before it was aligned",
            )


def policy_cells(one: Loaded, base: BaseModel, policies: Sequence[PrunePolicy], random_seeds: int) -> Chosen:
    """The cells of these policies, with random controls. Raises ConfigError, PolicyRejection."""
    from s3lora_serve.adapters.evidence.gather import gather
    from s3lora_serve.adapters.evidence.sweep_hint import Called
    from s3lora_serve.evaluation.measuring.policies import cells

    with Stages("policies") as stage:
        stage("score")
        ready = [
            gather(
                to_served(replace(policy, anomaly=None), base),
                sha256=one.sha256,
                base=base.spec,
                progress=stage,
                called=Called(one.source, base.given),
            )
            for policy in policies
        ]
        compared = next((evidence for evidence in ready if evidence.alignment is not None), None)
        try:
            found = cells(
                one.name,
                one.adapter.modules,
                [evidence.policy for evidence in ready],
                compared.difference(one.adapter.modules) if compared else None,
                random_seeds=range(random_seeds),
            )
        except ValueError as error:
            raise ConfigError(f"{one.name}: {error}") from error
    return Chosen(found, _measured(compared))


def tau_cells(
    one: Loaded,
    base: BaseModel,
    scorers: Sequence[str],
    taus: Sequence[float],
    random_seeds: int,
    alignment: Alignment | None,
) -> Chosen:
    """The cells of a sweep. Raises ConfigError."""
    from s3lora_serve.adapters.evidence.gather import gather
    from s3lora_serve.evaluation.measuring.policies import grid
    from s3lora_serve.spectral.prune_policy import PrunePolicy
    from s3lora_serve.spectral.scorers import NEEDS_ALIGNMENT

    with Stages("scorers") as stage:
        stage("score")
        compared = None
        if needing := next((scorer for scorer in scorers if scorer in NEEDS_ALIGNMENT), None):
            policy = to_served(PrunePolicy(needing, alignment=alignment), base)
            compared = gather(policy, sha256=one.sha256, base=base.spec, progress=stage)
        difference = compared.difference(one.adapter.modules) if compared else None
        try:
            found = grid(one.name, one.adapter.modules, scorers, taus, range(random_seeds), difference)
        except ValueError as error:
            raise ConfigError(f"{one.name}: {error}") from error
    return Chosen(found, _measured(compared))


def _measured(compared: Evidence | None) -> MeasuredAlignment | None:
    from s3lora_serve.evaluation.measuring.header import MeasuredAlignment

    alignment = compared.policy.alignment if compared else None
    if alignment is None:
        return None
    return MeasuredAlignment(*(str(x).removeprefix("sha256:") for x in (alignment.base, alignment.aligned)))


def _policy(text: str, alignment: Alignment | None) -> PrunePolicy:
    from pydantic import ValidationError

    from s3lora_serve.config import PolicyConfig
    from s3lora_serve.spectral.scorers import NEEDS_ALIGNMENT

    scorer, _, rule = text.partition(":")
    try:
        check_scorers([scorer], alignment)
        values = {"scorer": scorer, **_rule(rule)}
        if alignment is not None and scorer in NEEDS_ALIGNMENT:
            values["alignment"] = asdict(alignment)
        return to_policy(PolicyConfig.model_validate(values))
    except ConfigError as error:
        raise ConfigError(f"--policy {text}: {error.message}", hint=error.hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")
        raise ConfigError(": ".join(filter(None, (f"--policy {text}", where, reason)))) from error
    except ValueError as error:
        raise ConfigError(f"--policy {text}: {error}", hint=POLICY_HELP) from error


def _rule(text: str) -> dict[str, Any]:
    """The keys of ``policy:`` in planners.yaml that the text says. ValueError for anything else."""
    found: dict[str, Any] = {}
    for part in text.split(",") if text else ():
        if (match := _PART.fullmatch(part.strip())) is None:
            raise ValueError(f"{part!r} is not key=value")
        key, value = match["key"], match["value"]
        if key == "adaptive":
            found.setdefault("adaptive", {})
        elif not value:
            raise ValueError(f"{key} has no value")
        elif key in _ADAPTIVE:
            found.setdefault("adaptive", {})[key] = _number(key, value)
        elif key in _VALIDATED:
            given = _number(key, value) if key == "floor" else value
            found.setdefault("validated", {})[key] = given
        elif key in ("top", "top_share", "seed", "threshold"):
            found[key] = _number(key, value)
        else:
            raise ValueError(f"{key} is not known")
    return found


def _number(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{key} {value!r} is not a number") from None
    return int(number) if key in ("top", "seed") and number.is_integer() else number


def _per_cents(text: str) -> Iterator[float]:
    parts = [part.strip() for part in text.split(",")]
    if "..." not in parts:
        yield from (_per_cent(text, part) for part in parts)
        return
    *known, dots, last = parts
    if dots != "..." or len(known) < 2 or "..." in known:
        raise ConfigError(f"--tau {text}: '...' stands after two numbers and before the last", hint=TAU_HINT)
    steps = [_per_cent(text, part) for part in known]
    first, step, end = steps[-1], steps[-1] - steps[-2], _per_cent(text, last)
    if not 0 < step <= end - first or end > 100:
        raise ConfigError(f"--tau {text} does not rise to at most 100", hint=TAU_HINT)
    yield from steps
    yield from (first + n * step for n in range(1, int((end - first) / step + 1 - 1e-9)))
    yield end


def _per_cent(text: str, part: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise ConfigError(f"--tau {text}: {part!r} is not a number", hint=TAU_HINT) from None
