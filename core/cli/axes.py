"""The verbs of the customer axes, for a person and for a scheduler."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.cli import app
from core.cli.versions import add_version_verbs
from core.config import Config
from core.logging import configure
from core.resolve import resolve_config

if TYPE_CHECKING:
    from core.axes.run import CustomerAxes

axes_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="markdown",
    context_settings=app.HELP_NAMES,
)
app.app.add_typer(axes_app, name="axes")

StoreName = Annotated[str | None, app.option(app.WHOSE, "default")]


@axes_app.callback()
def axes(
    context: typer.Context,
    orders: Annotated[
        str | None,
        app.option(
            "Order rows: CSV (.gz), Parquet or Excel; a file, folder, glob or "
            "s3:// address.",
            "the built-in sample",
        ),
    ] = None,
    items: Annotated[
        str | None,
        app.option(
            "Item rows, likewise. Without them the axes about products are skipped."
        ),
    ] = None,
    lines: Annotated[
        str | None,
        app.option(
            "Order lines instead of both, such as a shop's export: one file with "
            "customer, date, product, quantity and amounts."
        ),
    ] = None,
    order_column: Annotated[
        list[str] | None,
        app.option(
            "Map a column of the orders, such as `order_id=InvoiceNo`; repeat for more."
        ),
    ] = None,
    item_column: Annotated[
        list[str] | None, app.option("Map a column of the items, likewise.")
    ] = None,
    line_column: Annotated[
        list[str] | None,
        app.option("Map a column of the order lines; known names are taken."),
    ] = None,
    retrain: Annotated[
        Literal["always", "never"],
        app.option(
            "`always` refits the axes, and segments keep ids and names; "
            "`never` assigns by the published model."
        ),
    ] = "always",
    engine: app.Engine = None,
    store: StoreName = None,
    database: app.Database = None,
    no_store: app.NoStore = False,
    artifacts: app.ArtifactsFolder = None,
    config: app.ConfigFile = None,
    seed: app.Seed = None,
    set_: app.Assignment = None,
    quiet: app.Quiet = False,
) -> None:
    """Segment every customer on 13 behavioural axes, and load the profiles.

    Safe for a scheduler: the same orders change nothing, a second run at the same time
    is refused, and a killed one has no effect. Exits with 0, or with the code of
    what went wrong; 9 if the files are published and only the store could not be
    loaded. Writes customer_profiles.parquet and axes.html into `axes` in the artifacts
    folder.
    """
    if context.invoked_subcommand is not None:
        return
    from core.axes import run_axes

    configure(logging.ERROR if quiet else logging.INFO)
    columns = {
        "axes.order_columns": order_column,
        "axes.item_columns": item_column,
        "axes.line_columns": line_column,
    }
    chosen = resolve_config(
        config,
        {
            "artifacts": artifacts,
            "seed": seed,
            "axes.orders": orders,
            "axes.items": items,
            "axes.lines": lines,
            "axes.store": store,
            "features.engine": engine,
            "store.url": database,
        },
        app.assignments_of(set_, columns),
    )
    into_store = app.loader(no_store=no_store)
    run = run_axes(chosen, refit=retrain == "always", into_store=into_store)
    app.report_and_exit(run.lines, run.exit_code, quiet=quiet)


@axes_app.command("sample")
def write_axes_sample(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it is not there.")],
    customers: Annotated[int, app.option("How many customers.")] = 5000,
    seed: app.Seed = None,
) -> None:
    """Write the built-in sample as CSV: orders and items, and the same as order lines.

    They show the forms that are read: `axes --orders orders.csv --items items.csv` and
    `axes --lines order-lines.csv` give the same segments.
    """
    from core.axes.sample import generate_shoppers, order_lines

    made = generate_shoppers(customers, resolve_config(flags={"seed": seed}).seed)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"orders": made.orders, "items": made.items}
    for name, rows in {**tables, "order-lines": order_lines(made)}.items():
        rows.write_csv(folder / f"{name}.csv")
        app.print_lines([f"{folder / name}.csv: {rows.height:,} rows"])


def _segmentation(config: Config) -> CustomerAxes:
    from core.axes.run import CustomerAxes

    return CustomerAxes(config)


add_version_verbs(
    axes_app,
    "axes",
    "Such as `purchase_value`.",
    _segmentation,
)
