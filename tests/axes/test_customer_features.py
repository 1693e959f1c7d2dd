"""Features of customers, against numbers a reader can check by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import log, sqrt
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from core.axes.features.catalog import AXES, FEATURES, PROFILE, features_available
from core.axes.features.compute import customer_features, known_channels
from core.errors import ConfigError, SchemaError

# A Monday.
NOW = datetime(2024, 7, 1)
MONTH = timedelta(days=30.44)
OPTIONAL_ORDERS = ("discount_amount", "source")


def order_rows(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Return orders from customer, id, date, total, discount and channel."""
    schema = {
        "customer_id": pl.String,
        "order_id": pl.String,
        "order_date": pl.Datetime("us"),
        "total_price": pl.Float64,
        "discount_amount": pl.Float64,
        "source": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def item_rows(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Return items: customer, order, product, quantity, price, category, refund."""
    schema = {
        "customer_id": pl.String,
        "order_id": pl.String,
        "product_id": pl.String,
        "quantity": pl.Float64,
        "price": pl.Float64,
        "category": pl.String,
        "refund_amount": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


# Ada's gaps are 10, 20 and 30 days; Ben bought once, through no known channel.
ORDERS = order_rows(
    ("ada", "1", datetime(2024, 3, 2, 10), 10, 0, "web"),
    ("ada", "2", datetime(2024, 3, 12, 10), 20, 5, "web"),
    ("ada", "3", datetime(2024, 4, 1, 10), 30, None, "pos"),
    ("ada", "4", datetime(2024, 5, 1, 10), 60, 20, "email"),
    ("ben", "1", datetime(2024, 6, 30, 18), 8, 2, None),
)
ITEMS = item_rows(
    ("ada", "1", "bread", 2, 1, "food", 0),
    ("ada", "1", "soap", 1, 3, "home", 0),
    ("ada", "2", "bread", 3, 1, "food", 0),
    ("ada", "3", "bread", 1, 1, "food", None),
    ("ada", "3", "bread", 1, 1, "food", 0),
    ("ada", "4", "lamp", 2, 9, "home", 18),
    ("zoe", "9", "lamp", 1, 9, "home", 9),
)
CHANNELS = ("web", "pos")

TENURE = 120 + 14 / 24
ADA = {
    "orders_per_month": 4 / (TENURE / 30.44),
    "avg_days_between_orders": 20,
    "purchase_consistency": 1 / (1 + sqrt(200 / 3) / 20),
    "recent_orders_90d": 1,
    "days_since_last_purchase": 60 + 14 / 24,
    "total_orders": 4,
    "lifetime_value": 120,
    "avg_order_value": 30,
    "median_order_value": 25,
    "max_order_value": 60,
    "value_trend": (-1.5 * 10 - 0.5 * 20 + 0.5 * 30 + 1.5 * 60) / 5,
    "value_consistency": 1 / (1 + sqrt(350) / 30),
    "spend_consistency": 1 / (1 + sqrt(350) / 30),
    # 60 is twice the mean and not above it.
    "big_splurge_rate": 0,
    "discount_rate": 0.5,
    "avg_discount_amount": 12.5,
    "avg_discount_pct": (5 / 25 + 20 / 80) / 2,
    "full_price_ratio": 0.5,
    "discount_dependency": 0.5,
    "discount_hunt_score": (5 / 25 + 20 / 80) / 4,
    "full_price_comfort": 40 / 120,
    "weekend_vs_weekday_ratio": 1 / 3,
    "weekend_rate": 1 / 4,
    "business_hours_ratio": 1,
    "morning_share": 1,
    "afternoon_share": 0,
    "evening_share": 0,
    "tenure_months": TENURE / 30.44,
    "maturity_score": 0,
    "lifecycle_stage_rank": 1,
    "orders_per_tenure_month": 4 / (TENURE / 30.44),
    "acceleration": 0,
    # Whole months since the first order have 3, 1 and 0 orders.
    "order_frequency_trend": -1.5,
    "recency_momentum": -10,
    "acceleration_phase": 0,
    # One order in the last 90 days, three in the 90 before.
    "deceleration_phase": 1,
    "churn_risk_score": 1,
    "channel_share_web": 2 / 4,
    "channel_share_pos": 1 / 4,
    "channel_diversity": 1 - (4 + 1 + 1) / 16,
    "channel_switching_rate": 2 / 3,
    "unique_categories": 2,
    "category_diversity": (log(6) - (4 * log(4) + 2 * log(2)) / 6) / log(2),
    "primary_category_dominance": 7 / 10,
    "categories_mastered": 1,
    "category_switching": 2,
    "unique_products": 3,
    "product_diversity": 1 - (0.7**2 + 0.1**2 + 0.2**2),
    "exploration_breadth": 3 / 6,
    # Bread, in three orders; twice in one order is once.
    "repeat_product_rate": 1 / 3,
    "avg_repurchase_count": 3,
    "loyalty_index": 0.7,
    "purchase_variety": 0.3,
    "unique_products_vs_orders": 3 / 4,
    "product_concentration": 0.7**2 + 0.1**2 + 0.2**2,
    "exploration_vs_loyalty": 1 - (0.7**2 + 0.1**2 + 0.2**2),
    "avg_item_price": 16 / 6,
    "price_variance": sqrt((1 + 9 + 1 + 1 + 1 + 81) / 6 - (16 / 6) ** 2) / (16 / 6),
    "refund_rate": 18 / 120,
    "items_returned_pct": 1 / 6,
    "total_refunds": 18,
    "has_returns": 1,
    "customer_tenure_days": TENURE,
}
BEN = {
    "orders_per_month": 1,
    "avg_days_between_orders": 0.25,
    "purchase_consistency": 0,
    "recent_orders_90d": 1,
    "days_since_last_purchase": 0.25,
    "total_orders": 1,
    "lifetime_value": 8,
    "avg_order_value": 8,
    "median_order_value": 8,
    "max_order_value": 8,
    "value_trend": 0,
    "value_consistency": 1,
    "spend_consistency": 1,
    "big_splurge_rate": 0,
    "discount_rate": 1,
    "avg_discount_amount": 2,
    "avg_discount_pct": 0.2,
    "full_price_ratio": 0,
    "discount_dependency": 1,
    "discount_hunt_score": 0.2,
    "full_price_comfort": 0,
    "weekend_vs_weekday_ratio": 1,
    "weekend_rate": 1,
    "business_hours_ratio": 0,
    "morning_share": 0,
    "afternoon_share": 0,
    "evening_share": 1,
    "tenure_months": 0.25 / 30.44,
    "maturity_score": 0,
    "lifecycle_stage_rank": 0,
    "orders_per_tenure_month": 1,
    "acceleration": 0,
    "customer_tenure_days": 0.25,
}


@pytest.fixture(scope="module")
def features() -> pl.DataFrame:
    return customer_features(ORDERS, ITEMS, reference_date=NOW, channels=CHANNELS)


def of_orders(*rows: tuple[Any, ...], **options: Any) -> dict[str, Any]:
    """Return the features of one customer with orders of (date, total) only."""
    orders = order_rows(
        *(
            ("ada", f"{i:03d}", date, total, None, None)
            for i, (date, total) in enumerate(rows)
        )
    )
    options = {"reference_date": NOW, "absent": ("items", *OPTIONAL_ORDERS)} | options
    return customer_features(orders, None, **options).row(0, named=True)


def of_items(*rows: tuple[Any, ...]) -> dict[str, Any]:
    """Return the features of Ada's four orders with other items."""
    items = item_rows(*(("ada", *row) for row in rows))
    return customer_features(ORDERS, items, reference_date=NOW).row(0, named=True)


@pytest.mark.parametrize("name", ADA)
def test_a_regular_customers_features_are_those_worked_out_by_hand(features, name):
    assert features[name][0] == pytest.approx(ADA[name], rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("name", [*FEATURES, "channel_share_web", "channel_share_pos"])
def test_one_order_and_no_item_give_a_value_or_null_as_documented(features, name):
    if name == "channel_share":
        assert name not in features.columns
    elif name in BEN:
        assert features[name][1] == pytest.approx(BEN[name], rel=1e-9)
        assert FEATURES[name].null_means == "never"
    else:
        assert features[name][1] is None
        documented = "channel_share" if name.startswith("channel_share") else name
        assert FEATURES[documented].null_means != "never"


def test_every_feature_is_there_once_and_customers_are_sorted(features):
    assert features["customer_id"].to_list() == ["ada", "ben"]
    wanted = {name for name in FEATURES if name != "channel_share"}
    wanted |= {"channel_share_web", "channel_share_pos", *PROFILE}
    wanted |= {"preferred_time", "primary_channel", "lifecycle_stage", "customer_id"}
    assert set(features.columns) == wanted
    assert set(ADA) == wanted - {
        "customer_id",
        "preferred_time",
        "primary_channel",
        "lifecycle_stage",
    }
    numbers = features.select(pl.exclude(pl.String))
    assert set(numbers.dtypes) == {pl.Float64, pl.Int64}
    assert features["total_orders"].dtype == pl.Int64


def test_profiles_say_in_words_when_and_through_what_a_customer_buys(features):
    words = features.select("preferred_time", "primary_channel", "lifecycle_stage")
    assert words.rows() == [("morning", "web", "developing"), ("evening", None, "new")]


def test_equal_times_of_day_go_to_the_earlier_and_unknown_channels_are_other():
    orders = order_rows(
        ("ada", "1", datetime(2024, 6, 3, 12), 1, 0, "fax"),
        ("ada", "2", datetime(2024, 6, 4, 17), 1, 0, "phone"),
        ("ada", "3", datetime(2024, 6, 5, 16, 59), 1, 0, "web"),
        ("ada", "4", datetime(2024, 6, 6, 23), 1, 0, "pos"),
    )
    found = customer_features(
        orders, None, reference_date=NOW, absent=("items",), channels=CHANNELS
    ).row(0, named=True)
    assert found["preferred_time"] == "afternoon"
    assert found["primary_channel"] == "other"
    assert found["channel_diversity"] == pytest.approx(1 - (4 + 1 + 1) / 16)
    assert found["channel_switching_rate"] == 1


def test_business_hours_end_with_the_hour_of_17():
    hours = [(8, 59), (9, 0), (17, 59), (18, 0)]
    found = of_orders(*((datetime(2024, 6, 3, *hour), 1) for hour in hours))
    assert found["business_hours_ratio"] == 0.5


def test_windows_of_90_days_hold_their_first_moment():
    edge = NOW - timedelta(days=90)
    rows = [(edge, 1), (edge - timedelta(seconds=1), 1), (NOW - timedelta(180), 1)]
    found = of_orders(*rows)
    assert found["recent_orders_90d"] == 1
    assert (found["acceleration_phase"], found["deceleration_phase"]) == (0, 0)
    assert of_orders(*rows[::2], (NOW, 1))["acceleration_phase"] == 1


@pytest.mark.parametrize(
    ("months", "n_orders", "score", "stage"),
    [
        (2.99, 4, 0, "new"),
        (3, 5, 1, "developing"),
        (12, 10, 3, "settled"),
        (23.99, 19, 3, "settled"),
        (24, 20, 5, "veteran"),
    ],
)
def test_maturity_and_lifecycle_step_at_whole_months(months, n_orders, score, stage):
    first = NOW - timedelta(seconds=round(months * MONTH.total_seconds()))
    found = of_orders((first, 1), *[(NOW, 1)] * (n_orders - 1))
    assert (found["maturity_score"], found["lifecycle_stage"]) == (score, stage)


def test_acceleration_compares_with_all_time_from_six_months_on():
    first = NOW - 10 * MONTH
    found = of_orders((first, 1), (NOW, 1), (NOW, 1), (NOW, 1), (NOW, 1))
    assert found["acceleration"] == pytest.approx((4 / (90 / 30.44)) / (5 / 10))


def test_splurges_are_above_twice_the_mean_however_the_total_is_rounded():
    # In floating point twice the mean of these is 0.19999999999999998, below 0.2.
    found = of_orders((NOW, 0.01), (NOW, 0.09), (NOW, 0.2))
    assert found["big_splurge_rate"] == 0
    assert found["lifetime_value"] == 0.3
    above = of_orders((NOW, 0.01), (NOW, 0.09), (NOW, 0.200002))
    assert above["big_splurge_rate"] == pytest.approx(1 / 3)


def test_orders_of_one_moment_are_numbered_by_their_id():
    orders = order_rows(
        ("ada", "b", NOW, 20, None, "pos"),
        ("ada", "c", NOW, 30, None, "web"),
        ("ada", "a", NOW, 10, None, "web"),
    )
    found = customer_features(
        orders, None, reference_date=NOW, absent=("items",), channels=CHANNELS
    ).row(0, named=True)
    assert found["value_trend"] == pytest.approx(10)
    assert found["channel_switching_rate"] == 1
    assert found["purchase_consistency"] == 0
    assert found["churn_risk_score"] == 0
    assert found["recency_momentum"] == 0


def test_nothing_paid_is_no_division_by_zero():
    found = of_orders((NOW, 0), (NOW - timedelta(days=1), 0))
    assert found["value_consistency"] == 1
    assert found["big_splurge_rate"] == 0
    free = order_rows(("ada", "1", NOW, 0, 5, None))
    lines = item_rows(("ada", "1", "bread", 1, 0, "food", 2))
    gift = customer_features(free, lines, reference_date=NOW).row(0, named=True)
    assert gift["avg_discount_pct"] == 1
    assert gift["full_price_comfort"] == 0
    assert (gift["refund_rate"], gift["price_variance"]) == (1, 0)


def test_the_top_fifth_of_ten_products_is_two():
    found = of_items(*(("1", f"p{i}", 10 - i, 1, "food", 0) for i in range(10)))
    assert found["loyalty_index"] == pytest.approx((10 + 9) / 55)
    assert found["category_diversity"] == 0


def test_a_refund_line_without_quantity_counts_as_returned_only():
    found = of_items(
        ("1", "bread", 2, 1, "food", 0),
        ("2", "soap", 1, 3, "home", 0),
        ("2", "soap", 0, 3, "home", 3),
    )
    assert found["items_returned_pct"] == 1 / 2
    assert found["unique_products"] == 2
    assert found["exploration_breadth"] == 1
    assert found["avg_item_price"] == 2
    only_returned = of_items(("1", "bread", 0, 1, "food", 1))
    assert only_returned["items_returned_pct"] == 1
    assert only_returned["has_returns"] == 1
    assert only_returned["unique_products"] is None
    assert only_returned["unique_categories"] is None
    empty = of_items(("1", "bread", 0, 1, "food", 0))
    assert (empty["items_returned_pct"], empty["total_refunds"]) == (0, 0)


def test_lines_without_a_category_are_left_out_of_the_categories():
    found = of_items(("1", "bread", 1, 1, "food", 0), ("1", "x", 9, 1, None, 0))
    assert found["unique_categories"] == 1
    assert found["primary_category_dominance"] == 1
    assert found["unique_products"] == 2


def test_channels_are_known_from_a_hundredth_of_the_orders_on():
    counts = {"web": 150, "pos": 45, "fax": 3, "app": 2, "telex": 1}
    sources = [name for name, n in counts.items() for _ in range(n)] + [None] * 400
    orders = pl.DataFrame({"source": sources})
    # A hundredth of the 201 orders with a channel is 2.01.
    assert known_channels(orders) == ("web", "pos", "fax")
    assert known_channels(ORDERS.drop("source")) == ()
    many = pl.DataFrame({"source": [f"c{i}" for i in range(20)]})
    assert known_channels(many) == tuple(sorted(f"c{i}" for i in range(20))[:8])


def test_dates_alone_have_no_time_of_day():
    days = ORDERS.with_columns(pl.col("order_date").dt.truncate("1d"))
    available = features_available(("order_time",), CHANNELS)["purchase_cadence"]
    assert available.used == ("weekend_vs_weekday_ratio", "weekend_rate")
    assert available.skipped["morning_share"] == (
        "the orders have dates without a time of day"
    )
    found = customer_features(
        days, None, reference_date=NOW, absent=("order_time", "items")
    )
    assert "morning_share" not in found.columns
    assert found["preferred_time"].to_list() == [None, None]


def test_full_data_allow_every_feature_of_the_13_axes():
    available = features_available((), CHANNELS)
    assert list(available) == [axis.name for axis in AXES]
    assert len(available) == 13
    assert [axis.group for axis in AXES].count("marketing") == 8
    assert not any(axis.skipped for axis in available.values())
    assert available["communication_preference"].used[:2] == (
        "channel_share_web",
        "channel_share_pos",
    )


@pytest.mark.parametrize(
    ("absent", "skipped_axes"),
    [
        (("discount_amount",), {"price_sensitivity"}),
        (("source",), {"communication_preference"}),
        (("refund_amount",), {"return_behavior"}),
        (("category",), set()),
        (
            ("items",),
            {
                "category_exploration",
                "repurchase_behavior",
                "return_behavior",
                "problem_complexity_profile",
                "product_knowledge",
            },
        ),
    ],
)
def test_what_data_lack_is_skipped_by_name_and_with_the_reason(absent, skipped_axes):
    available = features_available(absent, CHANNELS)
    assert {name for name, axis in available.items() if not axis.used} == skipped_axes
    for axis in AXES:
        found = available[axis.name]
        assert all(found.skipped.values())
        assert bool(found.used) != (set(found.skipped) == set(axis.features))
    lacking = {name for axis in available.values() for name in axis.skipped}
    orders = ORDERS.drop([c for c in OPTIONAL_ORDERS if c in absent])
    items = None if "items" in absent else ITEMS.drop(set(absent) & set(ITEMS.columns))
    features = customer_features(
        orders, items, reference_date=NOW, absent=absent, channels=CHANNELS
    )
    used = {name for axis in available.values() for name in axis.used}
    assert used <= set(features.columns)
    # Skipped for its axis, a feature may still be used on another.
    assert {"weekend_vs_weekday_ratio", "discount_dependency"} >= lacking & set(
        features.columns
    )


def test_one_channel_says_nothing_of_preferences():
    found = features_available((), ("web",))["communication_preference"]
    assert found.used == ()
    assert "fewer than two channels" in found.skipped["channel_diversity"]


def test_an_unknown_absence_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean `discount_amount`"):
        features_available(("discount_amunt",), ())


def test_a_missing_column_is_refused_by_name():
    with pytest.raises(SchemaError, match="the orders have no `source`"):
        customer_features(ORDERS.drop("source"), ITEMS, reference_date=NOW)
    with pytest.raises(SchemaError, match="the items have no `price`"):
        customer_features(ORDERS, ITEMS.drop("price"), reference_date=NOW)


def test_no_orders_are_no_customers():
    empty = customer_features(
        ORDERS.clear(), ITEMS, reference_date=NOW, channels=CHANNELS
    )
    full = customer_features(ORDERS, ITEMS, reference_date=NOW, channels=CHANNELS)
    assert_frame_equal(empty, full.clear())
