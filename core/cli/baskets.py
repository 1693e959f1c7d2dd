"""The verbs of grocery baskets, for a person and for a scheduler."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from core.cli import app
from core.cli.versions import add_version_verbs
from core.config import Config
from core.errors import PROGRAM
from core.logging import configure
from core.resolve import resolve_config

if TYPE_CHECKING:
    from core.baskets.run import Baskets

baskets_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="markdown",
    context_settings=app.HELP_NAMES,
)
app.app.add_typer(baskets_app, name="baskets")

StoreName = Annotated[str | None, app.option(app.WHOSE, "baskets")]
KINDS = "CSV (.gz), Parquet or Excel; a file, folder, glob or s3:// address."
Products = Annotated[
    str | None, app.option("Products with their aisles, likewise.", "no aisles")
]
Aisles = Annotated[
    str | None, app.option("Names of the aisles.", "as the products call them")
]
OrderColumn = Annotated[
    list[str] | None,
    app.option(
        "Map a column of the orders, such as `customer_id=Shopper`; known names are "
        "taken; repeat for more."
    ),
]
ItemColumn = Annotated[
    list[str] | None, app.option("Map a column of the items, likewise.")
]
ProductColumn = Annotated[
    list[str] | None, app.option("Map a column of the products, likewise.")
]


@baskets_app.callback()
def baskets(
    context: typer.Context,
    source: Annotated[
        str | None,
        app.option(
            "`sample`, `kaggle` (3.4 million orders of 2017), or a folder with the "
            "files that `baskets sample` writes.",
            "sample",
        ),
    ] = None,
    orders: Annotated[
        str | None, app.option(f"Your orders: {KINDS}", "the source")
    ] = None,
    items: Annotated[
        str | None, app.option("Items of the orders, likewise.", "the source")
    ] = None,
    products: Products = None,
    aisles: Aisles = None,
    order_column: OrderColumn = None,
    item_column: ItemColumn = None,
    product_column: ProductColumn = None,
    rules: Annotated[
        str | None,
        app.option("Rule set: a built-in name, or a YAML file.", "basket-quadrants"),
    ] = None,
    retrain: Annotated[
        Literal["always", "policy", "never"],
        app.option(
            "`always` learns the thresholds again, and segments keep ids and names; "
            "`never` keeps them; `policy` learns if the run before recommends it."
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
    """Segment grocery customers by how often they order and how much they reorder.

    From orders and items: whether they carry a segmentation (readiness), features, a
    clustering study that says what the data hold, four segments by rules, how far these
    hold on other metrics and in later months, and what to do with them. Safe for a
    scheduler: the same orders change nothing, a second run at the same time is refused,
    and a killed one has no effect. Exits with 0, or with the code of what went
    wrong; 9 if the files are published and only the store could not be loaded. Writes
    baskets.html, documents and a file per stage into `baskets` in the artifacts folder.
    """
    if context.invoked_subcommand is not None:
        return
    from core.baskets.run import is_recalibration_due, run_baskets

    configure(logging.ERROR if quiet else logging.INFO)
    flags = {
        **_flags(orders, items, products, aisles),
        "artifacts": artifacts,
        "seed": seed,
        "baskets.source": source,
        "baskets.rules": rules,
        "baskets.store": store,
        "features.engine": engine,
        "store.url": database,
    }
    columns = _columns(set_, order_column, item_column, product_column)
    chosen = resolve_config(config, flags, columns)
    into_store = app.loader(no_store=no_store)
    is_due = retrain == "policy" and is_recalibration_due(chosen)
    refit = is_due or retrain == "always"
    run = run_baskets(chosen, refit=refit, into_store=into_store)
    app.report_and_exit(run.lines, run.exit_code, quiet=quiet)


@baskets_app.command("score")
def score(
    orders: Annotated[str, app.option(f"Orders: {KINDS}")],
    items: Annotated[str, app.option("Items of the orders, likewise.")],
    to: Annotated[Path, app.option("CSV or Parquet file to write to.")],
    products: Products = None,
    aisles: Aisles = None,
    order_column: OrderColumn = None,
    item_column: ItemColumn = None,
    product_column: ProductColumn = None,
    store: StoreName = None,
    artifacts: app.ArtifactsFolder = None,
    config: app.ConfigFile = None,
    set_: app.Assignment = None,
    quiet: app.Quiet = False,
) -> None:
    """Give new customers their segments, by the thresholds of the published rules.

    Nothing is learnt and nothing published: the same customer gets the segment that a
    run with `--retrain never` gives. Columns and options are those of the run, unless
    given; `--products` is needed only if rules ask about aisles. Who has too little
    history stands in the file with the reason.
    """
    from core.baskets.score import options_of, published_set, score_customers

    configure(logging.ERROR if quiet else logging.INFO)
    flags = {"artifacts": artifacts, "baskets.store": store}
    columns = _columns(set_, order_column, item_column, product_column)
    published = published_set(resolve_config(config, flags, columns))
    own = {**flags, **_flags(orders, items, products, aisles)}
    base = options_of(published)
    scored = score_customers(resolve_config(config, own, columns, base=base), published)
    if not quiet:
        app.print_lines(scored.lines())
    app.write_table(scored.table, to)


@baskets_app.command("sample")
def write_baskets_sample(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it is not there.")],
    customers: Annotated[int, app.option("How many customers.")] = 2000,
    parquet: Annotated[
        bool, app.option("Write Parquet instead of CSV.", flag="--parquet")
    ] = False,
    structure: Annotated[
        bool,
        typer.Option(
            "--structure/--no-structure",
            help="Whether there are kinds of customers to be found.",
        ),
    ] = True,
    seed: app.Seed = None,
) -> None:
    """Write the built-in sample as the files that `--source` takes.

    Orders, items, products, aisles and departments. Any number of customers: they are
    written as they are made.
    """
    from core.baskets.sample import write_sample

    chosen = resolve_config(flags={"seed": seed}).seed
    suffix: Literal["csv", "parquet"] = "parquet" if parquet else "csv"
    rows = write_sample(folder, customers, chosen, suffix, has_structure=structure)
    app.print_lines(f"{folder / name}: {n:,} rows" for name, n in rows.items())
    app.print_lines([f"Segment them: {PROGRAM} baskets --source {folder}"])


def _flags(
    orders: str | None, items: str | None, products: str | None, aisles: str | None
) -> dict[str, Any]:
    return {
        "baskets.orders": orders,
        "baskets.items": items,
        "baskets.products": products,
        "baskets.aisles": aisles,
    }


def _columns(
    set_: list[str] | None,
    order: list[str] | None,
    item: list[str] | None,
    product: list[str] | None,
) -> list[str]:
    mapped = {
        "baskets.order_columns": order,
        "baskets.item_columns": item,
        "baskets.product_columns": product,
    }
    return app.assignments_of(set_, mapped)


def _segmentation(config: Config) -> Baskets:
    from core.baskets.run import Baskets

    return Baskets(config)


add_version_verbs(baskets_app, "baskets", "`segment`.", _segmentation)
