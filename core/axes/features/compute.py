"""The features of customers: one definition for millions of orders and one request.

Lazy frames are evaluated where they are, in Polars or DuckDB. Rows in memory, of a
million customers or of one, go through a Polars plan that is built once per kind of
data: to translate the expressions takes ten times as long as to evaluate them for one
customer.

Orders and items become one row of facts per customer where the data is (Polars, or
DuckDB); the features are expressions over that row. `core.axes.features.catalog` says
which features make up which axis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import narwhals as nw
import polars as pl
from polars.io.plugins import register_io_source

from core.axes.features import catalog, formulas
from core.errors import SchemaError, listed

ORDERS = {
    "customer_id": pl.String(),
    "order_id": pl.String(),
    "order_date": pl.Datetime("us"),
    "total_price": pl.Float64(),
    "discount_amount": pl.Float64(),
    "source": pl.String(),
}
ITEMS = {
    "customer_id": pl.String(),
    "order_id": pl.String(),
    "product_id": pl.String(),
    "quantity": pl.Float64(),
    "price": pl.Float64(),
    "category": pl.String(),
    "refund_amount": pl.Float64(),
}
NOW = "reference_date"
TIMES = ("morning", "afternoon", "evening")
# A service meets one kind of data per store and version of its model.
MAX_KINDS = 16


def evaluate_lazily(
    orders: formulas.Rows,
    items: formulas.Rows,
    *,
    reference_date: datetime,
    absent: tuple[str, ...],
    channels: tuple[str, ...],
) -> pl.DataFrame:
    """Return the features, the rows being summed by the library that they are of."""
    now = nw.lit(reference_date)
    parts = _facts(orders, items, now=now, absent=absent, channels=channels)
    tables = [part.collect("polars").to_native().lazy() for part in parts]
    return _features(tables, absent, channels).collect()


def evaluate_in_memory(
    orders: pl.DataFrame,
    items: pl.DataFrame,
    *,
    reference_date: datetime,
    absent: tuple[str, ...],
    channels: tuple[str, ...],
) -> pl.DataFrame:
    """Return the features of rows in memory by a plan that no one else is using."""
    kind = (absent, channels)
    if kind not in _free_plans and len(_free_plans) >= MAX_KINDS:
        _free_plans.clear()
    free = _free_plans.setdefault(kind, deque())
    # Taking from a deque is atomic: threads share the plans, never one at a time.
    try:
        plan = free.pop()
    except IndexError:
        plan = _Plan(absent, channels)
    try:
        return plan.evaluate(orders, items, reference_date)
    finally:
        free.append(plan)


_free_plans: dict[tuple[tuple[str, ...], tuple[str, ...]], deque[_Plan]] = {}


class _Plan:
    """A Polars query that gets its tables when it is evaluated, one call at a time."""

    def __init__(self, absent: tuple[str, ...], channels: tuple[str, ...]) -> None:
        self.tables: dict[str, pl.DataFrame] = {}
        self.order_columns = _without(ORDERS, absent)
        self.item_columns = _without(ITEMS, absent)
        parts = _facts(
            self._rows("orders", {**self.order_columns, NOW: pl.Datetime("us")}),
            self._rows("items", self.item_columns),
            now=nw.col(NOW),
            absent=absent,
            channels=channels,
        )
        self.query = _features([part.to_native() for part in parts], absent, channels)

    def evaluate(
        self, orders: pl.DataFrame, items: pl.DataFrame, reference_date: datetime
    ) -> pl.DataFrame:
        """Return the features of these tables."""
        now = pl.lit(reference_date, dtype=pl.Datetime("us")).alias(NOW)
        try:
            self.tables["orders"] = _typed(orders, self.order_columns).with_columns(now)
            self.tables["items"] = _typed(items, self.item_columns)
            return self.query.collect(engine="in-memory")
        finally:
            self.tables.clear()

    def _rows(self, name: str, schema: dict[str, pl.DataType]) -> formulas.Rows:
        """Return the rows of a table that is known when the query is evaluated."""

        def read(
            columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            batch_size: int | None,
        ) -> Iterator[pl.DataFrame]:
            table = self.tables[name]
            if predicate is not None:
                table = table.filter(predicate)
            if columns is not None:
                table = table.select(columns)
            yield table if n_rows is None else table.head(n_rows)

        rows: formulas.Rows = nw.from_native(register_io_source(read, schema=schema))
        return rows


def _without(
    schema: dict[str, pl.DataType], absent: Sequence[str]
) -> dict[str, pl.DataType]:
    """Return the columns that are not absent."""
    return {name: dtype for name, dtype in schema.items() if name not in absent}


def _typed(table: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return the columns of a schema, in its types."""
    return table.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def _facts(
    orders: formulas.Rows,
    items: formulas.Rows,
    *,
    now: nw.Expr,
    absent: tuple[str, ...],
    channels: tuple[str, ...],
) -> list[formulas.Rows]:
    """Return the facts of orders and then of items, each with a row per customer."""
    parts = [formulas.order_facts(orders, now=now, absent=absent, channels=channels)]
    if "items" not in absent:
        parts += [
            formulas.line_facts(items, absent=absent),
            formulas.product_facts(items),
        ]
        if "category" not in absent:
            parts.append(formulas.category_facts(items))
    return parts


def _features(
    parts: Sequence[pl.LazyFrame], absent: tuple[str, ...], channels: tuple[str, ...]
) -> pl.LazyFrame:
    """Return the features of the customers in the first of the tables of facts."""
    facts = parts[0]
    for part in parts[1:]:
        facts = facts.join(part, on="customer_id", how="left")
    # Whole numbers come as UInt32 from Polars, as decimals from DuckDB.
    whole = [
        name
        for name, dtype in facts.collect_schema().items()
        if dtype.is_integer() or dtype.is_decimal()
    ]
    facts = facts.with_columns(pl.col(whole).cast(pl.Int64)).sort("customer_id")
    expressions = _expressions(absent, channels)
    computed = nw.from_native(facts).select("customer_id", *expressions)
    features: pl.LazyFrame = computed.to_native()
    return features


def _expressions(absent: Sequence[str], channels: Sequence[str]) -> list[nw.Expr]:
    """Return every feature that the data allow, then the columns for profiles."""
    columns: list[nw.Expr] = []
    for name in catalog.FEATURES:
        if catalog.why_skipped(name, absent, channels) is not None:
            continue
        if name == catalog.CHANNEL_SHARE:
            columns += _channel_shares(channels)
        elif name == "channel_diversity":
            columns.append(_channel_diversity(channels).alias(name))
        else:
            dtype = nw.Int64 if name == "total_orders" else nw.Float64
            columns.append(formulas.FORMULAS[name].cast(dtype).alias(name))
    columns.append(formulas.tenure_days.alias("customer_tenure_days"))
    return [*columns, *_texts(absent, channels)]


def _channel_shares(channels: Sequence[str]) -> list[nw.Expr]:
    """Return the share of each known channel in the orders with a channel."""
    n = nw.col("n_with_channel")
    n = nw.when(n > 0).then(n)
    return [
        (nw.col(formulas.channel_count(place)) / n).alias(
            catalog.channel_share(channel)
        )
        for place, channel in enumerate(channels)
    ]


def _channel_diversity(channels: Sequence[str]) -> nw.Expr:
    """Return 1 - the sum of squared shares, channels not known being one."""
    known = [nw.col(formulas.channel_count(place)) for place in range(len(channels))]
    n = nw.col("n_with_channel")
    squares = (count * count for count in (*known, _n_other(channels)))
    return 1 - nw.sum_horizontal(*squares) / nw.when(n > 0).then(n * n)


def _n_other(channels: Sequence[str]) -> nw.Expr:
    """Return the number of orders through a channel that is not known."""
    known = (nw.col(formulas.channel_count(place)) for place in range(len(channels)))
    return nw.col("n_with_channel") - nw.sum_horizontal(nw.lit(0), *known)


def _texts(absent: Sequence[str], channels: Sequence[str]) -> list[nw.Expr]:
    """Return the columns that say in words when, through what and how long."""
    nothing = nw.lit(None, dtype=nw.String)
    time, channel = nothing, nothing
    if "order_time" not in absent:
        time = _largest([(name, nw.col(f"n_{name}")) for name in TIMES])
    if "source" not in absent:
        known = [
            (name, nw.col(formulas.channel_count(place)))
            for place, name in enumerate(channels)
        ]
        largest = _largest([*known, (catalog.OTHER_CHANNEL, _n_other(channels))])
        channel = nw.when(nw.col("n_with_channel") > 0).then(largest)
    stage = nw.lit(formulas.LIFECYCLE_STAGES[0])
    for bound, name in zip(
        formulas.LIFECYCLE_MONTHS, formulas.LIFECYCLE_STAGES[1:], strict=True
    ):
        stage = nw.when(formulas.has_tenure(bound)).then(nw.lit(name)).otherwise(stage)
    return [
        time.alias("preferred_time"),
        channel.alias("primary_channel"),
        stage.alias("lifecycle_stage"),
    ]


def _largest(counts: Sequence[tuple[str, nw.Expr]]) -> nw.Expr:
    """Return the name of the largest count; of equal ones, the first."""
    most = nw.max_horizontal(*(count for _, count in counts))
    chosen = nw.lit(counts[-1][0])
    for name, count in reversed(counts[:-1]):
        chosen = nw.when(count == most).then(nw.lit(name)).otherwise(chosen)
    return chosen


MIN_CHANNEL_SHARE = 0.01
MAX_CHANNELS = 8


def known_channels(orders: Any) -> tuple[str, ...]:
    """Return the channels worth a feature of their own, the most used first.

    Parameters
    ----------
    orders : frame
        Polars, DuckDB, pandas or Arrow; with ``source``, or without.

    Returns
    -------
    tuple of str
        At most `MAX_CHANNELS`, each of at least 1% of the orders with a channel; equal
        ones by name. A model keeps them: new orders are told by the same.
    """
    rows = _lazy(_rows(orders))
    if "source" not in rows.collect_schema().names():
        return ()
    counts = (
        rows.filter(~nw.col("source").is_null())
        .group_by("source")
        .agg(nw.len().alias("n"))
    )
    table = _collect(counts).sort("n", "source", descending=[True, False])
    frequent = table.filter(pl.col("n") >= MIN_CHANNEL_SHARE * pl.col("n").sum())
    return tuple(frequent["source"].head(MAX_CHANNELS).to_list())


def customer_features(
    orders: Any,
    items: Any | None,
    *,
    reference_date: datetime,
    absent: Sequence[str] = (),
    channels: Sequence[str] = (),
) -> pl.DataFrame:
    """Compute every feature that the data allow, a row per customer.

    Parameters
    ----------
    orders : frame
        ``customer_id, order_id, order_date, total_price`` and, unless absent,
        ``discount_amount, source``: Polars or DuckDB, eager or lazy, pandas or Arrow.
    items : frame or None
        ``customer_id, order_id, product_id, quantity, price`` and, unless absent,
        ``category, refund_amount``. None, without ``items`` being absent, is a customer
        of whom no item is known. Lines of customers without an order are left out.
    reference_date : datetime
        Now, without a time zone; no order is later.
    absent, channels : sequence of str
        As in `features_available`.

    Returns
    -------
    DataFrame
        ``customer_id`` ascending; the features of all axes, each once (Float64;
        ``total_orders`` Int64); what of `PROFILE` is not among them; and ``String``
        columns ``preferred_time`` (null if the orders have no times),
        ``primary_channel`` (``other`` if the channels that are not known outweigh each
        known one, null if none is known) and ``lifecycle_stage``.

    Raises
    ------
    SchemaError
        If a column is missing that is not absent.
    ConfigError
        For an unknown name in `absent`.
    """
    catalog.check_absent(absent)
    rows = _rows(orders)
    _check(rows, "orders", list(ORDERS)[:4], list(ORDERS)[4:], absent)
    has_items = items is not None and "items" not in absent
    lines = _rows(items if has_items else pl.DataFrame(schema=ITEMS))
    if "items" not in absent:
        _check(lines, "items", list(ITEMS)[:5], list(ITEMS)[5:], absent)
    terms: Any = {
        "reference_date": reference_date,
        "absent": tuple(absent),
        "channels": tuple(channels),
    }
    if isinstance(rows, pl.DataFrame) and isinstance(lines, pl.DataFrame):
        return evaluate_in_memory(rows, lines, **terms)
    return evaluate_lazily(_lazy(rows), _lazy(lines), **terms)


def _rows(frame: Any) -> pl.DataFrame | formulas.Rows:
    """Return rows in memory as a Polars frame, and others as they are."""
    if isinstance(frame, pl.DataFrame):
        return frame
    found = nw.from_native(frame)
    return found if isinstance(found, nw.LazyFrame) else found.to_polars()


def _lazy(rows: pl.DataFrame | formulas.Rows) -> formulas.Rows:
    """Return rows as a lazy frame."""
    if isinstance(rows, pl.DataFrame):
        lazy: formulas.Rows = nw.from_native(rows.lazy())
        return lazy
    return rows


def _collect(rows: formulas.Rows) -> pl.DataFrame:
    """Evaluate rows into Polars."""
    table: pl.DataFrame = rows.collect("polars").to_native()
    return table


def _check(
    rows: pl.DataFrame | formulas.Rows,
    kind: str,
    required: Sequence[str],
    optional: Sequence[str],
    absent: Sequence[str],
) -> None:
    """Refuse rows without a column that is not known to be absent."""
    wanted = [*required, *(name for name in optional if name not in absent)]
    found = rows.collect_schema().names()
    missing = [name for name in wanted if name not in found]
    if missing:
        raise SchemaError(
            f"the {kind} have no {listed(missing)}, but {listed(found)}. Read them "
            "with `core.tables.orders`, or name optional columns as absent."
        )
