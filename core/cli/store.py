"""The verbs of the store: what is in it, and SQL on it."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from core.cli.app import app
from core.cli.options import ArtifactsFolder, ConfigFile
from core.config import resolve_config

if TYPE_CHECKING:
    from core.store import Store

store = typer.Typer(
    name="store",
    help="Look into the store of profiles, and ask it in SQL.",
    no_args_is_help=True,
)
app.add_typer(store)

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="Address of a PostgreSQL.",
        show_default="DATABASE_URL, else the embedded one in the artifacts folder",
    ),
]


@store.command("status")
def status(
    artifacts: ArtifactsFolder = None,
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """List the stores: which model serves each, since when, and how many customers."""
    with opened_store(artifacts, database, config) as opened:
        typer.echo(f"Store: {opened.name}")
        names, rows = opened.query(_STATUS)
    if not rows:
        typer.echo("It holds no profiles yet: run `segments axes`.")
        return
    _print_table(names, rows)


@store.command("query")
def query(
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help="One statement; `-`: standard input.")
    ],
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV instead of a table.")
    ] = False,
    artifacts: ArtifactsFolder = None,
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """Run SQL that reads, such as a SELECT from `customer_profiles`.

    Nothing can be changed this way. JSON columns are printed as JSON.
    """
    text = sys.stdin.read() if statement == "-" else statement
    with opened_store(artifacts, database, config) as opened:
        names, rows = opened.query(text)
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(value) for value in row] for row in rows)
        return
    _print_table(names, rows)
    typer.echo(f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}")


_STATUS = """
    SELECT store_id AS store, (stats ->> 'total_customers')::bigint AS customers,
           version AS model, lineage,
           to_char(published_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
               AS "loaded (UTC)"
    FROM axis_models
    WHERE is_current
    ORDER BY store_id
"""


@contextmanager
def opened_store(
    artifacts: str | None, database: str | None, file: Path | None
) -> Iterator[Store]:
    """Open the store that the options of a command name."""
    from core.store import Store

    options = resolve_config(file, {"artifacts": artifacts, "store.url": database})
    folder = Path(options.artifacts) / "postgres"
    with Store.open(options.store.url, folder) as opened:
        yield opened


def _print_table(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*[_cell(value) for value in row])
    Console().print(table, markup=False)


def _cell(value: Any) -> str:
    """Return a value as text; null is empty, JSON stays JSON."""
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
