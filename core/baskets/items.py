"""Items of orders, with whole numbers as ids, and what does not count as one.

They pass through in a stream and in chunks of customers: a product of an order counts
once, and is reordered if its customer had it in an earlier order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.baskets.schema import ID, ITEM_COLUMNS
from core.tables.cells import ParsedRows
from core.tables.columns import FLAGS, ROW, flagged
from core.tables.staging import has_fault, marked

AT_ONCE = 4_000_000


@dataclass(frozen=True)
class CodedItems:
    """What was found of the items that were written.

    Attributes
    ----------
    flags : LazyFrame
        `ROW` and `FLAGS` of all items.
    n : int
        Items that count.
    n_unlisted : int
        Those of them whose product the catalogue lacks.
    has_items : ndarray of bool, shape (n_orders,)
    is_bought : ndarray of bool, shape (n_products,)
    """

    flags: pl.LazyFrame
    n: int
    n_unlisted: int
    has_items: NDArray[np.bool_]
    is_bought: NDArray[np.bool_]


def only_returned(parsed: ParsedRows) -> pl.LazyFrame:
    """Return `order_id` of orders whose items all have a quantity of 0 or below."""
    if "quantity" not in parsed.columns:
        return pl.LazyFrame(schema={"order_id": pl.String})
    is_bought = (pl.col("quantity") > 0).fill_null(value=True)
    orders = parsed.rows.group_by("order_id").agg(is_bought.any().alias("is_bought"))
    return orders.filter(~pl.col("is_bought")).select("order_id")


def products_of(parsed: ParsedRows, listed: pl.DataFrame | None) -> pl.DataFrame:
    """Return the catalogue and the products that it lacks, ascending.

    Parameters
    ----------
    parsed : ParsedRows
        The items as read.
    listed : DataFrame or None
        The catalogue: `product_id`, `aisle_id`.

    Returns
    -------
    DataFrame
        `product_id` (text), `aisle_id` and `is_listed`.
    """
    sound = parsed.rows.filter(~has_fault(parsed.spec))
    bought = sound.select(pl.col("product_id").unique())
    known = bought.collect(engine="streaming")
    if listed is None:
        listed = pl.DataFrame(schema={"product_id": pl.String, "aisle_id": pl.String})
    listed = listed.with_columns(is_listed=pl.lit(value=True))
    products = known.join(listed, on="product_id", how="full", coalesce=True)
    return products.with_columns(pl.col("is_listed").fill_null(value=False)).sort(
        "product_id"
    )


def write_items(
    parsed: ParsedRows,
    orders: pl.DataFrame,
    places: pl.DataFrame,
    products: pl.DataFrame,
    path: Path,
) -> CodedItems:
    """Write the items that count, in the order of their orders.

    Parameters
    ----------
    parsed : ParsedRows
        Items as read.
    orders : DataFrame
        `customer_id` of the orders that count, by customer.
    places : DataFrame
        `order_id` as received, and `order`, its place in `orders`, or null.
    products : DataFrame
        `product_id`, each at its place, and `is_listed`.
    path : Path
        Parquet file for `ITEM_COLUMNS`.
    """
    from pyarrow.parquet import ParquetWriter

    coded = _coded(parsed, places, products, path.with_stem("items_coded"))
    has_items, is_bought = (
        np.zeros(table.height, dtype=np.bool_) for table in (orders, products)
    )
    n, n_unlisted, repeated = 0, 0, [pl.DataFrame(schema={ROW: pl.UInt32})]
    sound = coded.filter(~has_fault(parsed.spec)).drop(FLAGS)
    schema = pl.DataFrame(schema=ITEM_COLUMNS).to_arrow().schema
    with ParquetWriter(path, schema, compression="lz4") as writer:
        for first, last in _chunks(orders[ID], sound):
            is_within = pl.col("order_id").is_between(first, last, closed="left")
            chunk = sound.filter(is_within).collect(engine="streaming")
            chunk = chunk.sort("order_id", "product_id", ROW)
            is_again = chunk.select(
                pl.all_horizontal(
                    (pl.col(name) == pl.col(name).shift()).fill_null(value=False)
                    for name in ("order_id", "product_id")
                )
            ).to_series()
            repeated.append(chunk.filter(is_again).select(ROW))
            kept = _reordered(chunk.filter(~is_again), orders[ID])
            writer.write_table(kept.select(*ITEM_COLUMNS).to_arrow())
            has_items[kept["order_id"].to_numpy()] = True
            is_bought[kept["product_id"].to_numpy()] = True
            n += kept.height
            n_unlisted += int((~products["is_listed"].gather(kept["product_id"])).sum())
    flags = coded.select(ROW, FLAGS)
    flags = marked(flags, {"repeated_item": pl.concat(repeated)}, parsed.spec)
    return CodedItems(flags, n, n_unlisted, has_items, is_bought)


def _coded(
    parsed: ParsedRows, places: pl.DataFrame, products: pl.DataFrame, path: Path
) -> pl.LazyFrame:
    """Return items with places as ids, flagged by what each shows by itself."""
    known = products.select("product_id").with_row_index("product").lazy()
    orders = places.lazy().with_columns(is_known=pl.lit(value=True))
    rows = parsed.rows.join(orders, on="order_id", how="left")
    rows = rows.join(known, on="product_id", how="left")
    is_known, is_kept = pl.col("is_known"), pl.col("order").is_not_null()
    found = {
        "unknown_order": is_known.is_null() & pl.col("order_id").is_not_null(),
        "order_set_aside": is_known & ~is_kept,
    }
    if "quantity" in parsed.columns:
        found["no_quantity"] = pl.col("quantity") <= 0
    own = ["reordered"] if "reordered" in parsed.columns else []
    rows.with_columns(flagged(parsed.spec, found)).select(
        ROW,
        FLAGS,
        pl.col("order").alias("order_id"),
        pl.col("product").alias("product_id"),
        *(pl.col(name).cast(pl.Int8) for name in own),
    ).sink_parquet(path, compression="lz4", statistics=False)
    return pl.scan_parquet(path, glob=False)


def _chunks(customers: pl.Series, items: pl.LazyFrame) -> Iterator[tuple[int, int]]:
    """Yield the first order of some customers, and the one after their last."""
    n_items = int(items.select(pl.len()).collect(engine="streaming").item())
    starts = np.flatnonzero(np.diff(customers.to_numpy(), prepend=-1))
    n_chunks = max(1, round(n_items / AT_ONCE))
    wanted = np.linspace(0, len(customers), n_chunks + 1)[1:-1]
    inner = np.unique(starts[np.searchsorted(starts, wanted, side="right") - 1])
    edges = [0, *inner[inner > 0].tolist(), len(customers)]
    yield from pairwise(edges)


def _reordered(items: pl.DataFrame, customers: pl.Series) -> pl.DataFrame:
    """Return items with `reordered`: as received, or by the earlier orders."""
    if "reordered" in items.columns:
        return items
    owned = items.with_columns(customer=customers.gather(items["order_id"]))
    earliest = pl.col("order_id").min().over("customer", "product_id")
    return owned.with_columns(reordered=(pl.col("order_id") > earliest).cast(pl.Int8))
