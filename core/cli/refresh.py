"""The verbs of month after month: refresh, versions, rollback."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.cli.app import app
from core.cli.options import (
    ArtifactsFolder,
    Assignment,
    Column,
    ConfigFile,
    Quiet,
)
from core.config import resolve_config
from core.logging import configure


class Retrain(StrEnum):
    """The values of ``refresh.retrain``."""

    policy = "policy"
    always = "always"
    never = "never"
    noise = "noise"


@app.command("refresh")
def refresh(
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Rows of the new month, or months: as for `run`. Months known already "
            "may be among them. Without it, nothing new is read.",
        ),
    ] = None,
    artifacts: ArtifactsFolder = None,
    retrain: Annotated[
        Retrain | None,
        typer.Option(
            "--retrain",
            help="`policy` (where drift lasts), `always`, `never`, or `noise` (keep "
            "all segments, look for new ones among the unassigned).",
            show_default="policy",
        ),
    ] = None,
    restate: Annotated[
        bool,
        typer.Option(
            "--restate", help="Replace the sales of earlier months that came again."
        ),
    ] = False,
    config: ConfigFile = None,
    column: Column = None,
    set_: Assignment = None,
    quiet: Quiet = False,
) -> None:
    """Take in a new month: assign everyone, measure drift, retrain if that is due.

    Safe for a scheduler: a month that came before changes nothing, a second refresh at
    the same time is refused, and a killed one has not happened. Exits with 0, or with
    the code of what went wrong; 8 if a refit breaks the segment contract. Writes
    refresh.html, cluster_predictions.csv and segment_moves.csv.
    """
    from core.retailers.refresh.month import refresh_config
    from core.retailers.refresh.run import run_refresh

    configure(logging.ERROR if quiet else logging.INFO)
    columns = [f"data.columns.{text}" for text in column or []]
    chosen = refresh_config(artifacts, config, input, [*columns, *(set_ or [])])
    result = run_refresh(
        chosen, retrain=None if retrain is None else retrain.value, restate=restate
    )
    if not quiet or result.exit_code:
        for line in result.lines:
            Console().print(line, soft_wrap=True, highlight=False, markup=False)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


@app.command("versions")
def versions(artifacts: ArtifactsFolder = None) -> None:
    """List the versions of the model: the one that serves, and those kept."""
    from core.retailers.refresh.output import version_rows

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    rows = version_rows(Path(folder))
    table = Table(title="Versions", title_justify="left")
    for name in rows[0]:
        table.add_column(name, no_wrap=name == "name", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


@app.command("rollback")
def rollback(
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="A version by the name that `segments versions` lists.",
            show_default="the version before",
        ),
    ] = None,
    artifacts: ArtifactsFolder = None,
) -> None:
    """Let the version before serve again; the ledger stays as it is."""
    from core.retailers.refresh.output import roll_back

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    for line in roll_back(Path(folder), to):
        typer.echo(line)
