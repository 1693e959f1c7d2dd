"""The verb of the customer axes, for a person and for a scheduler."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from core.cli.app import ArtifactsFolder, Assignment, ConfigFile, Quiet, Seed, app
from core.config import Config, resolve_config
from core.logging import configure

if TYPE_CHECKING:
    from core.axes.output import StoreLoader

axes_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(axes_app, name="axes")

StoreName = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Whose customers these are: the `store_id` of profiles and keys.",
        show_default="default",
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="Address of a PostgreSQL.",
        show_default="DATABASE_URL, else an embedded server",
    ),
]
NoStore = Annotated[
    bool, typer.Option("--no-store", help="Write the files only, load nothing.")
]


class RetrainAxes(StrEnum):
    """Whether the axes are learnt anew."""

    always = "always"
    never = "never"


@axes_app.callback()
def axes(
    context: typer.Context,
    orders: Annotated[
        str | None,
        typer.Option(
            "--orders",
            help="Order rows: CSV (.gz), Parquet or Excel; a file, folder, glob or "
            "s3:// address.",
            show_default="the built-in sample",
        ),
    ] = None,
    items: Annotated[
        str | None,
        typer.Option(
            "--items",
            help="Item rows, likewise. Without them the axes about products are "
            "skipped.",
        ),
    ] = None,
    order_column: Annotated[
        list[str] | None,
        typer.Option(
            "--order-column",
            help="Map a column of the orders, such as `order_id=InvoiceNo`; repeat for "
            "more.",
        ),
    ] = None,
    item_column: Annotated[
        list[str] | None,
        typer.Option("--item-column", help="Map a column of the items, likewise."),
    ] = None,
    retrain: Annotated[
        RetrainAxes,
        typer.Option(
            "--retrain",
            help="`always` learns the axes anew, ids and names of segments live on; "
            "`never` places by the model that stands.",
        ),
    ] = RetrainAxes.always,
    store: StoreName = None,
    database: Database = None,
    no_store: NoStore = False,
    artifacts: ArtifactsFolder = None,
    config: ConfigFile = None,
    seed: Seed = None,
    set_: Assignment = None,
    quiet: Quiet = False,
) -> None:
    """Segment every customer on 13 behavioural axes, and load the profiles.

    Safe for a scheduler: the same orders change nothing, a second run at the same time
    is refused, and a killed one has not happened. Exits with 0, or with the code of
    what went wrong; 9 if the files are published and only the store could not be
    loaded. Writes customer_profiles.parquet and axes.html into `axes` in the artifacts
    folder.
    """
    if context.invoked_subcommand is not None:
        return
    from core.axes.run import run_axes

    configure(logging.ERROR if quiet else logging.INFO)
    chosen = resolve_config(
        config,
        {
            "artifacts": artifacts,
            "seed": seed,
            "axes.orders": orders,
            "axes.items": items,
            "axes.store": store,
            "store.url": database,
        },
        [
            *(f"axes.order_columns.{text}" for text in order_column or []),
            *(f"axes.item_columns.{text}" for text in item_column or []),
            *(set_ or []),
        ],
    )
    is_refit = retrain is RetrainAxes.always
    run = run_axes(chosen, refit=is_refit, into_store=_loader(no_store=no_store))
    if not quiet or run.exit_code:
        _say(run.lines)
    if run.exit_code:
        raise typer.Exit(run.exit_code)


@axes_app.command("rename")
def rename(
    axis: Annotated[str, typer.Argument(help="Such as `purchase_value`.")],
    segment: Annotated[
        int, typer.Argument(help="Id of a segment, see axis_sizes.csv.")
    ],
    name: Annotated[str, typer.Argument(help="Its name from now on, over refits too.")],
    store: StoreName = None,
    database: Database = None,
    no_store: NoStore = False,
    artifacts: ArtifactsFolder = None,
) -> None:
    """Give a segment of an axis a name that stays."""
    from core.axes.versions import rename_segment

    chosen = _of_store(store, database, artifacts)
    _end(
        *rename_segment(
            chosen, axis, segment, name, into_store=_loader(no_store=no_store)
        )
    )


@axes_app.command("rollback")
def rollback(
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="A version by its name in the folder `versions`.",
            show_default="the version before",
        ),
    ] = None,
    store: StoreName = None,
    database: Database = None,
    no_store: NoStore = False,
    artifacts: ArtifactsFolder = None,
) -> None:
    """Let the version before serve again, in the files and in the store."""
    from core.axes.versions import roll_back

    chosen = _of_store(store, database, artifacts)
    _end(*roll_back(chosen, to, into_store=_loader(no_store=no_store)))


def _of_store(store: str | None, database: str | None, artifacts: str | None) -> Config:
    return resolve_config(
        flags={"artifacts": artifacts, "axes.store": store, "store.url": database}
    )


def _loader(*, no_store: bool) -> StoreLoader | None:
    if no_store:
        return None
    from core.store.publish import publish_axes

    return publish_axes


def _end(lines: list[str], exit_code: int) -> None:
    _say(lines)
    if exit_code:
        raise typer.Exit(exit_code)


def _say(lines: list[str]) -> None:
    for line in lines:
        Console().print(line, soft_wrap=True, highlight=False, markup=False)
