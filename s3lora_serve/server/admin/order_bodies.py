"""Bodies of orders under ``/admin``, and the internal values that they become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from s3lora_serve.adapters.fetch.address import Source
from s3lora_serve.config.policy import (
    AdaptiveRule,
    AlignmentConfig,
    AnomalyConfig,
    PolicyConfig,
    ValidatedRule,
)
from s3lora_serve.control.operation import Wanted
from s3lora_serve.errors import SourceError
from s3lora_serve.fleet.rollout import DEFAULT_SHARE
from s3lora_serve.spectral.prune_policy import PrunePolicy
from s3lora_serve.storage.printable import checked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.server.validation import Fields

# A revision by its digest, or by enough of it to be typed.
_REVISION = r"^[0-9a-f]{8,64}$"

Revision = Annotated[str, Field(pattern=_REVISION, description="64 hex digits, or at least the first 8")]
# Sources and reasons go into the history and onto terminals.
Reason = Annotated[
    str, Field(max_length=500, description="why; kept in the history"), AfterValidator(checked)
]


def _source(text: str) -> str:
    """The text itself. Raises ValueError for a source that is refused by it, as one with a password is."""
    try:
        Source.parse(checked(text))
    except SourceError as error:
        raise ValueError(str(error)) from None
    return text


SourceText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2000,
        description="folder on the server, demo://, hf://, or a folder's URL; no passwords",
    ),
    AfterValidator(_source),
]


class OrderBody(BaseModel):
    """What every order about one planner may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    reason: Reason = ""
    expected_revision: Annotated[
        Revision | None, Field(description="409 unless this revision serves when the order arrives")
    ] = None


class WantedBody(OrderBody):
    """An order that may name a revision: an adapter to admit, or one that is in the store already."""

    source: Annotated[SourceText | None, Field(description="adapter to admit")] = None
    sha256: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{64}$", description="expected SHA-256 of the source's weights file"),
    ] = None
    policy: Annotated[
        PolicyConfig | None, Field(description="prune policy; without it the planner's own")
    ] = None
    revision: Annotated[Revision | None, Field(description="revision in the store")] = None

    @model_validator(mode="after")
    def _one_of_them(self) -> WantedBody:
        if self.source is not None and self.revision is not None:
            raise ValueError("give 'source' or 'revision', not both")
        if self.source is None and (self.sha256 is not None or self.policy is not None):
            raise ValueError("'sha256' and 'policy' belong to a 'source'")
        return self

    def wanted(self) -> Wanted | None:
        """What the order names, if anything."""
        if self.source is None and self.revision is None:
            return None
        policy = None
        if self.policy is not None:
            policy = PrunePolicy.from_json(self.policy.model_dump(exclude_none=True))
        return Wanted(self.source, self.sha256, policy, self.revision)


class SwapBody(WantedBody):
    """Serve another revision."""

    dry_run: Annotated[bool, Field(description="admit and check, and change nothing that serves")] = False

    @model_validator(mode="after")
    def _something(self) -> SwapBody:
        self.named()
        return self

    def named(self) -> Wanted:
        """What is to be served."""
        if (wanted := self.wanted()) is None:
            raise ValueError("name what to serve: 'source' (an adapter to admit) or 'revision'")
        return wanted


class RollbackBody(OrderBody):
    """Serve the revision before, or give the candidate up."""

    to: Annotated[Revision | None, Field(description="revision to go back to; else the one before")] = None


class CanaryBody(WantedBody):
    """Try another revision on a share of the requests.

    Without ``source`` and ``revision``: how the present candidate is tried; null leaves a term as it is.
    """

    share: Annotated[
        float | None,
        Field(gt=0, le=1, description=f"share of the sessions; a new candidate: {DEFAULT_SHARE}"),
    ] = None
    shadow: Annotated[
        bool | None, Field(description="run the share again without answering from it; false for a new one")
    ] = None
    promote_after: Annotated[
        int | None, Field(ge=1, description="promote after this many good requests; else by order")
    ] = None


class ExamBody(WantedBody):
    """Ask the exam's questions; without ``source`` and ``revision`` of what serves."""


class PromoteBody(OrderBody):
    """Serve the candidate."""


class ApplyBody(BaseModel):
    """Serve what the server's planners.yaml declares now: anything else would not survive a restart."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reason: Reason = ""
    dry_run: Annotated[bool, Field(description="show what would change, and change nothing")] = False


class CancelBody(BaseModel):
    """End an operation that has not flipped."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reason: Reason = ""


# Fields of the objects in the body of each order, by the last part of its path, to name the nearest one.
FIELDS: Mapping[str, Fields] = {
    path: {
        (): body.model_fields,
        ("policy",): PolicyConfig.model_fields,
        ("policy", "adaptive"): AdaptiveRule.model_fields,
        ("policy", "validated"): ValidatedRule.model_fields,
        ("policy", "alignment"): AlignmentConfig.model_fields,
        ("policy", "anomaly"): AnomalyConfig.model_fields,
    }
    for path, body in (
        ("swap", SwapBody),
        ("rollback", RollbackBody),
        ("canary", CanaryBody),
        ("promote", PromoteBody),
        ("exam", ExamBody),
        ("apply", ApplyBody),
        ("cancel", CancelBody),
    )
}
