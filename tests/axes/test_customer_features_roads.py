"""Whatever road orders and items take, a customer's features are the same."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from core.axes.assign import TEXTS
from core.axes.features.compute import customer_features, known_channels
from core.axes.features.single import features_of_customer

NOW = datetime(2024, 7, 1, 9, 30)
CHANNELS = ("web", "pos", "app")
ABSENT = ("items", "discount_amount", "source", "category", "refund_amount")
TOLERANCE = {"rel_tol": 1e-9, "abs_tol": 1e-9}

ORDERS = {
    "customer_id": pl.String,
    "order_id": pl.String,
    "order_date": pl.Datetime("us"),
    "total_price": pl.Float64,
    "discount_amount": pl.Float64,
    "source": pl.String,
}
ITEMS = {
    "customer_id": pl.String,
    "order_id": pl.String,
    "product_id": pl.String,
    "quantity": pl.Float64,
    "price": pl.Float64,
    "category": pl.String,
    "refund_amount": pl.Float64,
}


def shop(n_customers: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return orders and items of customers, some of whom bought once or nothing."""
    rng = np.random.default_rng(seed)
    n_orders = rng.geometric(0.15, n_customers)
    customer = np.repeat(np.arange(n_customers), n_orders)
    n = len(customer)
    seconds = rng.integers(0, 900 * 86_400, n)
    orders = pl.DataFrame(
        {
            "customer_id": [f"c{i}" for i in customer],
            "order_id": [f"o{i}" for i in range(n)],
            "order_date": [NOW - timedelta(seconds=int(s)) for s in seconds],
            "total_price": rng.lognormal(3, 1, n).round(2),
            "discount_amount": rng.choice([None, 0.0, 1.5, 4.0], n).tolist(),
            "source": rng.choice(["web", "pos", "app", "fax", None], n).tolist(),
        },
        schema=ORDERS,
    )
    at = rng.integers(0, n, 3 * n)
    refund = np.where(rng.random(3 * n) < 0.1, 2.5, 0.0)
    items = orders.select("customer_id", "order_id")[at].with_columns(
        product_id=pl.Series(rng.zipf(1.5, 3 * n) % 40).cast(pl.String),
        quantity=pl.Series(rng.choice([0.0, 0.5, 1.0, 2.0, 7.0], 3 * n)),
        price=pl.Series(rng.lognormal(1, 1, 3 * n).round(2)),
        category=pl.Series(
            rng.choice(["food", "home", "garden", None], 3 * n).tolist()
        ),
        refund_amount=pl.Series(refund),
    )
    return orders, items.cast(ITEMS)


SHOP = shop(300, seed=1)


def features_of(orders: Any, items: Any) -> pl.DataFrame:
    return customer_features(orders, items, reference_date=NOW, channels=CHANNELS)


@pytest.fixture(scope="module")
def expected() -> pl.DataFrame:
    return features_of(*SHOP)


def duckdb_relation(frame: pl.DataFrame) -> Any:
    import duckdb

    return duckdb.connect().from_arrow(frame.to_arrow())


@pytest.mark.parametrize(
    "as_input",
    [
        pytest.param(pl.DataFrame.lazy, id="polars-lazy"),
        pytest.param(duckdb_relation, id="duckdb"),
        pytest.param(pl.DataFrame.to_pandas, id="pandas"),
        pytest.param(
            lambda frame: frame.to_pandas(use_pyarrow_extension_array=True),
            id="pandas-arrow",
        ),
        pytest.param(pl.DataFrame.to_arrow, id="arrow"),
    ],
)
def test_every_library_gives_the_same_features(as_input, expected):
    orders, items = SHOP
    found = features_of(as_input(orders), as_input(items))
    assert_frame_equal(found, expected, **TOLERANCE)
    assert known_channels(as_input(orders)) == known_channels(orders)


def test_items_may_be_of_another_library_than_orders(expected):
    found = features_of(SHOP[0].lazy(), SHOP[1].to_pandas())
    assert_frame_equal(found, expected, **TOLERANCE)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_rows_changes_nothing(seed, expected):
    orders, items = (
        frame.sample(fraction=1, shuffle=True, seed=seed) for frame in SHOP
    )
    found = features_of(orders, items)
    assert_frame_equal(found, expected, rel_tol=1e-12, abs_tol=1e-12)


def cells(frame: pl.DataFrame, customer: str) -> dict[str, list[Any]]:
    """Return the columns of one customer's rows, as a request has them."""
    return frame.filter(customer_id=customer).to_dict(as_series=False)


def check_alone(orders: pl.DataFrame, items: pl.DataFrame, row: dict[str, Any]) -> None:
    """Hold the features of a customer's own rows against those among all: bit for bit.

    Polars adds the squares of a few prices in varying order, and that alone.
    """
    customer = row["customer_id"]
    alone = features_of_customer(
        cells(orders, customer),
        cells(items, customer),
        reference_date=NOW,
        channels=CHANNELS,
    )
    among_all = {name: v for name, v in row.items() if not isinstance(v, str)}
    among_all = {
        name: math.nan if value is None else value
        for name, value in among_all.items()
        if name not in TEXTS
    }
    price = "price_variance"
    assert alone.pop(price) == pytest.approx(
        among_all.pop(price), rel=1e-12, nan_ok=True
    )
    assert alone == pytest.approx(among_all, rel=0, abs=0, nan_ok=True)


def test_a_customer_alone_has_the_features_it_has_among_all(expected):
    orders, items = SHOP
    assert orders["customer_id"].n_unique() > items["customer_id"].n_unique()
    for row in expected.iter_rows(named=True):
        check_alone(orders, items, row)


def test_no_feature_is_nan_or_infinite(expected):
    numbers = expected.select(pl.col(pl.Float64))
    assert not any(numbers.select(pl.all().is_nan().any()).row(0))
    assert not any(numbers.select(pl.all().is_infinite().any()).row(0))


# Dates a few seconds or half days apart, so that many coincide and edges are met.
moments = st.one_of(
    st.integers(0, 5),
    st.integers(0, 60).map(lambda n: n * 43_200),
    st.integers(0, 30).map(lambda n: n * 2_630_016),
    st.integers(0, 40_000_000),
)
amounts = st.one_of(
    st.sampled_from([0.0, 0.1, 0.2, 0.3, 19.99, 1e9]),
    st.floats(0, 1e6, allow_nan=False).map(lambda x: round(x, 6)),
)
order_lists = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        moments,
        amounts,
        st.none() | amounts,
        st.sampled_from(["web", "pos", "app", "fax", "Ünïcode ☎", None]),
    ),
    min_size=1,
    max_size=25,
)
item_lists = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(0, 3).map(str),
        st.sampled_from(["bread", "soap", "lamp", "Käse 🧀"]),
        st.one_of(st.sampled_from([0.0, 1e-7, 1.0, 3.0, 1e9]), st.floats(0, 1e4)),
        amounts,
        st.sampled_from(["food", "home", None]),
        st.none() | amounts,
    ),
    max_size=25,
)


def drawn(orders: list[Any], items: list[Any]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return frames of drawn rows."""
    rows = [
        (customer, f"o{i}", NOW - timedelta(seconds=age), *rest)
        for i, (customer, age, *rest) in enumerate(orders)
    ]
    return (
        pl.DataFrame(rows, schema=ORDERS, orient="row"),
        pl.DataFrame(items, schema=ITEMS, orient="row"),
    )


@given(order_lists, item_lists)
def test_batch_and_single_customer_agree_whatever_was_bought(orders, items):
    batch = drawn(orders, items)
    # Beside a crowd, so that the batch is one.
    crowded = [
        pl.concat([mine, theirs]) for mine, theirs in zip(batch, SHOP, strict=True)
    ]
    among_all = features_of(*crowded).filter(pl.col("customer_id").is_in(["a", "b"]))
    for row in among_all.iter_rows(named=True):
        check_alone(*batch, row)


@given(order_lists, item_lists)
def test_shares_stay_in_their_range_and_null_is_where_it_is_said(orders, items):
    found = features_of(*drawn(orders, items))
    shares = [
        name
        for name in found.columns
        if name.endswith(("_rate", "_share", "_pct", "_dominance", "_index"))
        or name.startswith(("channel_", "product_", "category_"))
        if name not in ("refund_rate", "category_switching")
    ]
    assert len(shares) > 15
    for name in shares:
        values = found[name].drop_nulls()
        assert ((values >= -1e-9) & (values <= 1 + 1e-9)).all(), name
    floats = found.select(pl.col(pl.Float64)).fill_null(0)
    assert floats.select(pl.all().is_finite().all()).row(0) == (True,) * floats.width


@settings(max_examples=12, deadline=None)
@given(order_lists, item_lists)
def test_duckdb_agrees_whatever_was_bought(orders, items):
    frames = drawn(orders, items)
    found = features_of(*map(duckdb_relation, frames))
    assert_frame_equal(found, features_of(*frames), **TOLERANCE)


def test_least_data_give_the_same_features_on_every_road():
    orders = SHOP[0].drop("discount_amount", "source")
    options = {"reference_date": NOW, "absent": ABSENT}
    expected = customer_features(orders, None, **options)
    for native in (orders.lazy(), duckdb_relation(orders), orders.to_pandas()):
        found = customer_features(native, None, **options)
        assert_frame_equal(found, expected, **TOLERANCE)
