"""Orders and items of customers, from files, frames, the sample, or one request.

Every source takes one way: columns matched (`purchases_schema`), cells read and marked
(`purchases_cells`), rows held against each other (`purchases_settle`), and what was set
aside accounted for (`purchases_account`) and explained (`purchases_check`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from core.config import Config, DataConfig
from core.data.files import locate
from core.data.frames import table_from_frame
from core.data.purchases_columns import ITEMS, ORDERS
from core.data.purchases_rows import naive, read_rows, rows_from_records
from core.data.purchases_settle import Negative
from core.data.purchases_whole import OPTIONAL, Purchases, Terms, put_together
from core.data.readers import Table, read_files
from core.data.remote import fetch, is_remote
from core.data.sources import readable, scratch_folder
from core.errors import ConfigError

__all__ = [
    "OPTIONAL",
    "Purchases",
    "purchases_from_frames",
    "purchases_of_customer",
    "read_purchases",
]

# Beside the mapping of columns, what decides how files are read.
READING_OPTIONS = {"date_format", "sheet", "separator", "decimal", "encoding"}
# Clocks differ a little, and so do time zones.
CLOCK_SLACK = timedelta(days=1)


def read_purchases(config: Config, work: Path) -> Purchases:
    """Read the orders and items that a configuration names.

    Parameters
    ----------
    config : Config
        Options of `axes`; those of `data` about CSV, Excel, dates and decimal marks
        hold here, too. Without `axes.orders` the built-in sample is generated.
    work : Path
        Folder for intermediate files; created if it is not there.

    Raises
    ------
    SourceError
        If the data cannot be found, fetched or opened.
    SchemaError
        If its columns or rows cannot be used.
    ConfigError
        If an option about the data cannot be meant.
    """
    axes = config.axes
    if axes.orders is None:
        if axes.items is not None:
            raise ConfigError(
                f"`axes.items` is `{axes.items}`, but `axes.orders` is not set. Items "
                "need their orders: `--orders PATH`."
            )
        return _read_sample(config)
    with scratch_folder(work) as scratch:
        orders = _table_from_files(axes.orders, "orders", config.data, scratch)
        items = None
        if axes.items is not None:
            items = _table_from_files(axes.items, "items", config.data, scratch)
        return _from_tables(orders, items, config)


def purchases_from_frames(
    orders: Any, items: Any | None, config: Config, work: Path
) -> Purchases:
    """Take orders and items from frames in memory, with the checks made of files.

    Parameters
    ----------
    orders, items : pandas, Polars (eager or lazy) or Arrow table, or DuckDB relation
        Names are mapped by `config.axes.order_columns` and `config.axes.item_columns`.
        `items` may be None.
    config : Config
        As for `read_purchases`; `axes.orders` and `axes.items` play no part.
    work : Path
        As for `read_purchases`.

    Raises
    ------
    SourceError
        If one is no frame, or cannot be evaluated.
    SchemaError, ConfigError
        As for `read_purchases`.
    """
    with scratch_folder(work) as scratch:
        order_table = _table_in_memory(orders, "orders", config.data, scratch)
        item_table = None
        if items is not None:
            item_table = _table_in_memory(items, "items", config.data, scratch)
        return _from_tables(order_table, item_table, config)


def purchases_of_customer(
    customer_id: str,
    orders: Sequence[Mapping[str, Any]],
    items: Sequence[Mapping[str, Any]],
    *,
    absent: Collection[str],
    reference_date: datetime,
    negative_orders: Negative = "refund",
) -> Purchases:
    """Take the records of one customer the way a whole file is taken.

    Parameters
    ----------
    customer_id : str
        Whose they are; what a record says of it plays no part.
    orders : sequence of mapping
        `order_id`, `order_date` (datetime; one with a zone is brought to UTC),
        `total_price`, and optionally `discount_amount` and `source`.
    items : sequence of mapping
        `order_id`, `product_id`, `quantity`, `price`, and optionally `category` and
        `refund_amount`.
    absent : collection of str
        What the model's data did not have: left out here as well. What a record lacks
        beside is taken as none (amounts) or ``unknown`` (texts).
    reference_date : datetime
        The moment that stands for now; orders after it are set aside.
    negative_orders : str
        As `axes.negative_orders`; ``error`` is as ``drop``.

    Returns
    -------
    Purchases
        With empty `orders` if none can be used; `rejected` tells why.
    """
    lacking = tuple(name for name in OPTIONAL if name in absent)
    terms = Terms(negative_orders, naive(reference_date), absent=lacking)
    order_rows = rows_from_records(orders, ORDERS, customer_id)
    has_items = "items" not in lacking
    item_rows = rows_from_records(items, ITEMS, customer_id) if has_items else None
    return put_together(order_rows, item_rows, terms)


def _table_from_files(source: str, name: str, data: DataConfig, scratch: Path) -> Table:
    """Return one of the two tables from files, fetched if need be."""
    folder = scratch / name
    folder.mkdir()
    files = fetch(source, folder) if is_remote(source) else locate(source)
    shown = files[0].name if len(files) == 1 else source
    return read_files(files, shown, data, folder)


def _table_in_memory(native: Any, name: str, data: DataConfig, scratch: Path) -> Table:
    """Return one of the two tables from a frame."""
    folder = scratch / name
    folder.mkdir()
    shown = f"the frame of {name}"
    with readable(shown):
        table = table_from_frame(native, folder, decimal_comma=data.decimal == ",")
    return replace(table, name=shown)


def _read_sample(config: Config) -> Purchases:
    """Generate the sample and take it like any other source."""
    from core.axes.sample import generate_shoppers

    n_customers = config.axes.sample_customers
    made = generate_shoppers(n_customers, config.seed)
    content = _digest({"sample_customers": n_customers, "seed": config.seed})
    orders = Table("the sample", made.orders.lazy(), content)
    items = Table("the sample", made.items.lazy(), content)
    # Its columns are ours, whatever the user's are.
    ours = config.axes.model_copy(update={"order_columns": {}, "item_columns": {}})
    sample = config.model_copy(update={"axes": ours, "data": DataConfig()})
    return replace(_from_tables(orders, items, sample), truth=made.truth)


def _from_tables(orders: Table, items: Table | None, config: Config) -> Purchases:
    """Read two tables and put the result together."""
    axes, data = config.axes, config.data
    reference = _reference(axes.reference_date)
    terms = Terms(axes.negative_orders, reference, latest=_now() + CLOCK_SLACK)
    with readable(orders.name):
        order_rows = read_rows(orders, axes.order_columns, ORDERS, data)
    item_rows = None
    if items is not None:
        with readable(items.name):
            item_rows = read_rows(items, axes.item_columns, ITEMS, data)
    purchases = put_together(order_rows, item_rows, terms)
    content = {
        "orders": orders.digest,
        "items": None if items is None else items.digest,
        "axes": [axes.order_columns, axes.item_columns, axes.negative_orders],
        "data": data.model_dump(include=READING_OPTIONS),
        "reference_date": purchases.reference_date.isoformat(),
    }
    return replace(purchases, fingerprint=_digest(content))


def _reference(text: str | None) -> datetime | None:
    """Return the configured moment; a day stands for its end."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        is_day = len(text.strip()) <= len("2024-01-31") and "T" not in text
    except ValueError:
        raise ConfigError(
            f"`axes.reference_date` is `{text}`; expected a day or a moment in ISO "
            "8601, such as `2024-01-31` or `2024-01-31T18:00`."
        ) from None
    if is_day:
        return datetime.combine(date(moment.year, moment.month, moment.day), time.max)
    return naive(moment)


def _now() -> datetime:
    """Return the clock's time in UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def _digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
