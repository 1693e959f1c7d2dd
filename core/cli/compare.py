"""The verb that puts spaces and clusterers side by side."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from core.cli.app import app
from core.cli.closing import print_closing
from core.cli.options import ArtifactsFolder
from core.config import resolve_config
from core.logging import configure


@app.command("compare")
def compare(
    artifacts: ArtifactsFolder = None,
    spaces: Annotated[
        str | None,
        typer.Option(
            "--spaces",
            help="Some of raw, pca, umap, reference, latent, comma separated.",
            show_default="all that are installed",
        ),
    ] = None,
    shops: Annotated[
        int, typer.Option("--shops", help="Look at so many, drawn at random.")
    ] = 2000,
    refits: Annotated[
        int, typer.Option("--refits", help="How often each is learnt anew.")
    ] = 3,
    nulls: Annotated[
        int, typer.Option("--nulls", help="Data sets without structure, at least 19.")
    ] = 19,
    budget_minutes: Annotated[
        float,
        typer.Option("--budget-minutes", help="After these, no further nulls."),
    ] = 30.0,
    parts: Annotated[
        int | None,
        typer.Option(
            "--parts",
            help="How many KMeans and mixtures make.",
            show_default="as many as the run's own partition has",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Processes for the nulls; 0 for this one alone.",
            show_default="one per core",
        ),
    ] = None,
) -> None:
    """Judge raw, PCA, UMAP, reference and our space x HDBSCAN, KMeans, mixture.

    On both feature sets, by what holds across spaces: counts, stability, p against data
    without structure, out-of-time score. Writes comparison-spaces.csv and .png.
    """
    from core.evaluation.comparison import Effort
    from core.retailers.research import compare as compare_spaces

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    wanted = None if spaces is None else [name.strip() for name in spaces.split(",")]
    result = compare_spaces(
        folder,
        spaces=wanted,
        effort=Effort(refits, nulls, 60.0 * budget_minutes),
        max_shops=shops,
        k=parts,
        n_workers=workers,
    )
    print_closing(result)
