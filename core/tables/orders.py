"""Orders and items: read, validated, and held against each other.

Every source takes one way: columns matched (`purchases_schema`), cells read and marked
(`purchases_cells`), rows held against each other (`purchases_settle`), and what was set
aside accounted for (`purchases_account`) and explained (`purchases_check`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from core.config import Config, DataConfig
from core.errors import ConfigError, SchemaError, SourceError, listed
from core.tables.cells import UNKNOWN, read_cells
from core.tables.columns import ITEMS, ORDERS, TableSpec, match_table
from core.tables.faults import (
    BITS,
    MARKS,
    ROW,
    TABLE_MEANINGS,
    counted,
    no_rejected,
    reasons,
    rejected_rows,
    share,
    table_account,
)
from core.tables.files import fetch, is_remote, locate
from core.tables.frames import table_from_frame
from core.tables.readers import BEYOND, Table, read_files
from core.tables.reconcile import (
    PAIR,
    Negative,
    Refunds,
    attribute_refunds,
    kept_rows,
    refund_account,
    settle_items,
    settle_orders,
)
from core.tables.sales import readable, scratch_folder

DTYPES: dict[str, pl.DataType] = {"moment": pl.Datetime("us"), "number": pl.Float64()}


@dataclass(frozen=True)
class MarkedRows:
    """The rows of one table, read and marked.

    Attributes
    ----------
    rows : polars.DataFrame
        `ROW`, our columns and `MARKS`.
    received : polars.LazyFrame
        `ROW` and the received columns.
    columns : dict of str to str
        Our name: the name as received.
    name : str
        What the table is called in messages.
    notes : list of str
        What the user should know about how it was read.
    """

    rows: pl.DataFrame
    received: pl.LazyFrame
    columns: Mapping[str, str]
    name: str
    notes: list[str]


def read_rows(
    table: Table, wanted: Mapping[str, str], spec: TableSpec, data: DataConfig
) -> MarkedRows:
    """Match the columns of a table, and read and mark its rows."""
    schema = table.scan.collect_schema()
    columns, notes = match_table(schema, wanted, spec, table.name)
    _check_parts(table, columns, spec)
    received = table.scan.with_row_index(ROW, offset=1)
    if table.has_empty_rows:
        received = received.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))
    first, second = read_cells(
        schema,
        columns,
        spec,
        decimal_comma=table.decimal_comma,
        date_format=data.date_format,
    )
    rows = received.select(first).select(second).collect(engine="streaming")
    return MarkedRows(rows, received, columns, table.name, [*table.notes, *notes])


def _check_parts(table: Table, columns: Mapping[str, str], spec: TableSpec) -> None:
    """Refuse a table with a file that lacks a column that the others have."""
    needed = [name for ours, name in columns.items() if spec[ours].is_required]
    for name, found in table.parts:
        if lacking := [column for column in needed if column not in found]:
            raise SchemaError(
                f"{table.name}: {name} has no column {listed(lacking)}, which other "
                f"files have; it has {listed([c for c in found if c != BEYOND], 30)}. "
                "Name files of one make only, or rename its columns."
            )


def rows_from_records(
    records: Sequence[Mapping[str, Any]], spec: TableSpec, customer_id: str
) -> MarkedRows:
    """Put the records of one customer into a table, and read and mark its rows."""
    series = [pl.int_range(1, len(records) + 1, dtype=pl.UInt32, eager=True).alias(ROW)]
    for column in spec.columns:
        values: list[Any]
        if column.name == "customer_id":
            values = [customer_id] * len(records)
        else:
            values = [record.get(column.name) for record in records]
        if column.kind == "moment":
            values = [naive(v) if isinstance(v, datetime) else v for v in values]
        dtype = DTYPES.get(column.kind, pl.String())
        series.append(pl.Series(column.name, values, dtype=dtype, strict=False))
    frame = pl.DataFrame(series)
    columns = {column.name: column.name for column in spec.columns}
    first, second = _record_steps(spec)
    rows = frame.select(first).select(second)
    return MarkedRows(rows, frame.lazy(), columns, f"the {spec.name}", [])


@cache
def _record_steps(spec: TableSpec) -> tuple[list[pl.Expr], list[pl.Expr]]:
    """Return the expressions that read records, which are always of one make."""
    columns = {column.name: column.name for column in spec.columns}
    types = {c.name: DTYPES.get(c.kind, pl.String()) for c in spec.columns}
    return read_cells(pl.Schema(types), columns, spec)


def naive(moment: datetime) -> datetime:
    """Return a moment without its zone, in UTC if it had one."""
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


EXAMPLES = 3
# A date may be wrong without being impossible: this far from the next one before it,
# the newest is worth a look, since every recency counts from it.
GAP_DAYS = 30
MANY = 0.2
LOOKED_AT = 1000

# The column of ours that shows why a row has a fault, and how to mend it.
ABOUT = {
    "impossible_date": "order_date",
    "invalid_total": "total_price",
    "after_reference": "order_date",
    "invalid_quantity": "quantity",
    "invalid_price": "price",
    "unknown_order": "order_id",
}
CURES = {
    "impossible_date": "Expected ISO dates such as `2024-01-31 14:05`, or seconds "
    "since 1970; for another format set `data.date_format`, such as `%d.%m.%Y %H:%M`.",
    "after_reference": "Expected none after{until}; set `axes.reference_date` if that "
    "is not now.",
    "unknown_order": "Expected order ids of the orders, and their customers: are both "
    "tables of one period and one system?",
    "number": "Expected a number within +-1e9, without thousands separators; if the "
    "comma is the decimal mark: `--set data.decimal=,`.",
}


def check_policy(rows: pl.DataFrame, table: str, name: str, negative: Negative) -> None:
    """Stop at negative rows, where `axes.negative_orders` is ``error``.

    Raises
    ------
    SchemaError
        With the number of rows, the first of them, and the other policies.
    """
    found = rows.filter(pl.col(MARKS) & BITS[table]["negative"] != 0)
    if negative != "error" or found.is_empty():
        return
    column = "`total_price`" if table == "orders" else "`quantity` or `price`"
    raise SchemaError(
        f"{name}: {found.height:,} of {counted(rows.height)} have a {column} below 0; "
        f"first: row {_numbers(found)}. `axes.negative_orders` is `error`; to go on, "
        "take them as refunds (`--set axes.negative_orders=refund`) or set them aside "
        "(`--set axes.negative_orders=drop`)."
    )


def check_kept(account: Mapping[str, Any], table: str, hints: list[str]) -> None:
    """Stop where no row of a table can be used.

    Raises
    ------
    SchemaError
        With the reasons, and the hints on the cells behind them.
    """
    if account["rows_kept"]:
        return
    if not account["rows_read"]:
        raise SchemaError(
            f"{account['source']} has no rows. Expected at least one of {table}."
        )
    faults = {name: n for name, n in account["faults"].items() if n}
    found = ", ".join(
        f"{n:,} with `{f}` ({TABLE_MEANINGS[f]})" for f, n in faults.items()
    )
    n_read = counted(account["rows_read"], table[:-1])
    first = f"{account['source']}: none of {n_read} can be used: {found}."
    raise SchemaError("\n".join([first, *hints]))


def suggest_fixes(
    rejected: pl.DataFrame, received: Mapping[str, str], limit: datetime | None
) -> list[str]:
    """Return a sentence for each fault that examples of cells can explain.

    Parameters
    ----------
    rejected : polars.DataFrame
        Rows set aside of one table: `source_row`, `reason`, and cells as text.
    received : mapping of str to str
        Our name: the name as received.
    limit : datetime or None
        The moment after which orders are set aside.
    """
    hints = []
    for fault, ours in ABOUT.items():
        if ours not in received or received[ours] not in rejected.columns:
            continue
        has_fault = rejected["reason"].str.split(", ").list.contains(fault)
        rows = rejected.filter(has_fault).head(LOOKED_AT)
        # Of empty cells there is nothing to show.
        if rows[received[ours]].null_count() == rows.height:
            continue
        cells = rows.unique(received[ours], keep="first", maintain_order=True)
        shown = [
            f"empty (row {row:,})" if cell is None else f"`{cell[:40]}` (row {row:,})"
            for row, cell in cells["source_row", received[ours]].head(EXAMPLES).rows()
        ]
        until = "" if limit is None else f" {limit.isoformat(' ', 'minutes')}"
        cure = CURES.get(fault, CURES["number"]).format(until=until)
        hints.append(f"`{ours}` with `{fault}` is {', '.join(shown)}. {cure}")
    return hints


def usage_notes(
    orders: pl.DataFrame, items: pl.DataFrame | None, account: Mapping[str, Any]
) -> list[str]:
    """Return what is odd about the rows kept, though each is fine by itself.

    Parameters
    ----------
    orders, items : polars.DataFrame
        The rows kept.
    account : mapping
        Counts of the orders, as `core.tables.faults.table_account` gives them.
    """
    notes = []
    n_repeats = account["faults"]["repeated_order"]
    if n_repeats > MANY * account["rows_read"]:
        notes.append(
            f"{share(n_repeats, account['rows_read'])} of the order rows repeat an "
            "order id. Expected one row per order: are these item rows, or order "
            "numbers that begin anew each day?"
        )
    newest = orders["order_date"].dt.date().unique().sort()[-2:].to_list()
    if len(newest) > 1 and (gap := (newest[1] - newest[0]).days) > GAP_DAYS:
        notes.append(
            f"The newest order ({newest[1]}) is {gap:,} days after the one before it. "
            "If its date is wrong, so is every recency: set `axes.reference_date`."
        )
    if "discount_amount" in orders.columns:
        above = pl.col("discount_amount") > pl.col("total_price")
        if n := orders.filter(above).height:
            notes.append(
                f"{counted(n, 'order')} with a discount above the total, kept: totals "
                "are taken as what was paid, after discounts."
            )
    return notes + ([] if items is None else _item_notes(orders, items))


def _item_notes(orders: pl.DataFrame, items: pl.DataFrame) -> list[str]:
    """Return what is odd about the items kept."""
    notes = []
    n_without = orders.join(items, on=PAIR, how="anti").height
    if n_without:
        notes.append(
            f"{counted(n_without, 'order')} ({share(n_without, orders.height)}) "
            "without items: features of products see the others only."
        )
    compared = items.drop(ROW, MARKS, "refund_amount", strict=False)
    repeated = items.height - compared.hash_rows().n_unique()
    if repeated:
        notes.append(
            f"{counted(repeated, 'item row')} equal to another one of the same order, "
            "kept: a receipt may list a product twice."
        )
    return notes


def _numbers(rows: pl.DataFrame) -> str:
    """Return the numbers of the first rows."""
    return ", ".join(f"{row:,}" for row in rows[ROW].head(EXAMPLES))


# What data may lack. The last one is lacking where every order is dated at midnight.
OPTIONAL = (
    "items", "discount_amount", "source", "category", "refund_amount", "order_time",
)  # fmt: skip
REQUIRED_COLUMNS = {
    "orders": ("customer_id", "order_id", "order_date", "total_price"),
    "items": ("customer_id", "order_id", "product_id", "quantity", "price"),
}
# Optional columns, and the repair that counts their empty cells.
OPTIONAL_COLUMNS = {
    "orders": {"discount_amount": "empty_discount", "source": "unknown_source"},
    "items": {"category": "unknown_category", "refund_amount": "empty_refund"},
}


@dataclass(frozen=True)
class Purchases:
    """Orders and items that can be used, and what became of the others.

    Attributes
    ----------
    orders : polars.DataFrame
        `customer_id`, `order_id` (String), `order_date` (Datetime, microseconds, no
        zone), `total_price` (Float64, at least 0; what was paid) and, unless absent,
        `discount_amount` (Float64, at least 0) and `source` (String, lower case;
        ``unknown`` where empty). No nulls; a customer has an order id once.
    items : polars.DataFrame or None
        `customer_id`, `order_id`, `product_id` (String), `quantity` (Float64, at least
        0), `price` (Float64, of one unit, at least 0) and, unless absent, `category`
        (String; ``unknown`` where empty) and `refund_amount` (Float64, at least 0).
        No nulls; every item has its order in `orders`.
    reference_date : datetime
        The moment that stands for now.
    absent : tuple of str
        Those of `OPTIONAL` that the data does not have.
    intake : dict
        The account, JSON-able; `core.tables.faults.intake_lines` tells it.
    rejected : polars.DataFrame
        Rows set aside: `table`, `source_row` (from 1), `reason`, and the mapped cells
        as received, as text.
    fingerprint : str
        SHA-256 that is equal when the same content is read with the same options.
    truth : polars.DataFrame or None
        What the generator planted; only for the sample.
    """

    orders: pl.DataFrame
    items: pl.DataFrame | None
    reference_date: datetime
    absent: tuple[str, ...]
    intake: dict[str, Any]
    rejected: pl.DataFrame
    fingerprint: str
    truth: pl.DataFrame | None = None


@dataclass(frozen=True)
class Terms:
    """What decides how rows are held against each other.

    Attributes
    ----------
    negative : str
        What a negative row is: ``refund``, ``drop`` or ``error``.
    reference : datetime or None
        The moment that stands for now; None: the newest order.
    latest : datetime or None
        Where `reference` is None, no order can be after this.
    absent : tuple of str or None
        What the data is taken to lack; None: what it does lack.
    """

    negative: Negative
    reference: datetime | None
    latest: datetime | None = None
    absent: tuple[str, ...] | None = None


def assemble_orders(
    orders: MarkedRows, items: MarkedRows | None, terms: Terms
) -> Purchases:
    """Hold the rows of both tables against each other, and account for all of them.

    Parameters
    ----------
    orders, items : MarkedRows
        The rows as read.
    terms : Terms
        What decides.

    Raises
    ------
    SchemaError
        If no row of a table can be used, or negative rows are to stop; never for the
        records of a request (`terms.absent` given).
    """
    settled, reference = settle_orders(
        orders.rows, terms.negative, terms.reference, terms.latest
    )
    order_account, refused = _judged(orders, settled, "orders", terms)
    kept = kept_rows(settled, "orders")
    item_account, kept_items, refunds, rejected = None, None, Refunds(), [refused]
    if items is not None:
        item_rows = settle_items(items.rows, settled, terms.negative)
        item_account, refused = _judged(items, item_rows, "items", terms)
        kept_items, refunds = attribute_refunds(item_rows, settled)
        rejected.append(refused)
    absent, notes = terms.absent, [*orders.notes, *(items.notes if items else [])]
    if absent is None:
        absent, more = _lacking(kept, kept_items, [order_account, item_account])
        notes += [*more, *usage_notes(kept, kept_items, order_account)]
    kept = _in_order(kept, "orders", absent)
    kept_items = None if kept_items is None else _in_order(kept_items, "items", absent)
    intake = {
        "orders": order_account,
        "items": item_account,
        "refunds": refund_account(refunds),
        **_extent(kept, kept_items),
        "notes": notes,
    }
    return Purchases(
        orders=kept,
        items=kept_items,
        # Without an order there was an error before, or a moment given.
        reference_date=reference or datetime.min,
        absent=absent,
        intake=intake,
        rejected=pl.concat(rejected, how="diagonal"),
        fingerprint="",
    )


def _judged(
    table: MarkedRows, rows: pl.DataFrame, name: str, terms: Terms
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Return the account of a table and its rows set aside; stop where need be."""
    account = table_account(rows, name, table.name)
    names = list(table.columns.values())
    refused = no_rejected(names)
    if account["rows_set_aside"]:
        refused = rejected_rows(reasons(rows, name), table.received, names, name)
    if terms.absent is None:
        check_policy(rows, name, table.name, terms.negative)
        limit = terms.reference or terms.latest
        account["hints"] = suggest_fixes(refused, table.columns, limit)
        check_kept(account, name, account["hints"])
    return account, refused


def _lacking(
    orders: pl.DataFrame,
    items: pl.DataFrame | None,
    accounts: Sequence[dict[str, Any] | None],
) -> tuple[tuple[str, ...], list[str]]:
    """Return those of `OPTIONAL` that the data does not have, and notes on them."""
    absent: set[str] = set()
    notes: list[str] = []
    pairs = zip(("orders", "items"), (orders, items), accounts, strict=True)
    for table, frame, account in pairs:
        for column, repair in OPTIONAL_COLUMNS[table].items():
            if frame is None or account is None or column not in frame.columns:
                absent.add(column)
            elif account["repairs"][repair] == account["rows_read"]:
                # Refund lines may have filled a column that came empty.
                if column == "refund_amount" and frame[column].sum() > 0:
                    continue
                absent.add(column)
                notes.append(f"`{column}` is empty in every row: taken as absent.")
    if items is None:
        absent.add("items")
    midnight = pl.col("order_date").dt.truncate("1d") == pl.col("order_date")
    if orders.select(midnight.all()).item():
        absent.add("order_time")
        notes.append("Orders have dates without a time of day.")
    return tuple(name for name in OPTIONAL if name in absent), notes


def _in_order(frame: pl.DataFrame, table: str, absent: Sequence[str]) -> pl.DataFrame:
    """Return our columns of a table in our order; what a request lacks is none."""
    optional = [name for name in OPTIONAL_COLUMNS[table] if name not in absent]
    none = {"source": pl.lit(UNKNOWN), "category": pl.lit(UNKNOWN)}
    lacking = [name for name in optional if name not in frame.columns]
    if lacking:
        frame = frame.with_columns(
            none.get(name, pl.lit(0.0)).alias(name) for name in lacking
        )
    return frame[[*REQUIRED_COLUMNS[table], *optional]]


def _extent(orders: pl.DataFrame, items: pl.DataFrame | None) -> dict[str, Any]:
    """Return how many customers and products, and from when to when."""
    dates = orders["order_date"]
    oldest, newest = dates.min(), dates.max()
    return {
        "n_customers": orders["customer_id"].n_unique(),
        "n_products": None if items is None else items["product_id"].n_unique(),
        "oldest_order": oldest.isoformat() if isinstance(oldest, datetime) else None,
        "newest_order": newest.isoformat() if isinstance(newest, datetime) else None,
    }


# Beside the mapping of columns, what decides how files are read.
READING_OPTIONS = {"date_format", "sheet", "separator", "decimal", "encoding"}
# Clocks differ a little, and so do time zones.
CLOCK_SLACK = timedelta(days=1)


PurchasesGenerator = Callable[[int, int], Any]
"""Makes the built-in sample of a number of customers with a seed: an object with
`orders`, `items` (our columns) and `truth`."""


def read_purchases(
    config: Config, work: Path, generate: PurchasesGenerator | None = None
) -> Purchases:
    """Read the orders and items that a configuration names.

    Parameters
    ----------
    config : Config
        Options of `axes`; those of `data` about CSV, Excel, dates and decimal marks
        hold here, too. Without `axes.orders` the built-in sample is generated.
    work : Path
        Folder for intermediate files; created if it is not there.
    generate : callable, optional
        Makes the sample, for a configuration that asks for it.

    Raises
    ------
    SourceError
        If the data cannot be found, fetched or opened, or the sample is asked for
        without `generate`.
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
        return _read_sample(config, generate)
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
    return assemble_orders(order_rows, item_rows, terms)


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


def _read_sample(config: Config, generate: PurchasesGenerator | None) -> Purchases:
    """Generate the sample and take it like any other source."""
    if generate is None:
        raise SourceError(
            "`axes.orders` is not set, and no generator was handed in. Name the data "
            "with `--orders PATH`."
        )
    n_customers = config.axes.sample_customers
    made = generate(n_customers, config.seed)
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
    purchases = assemble_orders(order_rows, item_rows, terms)
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
