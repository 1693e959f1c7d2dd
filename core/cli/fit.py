"""The verbs of any feature table, and of recency, frequency and value."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from core.cli import app
from core.cli.versions import add_version_verbs
from core.config import Config
from core.logging import configure
from core.resolve import resolve_config

if TYPE_CHECKING:
    from core.lifecycle.run import RunResult
    from core.tabular.run import TableSegments

fit_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="markdown",
    context_settings=app.HELP_NAMES,
)
app.app.add_typer(fit_app, name="fit")

StoreName = Annotated[str | None, app.option(app.WHOSE, "table")]
Number = Annotated[
    int | None,
    app.option(
        "Number of segments.",
        "as many as there are groups with gaps between them, else the most that come "
        "back in refits",
    ),
]
Retrain = Annotated[
    Literal["always", "never"],
    app.option(
        "`always` refits the segments, which keep ids and names; `never` assigns by "
        "the published model."
    ),
]


@fit_app.callback()
def fit(
    context: typer.Context,
    table: Annotated[
        str | None,
        app.option(
            "Feature table, a row per customer: CSV (.gz), Parquet or Excel; a file, "
            "folder, glob or s3:// address.",
            "none",
        ),
    ] = None,
    id_: Annotated[
        str | None, app.option("Column with the customer's id.", "none", flag="--id")
    ] = None,
    category: Annotated[
        list[str] | None,
        app.option("A numeric column that stands for categories; repeat for more."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        app.option("A column to leave out, such as a date; repeat for more."),
    ] = None,
    segments: Number = None,
    retrain: Retrain = "always",
    store: StoreName = None,
    database: app.Database = None,
    no_store: app.NoStore = False,
    artifacts: app.ArtifactsFolder = None,
    config: app.ConfigFile = None,
    seed: app.Seed = None,
    set_: app.Assignment = None,
    quiet: app.Quiet = False,
) -> None:
    """Segment any table with a row per customer: numbers, categories, gaps in both.

    Finds the number of segments, and says with a verdict how far to trust them. Run it
    again with next month's table: segments keep their ids and names. Writes
    table_segments.csv and fit.html into `fit` in the artifacts folder.
    """
    if context.invoked_subcommand is not None:
        return
    from core.tabular.run import run_fit

    configure(logging.ERROR if quiet else logging.INFO)
    flags = {
        "artifacts": artifacts,
        "seed": seed,
        "fit.table": table,
        "fit.id": id_,
        "fit.categories": category,
        "fit.drop": drop,
        "fit.segments": segments,
        "fit.store": store,
        "store.url": database,
    }
    chosen = resolve_config(config, flags, set_ or [])
    into_store = app.loader(no_store=no_store)
    run = run_fit(chosen, refit=retrain == "always", into_store=into_store)
    app.report_and_exit(run.lines, run.exit_code, quiet=quiet)


@fit_app.command("explain")
def explain(
    customer: Annotated[str, typer.Argument(help="The customer's id.")],
    store: StoreName = None,
    artifacts: app.ArtifactsFolder = None,
    as_json: Annotated[
        bool, app.option("Print figures for a machine instead.", flag="--json")
    ] = False,
) -> None:
    """Say why a customer is in its segment, and what would change that."""
    from core.tabular.explain import explain_id

    flags = {"artifacts": artifacts, "fit.store": store}
    folder = _segmentation(resolve_config(flags=flags)).folder
    found, lines = explain_id(folder, customer)
    if as_json:
        facts: dict[str, Any] = found.facts()
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False))
        return
    app.print_lines(lines)


@app.app.command("rfm")
def rfm(
    orders: Annotated[
        str | None,
        app.option(
            "Order rows: CSV (.gz), Parquet or Excel; a file, folder, glob or "
            "s3:// address.",
            "the built-in sample",
        ),
    ] = None,
    lines: Annotated[
        str | None,
        app.option("Order lines instead, such as a shop's export."),
    ] = None,
    order_column: Annotated[
        list[str] | None,
        app.option(
            "Map a column of the orders, such as `order_id=InvoiceNo`; repeat for more."
        ),
    ] = None,
    line_column: Annotated[
        list[str] | None,
        app.option("Map a column of the order lines; known names are taken."),
    ] = None,
    segments: Number = None,
    retrain: Retrain = "always",
    store: Annotated[str | None, app.option(app.WHOSE, "rfm")] = None,
    database: app.Database = None,
    no_store: app.NoStore = False,
    artifacts: app.ArtifactsFolder = None,
    config: app.ConfigFile = None,
    seed: app.Seed = None,
    set_: app.Assignment = None,
    quiet: app.Quiet = False,
) -> None:
    """Segment customers by recency, frequency and monetary value of their orders.

    The same as `fit` over three columns that are made of the orders: days since the
    last order, number of orders, and what was paid. Writes into `fit-rfm` in the
    artifacts folder; `fit explain ID --store rfm` explains one customer.
    """
    from core.axes.sample import generate_shoppers
    from core.tabular.run import run_rfm

    configure(logging.ERROR if quiet else logging.INFO)
    flags = {
        "artifacts": artifacts,
        "seed": seed,
        "axes.orders": orders,
        "axes.lines": lines,
        "fit.segments": segments,
        "fit.store": store,
        "store.url": database,
    }
    columns = {"axes.order_columns": order_column, "axes.line_columns": line_column}
    chosen = resolve_config(config, flags, app.assignments_of(set_, columns))
    run: RunResult = run_rfm(
        chosen,
        generate=generate_shoppers,
        refit=retrain == "always",
        into_store=app.loader(no_store=no_store),
    )
    app.report_and_exit(run.lines, run.exit_code, quiet=quiet)


def _segmentation(config: Config) -> TableSegments:
    from core.tabular.run import TableSegments

    return TableSegments(config)


add_version_verbs(fit_app, "fit", "Always `segment`.", _segmentation)
