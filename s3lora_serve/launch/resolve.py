"""From settings to the values that the layers below take: the only place where one becomes the other."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import AdapterError, BaseModelUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from planners import ToolSpec
    from s3lora_serve.adapters.admission import AdapterLimits
    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.adapters.fetch.address import Source
    from s3lora_serve.adapters.served.engine_names import EngineNames
    from s3lora_serve.config import (
        Config,
        ExamConfig,
        GuardConfig,
        LimitsConfig,
        PlannerConfig,
        PlansConfig,
        PolicyConfig,
        ServerConfig,
    )
    from s3lora_serve.engine.vllm.vllm_settings import VllmSettings
    from s3lora_serve.fleet.planner import DesiredPlanner
    from s3lora_serve.launch.http_protocol import HttpLimits
    from s3lora_serve.spectral.prune_policy import PrunePolicy

DEMO = "demo"
_OPERATORS = 256  # open connections to /admin: a few people, watching, and what scrapes and orders


@dataclass(frozen=True)
class BaseModel:
    """The base model: where the engine finds it, what clients call it, and what adapters must fit."""

    location: str | None  # folder or Hugging Face id; None: not on this machine, and not to be fetched
    name: str
    revision: str | None
    spec: BaseModelSpec
    given: str | None = None  # as the operator wrote it


def to_base_model(
    base_model: str,
    revision: str | None,
    report: Callable[[str, float], None],
    *,
    fetch: bool = True,
    arguments: Mapping[str, Any] | None = None,
) -> BaseModel:
    """Prepare the base model and read its shapes; ``demo`` takes half a minute the first time.

    Without ``fetch`` only its shapes are had, from this machine, and no engine is asked about its names:
    those of ``demo`` are known. ``arguments`` are engine.extra_args, some of which change those names.
    What starts with '.', '/' or '~' is a folder and is never looked up on a hub. Raises ConfigError.
    """
    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.config.settings import HUB_ID
    from s3lora_serve.demo.demo_base import ENV

    location, name = base_model, base_model
    if base_model == DEMO and not fetch:
        return _demo_shapes()
    if base_model == DEMO:
        from s3lora_serve.demo.demo_base import NAME, prepare_demo_base

        location, name = str(prepare_demo_base(progress=report)), NAME
    elif (folder := Path(base_model).expanduser()).is_dir():
        location, name = str(folder), folder.resolve().name  # never a path of this machine
    elif base_model.startswith((".", "/", "~")):
        raise ConfigError(f"base model: there is no folder {folder}")
    elif not HUB_ID.fullmatch(base_model):
        raise ConfigError(
            f"base model {base_model!r} is neither 'demo', a Hugging Face id (org/name) nor a folder",
            hint="start a folder with './', '/' or '~'",
        )
    report("reading the shapes of the base model", 0.0)
    spec = BaseModelSpec.from_pretrained(location, revision=revision, fetch=fetch)
    spec = replace(spec, name=name, vouched=base_model == DEMO and not os.environ.get(ENV))
    if fetch:
        spec = engine_names().on(spec, arguments or {})
    return BaseModel(location, name, revision, spec, base_model)


def engine_names() -> EngineNames:
    """The installed vLLM, which is asked for the names of modules once an adapter needs them."""
    from s3lora_serve.adapters.served.engine_names import EngineNames
    from s3lora_serve.engine.vllm.module_table import table_process
    from s3lora_serve.storage.daemon_threads import given_up

    def ask(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return table_process.ask_vllm(config, arguments, given_up)
        except table_process.TableAbandoned:
            raise AdapterError(
                "asking vLLM about the base model was given up", hint="order it again"
            ) from None

    installed, others = table_process.installed_engine(), table_process.releases
    return EngineNames(installed, others, table_process.DECIDING, ask)


def _demo_shapes() -> BaseModel:
    """The demo's base model without its weights, unless those are here already."""
    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.demo.base_shapes import demo_shapes
    from s3lora_serve.demo.demo_base import ENV, NAME, find_demo_base

    found = find_demo_base()
    location = str(found) if found else None
    if location and os.environ.get(ENV):  # a folder of the operator's, which may be another model
        spec = replace(BaseModelSpec.from_pretrained(location), name=NAME)
    else:
        spec = BaseModelSpec(NAME, demo_shapes(), location=location)
    return BaseModel(location, NAME, None, spec, DEMO)


def to_source(given: Source | str) -> Source:
    """The source, parsed, with ``demo://name`` replaced by the folder of that committed adapter.

    Raises SourceError for one that is refused by its text alone, ConfigError for an unknown demo adapter.
    """
    from s3lora_serve.adapters.fetch.address import DEMO as DEMO_DRIVER
    from s3lora_serve.adapters.fetch.address import Source

    source = Source.of(given)
    if source.place.scheme != DEMO_DRIVER:
        return source
    from s3lora_serve.demo import adapter_path

    return Source.parse(str(adapter_path(source.text.removeprefix("demo://"))))


def to_policy(config: PolicyConfig) -> PrunePolicy:
    """The settings of a policy as the pure function's own type."""
    from s3lora_serve.spectral.prune_policy import PrunePolicy

    return PrunePolicy.from_json(config.model_dump(exclude_none=True))


def to_served(policy: PrunePolicy, base: BaseModel | None) -> PrunePolicy:
    """The policy with every checkpoint of its alignment found: ``demo``, and the served one if none is named.

    ``base`` is None where none is served. Raises BaseModelUnavailable for weights that cannot be had.
    """
    alignment = policy.alignment
    if alignment is None:
        return policy
    alignment = replace(alignment, base=_demo_or(alignment.base))
    if alignment.aligned is not None:
        alignment = replace(alignment, aligned=_demo_or(alignment.aligned))
    elif base is not None:
        if base.location is None:
            raise BaseModelUnavailable(
                f"policy.alignment compares with the weights of {base.name}, which are not on this machine",
                hint="an engine that needs them fetches them: s3lora-serve without --engine fake",
            )
        alignment = replace(alignment, aligned=to_checkpoint(base.location), aligned_revision=base.revision)
    return replace(policy, alignment=alignment)


def to_checkpoint(text: str) -> str:
    """A model that a command line names, as settings would: a folder begins as a path does."""
    folder = Path(text).expanduser()
    return str(folder.resolve()) if folder.is_dir() else text


def _demo_or(location: str) -> str:
    if location != DEMO:
        return location
    from s3lora_serve.demo.demo_base import prepare_demo_base

    return str(prepare_demo_base().resolve())


def to_limits(config: LimitsConfig, max_rank: int, to_raise: str = "") -> AdapterLimits:
    """The configured limits, with what the installed engine can do, and what raising the rank takes."""
    from s3lora_serve.adapters.admission import AdapterLimits
    from s3lora_serve.adapters.verify import VerifyLimits
    from s3lora_serve.engine.vllm.vllm_features import reads_module_patterns

    return AdapterLimits(config, VerifyLimits(max_rank, reads_module_patterns(), to_raise))


def to_engine_settings(config: Config, base: BaseModel, max_lora_rank: int) -> VllmSettings:
    """The engine section with the base model that was prepared for it, and the rank that its fleet needs."""
    from s3lora_serve.engine.vllm.vllm_settings import VllmSettings

    section = config.engine.model_copy(update={"max_lora_rank": max_lora_rank})
    return VllmSettings(base.location or base.name, section, base.revision, base.name)


def to_guards(config: Config) -> dict[str, GuardConfig]:
    """Each planner's guard, and under ``FLEET`` that of planners which an apply adds."""
    from s3lora_serve.safety.guard.guards import FLEET

    return {FLEET: config.guard, **{name: config.guard_of(name) for name in config.planners}}


def to_exams(config: Config) -> dict[str, ExamConfig]:
    """Each planner's exam, and under ``FLEET`` that of planners which an apply adds."""
    from s3lora_serve.safety.guard.guards import FLEET

    return {FLEET: config.exam, **{name: config.exam_of(name) for name in config.planners}}


def to_recorded(section: GuardConfig | ExamConfig) -> dict[str, Any]:
    """What the journal says of a guard or an exam: its settings, which hold no secret, or that it is off."""
    return section.model_dump(mode="json") if section.asks else {"action": "off"}


def to_http_limits(
    config: ServerConfig, room: int, refused: Callable[[int, str | None], None]
) -> tuple[HttpLimits, HttpLimits]:
    """Of the listeners for clients and for operators.

    ``room`` is how many connections the system lets this process hold. They share it, so that neither can
    take the other's: operators are fewer, and get a quarter at most.
    """
    from s3lora_serve.launch.http_protocol import HttpLimits

    for_operators = max(min(_OPERATORS, room // 4), 1)
    clients = HttpLimits(
        header_bytes=config.max_header_kib * 1024,
        header_seconds=config.header_seconds,
        connections=max(min(config.max_connections, room - for_operators), 1),
        refused=refused,
    )
    return clients, HttpLimits(connections=for_operators, refused=refused)


def to_desired(config: Config) -> dict[str, DesiredPlanner]:
    """Every planner as it is declared, in the order of the file.

    The source stays as it was written (``demo://`` included), so that the digest of the declaration does not
    depend on where this package is installed; admission calls ``to_source``.
    """
    from s3lora_serve.fleet.planner import DesiredPlanner

    return {
        name: DesiredPlanner.of(
            planner.source,
            _against(config, to_policy(config.policy_of(name))),
            sha256=planner.sha256,
            description=planner.description,
            pinned=planner.pinned,
            tools=to_tools(planner),
        )
        for name, planner in config.planners.items()
    }


def _against(config: Config, policy: PrunePolicy) -> PrunePolicy:
    """The policy with the base model named in it where its outcome depends on more than that one's shapes."""
    from s3lora_serve.spectral.validated import Validated

    if isinstance(policy.rule, Validated):
        revision = f"@{config.base_model_revision}" if config.base_model_revision else ""
        policy = replace(policy, rule=replace(policy.rule, base=f"{config.base_model}{revision}"))
    if policy.alignment is None or policy.alignment.aligned is not None:
        return policy
    served = replace(policy.alignment, aligned=config.base_model, aligned_revision=config.base_model_revision)
    return replace(policy, alignment=served)


def to_tools(config: PlannerConfig) -> tuple[ToolSpec, ...]:
    """A planner's own tools as requests would offer them. ``tool_problems`` has told what raises here."""
    from planners import ToolSpec

    return tuple(ToolSpec.model_validate(tool.model_dump(exclude_none=True)) for tool in config.tools)


def tool_problems(config: Config) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """What makes tools of a planners.yaml unusable in plans, each with its path; for ``load_config``.

    Asked of the contract itself, so that no tool is refused at the first request.
    """
    from pydantic import ValidationError

    from planners import ToolSpec

    for name, planner in config.planners.items():
        seen: set[str] = set()
        for number, tool in enumerate(planner.tools):
            at = ("planners", name, "tools", number)
            try:
                ToolSpec.model_validate(tool.model_dump(exclude_none=True))
            except ValidationError as error:
                yield from (
                    ((*at, *e["loc"]), e["msg"].removeprefix("Value error, ")) for e in error.errors()
                )
            if tool.name in seen:
                yield (*at, "name"), f"tool {tool.name!r} is given twice; give each tool its own name"
            seen.add(tool.name)
        yield from _too_much(name, planner, config.plans)


def _too_much(
    name: str, config: PlannerConfig, plans: PlansConfig
) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Tools that could not be planned with in the steps and texts that a request gets that asks for none."""
    from pydantic import ValidationError

    from planners import PlannerInput
    from planners.grammar import check_argument_chars
    from planners.tools import check_grammar_parts

    try:
        tools = to_tools(config)
        check_grammar_parts(
            (tool.arguments for tool in tools),
            min(int(PlannerInput.model_fields["max_steps"].default), plans.max_steps),
        )
        check_argument_chars(((tool.name, tool.arguments) for tool in tools), plans.max_text)
    except ValidationError:
        return  # told of each tool
    except ValueError as error:
        yield ("planners", name, "tools"), str(error)
