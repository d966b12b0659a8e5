"""``s3lora backup`` and ``s3lora restore``: state file and store, taken and put back together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s3lora_serve.cli.fleet.fleet_options import Engine  # noqa: TC001  (typer reads the annotation)
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.terminal.console import Stages, say

if TYPE_CHECKING:
    from s3lora_serve.launch.backup import BackupManifest

BACKUP_CODES = (
    "Exit codes: 0 done; 1 it could not be read, written or verified; 2 wrong usage or configuration."
)

ConfigPaths = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The planners.yaml that names state and store; without it those of ./.s3lora."
    ),
]
ResultAsJson = Annotated[
    bool, typer.Option("--json", help="Print what the backup holds, as JSON; errors too.")
]


def backup(
    target: Annotated[Path, typer.Argument(help="A new folder, or a new .tar, .tgz or .tar.gz file.")],
    config: ConfigPaths = None,
    engine: Engine = EngineKind.VLLM,
    as_json: ResultAsJson = False,
) -> None:
    """Copy a fleet's state and every revision that it names, also while its server runs.

    State first, as it is at one moment; every byte of the copy is read again before it appears under TARGET.
    """
    from s3lora_serve.errors import StateError
    from s3lora_serve.launch.backup import backup as take

    state, store = _places(config, engine)
    fake = _places(config, EngineKind.FAKE)[0]
    if not state.exists() and fake.exists():
        raise StateError(
            f"there is no state file {state}", hint="one of the fake engine is there: --engine fake"
        )
    with Stages("backup", keep=not as_json) as stage:
        manifest = take(state, store, target, engine, stage)
        stage.note = f"{len(manifest.revisions)} revisions, journal head {manifest.head[:24]}…, in {target}"
    _show(manifest, as_json)


def restore(
    source: Annotated[Path, typer.Argument(help="What `s3lora backup` made.")],
    config: ConfigPaths = None,
    engine: Engine = EngineKind.VLLM,
    force: Annotated[
        bool,
        typer.Option("--force", help="Over what is there; the state file that was there is kept beside."),
    ] = False,
    as_json: ResultAsJson = False,
) -> None:
    """Verify a backup in every byte and put it in place. The server of that place must be stopped."""
    from s3lora_serve.errors import ConfigError
    from s3lora_serve.launch.restore import restore as put

    if not source.exists():
        raise ConfigError(f"there is no backup {source}", hint="name what `s3lora backup` made")
    state, store = _places(config, engine)
    with Stages("restore", keep=not as_json) as stage:
        manifest = put(source, state, store, engine, stage, force=force)
        stage.note = (
            f"{len(manifest.planners)} planners, {len(manifest.revisions)} revisions, in {state.parent}"
        )
    _show(manifest, as_json)


def _places(config: Path | None, engine: EngineKind) -> tuple[Path, Path]:
    from s3lora_serve.config import StateConfig, StoreConfig, load_config
    from s3lora_serve.launch.engine_choice import to_own

    settings = load_config(config) if config is not None else None
    state, store = (settings.state, settings.store) if settings else (StateConfig(), StoreConfig())
    return to_own(state.path, engine), to_own(store.path, engine)


def _show(manifest: BackupManifest, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(manifest.to_json(), indent=2))
        return
    for finding in manifest.findings:
        say(f"warning: its audit says: {finding}", "yellow")
    if manifest.left_out:
        say(f"warning: {len(manifest.left_out)} revisions of the past are not in it: the store lacks them")
