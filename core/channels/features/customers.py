"""Features of one customer over all channels, and over the home channel alone.

Orders become one row of sums per customer where the data is (Polars, DuckDB, Spark);
the features are formulas over that row. Amounts are summed as whole millionths, days
are whole numbers: one customer alone has the features that it has among all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import narwhals as nw
import polars as pl

from core.channels.features.orders import (
    BASE,
    DRIVER,
    Rows,
    count_of,
    n_above_0,
)
from core.channels.schema import Terms, counted_as, daypart_sums
from core.errors import SchemaError
from core.tables.exact import MILLIONTHS, millionths

OMNI = "omnichannel"
AMOUNTS = ("total_price", "discount_amount", "delivery_minutes")


def customer_features(
    order_features: Mapping[str, pl.LazyFrame], terms: Terms
) -> pl.LazyFrame:
    """Compute the features of customers with an order in the home channel.

    Parameters
    ----------
    order_features : mapping of str to polars.LazyFrame
        Per channel, as `core.channels.features.orders.order_features` gives it.
    terms : Terms
        `ChannelData.terms`, with both dates.

    Returns
    -------
    polars.LazyFrame
        A row per customer with at least one order in the home channel from
        `cutoff_date` on and before `run_date`, with the columns that
        `core.channels.features.catalog` lists. The order of the rows is not defined.

    Raises
    ------
    SchemaError
        If there are no order features of a channel.
    """
    if missing := [name for name in terms.channels if name not in order_features]:
        raise SchemaError(
            f"no order features of the channel `{missing[0]}`, which "
            "`channels.sources` names. Compute them with `order_features`."
        )
    rows = {name: nw.from_native(order_features[name]) for name in terms.channels}
    features: pl.LazyFrame = customer_table(rows, terms).to_native()
    return features


def customers_elsewhere(
    order_features: Mapping[str, pl.LazyFrame], terms: Terms
) -> pl.LazyFrame:
    """Return `customer_id` of those whose orders are all in other channels.

    Parameters
    ----------
    order_features, terms
        As for `customer_features`, which leaves them out.
    """
    rows = {name: nw.from_native(order_features[name]) for name in terms.channels}
    counted = (
        _rows_looked_at(rows, ["customer_id"], terms)
        .with_columns(n=count_of(_is_of(terms.home)))
        .group_by("customer_id")
        .agg(nw.col("n").sum())
    )
    found: pl.LazyFrame = (
        counted.filter(nw.col("n") == 0).select("customer_id").to_native()
    )
    return found


def customer_table(orders: Mapping[str, Rows], terms: Terms) -> Rows:
    """Return the features of customers from the order features of each channel.

    Parameters
    ----------
    orders : mapping of str to LazyFrame
        Per channel, of any library.
    terms : Terms
        With both dates.
    """
    names = next(iter(orders.values())).collect_schema().names()
    held = [name for name in names if name.startswith((DRIVER, BASE))]
    scopes = (OMNI, terms.home)
    sums = _sums(held, terms)
    edges = {
        f"{scope}_{kind}": nw.when(_is_of(scope)).then(column)
        for scope in scopes
        for kind, column in (("time", "order_time"), ("day", "order_day"))
    }
    summed = (
        _rows_looked_at(orders, _summed_columns(held, terms), terms)
        .with_columns(**sums, **edges)
        .group_by("customer_id")
        .agg(
            *(nw.col(name).sum() for name in sums),
            *(nw.col(name).min().alias(f"{name}_first") for name in edges),
            *(nw.col(name).max().alias(f"{name}_last") for name in edges),
        )
        .filter(nw.col(order_count(terms.home)) > 0)
    )
    return summed.select("customer_id", *_formulas(held, terms))


def order_count(scope: str, of: str = "") -> str:
    """Return the name of a count of orders.

    >>> order_count("omnichannel"), order_count("ownapp", "Lunch")
    ('omnichannel_order_count', 'ownapp_Lunch_order_count')
    """
    return "_".join(filter(None, (scope, of, "order_count")))


def twin(scope: str, name: str) -> str:
    """Return a name over all channels as it is, and one of a channel with its name."""
    return name if scope == OMNI else f"{scope}_{name}"


def _summed_columns(held: Sequence[str], terms: Terms) -> list[str]:
    """Return the features of orders that are needed."""
    return [
        *("customer_id", "order_time", "order_day", "is_weekend", "daypart"),
        *AMOUNTS,
        *(f"{label}_price_flag" for label, *_ in terms.prices),
        *held,
    ]


def _rows_looked_at(
    orders: Mapping[str, Rows], columns: Sequence[str], terms: Terms
) -> Rows:
    """Return some columns of the orders of the window, of all channels."""
    first, end = terms.days
    return nw.concat(
        [
            rows.filter((nw.col("order_day") >= first) & (nw.col("order_day") < end))
            .select(*columns)
            .with_columns(channel=nw.lit(name))
            for name, rows in orders.items()
        ]
    )


def _is_of(scope: str) -> nw.Expr:
    """Return whether an order is of a channel, or of any."""
    if scope == OMNI:
        return ~nw.col("channel").is_null()
    return nw.col("channel") == nw.lit(scope)


def _sums(held: Sequence[str], terms: Terms) -> dict[str, nw.Expr]:
    """Return what is summed per customer, by name."""
    sums = {order_count(name): count_of(_is_of(name)) for name in terms.channels}
    for scope in (OMNI, terms.home):
        is_of = _is_of(scope)
        counted = {
            "Weekend": nw.col("is_weekend") == 1,
            "Weekday": nw.col("is_weekend") == 0,
            **{
                label: nw.col("daypart") == nw.lit(label) for label, _ in terms.dayparts
            },
            **{
                f"{label}_price": nw.col(f"{label}_price_flag") == 1
                for label, *_ in terms.prices
            },
        }
        sums[order_count(scope)] = count_of(is_of)
        for name, condition in counted.items():
            sums[order_count(scope, name)] = count_of(is_of & condition)
        for name in held:
            sums[twin(scope, f"{name}_count")] = count_of(is_of & (nw.col(name) > 0))
        for name in AMOUNTS:
            is_known = is_of & ~nw.col(name).is_null()
            sums[f"{scope}_{name}"] = nw.when(is_known).then(millionths(name))
            sums[f"{scope}_{name}_n"] = count_of(is_known)
        has_discount = is_of & ~nw.col("discount_amount").is_null()
        sums[f"{scope}_discountable"] = nw.when(has_discount).then(
            millionths("total_price")
        )
    return sums


def _formulas(held: Sequence[str], terms: Terms) -> list[nw.Expr]:
    """Return every feature, in the order of its table."""
    counts = dict.fromkeys(
        [
            *(order_count(name) for name in terms.channels),
            *(order_count(scope) for scope in (OMNI, terms.home)),
        ]
    )
    columns = [nw.col(name).cast(nw.Int64) for name in counts]
    columns += [_channel_count(terms), _channels_ordered_from(terms)]
    for scope in (OMNI, terms.home):
        columns += [*_values(scope), *_times(scope, terms), *_moments(scope, terms)]
        columns += _categories(scope, held)
    return columns


def _channel_count(terms: Terms) -> nw.Expr:
    used = (count_of(nw.col(order_count(name)) > 0) for name in terms.channels)
    return nw.sum_horizontal(*used).cast(nw.Int64).alias("channel_count")


def _channels_ordered_from(terms: Terms) -> nw.Expr:
    names = [
        nw.when(nw.col(order_count(name)) > 0).then(nw.lit(name))
        for name in terms.channels
    ]
    label = nw.concat_str(*names, separator="+", ignore_nulls=True)
    return label.alias("channels_ordered_from")


def _mean(scope: str, name: str) -> nw.Expr:
    """Return the mean of what is known; null where nothing is."""
    n = nw.col(f"{scope}_{name}_n")
    total = nw.col(f"{scope}_{name}").cast(nw.Float64)
    return total / (nw.when(n > 0).then(n).cast(nw.Float64) * MILLIONTHS)


def _values(scope: str) -> list[nw.Expr]:
    """Return what orders came to, were reduced by and took to arrive."""
    discount = nw.col(f"{scope}_discount_amount").cast(nw.Float64)
    price = nw.col(f"{scope}_discountable").cast(nw.Float64)
    share = discount / nw.when(price > 0).then(price)
    named = {
        "average_order_value": _mean(scope, "total_price"),
        "average_discount": _mean(scope, "discount_amount"),
        "discount_share": nw.when(share > 0)
        .then(share)
        .otherwise(nw.when(~share.is_null()).then(nw.lit(0.0))),
        "average_delivery_minutes": _mean(scope, "delivery_minutes"),
    }
    return [value.alias(f"{scope}_{name}") for name, value in named.items()]


def _times(scope: str, terms: Terms) -> list[nw.Expr]:
    """Return first and last order, and the days between and since."""
    first, last = nw.col(f"{scope}_day_first"), nw.col(f"{scope}_day_last")
    n, tenure = nw.col(order_count(scope)), last - first + 1
    named = {
        "first_order": nw.col(f"{scope}_time_first"),
        "last_order": nw.col(f"{scope}_time_last"),
        "recency_days": (nw.lit(terms.days[1]) - last).cast(nw.Int64),
        "tenure_days": tenure.cast(nw.Int64),
        "average_days_between_orders": tenure / nw.when(n > 1).then(n - 1),
    }
    return [value.alias(f"{scope}_{name}") for name, value in named.items()]


def _moments(scope: str, terms: Terms) -> list[nw.Expr]:
    """Return counts by kind of day, daypart, price bucket, and sums of dayparts."""
    labels = [label for label, _ in terms.dayparts]
    prices = [label for label, *_ in terms.prices]
    names = counted_as(labels, prices)
    n_summed = 2 + len(labels) + len(prices)
    columns = [nw.col(order_count(scope, name)) for name in names[:n_summed]]
    for name, parts in zip(names[n_summed:], daypart_sums(labels), strict=True):
        each = (nw.col(order_count(scope, part)) for part in parts)
        columns.append(nw.sum_horizontal(*each).alias(order_count(scope, name)))
    return [column.cast(nw.Int64) for column in columns]


def _categories(scope: str, held: Sequence[str]) -> list[nw.Expr]:
    """Return how many categories a customer bought from, and how often from each."""
    counts = [twin(scope, f"{name}_count") for name in held]
    unique = {
        "unique_category_base_products_count": BASE,
        "unique_dri_category_count": DRIVER,
    }
    columns = [
        n_above_0([name for name in counts if prefix in name]).alias(twin(scope, name))
        for name, prefix in unique.items()
    ]
    return [column.cast(nw.Int64) for column in (*columns, *map(nw.col, counts))]
