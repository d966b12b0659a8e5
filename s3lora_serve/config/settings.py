"""planners.yaml as typed, frozen settings."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from s3lora_serve.config.engine import EngineConfig
from s3lora_serve.config.exam import ExamConfig
from s3lora_serve.config.guard import GuardConfig
from s3lora_serve.config.listeners import AdminConfig, ServerConfig
from s3lora_serve.config.live import RollbackConfig, SlotsConfig, StateConfig, SwapConfig
from s3lora_serve.config.plans import PlansConfig, ToolConfig
from s3lora_serve.config.policy import PolicyConfig
from s3lora_serve.config.section import Section

PLANNER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
ANY = "any"  # in sources.allow
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


class LimitsConfig(Section):
    """Limits above which an adapter is refused."""

    max_adapter_mib: float = Field(2048, gt=0, description="all files of an adapter together, MiB")
    max_files: int = Field(64, gt=0, description="files in an adapter's folder")
    fetch_connect_seconds: float = Field(
        10, gt=0, description="time to connect to an adapter's source, where its driver can limit it"
    )
    fetch_read_seconds: float = Field(
        30, gt=0, description="time for a source's next bytes, where its driver can limit it"
    )
    fetch_seconds: float = Field(
        600, gt=0, description="time to fetch an adapter, whatever its source; then the admission has failed"
    )

    @property
    def max_bytes(self) -> int:
        """``max_adapter_mib`` in bytes."""
        return int(self.max_adapter_mib * 2**20)


class PlannerConfig(Section):
    """One public planner name and the adapter behind it."""

    source: str = Field(
        min_length=1,
        repr=False,
        description="local folder, demo://name, hf://org/name[@revision], or a folder's URL: s3://, gs://, az://,"
        " abfs://, http(s)://, or zip:// and tar:// over one of them; no passwords",
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="expected SHA-256 of the source's weights file"
    )
    description: str = Field("", description="shown to clients that list the planners")
    pinned: bool = Field(
        False, description="always loaded; the others give up their slots, the one idle longest first"
    )
    policy: PolicyConfig | None = Field(None, description="replaces the fleet's policy as a whole")
    guard: GuardConfig | None = Field(None, description="replaces the fleet's guard as a whole")
    exam: ExamConfig | None = Field(None, description="replaces the fleet's exam as a whole")
    tools: list[ToolConfig] = Field(
        default_factory=list, description="its own tools, for requests for plans that name none"
    )


class SourcesConfig(Section):
    """What orders may name as a source: the demo, the Hub, what the planners here name, and this."""

    allow: list[str] = Field(
        default_factory=list,
        description="more of them, each with all below it: /folder, s3://bucket[/folder], https://host[:port]"
        "[/folder]; `any` for every one, but for addresses of this machine and its link, which must be named",
    )


class StoreConfig(Section):
    """Where published revisions live."""

    path: Path = Field(Path(".s3lora/store"), strict=False, description="folder, made when missing")


class Config(Section):
    """A whole planners.yaml."""

    base_model: str = Field(
        min_length=1,
        description="'demo', a Hugging Face id, or a local folder (starting with '.', '/' or '~')",
    )
    base_model_revision: str | None = Field(
        None,
        pattern="^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="commit or tag of a Hugging Face base model; unset follows its default branch",
    )
    planners: dict[str, PlannerConfig] = Field(
        min_length=1,
        description="the name that clients put in 'model', and the adapter behind it",
        json_schema_extra={"propertyNames": {"pattern": f"^{PLANNER_NAME.pattern}$"}},
    )
    policy: PolicyConfig = Field(default_factory=lambda: PolicyConfig())
    guard: GuardConfig = Field(default_factory=lambda: GuardConfig())
    exam: ExamConfig = Field(default_factory=lambda: ExamConfig())
    limits: LimitsConfig = Field(default_factory=lambda: LimitsConfig())
    engine: EngineConfig = Field(default_factory=lambda: EngineConfig())
    server: ServerConfig = Field(default_factory=lambda: ServerConfig())
    plans: PlansConfig = Field(default_factory=lambda: PlansConfig())
    sources: SourcesConfig = Field(default_factory=lambda: SourcesConfig())
    store: StoreConfig = Field(default_factory=lambda: StoreConfig())
    swap: SwapConfig = Field(default_factory=lambda: SwapConfig())
    rollback: RollbackConfig = Field(default_factory=lambda: RollbackConfig())
    slots: SlotsConfig = Field(default_factory=lambda: SlotsConfig())
    admin: AdminConfig = Field(default_factory=lambda: AdminConfig())
    state: StateConfig = Field(default_factory=lambda: StateConfig())

    @field_validator("base_model")
    @classmethod
    def _model(cls, model: str) -> str:
        if not model.startswith((".", "/", "~")) and not HUB_ID.fullmatch(model):
            raise ValueError(
                f"{model!r} is neither 'demo', a Hugging Face id (org/name) nor a folder (./name, /name)"
            )
        return model

    @field_validator("planners")
    @classmethod
    def _names(cls, planners: dict[str, PlannerConfig]) -> dict[str, PlannerConfig]:
        for name in planners:
            if not PLANNER_NAME.fullmatch(name):
                raise ValueError(
                    f"planner name {name!r}: use at most 63 of a-z, 0-9, '.', '_' and '-',"
                    " starting with a letter or digit"
                )
        return planners

    @model_validator(mode="after")
    def _slots_suffice(self) -> Config:
        # A new revision is loaded while the old one answers, and a pinned planner never gives up its slot.
        pinned, slots = sum(planner.pinned for planner in self.planners.values()), self.engine.max_loras
        if slots < pinned + 1:
            planners = "1 planner is" if pinned == 1 else f"{pinned} planners are"
            raise ValueError(
                f"engine.max_loras is {slots} but {planners} pinned, and one slot must be left to load into;"
                f" raise engine.max_loras to at least {pinned + 1}, or pin fewer"
            )
        return self

    @model_validator(mode="after")
    def _tools_are_offered(self) -> Config:
        for name, planner in self.planners.items():
            if len(planner.tools) > self.plans.max_tools:
                raise ValueError(
                    f"planner {name!r} has {len(planner.tools)} tools,"
                    f" over plans.max_tools {self.plans.max_tools}"
                )
        return self

    @model_validator(mode="after")
    def _notice_fits(self) -> Config:
        grace, notice = self.server.grace_seconds, self.server.notice_seconds
        if grace is not None and grace < notice:
            raise ValueError(
                f"server.grace_seconds is {grace:g}, less than server.drain_notice_seconds ({notice:g}),"
                " which is a part of it"
            )
        return self

    @model_validator(mode="after")
    def _listeners_differ(self) -> Config:
        if self.admin.port == self.server.port != 0 and self.admin.host == self.server.host:
            raise ValueError(
                f"admin.port is {self.admin.port}, and so is server.port; operators need a separate port"
            )
        return self

    @model_validator(mode="after")
    def _allowed_are_callers(self) -> Config:
        callers = self.server.callers
        for planner in (None, *self.planners):
            where = "guard" if planner is None else f"planners.{planner}.guard"
            guard = self.guard if planner is None else self.planners[planner].guard
            if guard is not None and (strangers := sorted(set(guard.allow) - callers.keys())):
                known = ", ".join(callers) or "there are none"
                raise ValueError(f"{where}.allow: {strangers[0]!r} is not in server.callers ({known})")
        return self

    @property
    def grace_seconds(self) -> float:
        """``server.grace_seconds``, or what it is where nothing is set: enough for the slowest plan."""
        if self.server.grace_seconds is not None:
            return self.server.grace_seconds
        return self.server.notice_seconds + max(self.plans.seconds, self.swap.drain_seconds)

    def policy_of(self, planner: str) -> PolicyConfig:
        """The planner's own policy, or the fleet's."""
        return self.planners[planner].policy or self.policy

    def exam_of(self, planner: str) -> ExamConfig:
        """The planner's own exam, or the fleet's."""
        return self.planners[planner].exam or self.exam

    def guard_of(self, planner: str) -> GuardConfig:
        """The planner's own guard, or the fleet's."""
        return self.planners[planner].guard or self.guard
