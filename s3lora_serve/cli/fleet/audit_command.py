"""``s3lora audit``: does a fleet serve what was decided, and is what was decided still on record."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from s3lora_serve.cli.fleet.fleet_options import AsJson, ServerOptions
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.errors import ConfigError, StoreError
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import REFUSED, out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from s3lora_serve.control.journal.journal import Head, Journal
    from s3lora_serve.engine.port import EngineKind

_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


@grouped
def audit(
    *,
    state: Annotated[
        Path | None,
        typer.Option(help="Check this state file's journal, without a server; with --config the store too."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="With --state: SEQ:HASH noted earlier; that entry must still be there, unchanged."),
    ] = None,
    as_json: AsJson = False,
    at: ServerOptions,
) -> None:
    """Check that a fleet's journal, store and engine agree, each of them read anew.

    One line per finding. Exit code 0 if all is well, 1 with the reason if not.
    """
    if head is not None and state is None:
        raise ConfigError("--head is about a --state file")
    if state is not None:
        findings = _offline(state, _noted(head), at.config, at.engine)
    else:
        with at.connect() as client:
            findings = client.audit()["findings"]
    _report(findings, as_json)


def _report(findings: Sequence[dict[str, Any]], as_json: bool) -> None:
    well = all(finding["ok"] for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": well, "findings": list(findings)}, indent=2))
    else:
        for finding in findings:
            mark = ("ok   ", "green") if finding["ok"] else ("bad  ", "bold red")
            line = Text.assemble(mark, printable(f"{finding['subject']}: {finding['message']}"))
            out.print(line, soft_wrap=True, highlight=False)
    if not well:
        raise typer.Exit(REFUSED)


def _noted(head: str | None) -> Head | None:
    from s3lora_serve.control.journal.journal import Head

    if head is None:
        return None
    if (found := _HEAD.fullmatch(head.lower())) is None:
        raise ConfigError(
            f"--head {head[:100]!r} is not SEQ:HASH", hint="as `s3lora audit --state` prints it"
        )
    return Head(int(found[1]), found[2])


def _offline(
    state: Path, noted: Head | None, config: Path | None, engine: EngineKind
) -> list[dict[str, Any]]:
    from s3lora_serve.control.journal.journal import Journal

    with Journal(state, read_only=True) as journal:
        return [
            {"ok": ok, "subject": subject, "message": message}
            for ok, subject, message in (*_chain(journal, noted), *_revisions(journal, config, engine))
        ]


def _chain(journal: Journal, noted: Head | None) -> Iterator[tuple[bool, str, str]]:
    if (broken := journal.verify(noted)) is not None:
        yield False, "journal", broken.reason
        return
    head = journal.head()
    yield True, "journal", f"{head.seq} entries, an unbroken chain; its head is {head.seq}:{head.hash}"


def _revisions(journal: Journal, config: Path | None, engine: EngineKind) -> Iterator[tuple[bool, str, str]]:
    """Every byte of what each planner is to serve, read again."""
    if config is None:
        return
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.config import load_config
    from s3lora_serve.launch.engine_choice import to_own

    path = to_own(load_config(config).store.path, engine)
    if not path.is_dir():
        yield False, "store", f"there is no folder {path}"
        return
    store = RevisionStore(path)
    for name, record in journal.planners().items():
        for role in ("active", "candidate", "previous"):
            if (digest := getattr(record, role)) is None:
                continue
            try:
                store.check(digest)
            except StoreError as error:
                yield False, name, f"{role} {digest[:12]}: {error}"
            else:
                yield True, name, f"{role} {digest[:12]}: as published"
