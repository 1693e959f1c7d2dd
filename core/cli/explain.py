"""The verb that explains one shop."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from core.cli.app import app
from core.cli.options import ArtifactsFolder
from core.config import resolve_config


@app.command("explain")
def explain(
    shop: Annotated[str, typer.Argument(help="The shop's id, as in the data.")],
    artifacts: ArtifactsFolder = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print figures for a machine instead.")
    ] = False,
) -> None:
    """Say why a shop is in its segment, and what would move it out of there."""
    from core.retailers.profile import explain_shop

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    found = explain_shop(folder, shop)
    if as_json:
        text = json.dumps(found.facts(), indent=2, ensure_ascii=False, allow_nan=False)
        typer.echo(text)
        return
    for line in found.lines():
        typer.echo(line)
