"""Maps of the channels: customers to central ids, items to categories, store details.

A map is read like any table. An id with several meanings maps to nothing, whichever row
comes first, and is told of.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import polars as pl

from core.channels.schema import Categories, spec_of
from core.config import Config
from core.errors import SchemaError, listed
from core.tables.cells import UNKNOWN
from core.tables.columns import FLAGS, ROW, flagged
from core.tables.readers import BEYOND, ReceivedTable
from core.tables.staging import (
    Part,
    checked_part,
    staged_rows,
    with_one_meaning,
)

EXCLUDE = "exclude"
MOST_CATEGORIES = 1000


def read_customers(
    table: ReceivedTable,
    channel: str,
    config: Config,
    work: Path,
    ids: Collection[str],
) -> tuple[Part, str]:
    """Return the map of a channel's customers, and the id that it goes by.

    Parameters
    ----------
    table : ReceivedTable
        Rows as received.
    channel : str
        Whose customers they are.
    config : Config
        Options of the channel.
    work : Path
        Folder for intermediate files.
    ids : collection of str
        Columns of the orders: the map goes by an id that they have.

    Returns
    -------
    Part, str
        `central_id` by `customer_id` or `order_id`, each once; and which of these.

    Raises
    ------
    SchemaError
        If it has neither id, or what `staged_rows` raises.
    """
    spec = spec_of("customers", channel)
    wanted = config.channels.sources[channel].customer_columns
    parsed = staged_rows(
        table, wanted, spec, config.data, work / f"{channel}_customers.parquet"
    )
    keys = [key for key in ("customer_id", "order_id") if key in parsed.columns]
    if not keys:
        found = listed(table.columns, 30)
        raise SchemaError(
            f"{table.name}: no column `customer_id` or `order_id` in the map of "
            f"customers, so it cannot be told whose `central_id` a row has; found "
            f"{found}. Map one of them: `{spec.mapping('customer_id=NAME')}`."
        )
    key = next((key for key in keys if key in ids), keys[0])
    rows = parsed.rows.select(ROW, FLAGS, key, "central_id").with_columns(
        flagged(spec, {"missing_key": pl.col(key).is_null()})
    )
    rows = with_one_meaning(rows, [key], ["central_id"], spec)
    return checked_part(parsed, rows, config.data, channel=channel), key


def read_catalog(
    table: ReceivedTable, config: Config, work: Path
) -> tuple[Part, Categories]:
    """Return the item map, and the categories in it.

    Returns
    -------
    Part, Categories
        Rows of `item_id`, `driver_category` and `base_category` as `Categories` spells
        them, `is_veg` if the map has it, and `is_excluded`.

    Raises
    ------
    SchemaError
        If there are too many categories, or what `staged_rows` raises.
    """
    spec = spec_of("catalog")
    parsed = staged_rows(
        table,
        config.channels.catalog_columns,
        spec,
        config.data,
        work / "catalog.parquet",
    )
    names = ("driver_category", "base_category")
    is_excluded = pl.any_horizontal(pl.col(name) == EXCLUDE for name in names)
    lacks_one = pl.any_horizontal(pl.col(name).is_null() for name in names)
    rows = (
        parsed.rows.with_columns(_as_name(name) for name in names)
        .with_columns(is_excluded=is_excluded.fill_null(value=False))
        .with_columns(
            flagged(spec, {"no_category": lacks_one & ~pl.col("is_excluded")})
        )
    )
    meaning = [name for name in (*names, "is_veg") if name in parsed.columns]
    rows = with_one_meaning(rows, ["item_id"], meaning, spec)
    part = checked_part(parsed, rows, config.data, channel=None)
    known = part.rows.filter(~pl.col("is_excluded")).select(names).collect()
    driver, base = (tuple(known[name].unique().sort()) for name in names)
    if (n := len(driver) + len(base)) > MOST_CATEGORIES:
        raise SchemaError(
            f"{table.name}: {n:,} categories, each of which becomes a column of every "
            f"order; expected at most {MOST_CATEGORIES:,}. Are `driver_category` and "
            "`base_category` mapped to names of items?"
        )
    return part, Categories(driver, base)


def _as_name(column: str) -> pl.Expr:
    """Return categories as parts of column names; null where nothing is left."""
    # An empty word was read as `unknown`, which is no category either.
    text = pl.col(column).str.replace_all(r"\W+", "_").str.strip_chars("_")
    return pl.when(~text.is_in(["", UNKNOWN])).then(text).alias(column)


def read_stores(table: ReceivedTable, config: Config, work: Path) -> Part:
    """Return details of stores: `store_id`, and the other columns as text.

    A detail is called `store_NAME`, whatever begins so already as it is.
    """
    spec = spec_of("stores")
    wanted = config.channels.store_columns
    parsed = staged_rows(table, wanted, spec, config.data, work / "stores.parquet")
    details: dict[str, str] = {}
    for name in table.scan.collect_schema().names():
        detail = name if name.startswith("store_") else f"store_{name}"
        while detail in ("store_id", *details.values()):
            detail = f"store_{detail}"
        if name not in (parsed.columns["store_id"], BEYOND):
            details[name] = detail
    received = parsed.received.select(
        ROW,
        *(pl.col(n).cast(pl.String, strict=False).alias(d) for n, d in details.items()),
    )
    rows = parsed.rows.join(received, on=ROW, how="left")
    rows = with_one_meaning(rows, ["store_id"], [*details.values()] or [ROW], spec)
    part = checked_part(parsed, rows, config.data, channel=None)
    return replace(part, rows=part.rows.drop(ROW, FLAGS))
