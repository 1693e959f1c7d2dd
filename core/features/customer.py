"""The features of customers: one definition for millions of orders and for one person.

Orders and items become one row of facts per customer where the data is (Polars, or
DuckDB); the features are expressions over that row. `core.features.customer_axes` says
which features make up which axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import narwhals as nw
import polars as pl

from core.errors import SchemaError, listed
from core.features.customer_axes import (
    AXES,
    FEATURES,
    PROFILE,
    Axis,
    AxisFeatures,
    channel_share,
    check_absent,
    features_available,
    why_skipped,
)
from core.features.customer_definitions import (
    CHANNEL_SHARE,
    LIFECYCLE_MONTHS,
    LIFECYCLE_STAGES,
    OTHER_CHANNEL,
    CustomerFeature,
)
from core.features.customer_item_facts import (
    category_facts,
    line_facts,
    product_facts,
)
from core.features.customer_order_facts import Rows, channel_count, order_facts
from core.features.customer_order_features import has_tenure, tenure_days

__all__ = [
    "AXES",
    "FEATURES",
    "PROFILE",
    "Axis",
    "AxisFeatures",
    "CustomerFeature",
    "channel_share",
    "customer_features",
    "features_available",
    "has_times",
    "known_channels",
]

MIN_CHANNEL_SHARE = 0.01
MAX_CHANNELS = 8
ORDER_COLUMNS = ("customer_id", "order_id", "order_date", "total_price")
ITEM_COLUMNS = ("customer_id", "order_id", "product_id", "quantity", "price")
TIMES = ("morning", "afternoon", "evening")
NO_ITEMS = {
    **dict.fromkeys(("customer_id", "order_id", "product_id", "category"), pl.String),
    **dict.fromkeys(("quantity", "price", "refund_amount"), pl.Float64),
}


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
    rows = _rows(orders)
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


def has_times(orders: Any) -> bool:
    """Return whether any order is not at midnight.

    Dates alone say nothing of mornings and evenings: ``order_time`` is then absent.
    """
    date = nw.col("order_date")
    seconds = date.dt.hour() * 3600 + date.dt.minute() * 60 + date.dt.second()
    table = _collect(_rows(orders).select(latest=seconds.max()))
    return bool(table["latest"][0])


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
    check_absent(absent)
    channels = tuple(channels)
    rows = _rows(orders)
    _check_columns(rows, "orders", ORDER_COLUMNS, ("discount_amount", "source"), absent)
    facts = _collect(
        order_facts(
            rows, reference_date=reference_date, absent=absent, channels=channels
        )
    )
    if "items" not in absent:
        facts = _with_items(facts, items, absent)
    computed = nw.from_native(facts.sort("customer_id")).select(
        "customer_id", *_expressions(tuple(absent), channels)
    )
    return computed.to_native()


def _rows(frame: Any) -> Rows:
    """Return a frame as lazy rows, where its own library can evaluate the formulas."""
    found = nw.from_native(frame)
    if isinstance(found, nw.LazyFrame):
        return found
    # In memory: Polars reads pandas and Arrow, and knows more than either.
    rows: Rows = nw.from_native(found.to_polars().lazy())
    return rows


def _collect(rows: Rows) -> pl.DataFrame:
    """Evaluate rows into Polars; sums of whole numbers are Int64 in every engine."""
    table: pl.DataFrame = rows.collect("polars").to_native()
    whole = [
        name
        for name, dtype in table.schema.items()
        if dtype.is_integer() or dtype.is_decimal()
    ]
    return table.with_columns(pl.col(whole).cast(pl.Int64))


def _check_columns(
    rows: Rows,
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
            "with `core.data.purchases`, or name optional columns as absent."
        )


def _with_items(
    facts: pl.DataFrame, items: Any | None, absent: Sequence[str]
) -> pl.DataFrame:
    """Add the facts of a customer's item lines; null for one without any."""
    rows = _rows(pl.DataFrame(schema=NO_ITEMS) if items is None else items)
    _check_columns(rows, "items", ITEM_COLUMNS, ("category", "refund_amount"), absent)
    parts = [line_facts(rows, absent=absent), product_facts(rows)]
    if "category" not in absent:
        parts.append(category_facts(rows))
    for part in parts:
        facts = facts.join(_collect(part), on="customer_id", how="left")
    return facts


@lru_cache(maxsize=16)
def _expressions(
    absent: tuple[str, ...], channels: tuple[str, ...]
) -> tuple[nw.Expr, ...]:
    """Return every feature that the data allow, then the columns for profiles."""
    columns: list[nw.Expr] = []
    for name, feature in FEATURES.items():
        if why_skipped(name, absent, channels) is not None:
            continue
        if name == CHANNEL_SHARE:
            columns += _channel_shares(channels)
        elif name == "channel_diversity":
            columns.append(_channel_diversity(channels))
        elif feature.of_facts is not None:
            dtype = nw.Int64 if name == "total_orders" else nw.Float64
            columns.append(feature.of_facts.cast(dtype).alias(name))
    columns.append(tenure_days.alias("customer_tenure_days"))
    return (*columns, *_texts(absent, channels))


def _channel_shares(channels: Sequence[str]) -> list[nw.Expr]:
    """Return the share of each known channel in the orders with a channel."""
    n = nw.col("n_with_channel")
    n = nw.when(n > 0).then(n)
    return [
        (nw.col(channel_count(place)) / n).alias(channel_share(channel))
        for place, channel in enumerate(channels)
    ]


def _channel_diversity(channels: Sequence[str]) -> nw.Expr:
    """Return 1 - the sum of squared shares, channels not known being one."""
    known = [nw.col(channel_count(place)) for place in range(len(channels))]
    n = nw.col("n_with_channel")
    squares = (count * count for count in (*known, _n_other(channels)))
    diversity = 1 - nw.sum_horizontal(*squares) / nw.when(n > 0).then(n * n)
    return diversity.alias("channel_diversity")


def _n_other(channels: Sequence[str]) -> nw.Expr:
    """Return the number of orders through a channel that is not known."""
    known = (nw.col(channel_count(place)) for place in range(len(channels)))
    return nw.col("n_with_channel") - nw.sum_horizontal(nw.lit(0), *known)


def _texts(absent: Sequence[str], channels: Sequence[str]) -> list[nw.Expr]:
    """Return the columns that say in words when, through what and how long."""
    nothing = nw.lit(None, dtype=nw.String)
    time, channel = nothing, nothing
    if "order_time" not in absent:
        time = _largest([(name, nw.col(f"n_{name}")) for name in TIMES])
    if "source" not in absent:
        known = [
            (name, nw.col(channel_count(place))) for place, name in enumerate(channels)
        ]
        largest = _largest([*known, (OTHER_CHANNEL, _n_other(channels))])
        channel = nw.when(nw.col("n_with_channel") > 0).then(largest)
    stage = nw.lit(LIFECYCLE_STAGES[0])
    for bound, name in zip(LIFECYCLE_MONTHS, LIFECYCLE_STAGES[1:], strict=True):
        is_reached = has_tenure(bound)
        stage = nw.when(is_reached).then(nw.lit(name)).otherwise(stage)
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
