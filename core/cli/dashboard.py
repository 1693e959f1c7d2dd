"""The verb that shows a run's segments in a browser, or writes them as one page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli import app
from core.config import Config
from core.errors import PROGRAM, SourceError, StoreError, listed
from core.resolve import resolve_config

if TYPE_CHECKING:
    from core.store import Store


@app.app.command("dashboard")
def show_dashboard(
    store: Annotated[
        str | None,
        app.option(
            "Whose segments to show; shops of the folder are loaded under this name.",
            "what the folder holds",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        app.option("Write the overview to this HTML file, and serve nothing.", "serve"),
    ] = None,
    host: Annotated[
        str | None, app.option("Address to listen on.", "127.0.0.1")
    ] = None,
    port: Annotated[int | None, app.option("Port; 0 takes a free one.", "8000")] = None,
    artifacts: app.ArtifactsFolder = None,
    database: app.Database = None,
    config: app.ConfigFile = None,
    set_: app.Assignment = None,
) -> None:
    """Show segments, sizes over time and single shops or customers in a browser.

    Loads what the artifacts folder holds into the store, if that is newer, and prints
    an address and a key to sign in with. The key is valid until Ctrl-C.
    """
    flags = {
        "artifacts": artifacts,
        "store.host": host,
        "store.port": port,
        "store.url": database,
    }
    chosen = resolve_config(config, flags, set_ or [])
    if export is not None:
        _export(chosen, store, export)
        return
    from core.api.server import serve

    try:
        serve(chosen, around=partial(shown, chosen, store), only_dashboard=True)
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)


@contextmanager
def shown(
    config: Config, store_id: str | None, address: str, store: Store
) -> Iterator[None]:
    """Make a key, say where to use it, and revoke it at the end."""
    from core.store import create_key, revoke_key

    name = _loaded(config, store_id, store)
    key = create_key(store, name, "dashboard")
    try:
        typer.echo(f"Dashboard of the store `{name}`: {address}/dashboard", err=True)
        typer.echo("Sign in with this key, valid until Ctrl-C:", err=True)
        typer.echo(key)
        yield
    finally:
        revoke_key(store, key)


def _loaded(config: Config, store_id: str | None, store: Store) -> str:
    """Load what the artifacts folder holds; return the store to show.

    Raises
    ------
    StoreError
        If there is nothing to show, or more than one store to choose from.
    """
    from core.store.runs import SHOPS_STORE, publish_runs

    of_customers = (config.axes.store, config.channels.store, config.baskets.store)
    shops = store_id if store_id and store_id not in of_customers else SHOPS_STORE
    loads = publish_runs(config, shops)
    for load in loads.values():
        typer.echo(load.line, err=True)
    found = store.names()
    names = [name for name in loads if name in found] or found
    if store_id is None and len(names) == 1:
        return names[0]
    if store_id in found:
        return str(store_id)
    if not found:
        raise StoreError(
            f"{store.name} has no segments, and `{config.artifacts}` holds no run. "
            f"Make one first: `{PROGRAM} run`, `{PROGRAM} axes`, `{PROGRAM} channels` "
            f"or `{PROGRAM} baskets`."
        )
    received = "no `--store`" if store_id is None else f"`--store {store_id}`"
    raise StoreError(
        f"received {received}; {store.name} holds {listed(sorted(found))}. Choose one "
        "of them with `--store NAME`."
    )


def _export(config: Config, store_id: str | None, path: Path) -> None:
    """Write the overview as one page.

    Raises
    ------
    StoreError
        If the store has no board to show.
    SourceError
        If the file cannot be written.
    """
    from core.dashboard.pages import exported
    from core.store.publish import opened_store

    with opened_store(config) as store:
        name = _loaded(config, store_id, store)
        board = store.board(name)
    if board is None:
        raise StoreError(
            f"the segments of `{name}` were made by an older version, which kept "
            "nothing for the dashboard. Make them again: the same command with "
            "`--retrain always`."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(exported(board), encoding="utf-8")
    except OSError as error:
        raise SourceError(f"`{path}` cannot be written ({error}).") from None
    app.print_lines([f"{path}: the overview of the store `{name}`, as one page."])
