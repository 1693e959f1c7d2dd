"""The verb that gives a segment a name of the user's own."""

from __future__ import annotations

from typing import Annotated

import typer

from core.cli.app import app
from core.cli.closing import print_closing
from core.cli.options import ArtifactsFolder
from core.config import resolve_config


@app.command("rename")
def rename(
    segment: Annotated[int, typer.Argument(help="The segment's id.", min=0)],
    name: Annotated[str, typer.Argument(help="What it is called from now on.")],
    artifacts: ArtifactsFolder = None,
) -> None:
    """Give a segment a name of your own, which it keeps in all later models."""
    from core.retailers.publish import rename_segment

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    print_closing(rename_segment(folder, segment, name))
