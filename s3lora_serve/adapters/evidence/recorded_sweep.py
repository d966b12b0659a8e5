"""sweep.json: what ``s3lora sweep`` measured, read as the points that the rule `validated` chooses from."""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from s3lora_serve.adapters.evidence.sweep_hint import Called, sweep_command
from s3lora_serve.errors import ConfigError, PolicyRejection
from s3lora_serve.spectral.scorers import SCORER_VERSION
from s3lora_serve.spectral.validated import SweepPoint, Validated
from s3lora_serve.storage.canonical_json import excerpt, strict_loads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.adapters.evidence.base_weights import BaseWeights
    from s3lora_serve.spectral.prune_policy import Alignment

SWEEP_NAME, SWEEP_FORMAT = "sweep.json", 1
MAX_SWEEP_BYTES = 64 << 20
_AGAIN = "sweep the adapter again"
_THEN = "; then name the sweep's folder in policy.validated.sweep"
_THIS_BASE = "measure it on the base model that is served"


class _Part(BaseModel):
    # Unlike a configuration's: a later release may record more, which changes nothing of what is read here.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class _Base(_Part):
    name: str
    digest: str
    weights: str | None = None


class _Alignment(_Part):
    base: str
    aligned: str


class _Adapter(_Part):
    source: str
    sha256: str


class _Row(_Part):
    adapter: str
    label: str
    scorer: str | None
    tau: float | None
    seed: int
    modules_pruned: int = Field(ge=0)
    attack_success: float | None = Field(ge=0, le=1)
    utility: dict[str, dict[str, float | None]]


class _Sweep(_Part):
    format: int
    suite: str
    scorer_version: str | None = None
    base: _Base
    alignment: _Alignment | None = None
    adapters: dict[str, _Adapter]
    rows: list[_Row]


@dataclass(frozen=True)
class Recorded:
    """A rule with the points of a sweep, and with what that was made: to be compared where it is known."""

    rule: Validated
    path: Path
    again: str  # the command that measures it
    base_name: str
    weights: str | None  # digest of the base model's; None where it could not be had
    alignment: tuple[str, str] | None  # digests of the checkpoints before and after alignment, if needed

    def check_alignment(self, given: Alignment) -> None:
        """Raise PolicyRejection unless it was swept with these checkpoints, ``sha256:`` in their places."""
        swept = self.alignment and tuple(f"sha256:{digest}" for digest in self.alignment)
        if swept != (given.base, given.aligned):
            known = _pair(*swept) if swept else "checkpoints that it does not name"
            raise PolicyRejection(
                f"{self.path} was swept with {known} (before and after alignment),"
                f" not with {_pair(given.base, given.aligned)}",
                hint=f"measure it with these checkpoints{_THEN}",
                command=self.again,
            )

    def on(self, base: BaseModelSpec, found: BaseWeights) -> tuple[Validated, tuple[str, ...]]:
        """The rule for the base model that is served, whose weights were ``found``; and warnings.

        Raises PolicyRejection unless it was measured on these weights. Where neither has a digest, a warning
        says that they were not compared.
        """
        if self.weights is None and found.digest is None:
            # Where the base model lies is no part of a decision, and lineages are public.
            return replace(self.rule, base=None), (
                f"whether policy.validated.sweep was measured on the weights of {base.name!r} is not known:"
                f" {found.reason}",
            )
        if self.weights == found.digest:
            return replace(self.rule, base=f"sha256:{found.digest}"), ()
        measured = "that it does not name" if self.weights is None else self.weights[:12]
        served = (
            f"cannot be compared ({found.reason})" if found.digest is None else f"are {found.digest[:12]}"
        )
        raise PolicyRejection(
            f"{self.path} was measured on {excerpt(self.base_name)} with weights {measured};"
            f" those of {base.name!r} {served}",
            hint=f"{_THIS_BASE}{_THEN}",
            command=self.again,
        )


def read_points(
    rule: Validated,
    *,
    sha256: str,
    base: BaseModelSpec | None,
    scorer: str,
    seed: int,
    called: Called | None = None,
) -> Recorded:
    """``rule`` with its sweep's points for the adapter whose weights have this sha256.

    ``sweep`` becomes ``suite:<digest>``: what was asked decides, not where it is written down. ``seed`` is
    the random scorer's; ``base`` is not compared if None, and otherwise by its layers; ``called`` is for the
    commands in hints. Raises ConfigError for a file that is not a sweep's or did not measure ``rule.task``,
    PolicyRejection for one that did not measure this adapter so.
    """
    path = Path(rule.sweep).expanduser()
    path = path / SWEEP_NAME if path.is_dir() else path
    sweep = _read(path)
    again = sweep_command(called or Called(), base, scorer=scorer, seed=seed, task=rule.task)
    if sweep.scorer_version != SCORER_VERSION:
        raise PolicyRejection(
            f"{path} has scores of version {excerpt(sweep.scorer_version)}, this release scores by version"
            f" {SCORER_VERSION!r}",
            hint=f"measure it with this release{_THEN}",
            command=again,
        )
    if base is not None and sweep.base.digest != base.digest:
        raise PolicyRejection(
            f"{path} was measured on {excerpt(sweep.base.name)}, whose layers are not those of {base.name!r}",
            hint=f"{_THIS_BASE}{_THEN}",
            command=again,
        )
    names = {name for name, adapter in sweep.adapters.items() if adapter.sha256 == sha256}
    if not names:
        known = ", ".join(f"{excerpt(n, 40)} ({a.sha256[:12]})" for n, a in list(sweep.adapters.items())[:5])
        raise PolicyRejection(
            f"{path} did not measure an adapter whose weights have sha256 {sha256[:12]}; it is of {known}",
            hint=f"measure this adapter{_THEN}",
            command=again,
        )
    rows = [row for row in sweep.rows if row.adapter in names]
    whole = next((row for row in rows if row.scorer is None and row.modules_pruned == 0), None)
    if whole is None:
        raise PolicyRejection(f"{path} did not measure the adapter unpruned", hint=_AGAIN)
    of_scorer = [row for row in rows if row.scorer == scorer and row.tau is not None]
    if not of_scorer:
        known = ", ".join(sorted({row.scorer for row in rows if row.scorer})) or "none"
        raise PolicyRejection(
            f"{path} swept the adapter by {known}, not by {scorer}",
            hint=f"measure it by {scorer}{_THEN}",
            command=again,
        )
    if scorer == "random":
        of_scorer = [row for row in of_scorer if row.seed == seed]
        if not of_scorer:
            raise PolicyRejection(
                f"{path} has no sweep of random with seed {seed}",
                hint=f"measure that seed{_THEN}",
                command=again,
            )
    points = {0.0: _point(path, whole, rule)}
    for row in of_scorer:
        point = _point(path, row, rule)
        if points.setdefault(point.tau, point) != point and point.tau:
            raise PolicyRejection(
                f"{path} has two measurements of {scorer} at tau {point.tau:g}", hint=_AGAIN
            )
    ordered = tuple(points[tau] for tau in sorted(points))
    return Recorded(
        replace(rule, sweep=f"suite:{sweep.suite}", points=ordered),
        path,
        again,
        sweep.base.name,
        sweep.base.weights,
        (sweep.alignment.base, sweep.alignment.aligned) if sweep.alignment else None,
    )


def _pair(*digests: str | None) -> str:
    return " and ".join(str(digest).removeprefix("sha256:")[:12] for digest in digests)


def _point(path: Path, row: _Row, rule: Validated) -> SweepPoint:
    if row.attack_success is None:
        raise ConfigError(
            f"{path} measured no attack, so no tau can be called safest",
            hint=f"{_AGAIN}, with a file of attacks",
        )
    if rule.task not in row.utility:
        known = ", ".join(excerpt(name, 40) for name in row.utility) or "none"
        raise ConfigError(
            f"{path} has no plan set {rule.task!r}; it measured {known}",
            hint=f"set policy.validated.task, or {_AGAIN} with that plan set",
        )
    value = row.utility[rule.task].get(rule.utility)
    if value is None:
        raise ConfigError(f"{path} did not measure {rule.utility} on {rule.task}", hint=_AGAIN)
    return SweepPoint(row.tau or 0.0, row.modules_pruned, row.attack_success, value)


def _read(path: Path) -> _Sweep:
    hint = "name the folder that a sweep wrote, or the sweep.json in it"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe without a writer would be waited for without end
            raise ConfigError(f"sweep {path} is not a regular file", hint=hint)
        if status.st_size > MAX_SWEEP_BYTES:
            raise ConfigError(f"sweep {path} has {status.st_size} bytes > {MAX_SWEEP_BYTES}", hint=hint)
        data = strict_loads(path.read_bytes())
        if isinstance(data, dict) and data.get("format") != SWEEP_FORMAT:
            raise ConfigError(
                f"sweep {path} has format {excerpt(data.get('format'))}, this release reads {SWEEP_FORMAT}",
                hint=_AGAIN if "format" in data else hint,
            )
        sweep = _Sweep.model_validate(data)
    except OSError as error:
        raise ConfigError(f"cannot read sweep {path}: {error.strerror or error}", hint=hint) from error
    except ValidationError as error:
        raise ConfigError(f"sweep {path}: {'; '.join(_problems(error))}", hint=hint) from error
    except ValueError as error:
        raise ConfigError(f"sweep {path} is not JSON: {error!s:.200}", hint=hint) from error
    if not sweep.rows or not sweep.adapters:
        raise ConfigError(f"sweep {path} is empty: it holds no measurement", hint=_AGAIN)
    return sweep


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors()[:3]:
        details: Mapping[str, object] = problem
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        yield f"{where}: {details['msg']}"
