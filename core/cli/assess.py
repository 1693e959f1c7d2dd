"""The verbs that judge a model that stands."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import typer

from core.cli.app import app
from core.cli.closing import print_closing
from core.cli.options import ArtifactsFolder
from core.config import resolve_config
from core.logging import configure

Resampling = Literal["subsample", "bootstrap", "seed"]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes side by side; 0 for this one alone. The result is the same.",
        show_default="one per core",
    ),
]


@app.command("stability")
def stability(
    artifacts: ArtifactsFolder = None,
    refits: Annotated[
        int, typer.Option("--refits", help="How often; each takes as long as training.")
    ] = 5,
    how: Annotated[
        Resampling, typer.Option("--how", help="What differs from one to the next.")
    ] = "subsample",
    workers: Workers = None,
) -> None:
    """Learn the segments anew, scaler and encoder included, and see which come back."""
    from core.retailers.judge import measure_stability

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    print_closing(measure_stability(folder, refits, how, workers))


@app.command("certify")
def certify(
    artifacts: ArtifactsFolder = None,
    nulls: Annotated[
        int, typer.Option("--nulls", help="Data sets without structure, at least 19.")
    ] = 19,
    refits: Annotated[
        int, typer.Option("--refits", help="How often all is learnt on 80% of shops.")
    ] = 5,
    seed_refits: Annotated[
        int, typer.Option("--seed-refits", help="How often with another seed.")
    ] = 3,
    budget_minutes: Annotated[
        float | None,
        typer.Option(
            "--budget-minutes",
            min=0.0,
            help="Time for it all: as many nulls as fit, at least 19.",
            show_default="none, `--nulls` decides",
        ),
    ] = None,
    workers: Workers = None,
) -> None:
    """Tell whether the segments are real: learn everything anew, also on nothing.

    Refits the whole pipeline on data without structure and on other shops, derives the
    verdict (natural, reproducible, constructive), and publishes the segments under it.
    Writes certificate.json, stability.csv and null-distribution.png.
    """
    from core.retailers.judge import Effort
    from core.retailers.judge import certify as certify_model

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    effort = Effort(nulls, refits, seed_refits, budget_minutes, workers)
    try:
        result = certify_model(folder, effort)
    except KeyboardInterrupt:
        typer.echo(
            "Interrupted. What is done is kept: run the same command again, and it "
            "goes on where it was. The published segments are unchanged.",
            err=True,
        )
        raise typer.Exit(130) from None
    print_closing(result)
