"""The verbs that print what there is: options, features, artifacts."""

from __future__ import annotations

from typing import Annotated

import typer

from core.cli.app import app
from core.cli.options import ArtifactsFolder, Assignment, ConfigFile
from core.config import resolve_config


@app.command("config")
def print_config(
    config: ConfigFile = None,
    set_: Assignment = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference of all options.")
    ] = False,
) -> None:
    """Print the resolved configuration as YAML: a start for a file of your own."""
    if markdown:
        from core.docs import configuration_page

        typer.echo(configuration_page(), nl=False)
    else:
        typer.echo(resolve_config(config, assignments=set_ or []).to_yaml(), nl=False)


@app.command("features")
def print_features() -> None:
    """Print every feature with its formula, unit and what null means."""
    from core.docs import features_page

    typer.echo(features_page(), nl=False)


@app.command("verify")
def verify_artifacts(artifacts: ArtifactsFolder = None) -> None:
    """Check every file of the published artifacts against its digest."""
    from core.artifacts.folder import Artifacts

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    published = Artifacts(folder).published()
    if published is None:
        typer.echo(f"{folder} holds no artifacts yet.")
        return
    manifest = published.manifest
    state = "complete" if manifest.is_complete else "not complete yet"
    typer.echo(f"{folder}: {len(manifest.files)} files unchanged, {state}.")
