"""``s3lora sweep``: how much to prune, by which scorer: the measurements that ``policy.validated`` reads."""

from __future__ import annotations

from typing import Annotated

import typer

from s3lora_serve.cli.lab.evaluation_options import Base, ConfigFile, Out, RunOptions
from s3lora_serve.cli.option_groups import grouped

DEFAULT_SCORERS = ("mas-svd", "svd", "random")
DEFAULT_TAUS = "0,5,...,50"


@grouped
def sweep(
    *,
    out: Out,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ADAPTER",
            help="Local folders, demo://name, hf://org/name or a folder's URL. GROUP=ADAPTER for"
            " adapters that differ only in their training seed: intervals then include the variance between"
            " seeds.",
        ),
    ] = None,
    base: Base = None,
    config: ConfigFile = None,
    planner: Annotated[
        list[str] | None, typer.Option("--planner", "-p", help="This planner of --config too. Repeatable.")
    ] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(help=f"What ranks the modules. Repeatable; without it {', '.join(DEFAULT_SCORERS)}."),
    ] = None,
    tau: Annotated[
        str, typer.Option(help="Percentages of the modules to prune, separated by commas.")
    ] = DEFAULT_TAUS,
    run: RunOptions,
) -> None:
    """Measure adapters at many shares of pruned modules, by several scorers.

    Writes sweep.json, which policy.validated chooses from, and what `s3lora evaluate` writes.
    Interrupted runs resume: run the same command again.
    """
    from s3lora_serve.cli.lab.evaluation_cells import check_scorers, read_taus, tau_cells
    from s3lora_serve.cli.lab.evaluation_inputs import read_config, to_given, to_setting
    from s3lora_serve.cli.lab.evaluation_run import RunSpec, carry_out

    settings = None if config is None else read_config(config)
    setting = to_setting(base, settings)
    given = to_given(sources or [], planner or [], settings)
    alignment = run.alignment()
    scorers, taus = scorer or list(DEFAULT_SCORERS), read_taus(tau)
    check_scorers(scorers, alignment)
    order = RunSpec(
        title=f"{given[0].name if len(given) == 1 else f'{len(given)} adapters'} on {setting.base_model}",
        setting=setting,
        adapters=given,
        suite=run.suite(),
        make_cells=lambda one, model: tau_cells(one, model, scorers, taus, run.random_seeds, alignment),
        folder=out,
        options=run,
        sweep=True,
    )
    carry_out(order)
