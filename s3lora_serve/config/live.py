"""How revisions are replaced under load: swaps, automatic rollback, slots, and where that is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from s3lora_serve.config.section import Section


class SwapConfig(Section):
    """How another revision takes over."""

    drain_seconds: float = Field(
        60, ge=0, description="time for requests on the old revision to end; then they are cut, and listed"
    )
    keep_seconds: float = Field(
        3600,
        ge=0,
        description="how long the old revision stays loaded for a rollback, while its slot is not needed",
    )
    admissions: int = Field(
        4, ge=1, description="adapters that are fetched, verified and pruned at a time; the others wait"
    )
    trial: bool = Field(
        True, description="generate once on a new revision before it answers requests; false only probes it"
    )


class RollbackConfig(Section):
    """When a new revision is rolled back automatically: its first requests are compared with the old one's.

    A rule left null is not applied. A difference must also be larger than chance explains.
    """

    requests: int = Field(200, ge=1, description="requests over which a new revision is judged")
    min_requests: int = Field(20, ge=1, description="requests before the first judgement")
    error_rate: float | None = Field(
        0.05, ge=0, lt=1, description="share of failed requests above the old revision's share; null: never"
    )
    invalid_rate: float | None = Field(
        0.10, ge=0, lt=1, description="share of invalid plans above the old revision's share; null: never"
    )
    latency_ratio: float | None = Field(
        None, ge=1, description="median latency as a multiple of the old revision's; null: never"
    )

    @model_validator(mode="after")
    def _can_be_judged(self) -> RollbackConfig:
        if self.min_requests > self.requests:
            raise ValueError(
                f"min_requests is {self.min_requests} > requests {self.requests}: nothing would be judged"
            )
        return self


class SlotsConfig(Section):
    """How planners share the engine's slots when there are more planners than slots."""

    wait_seconds: float = Field(
        30, gt=0, description="a request waits this long for its planner's slot, then gets 429"
    )
    max_waiting: int = Field(64, ge=1, description="requests that may wait for slots at once; more get 429")
    load_seconds: float = Field(
        600,
        gt=0,
        description="a load, its probe and its trial together may take this long; then it has failed."
        " An exam has `exam.seconds` of its own",
    )


class StateConfig(Section):
    """The state file: what the server must serve, and the journal of orders."""

    path: Path = Field(
        Path(".s3lora/state.db"),
        strict=False,
        description="SQLite file, made when missing; one server at a time; admin.json lies beside it",
    )
    on_mismatch: Literal["stop", "serve_last_proved"] = Field(
        "stop",
        description="a planner whose row is not what the journal proves: stop it and serve the others, "
        "or serve what the journal proved last",
    )
    head_seconds: float = Field(
        300, gt=0, description="the journal's head is given out this often while it moves: log, file, URL"
    )
    head_file: Path | None = Field(
        None, strict=False, description="file to which heads are appended, a line each; null: none"
    )
    head_url: str | None = Field(
        None, pattern="^https?://[^/]+", description="URL to which heads are posted as JSON; null: none"
    )

    guard_days: float = Field(
        30,
        gt=0,
        description="how long guard.db beside the state file keeps what guards found: digests, and at most"
        " six words of a task that was refused",
    )

    @property
    def guard_file(self) -> Path:
        """Where a running server writes what became of judged requests."""
        return self.path.parent / "guard.db"

    @property
    def exam_file(self) -> Path:
        """Where a running server keeps what exams found."""
        return self.path.parent / "exam.db"

    @property
    def admin_file(self) -> Path:
        """Where a running server writes its operators' URL and token."""
        return self.path.parent / "admin.json"
