"""Grocery orders and their items, from any source by one code path.

Columns are matched and cells parsed as everywhere; then orders are put in the order of
time, ids become whole numbers, and whatever does not count is set aside by reason: rows
kept and rows set aside add up to rows read. Memory grows with the orders, and not with
the items.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from core.baskets.items import CodedItems, only_returned, products_of, write_items
from core.baskets.orders import Orders, put_in_order
from core.baskets.schema import EPOCH, ID, ORDER_COLUMNS, SPECS, BasketData
from core.baskets.sources import Sources, find_sources
from core.config import Config
from core.tables.cells import ParsedRows
from core.tables.faults import share
from core.tables.files import counted
from core.tables.ids import alike_ids, outsized_ids
from core.tables.readers import READING_OPTIONS, fingerprint, scratch_folder
from core.tables.staging import (
    Part,
    account_of,
    checked_part,
    staged_rows,
    with_one_meaning,
)
from core.tables.times import time_zone

REJECTED = "rejected_rows.parquet"


def read_baskets(config: Config, work: Path) -> BasketData:
    """Read the orders and items that a configuration names.

    Parameters
    ----------
    config : Config
        Options of `baskets`; those of `data` about CSV, Excel, dates and decimal marks
        hold here, too.
    work : Path
        Folder for the Parquet files of every stage, which what is returned scans;
        created if it is not there.

    Raises
    ------
    SourceError
        If data cannot be found, fetched or opened.
    SchemaError
        If columns or rows cannot be used, or no order or item counts.
    ConfigError
        If an option cannot be meant.
    """
    with scratch_folder(work) as scratch:
        sources = find_sources(config, work, scratch)
        return baskets_of(sources, config, work)


def baskets_of(sources: Sources, config: Config, work: Path) -> BasketData:
    """Read all tables, and put the result together.

    Parameters
    ----------
    sources : Sources
    config, work
        As for `read_baskets`, for errors as well; `sources` says how cells are read.
    """
    zone = time_zone(config.baskets.timezone, "baskets.timezone")
    maps = [name for name in sources.tables if name in ("products", "aisles")]
    catalogue = {name: _catalogue(sources, name, work) for name in maps}
    items = _staged(sources, "items", work)
    orders = put_in_order(
        _staged(sources, "orders", work),
        only_returned(items),
        zone,
        sources.data,
        of_lines=sources.of_lines,
    )
    paths = {name: work / f"{name}.parquet" for name in ("orders", "items")}
    orders.rows.select(*ORDER_COLUMNS).write_parquet(paths["orders"])
    listed, aisles, notes = _with_aisles(catalogue)
    products = products_of(items, listed)
    coded = write_items(items, orders.rows, orders.places, products, paths["items"])
    products = products.with_row_index("place").filter(
        pl.col("is_listed") | pl.Series(coded.is_bought)
    )
    parts = {
        "orders": orders.part,
        "items": checked_part(items, coded.flags, sources.data, is_needed=True),
        **catalogue,
    }
    rejected = work / REJECTED
    rows = pl.concat([part.rejected for part in parts.values()], how="diagonal")
    rows.sink_parquet(rejected, compression="lz4")
    last = orders.rows["order_day"].max()
    newest = None if last is None else EPOCH + timedelta(days=int(str(last)) + 1)
    return BasketData(
        orders=pl.scan_parquet(paths["orders"], glob=False),
        items=pl.scan_parquet(paths["items"], glob=False),
        products=products.select(pl.col("place").alias("product_id"), "aisle_id"),
        aisles=aisles,
        customers=orders.customers,
        reference_date=newest,
        paths=paths,
        account={
            **{name: part.account for name, part in parts.items()},
            "notes": [
                *sources.notes,
                *orders.notes,
                *notes,
                *_warnings(orders, coded, products),
            ],
        },
        rejected=rejected,
        fingerprint=_fingerprint(sources, config),
    )


def _staged(sources: Sources, name: str, work: Path) -> ParsedRows:
    return staged_rows(
        sources.tables[name],
        sources.columns[name],
        SPECS[name],
        sources.data,
        work / f"{name}_read.parquet",
    )


def _catalogue(sources: Sources, name: str, work: Path) -> Part:
    """Return products or aisles, each id once, and none with several meanings."""
    parsed = _staged(sources, name, work)
    key, *meaning = (c for c in parsed.columns if c in parsed.rows.collect_schema())
    rows = with_one_meaning(parsed.rows, [key], meaning or [key], parsed.spec)
    return checked_part(parsed, rows, sources.data)


def _with_aisles(
    catalogue: Mapping[str, Part],
) -> tuple[pl.DataFrame | None, pl.DataFrame, list[str]]:
    """Return products with the id of their aisle, the aisles, and notes.

    An aisle without an id is called by its name, and one without a name by its id.
    """
    nothing = pl.DataFrame(schema={"aisle_id": pl.String, "aisle": pl.String})
    if "products" not in catalogue:
        return None, nothing, ["Without products nothing is known of aisles."]
    products = catalogue["products"].rows.collect()
    known = [name for name in ("aisle_id", "aisle") if name in products.columns]
    if not known:
        note = "The products have neither `aisle_id` nor `aisle`: no aisles are known."
        unknown = pl.lit(None, pl.String).alias("aisle_id")
        return products.select("product_id", unknown), nothing, [note]
    key, name = pl.col(known[0]).alias("aisle_id"), pl.col(known[-1]).alias("aisle")
    products = products.select("product_id", key, name)
    aisles = products.select("aisle_id", "aisle").drop_nulls("aisle_id")
    notes = []
    if "aisles" in catalogue:
        aisles = catalogue["aisles"].rows.select("aisle_id", "aisle").collect()
        is_lost = ~pl.col("aisle_id").is_in(aisles["aisle_id"].implode())
        if n_lost := products.filter(is_lost).height:
            notes.append(
                f"{counted(n_lost, 'product')} in an aisle that the aisles lack: "
                "without an aisle."
            )
            products = products.with_columns(
                pl.when(~is_lost).then("aisle_id").alias("aisle_id")
            )
    aisles = aisles.with_columns(pl.col("aisle").fill_null(pl.col("aisle_id")))
    number = pl.col("aisle_id").cast(pl.Int64, strict=False)
    if aisles.select(number.is_null().any()).item():
        number = pl.col("aisle_id")
    aisles = aisles.sort(number, "aisle").filter(pl.col("aisle_id").is_first_distinct())
    return products.select("product_id", "aisle_id"), aisles, notes


def _warnings(orders: Orders, coded: CodedItems, products: pl.DataFrame) -> list[str]:
    """Return what is odd about rows that count."""
    rows, notes = orders.rows, list[str]()
    without = rows.filter(~pl.Series(coded.has_items))
    if without.height:
        of = ""
        if "eval_set" in rows.columns:
            sets = without["eval_set"].value_counts().sort("eval_set").rows()
            of = f" ({', '.join(f'{n:,} of `{name}`' for name, n in sets)})"
        notes.append(
            f"{counted(without.height, 'order')} ({share(without.height, rows.height)})"
            f"{of} without an item that counts: they tell of rhythms and hours, not of "
            "baskets."
        )
    if coded.n_unlisted and products["is_listed"].any():
        notes.append(
            f"{counted(coded.n_unlisted, 'item')} ({share(coded.n_unlisted, coded.n)}) "
            "of products that the catalogue lacks: without an aisle."
        )
    sums = orders.customers.rename({ID: "id", "n_orders": "n"})
    notes += outsized_ids(sums, ID, "order")
    notes += alike_ids(orders.customers[ID], "customer")
    return [*notes, *alike_ids(products["product_id"], "product")]


def _fingerprint(sources: Sources, config: Config) -> str:
    """Return the SHA-256 of contents, and of what decides which rows count and how."""
    content = {
        "tables": {name: table.digest for name, table in sources.tables.items()},
        "columns": sources.columns,
        "timezone": config.baskets.timezone,
        "data": sources.data.model_dump(include=READING_OPTIONS),
        "scientific_id": sources.data.policies.scientific_id,
    }
    return fingerprint(content)


def account_lines(account: Mapping[str, Any]) -> list[str]:
    """Return the account of `BasketData.account` in sentences, by table."""
    lines = []
    for name in SPECS:
        if name in account:
            lines += account_of(SPECS[name], account[name], name)
    return [*lines, *account["notes"]]
