"""The verb that searches the options of the clustering."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from core.cli.app import app
from core.cli.closing import print_closing
from core.cli.options import ArtifactsFolder
from core.config import resolve_config
from core.logging import configure


@app.command("select")
def select(
    artifacts: ArtifactsFolder = None,
    budget_minutes: Annotated[
        float,
        typer.Option(
            "--budget-minutes", help="What it may take; the search is cut to fit."
        ),
    ] = 10.0,
    latent_size: Annotated[
        list[int] | None,
        typer.Option("--latent-size", help="Try this one too; repeat for more."),
    ] = None,
    refits: Annotated[
        int | None, typer.Option("--refits", help="Refits of each latent size.")
    ] = None,
    nulls: Annotated[
        int | None, typer.Option("--nulls", help="Data sets without structure.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Processes; 0 for this one alone.",
            show_default="one per core",
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", help="File for a configuration with what is chosen."),
    ] = None,
) -> None:
    """Search min_cluster_size, min_samples, method and latent size.

    By refit agreement x coverage x ln(effective clusters), less what data without
    structure reaches. With `--refits`, `--nulls` or `--latent-size` the search does
    not depend on the machine's speed.
    """
    from core.retailers.search import select_options

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    result = select_options(
        folder,
        budget_minutes,
        latent_sizes=latent_size,
        n_refits=refits,
        n_nulls=nulls,
        n_workers=workers,
        write=write,
    )
    print_closing(result)
