"""Tables of grocery baskets, and what reading them gives (`baskets.yaml`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from core.tables.columns import read_specs

SPECS = read_specs("baskets.yaml", "core.baskets")
ID = "customer_id"
EPOCH = datetime(1970, 1, 1)
# Orders and items as intake hands them on.
ORDER_COLUMNS = {
    "order_id": pl.UInt32(),
    "customer_id": pl.UInt32(),
    "order_number": pl.Int32(),
    "order_dow": pl.Int8(),
    "order_hour_of_day": pl.Float64(),
    "days_since_prior_order": pl.Float64(),
    "order_day": pl.Int32(),
}
ITEM_COLUMNS = {
    "order_id": pl.UInt32(),
    "product_id": pl.UInt32(),
    "reordered": pl.Int8(),
}


@dataclass(frozen=True)
class BasketData:
    """Orders and items that count, and what became of the others.

    Ids are whole numbers inside, so that millions of rows are joined: a customer's is
    its place in `customers` and an order's its place in `orders`, from 0; a product's
    has no meaning.

    Attributes
    ----------
    orders : polars.LazyFrame
        `ORDER_COLUMNS`, a row per order, by customer and in the order of time:
        `order_number` from 1 without gaps, `order_dow` (0 to 6; of dates 0 is Sunday),
        `order_hour_of_day` (0 to 23.99), `days_since_prior_order` (whole days; null for
        the first, or where unknown), `order_day` (since 1970-01-01; null where the
        source has no dates). Day of the week and hour are null where unknown.
    items : polars.LazyFrame
        `ITEM_COLUMNS`, a row per product of an order, in the order of `orders`;
        `reordered` is 1 where the customer had bought the product in an earlier order.
    products : polars.DataFrame
        `product_id` and `aisle_id` (text as received; null where unknown): the products
        of the catalogue, and those bought that it lacks.
    aisles : polars.DataFrame
        `aisle_id` and `aisle` (text), in the order of the ids, as numbers where all
        are; both are the same where the source has only one of them. Without rows where
        nothing is known of aisles.
    customers : polars.DataFrame
        `customer_id` (text) and `n_orders`, ascending.
    reference_date : datetime or None
        The moment after the newest order; None where the source has no dates.
    paths : dict of str to Path
        Parquet files of ``orders`` and ``items``.
    account : dict
        The account, JSON-able; `core.baskets.intake.account_lines` tells it.
    rejected : Path
        Parquet of the rows set aside: `table`, `source_row` (from 1), `reason`, and the
        mapped cells as received, as text.
    fingerprint : str
        SHA-256 that is equal when the same content is read with the same options.
    """

    orders: pl.LazyFrame
    items: pl.LazyFrame
    products: pl.DataFrame
    aisles: pl.DataFrame
    customers: pl.DataFrame
    reference_date: datetime | None
    paths: dict[str, Path]
    account: dict[str, Any]
    rejected: Path
    fingerprint: str

    def with_ids(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return a table with the customers' own ids (text) for their places."""
        ids = self.customers[ID]
        return table.with_columns(ids.gather(table[ID]).alias(ID))
