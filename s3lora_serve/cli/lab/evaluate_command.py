"""``s3lora evaluate``: is an adapter safer when it is pruned, and what does that cost."""

from __future__ import annotations

from typing import Annotated

import typer

from s3lora_serve.cli.adapters.adapter_commands import not_empty
from s3lora_serve.cli.adapters.policy_options import Aligned, AlignmentBase  # noqa: TC001  (typer reads them)
from s3lora_serve.cli.lab.evaluation_cells import POLICY_HELP
from s3lora_serve.cli.lab.evaluation_options import (
    AsJson,
    AskedAs,
    Attack,
    Base,
    ConfigFile,
    Harmless,
    Limit,
    Out,
    Plans,
    RandomSeeds,
    Seed,
    read_suite,
    to_alignment,
)

DEFAULT_POLICY = "mas-svd:top=10"


def evaluate(
    out: Out,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="ADAPTER",
            help="Local folder, demo://name, hf://org/name or any fsspec URL.",
            callback=not_empty,
        ),
    ] = None,
    base: Base = None,
    config: ConfigFile = None,
    planner: Annotated[
        str | None, typer.Option("--planner", "-p", help="In place of ADAPTER: this planner of --config.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help=f"{POLICY_HELP} Without it the planner's own, or {DEFAULT_POLICY}."),
    ] = None,
    attack: Attack = None,
    harmless: Harmless = None,
    plans: Plans = None,
    form: AskedAs = "both",
    limit: Limit = None,
    random_seeds: RandomSeeds = 3,
    seed: Seed = 0,
    alignment_base: AlignmentBase = None,
    aligned: Aligned = None,
    as_json: AsJson = False,
) -> None:
    """Measure an adapter under several policies: attack success, over-refusal, plans, cost.

    Unpruned, as the base model alone, under each policy, and with as many modules pruned at random.
    Writes report.html, report.json and records.jsonl. Interrupted runs resume:
    run the same command again.
    """
    from s3lora_serve.cli.lab.evaluation_cells import policy_cells, read_policies
    from s3lora_serve.cli.lab.evaluation_inputs import read_config, to_given, to_setting
    from s3lora_serve.cli.lab.evaluation_run import RunSpec, carry_out
    from s3lora_serve.errors import ConfigError

    settings = None if config is None else read_config(config)
    setting = to_setting(base, settings)
    if source is not None and planner is not None:
        raise ConfigError("ADAPTER and --planner are two adapters", hint="s3lora sweep takes several")
    given = to_given([source] if source else [], [planner] if planner else [], settings)
    alignment = to_alignment(alignment_base, aligned)
    own = [given[0].policy] if given[0].policy is not None else None
    policies = read_policies(policy or [DEFAULT_POLICY], alignment) if policy or own is None else own
    suite = read_suite(attack, harmless, plans, form, limit, seed)
    order = RunSpec(
        title=f"{given[0].name} on {setting.base_model}",
        setting=setting,
        adapters=given,
        suite=suite,
        make_cells=lambda one, model: policy_cells(one, model, policies, random_seeds),
        folder=out,
        seed=seed,
        as_json=as_json,
        first_look=not (attack or harmless or plans),
    )
    carry_out(order)
