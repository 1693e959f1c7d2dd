"""The verbs of the service: the API, the store behind it, the keys to it."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli import app
from core.errors import PROGRAM
from core.resolve import resolve_config

if TYPE_CHECKING:
    from core.store import Store

store = typer.Typer(
    name="store",
    help="Look into the store of profiles, and ask it in SQL.",
    no_args_is_help=True,
)
app.app.add_typer(store)
keys = typer.Typer(
    name="keys",
    help="Keys of the API: each opens the profiles of one store.",
    no_args_is_help=True,
)
app.app.add_typer(keys)

Database = Annotated[
    str | None,
    app.option(
        "Address of a PostgreSQL.",
        "DATABASE_URL, else the embedded one in the artifacts folder",
    ),
]


@app.app.command("serve")
def serve_api(
    host: Annotated[
        str | None,
        app.option(
            "Address to listen on; 0.0.0.0 for all of this machine's.", "127.0.0.1"
        ),
    ] = None,
    port: Annotated[int | None, app.option("Port; 0 takes a free one.", "8000")] = None,
    workers: Annotated[int, app.option("Processes that answer.", min=1, max=64)] = 1,
    artifacts: app.ArtifactsFolder = None,
    database: Annotated[
        str | None,
        app.option(
            "Address of a PostgreSQL of your own.",
            "DATABASE_URL, or an embedded one in the artifacts folder",
        ),
    ] = None,
    config: app.ConfigFile = None,
    set_: app.Assignment = None,
) -> None:
    """Serve stored profiles, the dashboard, and place new customers, over HTTP.

    Requests need a key: `keys create`. Logs go to standard output as JSON
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
        serve(chosen, workers, partial(_announced, chosen.axes.store))
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)


@contextmanager
def _announced(store_id: str, address: str, store: Store) -> Iterator[None]:
    """Say where the API is, and what it will answer."""
    typer.echo(f"Serving {store.name} at {address}", err=True)
    typer.echo(f"Try it out: {address}/docs", err=True)
    typer.echo(f"Dashboard:  {address}/dashboard", err=True)
    typer.echo("Ctrl-C stops it.", err=True)
    if store.model(store_id) is None:
        typer.echo(
            f"The store `{store_id}` holds no profiles yet: `{PROGRAM} axes` makes "
            "some, now or later.",
            err=True,
        )
    typer.echo(
        f"A key for requests: `{PROGRAM} keys create --store {store_id}`.", err=True
    )
    yield


@app.app.command()
def publish(
    store: Annotated[str, app.option("Name of the store of these shops.")] = "shops",
    artifacts: app.ArtifactsFolder = None,
    database: Database = None,
    config: app.ConfigFile = None,
) -> None:
    """Load the shops of a run into the store, for the API and the dashboard.

    Segment, sub-segment and state of every shop as they are now, how they came there,
    and what the report tells. Doing it again changes nothing.
    """
    from core.store.runs import publish_shops

    flags = {"artifacts": artifacts, "store.url": database}
    load = publish_shops(resolve_config(config, flags), store)
    app.print_lines([load.line])


_STATUS = """
    SELECT store_id AS store, (stats ->> 'total_customers')::bigint AS customers,
           version AS model, lineage,
           to_char(published_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
               AS "loaded (UTC)"
    FROM axis_models
    WHERE is_current
    ORDER BY store_id
"""


@store.command()
def status(
    artifacts: app.ArtifactsFolder = None,
    database: Database = None,
    config: app.ConfigFile = None,
) -> None:
    """List the stores: the model in use, since when, and how many customers."""
    with _opened_store(artifacts, database, config) as opened:
        typer.echo(f"Store: {opened.name}")
        names, rows = opened.query(_STATUS)
    if not rows:
        typer.echo(f"It holds no profiles yet: run `{PROGRAM} axes`.")
        return
    app.print_table(names, [[_cell(value) for value in row] for row in rows])


@store.command()
def query(
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help="One statement; `-`: standard input.")
    ],
    as_csv: Annotated[
        bool, app.option("Print CSV instead of a table.", flag="--csv")
    ] = False,
    artifacts: app.ArtifactsFolder = None,
    database: Database = None,
    config: app.ConfigFile = None,
) -> None:
    """Run SQL that reads, such as a SELECT from `customer_profiles`.

    Nothing can be changed this way. JSON columns are printed as JSON.
    """
    text = sys.stdin.read() if statement == "-" else statement
    with _opened_store(artifacts, database, config) as opened:
        names, rows = opened.query(text)
    cells = [[_cell(value) for value in row] for row in rows]
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(cells)
        return
    app.print_table(names, cells)
    typer.echo(f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}")


def _cell(value: Any) -> str:
    """Return a value as text; null is empty, JSON stays JSON."""
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


@contextmanager
def _opened_store(
    artifacts: str | None, database: str | None, file: Path | None
) -> Iterator[Store]:
    """Open the store that the options of a command name."""
    from core.store import Store

    options = resolve_config(file, {"artifacts": artifacts, "store.url": database})
    folder = Path(options.artifacts) / "postgres"
    with Store.open(options.store.url, folder) as opened:
        yield opened


@keys.command()
def create(
    store: Annotated[
        str | None, app.option(f"Name of the store, as in `{PROGRAM} axes --store`.")
    ] = None,
    name: Annotated[str, app.option("Who or what it is for.")] = "",
    artifacts: app.ArtifactsFolder = None,
    database: Database = None,
    config: app.ConfigFile = None,
) -> None:
    """Make a key and print it, this once: only its hash is kept.

    The key alone goes to standard output, so that a script can take it from there. It
    opens one store, by default that of `axes.store`.
    """
    from core.store import create_key

    default = resolve_config(config).axes.store
    store_id = default if store is None else store
    with _opened_store(artifacts, database, config) as opened:
        key = create_key(opened, store_id, name)
        is_empty = opened.model(store_id) is None
    typer.echo(f"Key of the store `{store_id}`; it cannot be shown again:", err=True)
    typer.echo(key)
    if is_empty:
        typer.echo(
            f"That store has no profiles yet: run `{PROGRAM} axes --store {store_id}`, "
            f"or, for shops, `{PROGRAM} publish --store {store_id}`.",
            err=True,
        )


@keys.command()
def revoke(
    prefix: Annotated[
        str, typer.Argument(help=f"Its prefix, as `{PROGRAM} keys list` shows it.")
    ],
    artifacts: app.ArtifactsFolder = None,
    database: Database = None,
    config: app.ConfigFile = None,
) -> None:
    """Revoke a key: it is refused from the next request on."""
    from core.store import revoke_key

    with _opened_store(artifacts, database, config) as opened:
        key = revoke_key(opened, prefix)
    named = f" ({key.name})" if key.name else ""
    app.print_lines(
        [f"Key {key.prefix}{named} of the store `{key.store_id}` is revoked."]
    )


@keys.command("list")
def list_(
    store: Annotated[str | None, app.option("Of this store only.", "all")] = None,
    artifacts: app.ArtifactsFolder = None,
    database: Database = None,
    config: app.ConfigFile = None,
) -> None:
    """List the keys by their prefixes; revoked ones stay in the list."""
    from core.store import list_keys

    with _opened_store(artifacts, database, config) as opened:
        found = list_keys(opened, store)
    if not found:
        typer.echo(f"There are no keys yet: `{PROGRAM} keys create` makes one.")
        return
    rows = [
        (
            key.prefix,
            key.store_id,
            key.name,
            f"{key.created_at:%Y-%m-%d %H:%M}",
            "" if key.revoked_at is None else f"{key.revoked_at:%Y-%m-%d %H:%M}",
        )
        for key in found
    ]
    app.print_table(
        ("prefix", "store", "name", "created (UTC)", "revoked (UTC)"), rows, "Keys"
    )
