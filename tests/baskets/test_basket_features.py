"""Features of baskets: by hand, beside pandas, and whatever the order of the rows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from baskets_reference import features_in_pandas
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from core.baskets.features import (
    BEHAVIOUR,
    FEATURES,
    SCORES,
    aisle_columns,
    customer_features,
)
from core.docs import baskets_page
from core.rules.grammar import read_rules

PAGE = Path(__file__).resolve().parents[2] / "docs" / "baskets-features.md"
AISLES = pl.DataFrame({"aisle_id": [7, 2, 5], "aisle": ["milk", "fruit", "wine"]})
# Products 8 and 9: of an aisle that is not listed, and of none. 10 is not listed.
PRODUCTS = pl.DataFrame(
    {
        "product_id": [1, 2, 3, 4, 5, 6, 7, 8, 9],
        "aisle_id": [7, 7, 7, 2, 2, 2, 5, 99, None],
    }
)
ORDER = {
    "order_id": pl.Int64,
    "customer_id": pl.Int64,
    "order_hour_of_day": pl.Float64,
    "days_since_prior_order": pl.Float64,
}
ITEM = {"order_id": pl.Int64, "product_id": pl.Int64, "reordered": pl.Int8}


def features(orders, items, products=PRODUCTS, aisles=AISLES):
    """Return the features of rows (see `ORDER` and `ITEM`)."""
    made = (frame.lazy() for frame in frames(orders, items))
    return customer_features(*made, products, aisles)


def frames(orders, items):
    """Return rows as frames; orders are numbered by their id."""
    made = pl.DataFrame(orders, schema=ORDER, orient="row")
    number = pl.col("order_id").rank("ordinal").over("customer_id")
    return (
        made.with_columns(order_number=number),
        pl.DataFrame(items, schema=ITEM, orient="row"),
    )


def random_rows(seed, customers=60):
    """Return orders and items: single orders, no items, unknown hours and gaps."""
    rng = np.random.default_rng(seed)
    orders, items = [], []
    for customer in range(customers):
        seen = set()
        for place in range(rng.integers(1, 9)):
            order = len(orders) * 3 + 5
            hour = None if rng.random() < 0.1 else rng.integers(0, 96) / 4
            gap = None if place == 0 else float(rng.integers(0, 31))
            orders.append((order, customer, hour, gap))
            for product in rng.permutation(10)[: rng.integers(0, 7)] + 1:
                items.append((order, int(product), int(product in seen)))
                seen.add(product)
    return orders, items


def test_features_of_a_customer_by_hand():
    orders = [(1, 9, 23.0, None), (2, 9, 1.0, 6.0), (3, 9, 0.0, 8.0)]
    items = [
        (1, 1, 0),
        (1, 4, 0),
        (2, 1, 1),
        (2, 2, 0),
        (2, 5, 0),
        (2, 9, 0),
        (3, 1, 1),
    ]
    (found,) = features(orders, items).rows(named=True)
    hour = 2 * math.pi / 24
    length = (1 + 2 * math.cos(hour)) / 3
    assert found == pytest.approx(
        {
            "customer_id": 9,
            "aisle_7_milk": 4 / 6,
            "aisle_2_fruit": 2 / 6,
            "aisle_5_wine": 0,
            "aisle_entropy": math.log(3) - 2 / 3 * math.log(2),
            "reorder_ratio": 2 / 7,
            "reorder_consistency": np.std([0, 0.25, 1], ddof=1),
            "pct_reordered_products": 1 / 5,
            "mean_days_between_orders": 7,
            "cv_days_between_orders": math.sqrt(2) / 7,
            "mean_order_hour": 0,
            "std_order_hour": math.sqrt(-2 * math.log(length)) / hour,
            "avg_basket_size": 7 / 3,
            "std_basket_size": np.std([2, 4, 1], ddof=1),
            "min_basket_size": 1,
            "max_basket_size": 4,
            "basket_size_cv": np.std([2, 4, 1], ddof=1) / (7 / 3),
            "unique_products": 5,
            "unique_aisles": 2,
            "freq_score": 1 / 8,
            "loyalty_score": 2 / 7,
        },
        abs=1e-12,
    )


def test_features_equal_those_of_pandas():
    rows = random_rows(1)
    tables = (*frames(*rows), PRODUCTS, AISLES)
    expected = features_in_pandas(*(table.to_pandas() for table in tables))
    found = features(*rows)
    assert set(found.columns) == set(expected.columns)
    for name in found.columns:
        np.testing.assert_allclose(
            found[name].cast(pl.Float64).fill_null(np.nan).to_numpy(),
            expected[name],
            rtol=1e-9,
            atol=1e-9,
            err_msg=name,
        )


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_rows_in_another_order_change_no_bit(seed):
    orders, items = random_rows(seed, customers=8)
    rng = np.random.default_rng(seed)
    mixed = [[rows[i] for i in rng.permutation(len(rows))] for rows in (orders, items)]
    found = features(orders, items)
    assert_frame_equal(features(*mixed), found, check_exact=True)
    alone = [row for row in orders if row[1] == 3]
    assert_frame_equal(
        features(alone, items), found.filter(customer_id=3), check_exact=True
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_shares_sum_to_one_and_lie_in_their_bounds(seed):
    found = features(*random_rows(seed, customers=8))
    total = found.select(pl.sum_horizontal(aisle_columns(AISLES), ignore_nulls=False))
    known = total.to_series().drop_nulls()
    assert ((known - 1).abs() < 1e-12).all()
    assert total.to_series().null_count() == (found["unique_aisles"] == 0).sum()
    for name in (*aisle_columns(AISLES), "reorder_ratio", "pct_reordered_products"):
        assert found[name].drop_nulls().is_between(0, 1).all()
    assert (found["aisle_entropy"].drop_nulls() <= math.log(AISLES.height)).all()
    hours = found["mean_order_hour"].drop_nulls()
    assert hours.is_between(0, 24, closed="left").all()


@given(
    hours=st.lists(st.integers(0, 95).map(lambda k: k / 4), min_size=2, max_size=9),
    turn=st.integers(1, 95).map(lambda k: k / 4),
)
def test_hours_turned_round_the_clock_turn_their_mean_and_keep_their_spread(
    hours, turn
):
    orders = [(k, 1, hour, None) for k, hour in enumerate(hours)]
    orders += [(k + 99, 2, (hour + turn) % 24, None) for k, hour in enumerate(hours)]
    found = features(orders, [])
    first, second = found["mean_order_hour"]
    if first is None or second is None:
        assert first is second
        assert found["std_order_hour"].null_count() == 2
        return
    away = (second - first - turn + 12) % 24 - 12
    assert away == pytest.approx(0, abs=1e-6)
    assert found["std_order_hour"][1] == pytest.approx(found["std_order_hour"][0])


def test_equal_hours_have_no_spread_and_opposite_ones_no_mean():
    equal = [(k, 1, 10.7, None) for k in range(7)]
    opposite = [(10, 2, 6.0, None), (11, 2, 18.0, None)]
    found = features(equal + opposite, [])
    assert found["mean_order_hour"].to_list() == [pytest.approx(10.7), None]
    assert found["std_order_hour"].to_list() == [pytest.approx(0, abs=1e-12), None]


def test_one_order_has_no_gap_and_no_spread():
    found = features([(1, 1, 8.0, None)], [(1, 1, 0), (1, 10, 0)])
    nulls = {name for name in found.columns if found[name][0] is None}
    assert nulls == {
        "reorder_consistency",
        "mean_days_between_orders",
        "cv_days_between_orders",
        "std_order_hour",
        "std_basket_size",
        "basket_size_cv",
        "freq_score",
    }
    assert found["aisle_7_milk"][0] == 1


def test_a_customer_without_items_has_counts_of_zero_and_no_shares():
    orders = [(1, 1, 8.0, None), (2, 1, 8.0, 0.0), (3, 1, 8.0, 0.0)]
    (found,) = features(orders, [(99, 1, 0)]).rows(named=True)
    known = {name: value for name, value in found.items() if value is not None}
    assert known == {
        "customer_id": 1,
        "mean_days_between_orders": 0,
        "mean_order_hour": pytest.approx(8),
        "std_order_hour": pytest.approx(0, abs=1e-12),
        "avg_basket_size": 0,
        "unique_products": 0,
        "unique_aisles": 0,
        "freq_score": 1,
    }


@pytest.mark.parametrize(
    ("products", "aisles"),
    [
        (pl.DataFrame(schema={"product_id": pl.Int64}), AISLES.clear()),
        (PRODUCTS.drop("aisle_id"), AISLES.clear()),
    ],
)
def test_without_aisles_there_are_no_columns_of_them(products, aisles):
    orders, items = random_rows(2, customers=5)
    found = features(orders, items, products, aisles)
    scores = [score.name for score in SCORES]
    assert found.columns == ["customer_id", *BEHAVIOUR, *scores]
    assert found["aisle_entropy"].null_count() == found.height
    assert found["unique_aisles"].null_count() == found.height
    assert found["unique_products"].sum() > 0


def test_ids_may_be_text():
    rows = random_rows(3, customers=5)
    as_text = pl.col("^.*_id$").cast(pl.String)
    made = [t.with_columns(as_text) for t in (*frames(*rows), PRODUCTS, AISLES)]
    found = customer_features(made[0].lazy(), made[1].lazy(), *made[2:])
    expected = features(*rows).with_columns(pl.col("customer_id").cast(pl.String))
    assert_frame_equal(found, expected, check_exact=True)


def test_nobody_has_no_features():
    found = features([], [])
    assert found.height == 0
    assert found.columns == features(*random_rows(1, 2)).columns


def test_columns_of_aisles_are_distinct_and_plain():
    aisles = pl.DataFrame(
        {
            "aisle_id": ["1", "2", "3", "4", "a/b", "a b", "entropy"],
            "aisle": ["tea", "Tea ", 'x\n"y"; z_w', None, "ö & é", "ö é", ""],
        }
    )
    assert aisle_columns(aisles) == [
        "aisle_1_tea",
        "aisle_2_Tea",
        "aisle_3_x y z w",
        "aisle_4",
        "aisle_a b_ö é",
        "aisle_a b_ö é 2",
        "aisle_entropy 2",
    ]


def test_rules_find_the_scores_that_they_ask_for():
    asked = {feature.name for feature in read_rules("basket-quadrants").features}
    assert asked == {score.name for score in SCORES}


@pytest.mark.shared_data
def test_published_names_of_features_are_ours(shared_data):
    path = shared_data / "instacart_published" / "feature_names.csv"
    # `aisle_entropy` is listed twice there.
    names = list(dict.fromkeys(pl.read_csv(path)["feature_name"]))
    aisles = [name.split("_", 2)[1:] for name in names if name[6:7].isdigit()]
    table = pl.DataFrame(aisles, schema=["aisle_id", "aisle"], orient="row")
    assert aisle_columns(table) + list(BEHAVIOUR) == names
    assert table.height + len(FEATURES) == 149


def test_the_page_of_features_is_printed_from_the_code():
    """Renew with `Path.write_text` of `core.docs.baskets_page()`."""
    assert PAGE.read_text(encoding="utf-8") == baskets_page()
