"""The verb that asks what segments tell of the months after."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from core.cli.app import app
from core.cli.closing import print_closing
from core.cli.options import ArtifactsFolder
from core.config import resolve_config
from core.logging import configure


@app.command("scorecard")
def scorecard(
    artifacts: ArtifactsFolder = None,
    permutations: Annotated[
        int,
        typer.Option(
            "--permutations",
            help="Labels dealt out by lot to compare with; 19 or more.",
        ),
    ] = 199,
) -> None:
    """Look back at what segments told of the months after, beyond size.

    Learns the model on an earlier month, freezes it, and compares its labels with what
    shops did later. Writes scorecard.csv, scorecard-decay.csv and scorecard.png.
    """
    from core.retailers.research import measure_scorecard

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    print_closing(measure_scorecard(folder, permutations))
