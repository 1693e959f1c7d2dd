"""The verbs of the API's keys: made once, listed, revoked."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.cli.app import app
from core.cli.options import ArtifactsFolder, ConfigFile
from core.cli.store import Database, opened_store
from core.config import resolve_config

keys = typer.Typer(
    name="keys",
    help="Keys of the API: each opens the profiles of one store.",
    no_args_is_help=True,
)
app.add_typer(keys)

StoreName = Annotated[
    str | None,
    typer.Option("--store", help="Name of the store, as in `segments axes --store`."),
]


@keys.command("create")
def create(
    store: StoreName = None,
    name: Annotated[str, typer.Option("--name", help="Who gets it, or what for.")] = "",
    artifacts: ArtifactsFolder = None,
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """Make a key and print it, this once: only its hash is kept.

    The key alone goes to standard output, so that a script can take it from there. It
    opens one store, by default that of `axes.store`.
    """
    from core.store import create_key

    default = resolve_config(config).axes.store
    store_id = default if store is None else store
    with opened_store(artifacts, database, config) as opened:
        key = create_key(opened, store_id, name)
        is_empty = opened.model(store_id) is None
    typer.echo(f"Key of the store `{store_id}`; it cannot be shown again:", err=True)
    typer.echo(key)
    if is_empty:
        typer.echo(
            f"That store has no profiles yet: run `segments axes --store {store_id}`.",
            err=True,
        )


@keys.command("revoke")
def revoke(
    prefix: Annotated[
        str, typer.Argument(help="Its prefix, as `segments keys list` shows it.")
    ],
    artifacts: ArtifactsFolder = None,
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """Let a key be refused from now on, with the very next request."""
    from core.store import revoke_key

    with opened_store(artifacts, database, config) as opened:
        key = revoke_key(opened, prefix)
    named = f" ({key.name})" if key.name else ""
    typer.echo(f"Key {key.prefix}{named} of the store `{key.store_id}` is revoked.")


@keys.command("list")
def list_(
    store: Annotated[
        str | None,
        typer.Option("--store", help="Of this store only.", show_default="all"),
    ] = None,
    artifacts: ArtifactsFolder = None,
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """List the keys by their prefixes; revoked ones stay in the list."""
    from core.store import list_keys

    with opened_store(artifacts, database, config) as opened:
        found = list_keys(opened, store)
    if not found:
        typer.echo("There are no keys yet: `segments keys create` makes one.")
        return
    table = Table(title="Keys", title_justify="left")
    for column in ("prefix", "store", "name", "created (UTC)", "revoked (UTC)"):
        table.add_column(column, overflow="fold")
    for key in found:
        revoked = "" if key.revoked_at is None else f"{key.revoked_at:%Y-%m-%d %H:%M}"
        created = f"{key.created_at:%Y-%m-%d %H:%M}"
        table.add_row(key.prefix, key.store_id, key.name, created, revoked)
    Console().print(table)
