"""The verbs that judge a model that stands."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import typer

from core.cli.app import app
from core.cli.closing import print_closing
from core.cli.options import ArtifactsFolder
from core.logging import configure
from core.resolve import resolve_config

Resampling = Literal["subsample", "bootstrap", "seed"]


@app.command("stability")
def stability(
    artifacts: ArtifactsFolder = None,
    refits: Annotated[
        int, typer.Option("--refits", help="How often; each takes as long as training.")
    ] = 5,
    how: Annotated[
        Resampling, typer.Option("--how", help="What differs from one to the next.")
    ] = "subsample",
) -> None:
    """Learn scaler, encoder and clusters anew, and see which clusters come back."""
    from core.assess import measure_stability

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    print_closing(measure_stability(folder, refits, how))
