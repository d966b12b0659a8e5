"""``s3lora audit``: does a fleet serve what was decided, and is what was decided still on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from s3lora_serve.cli.fleet.fleet_options import AsJson, ServerOptions
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.errors import ConfigError, StateError, StoreError
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import REFUSED, out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from s3lora_serve.control.journal.chain import Head
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.journal.journal_findings import AuditFinding
    from s3lora_serve.engine.port import EngineKind

AUDIT_CODES = (
    "Exit codes: 0 all is well; 1 something is not, or could not be read; 2 wrong usage or configuration."
)


@grouped
def audit(
    *,
    state: Annotated[
        Path | None,
        typer.Option(help="Check this state file's journal, without a server; with --config the store too."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="SEQ:HASH of the journal, noted earlier; that entry must still be there, unchanged."
        ),
    ] = None,
    as_json: AsJson = False,
    at: ServerOptions,
) -> None:
    """Check that a fleet's journal, store and engine agree, each of them read anew.

    One line per finding, and below each that is bad the next step.
    """
    noted = _noted(head)
    if state is not None:
        findings = _offline(state, noted, at.config, at.engine)
    else:
        with at.connect() as client:
            findings = client.audit(f"{noted.seq}:{noted.hash}" if noted else None)["findings"]
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
            if not finding["ok"] and finding.get("hint"):
                out.print(Text(f"     next: {printable(finding['hint'])}"), soft_wrap=True, highlight=False)
    if not well:
        raise typer.Exit(REFUSED)


def _noted(head: str | None) -> Head | None:
    from s3lora_serve.control.journal.chain import Head

    try:
        return None if head is None else Head.parse(head)
    except ValueError as error:
        raise ConfigError(
            f"--head {error}", hint="as `s3lora audit` and the server's log print it"
        ) from error


def _offline(
    state: Path, noted: Head | None, config: Path | None, engine: EngineKind
) -> list[dict[str, Any]]:
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.journal.journal_findings import AuditFinding, journal_findings

    try:
        with Journal(state, read_only=True) as journal:
            found = journal_findings(journal, noted)
            if config is not None:
                from s3lora_serve.config import load_config
                from s3lora_serve.launch.engine_choice import to_own

                found += _revisions(journal, to_own(load_config(config).store.path, engine))
    except StateError as error:
        found = [AuditFinding(False, "file", error.message, error.hint)]
    return [vars(finding) for finding in found]


def _revisions(journal: Journal, path: Path) -> Iterator[AuditFinding]:
    """Every byte of what each planner is to serve, read again."""
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.control.journal.journal_findings import AuditFinding

    if not path.is_dir():
        yield AuditFinding(False, "store", f"there is no folder {path}", "put it back, or restore a backup")
        return
    try:
        store, rows = RevisionStore(path), journal.planner_rows()
    except StateError:  # which is among the findings by now
        return
    except StoreError as error:
        yield AuditFinding(False, "store", error.message, error.hint)
        return
    for name, record in rows.items():
        for role in ("active", "candidate", "previous"):
            if isinstance(record, str) or (digest := getattr(record, role)) is None:
                continue
            subject = f"revision {digest[:12]} ({name}, {role})"  # as a server's audit names it
            try:
                store.check(digest)
            except StoreError as error:
                yield AuditFinding(False, subject, error.message, error.hint)
            else:
                yield AuditFinding(True, subject, "as published")
