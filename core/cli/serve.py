"""The verb that serves profiles over HTTP."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.app import app
from core.cli.options import ArtifactsFolder, Assignment, ConfigFile
from core.config import resolve_config

if TYPE_CHECKING:
    from core.store import Store


@app.command("serve")
def serve_api(
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            help="Address to listen on; 0.0.0.0 for all of this machine's.",
            show_default="127.0.0.1",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port; 0 takes a free one.", show_default="8000"),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="Processes that answer.")
    ] = 1,
    artifacts: ArtifactsFolder = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            help="Address of a PostgreSQL of your own.",
            show_default="DATABASE_URL, or an embedded one in the artifacts folder",
        ),
    ] = None,
    config: ConfigFile = None,
    set_: Assignment = None,
) -> None:
    """Serve stored profiles and place new customers, over HTTP.

    Requests need a key: `segments keys create`. Logs go to standard output as JSON
    lines. Ctrl-C ends it, after the requests under way.
    """
    from core.api.server import serve

    flags = {
        "artifacts": artifacts,
        "store.host": host,
        "store.port": port,
        "store.url": database,
    }
    chosen = resolve_config(config, flags, set_ or [])
    try:
        serve(chosen, workers, partial(_tell, chosen.axes.store))
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)


def _tell(store_id: str, address: str, store: Store) -> None:
    """Say where the API is, and what it will answer."""
    typer.echo(f"Serving {store.name} at {address}", err=True)
    typer.echo(f"Try it out at {address}/docs; Ctrl-C stops it.", err=True)
    if store.model(store_id) is None:
        typer.echo(
            f"The store `{store_id}` holds no profiles yet: `segments axes` makes "
            "some, now or later.",
            err=True,
        )
    typer.echo(
        f"A key for requests: `segments keys create --store {store_id}`.", err=True
    )
