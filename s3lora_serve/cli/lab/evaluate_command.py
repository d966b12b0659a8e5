"""``s3lora evaluate``: is an adapter safer when it is pruned, and what does that cost."""

from __future__ import annotations

from typing import Annotated

import typer

from s3lora_serve.cli.adapters.adapter_options import not_empty
from s3lora_serve.cli.lab.evaluation_cells import POLICY_HELP
from s3lora_serve.cli.lab.evaluation_options import Base, ConfigFile, Out, RunOptions
from s3lora_serve.cli.option_groups import grouped

DEFAULT_POLICY = "mas-svd:top=10"


@grouped
def evaluate(
    *,
    out: Out,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="ADAPTER",
            help="Local folder, demo://name, hf://org/name or a folder's URL.",
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
    run: RunOptions,
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
    alignment = run.alignment()
    own = [given[0].policy] if given[0].policy is not None else None
    policies = read_policies(policy or [DEFAULT_POLICY], alignment) if policy or own is None else own
    order = RunSpec(
        title=f"{given[0].name} on {setting.base_model}",
        setting=setting,
        adapters=given,
        suite=run.suite(),
        make_cells=lambda one, model: policy_cells(one, model, policies, run.random_seeds),
        folder=out,
        options=run,
    )
    carry_out(order)
