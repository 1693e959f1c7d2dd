"""Features of orders and customers: by hand, on two engines, and whatever the order."""

from __future__ import annotations

import random
import re
from datetime import datetime
from pathlib import Path

import duckdb
import narwhals as nw
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from small_chain import (
    chain,
    frame,
    item,
    of_customers,
    of_orders,
    one_channel,
    order,
)

from core.channels.features.catalog import customer_catalog, order_catalog
from core.channels.features.customers import (
    customer_features,
    customer_table,
    customers_elsewhere,
)
from core.channels.features.orders import order_features, order_table
from core.channels.intake import read_channels
from core.channels.sample import with_sample
from core.docs import channels_page
from core.errors import SchemaError
from core.resolve import build_config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "channels-features.md"
ONE_ITEM = [item("o1", "burger")]


@pytest.fixture(scope="module")
def sample_orders(sample):
    return order_features(sample)


@pytest.fixture(scope="module")
def sample_customers(sample, sample_orders):
    features = customer_features(sample_orders, sample.terms)
    return features.sort("customer_id").collect()


def test_features_of_an_order_by_hand(tmp_path):
    items = [
        item("o1", "burger", 2.0, is_customised=True),
        item("o1", "fries", 1.0, is_customised=False),
        item("o1", "fries", 1.5, is_customised=False),
        item("o2", "wrap", 1.0, is_customised=False),
        item("o2", "cola", 1.0, is_customised=False),
    ]
    # A Saturday noon, and a Monday.
    orders = [
        order("o1", "2025-06-07 12:15", total=150.0, discount_amount=5.0),
        order("o2", "2025-06-09 04:59", total=499.99, discount_amount=None),
        order("o3", "2025-06-09 23:00", total=0.0, discount_amount=0.0),
    ]
    found = of_orders(one_channel(tmp_path, orders, items))
    assert found.select(
        "item_count", "veg_count", "all_veg", "is_customised", "discount_amount"
    ).rows() == [(4.5, 2.5, 0, 1, 5.0), (2.0, 2.0, 1, 0, 0.0), (0.0, 0.0, 0, 0, 0.0)]
    assert found["is_weekend"].to_list() == [1, 0, 0]
    assert found["daypart"].to_list() == ["Lunch", "Late_Night", "Late_Night"]
    flags = found.select("^.*_price_flag$")
    assert flags.columns == [
        f"{label}_price_flag" for label in ("Value", "Regular", "Plus", "Premium")
    ]
    assert flags.rows() == [(0, 1, 0, 0), (0, 0, 1, 0), (1, 0, 0, 0)]
    assert found["categ_dri_sides"].to_list() == [2, 0, 0]
    assert found["categ_base_product_veg_wrap"].to_list() == [0, 1, 0]
    assert found.select("driver_categories", "base_categories").rows() == [
        (2, 2),
        (2, 2),
        (0, 0),
    ]
    assert found["has_query"].null_count() == found["promo_amount"].null_count() == 3


@pytest.mark.parametrize(
    ("hour", "part"),
    [
        ("00:00", "Late_Night"),
        ("04:59", "Late_Night"),
        ("05:00", "Breakfast"),
        ("10:59", "Breakfast"),
        ("11:00", "Lunch"),
        ("16:00", "Evening"),
        ("19:00", "Dinner"),
        ("22:59", "Dinner"),
        ("23:00", "Late_Night"),
    ],
)
def test_dayparts_begin_at_their_hour_and_the_last_goes_on_past_midnight(
    tmp_path, hour, part
):
    data = one_channel(tmp_path, [order("o1", f"2025-06-01 {hour}")], ONE_ITEM)
    assert of_orders(data)["daypart"].to_list() == [part]


def test_a_total_below_the_first_bound_is_in_no_price_bucket(tmp_path):
    prices = {"price_bins": [50, 100], "price_labels": ["low", "high"]}
    orders = [
        order(f"o{i}", "2025-06-01", total=total)
        for i, total in enumerate([49.99, 50.0, 99.99, 100.0, 1e8])
    ]
    data = one_channel(tmp_path, orders, ONE_ITEM, **prices)
    assert any("1 order below 50" in note for note in data.account["notes"])
    flags = of_orders(data)
    assert flags.select("low_price_flag", "high_price_flag").rows() == [
        (0, 0),
        (1, 0),
        (1, 0),
        (0, 1),
        (0, 1),
    ]


def test_what_the_data_do_not_tell_is_null(tmp_path):
    data = one_channel(tmp_path, [order("o1", "2025-06-01")], ONE_ITEM, catalog=None)
    unknown = [
        *("veg_count", "all_veg", "is_customised", "has_query", "promo_amount"),
        *("driver_categories", "base_categories", "delivery_minutes", "store_id"),
    ]
    [row] = of_orders(data).iter_rows(named=True)
    assert {name for name, value in row.items() if value is None} == {
        *unknown,
        "discount_amount",
    }
    [row] = of_customers(data).iter_rows(named=True)
    assert {name for name, value in row.items() if value is None} == {
        f"{scope}_{name}"
        for scope in ("omnichannel", "app")
        for name in (
            *("average_discount", "discount_share", "average_delivery_minutes"),
            "average_days_between_orders",
        )
    } | {
        f"{twin}{name}"
        for twin in ("", "app_")
        for name in ("unique_category_base_products_count", "unique_dri_category_count")
    }


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory):
    """Anna orders through both channels, Ben in the app alone, Carl at the till."""
    app = {
        "orders": [
            order("o1", "2025-06-07 12:00", "anna", 100.0, discount_amount=10.0),
            order("o2", "2025-06-16 20:00", "anna", 300.0, discount_amount=-2.0),
            order("o3", "2025-06-30 23:30", "ben", 0.0, discount_amount=0.0),
            order("o4", "2024-06-30 23:30", "ben", 80.0, discount_amount=0.0),
            order("o5", "2024-06-30 12:00", "dora", 80.0, discount_amount=0.0),
        ],
        "items": [
            *(item("o1", name) for name in ("burger", "burger", "fries")),
            *(item("o2", name) for name in ("wrap", "cola")),
            item("o3", "meal"),
        ],
    }
    till = {
        "orders": [
            order("t1", "2025-06-03 08:00", "anna", 50.0, delivery_minutes=30.0),
            order("t2", "2025-06-03 08:00", "carl", 50.0, delivery_minutes=None),
        ],
        "items": [item("t1", "cola"), item("t2", "cola")],
    }
    return chain(tmp_path_factory.mktemp("two"), {"app": app, "till": till})


def test_features_of_a_customer_by_hand(two_channels):
    features = of_customers(two_channels)
    # Carl was never in the app, and Dora not within the last 12 months.
    assert features["customer_id"].to_list() == ["anna", "ben"]
    anna = features.row(0, named=True)
    expected = {
        "app_order_count": 2,
        "till_order_count": 1,
        "omnichannel_order_count": 3,
        "channel_count": 2,
        "channels_ordered_from": "app+till",
        "omnichannel_average_order_value": 150.0,
        "app_average_order_value": 200.0,
        # The till knows of no discounts.
        "omnichannel_average_discount": 4.0,
        "omnichannel_discount_share": 0.02,
        "omnichannel_average_delivery_minutes": 30.0,
        "app_average_delivery_minutes": None,
        "omnichannel_first_order": datetime(2025, 6, 3, 8),
        "app_first_order": datetime(2025, 6, 7, 12),
        "omnichannel_last_order": datetime(2025, 6, 16, 20),
        "omnichannel_recency_days": 15,
        "omnichannel_tenure_days": 14,
        "app_tenure_days": 10,
        "omnichannel_average_days_between_orders": 7.0,
        "app_average_days_between_orders": 10.0,
        "omnichannel_Weekend_order_count": 1,
        "omnichannel_Weekday_order_count": 2,
        "app_Weekday_order_count": 1,
        "omnichannel_Breakfast_order_count": 1,
        "app_Breakfast_order_count": 0,
        "omnichannel_Breakfast_Lunch_order_count": 2,
        "app_Breakfast_Lunch_Dinner_order_count": 2,
        "omnichannel_Breakfast_Lunch_Evening_Dinner_Late_Night_order_count": 3,
        "omnichannel_Value_price_order_count": 2,
        "omnichannel_Plus_price_order_count": 1,
        "unique_category_base_products_count": 4,
        "unique_dri_category_count": 3,
        "app_unique_category_base_products_count": 4,
        "categ_base_product_burger_count": 1,
        "categ_base_product_cola_count": 2,
        "app_categ_base_product_cola_count": 1,
        "categ_dri_mains_count": 2,
    }
    assert {name: anna[name] for name in expected} == expected


def test_customers_of_other_channels_alone_are_known_by_id(two_channels):
    elsewhere = customers_elsewhere(order_features(two_channels), two_channels.terms)
    assert elsewhere.collect()["customer_id"].to_list() == ["carl"]


def test_one_order_has_no_days_between_and_nothing_paid_no_share(two_channels):
    ben = of_customers(two_channels).row(1, named=True)
    assert ben["omnichannel_order_count"] == 1
    assert ben["omnichannel_tenure_days"] == ben["omnichannel_recency_days"] == 1
    assert ben["omnichannel_average_days_between_orders"] is None
    assert ben["omnichannel_discount_share"] is None
    assert ben["omnichannel_average_discount"] == 0.0
    assert ben["channels_ordered_from"] == "app"


def test_a_discount_share_is_at_least_0(tmp_path):
    orders = [order("o1", "2025-06-01", discount_amount=-4.0)]
    features = of_customers(one_channel(tmp_path, orders, ONE_ITEM))
    assert features["app_discount_share"].to_list() == [0.0]
    assert features["app_average_discount"].to_list() == [-4.0]


def test_features_of_a_channel_that_is_missing_are_refused(two_channels):
    with pytest.raises(SchemaError, match="no order features of the channel `till`"):
        customer_features(
            {"app": order_features(two_channels)["app"]}, two_channels.terms
        )


def test_duckdb_gives_the_same_features(sample, sample_orders, sample_customers):
    # Tables of one connection only can be joined.
    engine = duckdb.connect()

    def opened(path: Path) -> nw.LazyFrame:
        return nw.from_native(engine.read_parquet(str(path))).lazy()

    for channel in ("aggregator", "instore"):
        paths = sample.paths[channel]
        tables = opened(paths["orders"]), opened(paths["items"])
        rows = order_table(*tables, sample.categories, sample.terms)
        found = rows.collect("polars").to_native().sort("order_id")
        _assert_equal(found, sample_orders[channel].sort("order_id").collect())
    folder = sample.rejected.parent
    rows = {
        channel: opened(folder / f"order_features_{channel}.parquet")
        for channel in sample.terms.channels
    }
    found = customer_table(rows, sample.terms).collect("polars").to_native()
    _assert_equal(found.sort("customer_id"), sample_customers)


def _assert_equal(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Compare counts exactly, and what was divided within 1e-9."""
    assert found.columns == expected.columns
    floats = [name for name, dtype in expected.schema.items() if dtype.is_float()]
    assert_frame_equal(
        found.drop(floats), expected.drop(floats), check_dtypes=False, check_exact=True
    )
    assert_frame_equal(found.select(floats), expected.select(floats), rel_tol=1e-9)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The rows of a few guests of the sample, and their features."""
    work = tmp_path_factory.mktemp("small")
    config = build_config({"channels": {"sample_customers": 12}})
    config = with_sample(config, work)
    tables = {
        (name, table): pl.read_parquet(getattr(source, table))
        for name, source in config.channels.sources.items()
        for table in ("orders", "items", "customers")
    }
    data = read_channels(config, work)
    return config, tables, of_customers(data)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32), n_files=st.integers(1, 3))
def test_neither_order_of_rows_nor_split_into_files_changes_a_bit(
    small, tmp_path_factory, seed, n_files
):
    config, tables, expected = small
    folder = tmp_path_factory.mktemp("shuffled")
    draw = random.Random(seed)
    sources = {
        name: source.model_dump() for name, source in config.channels.sources.items()
    }
    for (name, table), rows in tables.items():
        shuffled = rows.sample(fraction=1.0, shuffle=True, seed=draw.randrange(2**32))
        place = folder / f"{name}_{table}"
        place.mkdir()
        for part in range(n_files):
            each = shuffled.gather_every(n_files, part)
            each.write_parquet(place / f"{part}.parquet")
        sources[name][table] = str(place)
    tree = config.model_dump()
    tree["channels"]["sources"] = sources
    data = read_channels(build_config(tree), folder / "work")
    assert_frame_equal(of_customers(data), expected, check_exact=True)


def test_features_of_one_customer_equal_those_in_a_batch(
    sample, sample_orders, sample_customers
):
    for customer_id in sample_customers["customer_id"].head(5):
        alone = {
            channel: rows.filter(customer_id=customer_id)
            for channel, rows in sample_orders.items()
        }
        found = customer_features(alone, sample.terms).collect()
        expected = sample_customers.filter(customer_id=customer_id)
        assert_frame_equal(found, expected, check_exact=True)


def test_parts_of_the_orders_give_the_features_of_all(
    sample, sample_orders, monkeypatch
):
    expected = {name: rows.collect() for name, rows in sample_orders.items()}
    monkeypatch.setattr("core.channels.features.orders.PART_ORDERS", 100)
    for channel, rows in order_features(sample).items():
        found = rows.sort("order_id").collect()
        assert_frame_equal(found, expected[channel].sort("order_id"), check_exact=True)


def test_a_single_channel_has_its_own_twins(tmp_path):
    orders = [order("o1", "2025-06-01"), order("o2", "2025-06-02")]
    features = of_customers(one_channel(tmp_path, orders, ONE_ITEM))
    assert features.columns.count("app_order_count") == 1
    for name in features.columns:
        if name.startswith("omnichannel_"):
            twin = "app_" + name.removeprefix("omnichannel_")
            assert_frame_equal(
                features.select(name), features.select(pl.col(twin).alias(name))
            )


def test_the_page_is_the_one_the_code_prints():
    """Renew with `Path.write_text` of `core.docs.channels_page()`."""
    assert PAGE.read_text(encoding="utf-8") == channels_page()


def _pattern(name: str, terms) -> str:
    """Return what a documented name stands for, as a regular expression."""
    labels = "|".join(label for label, _ in terms.dayparts)
    each = {
        "CATEGORY": r"\w+?",
        "DETAIL": r"\w+",
        "CHANNEL": "|".join(terms.channels),
        "PRICE": "|".join(label for label, *_ in terms.prices),
        "DAYPARTS": rf"(?:{labels})(?:_(?:{labels})){{1,4}}",
        "DAYPART": labels,
        "SCOPE": f"omnichannel|{terms.home}",
        "TWIN_": f"|{terms.home}_",
    }
    found = "|".join(sorted(each, key=len, reverse=True))
    return re.sub(found, lambda word: f"(?:{each[word.group()]})", name)


def test_every_column_is_documented_in_the_order_of_the_orders(sample, sample_orders):
    columns = sample_orders["ownapp"].collect_schema().names()
    places = []
    for column in columns:
        matches = [
            place
            for place, feature in enumerate(order_catalog())
            if re.fullmatch(_pattern(feature.name, sample.terms), column)
        ]
        exact = [p for p in matches if order_catalog()[p].name == column]
        places.append((exact or matches)[0])
    assert places == sorted(places)
    assert set(places) == set(range(len(order_catalog())))


def test_every_column_of_a_customer_is_documented_and_none_beside(
    sample, sample_customers
):
    used = set()
    for column in sample_customers.columns:
        matches = {
            feature.name
            for feature in customer_catalog()
            if re.fullmatch(_pattern(feature.name, sample.terms), column)
        }
        assert matches, column
        used |= matches
    assert used == {feature.name for feature in customer_catalog()}


def test_columns_of_categories_do_not_depend_on_what_was_ordered(tmp_path):
    orders = frame([order("o1", "2025-06-01")])
    burgers = of_customers(one_channel(tmp_path / "a", orders, ONE_ITEM))
    colas = of_customers(one_channel(tmp_path / "b", orders, [item("o1", "cola")]))
    assert burgers.columns == colas.columns
    assert "categ_base_product_meal_count" in burgers.columns
    assert not any("exclude" in name or "bags" in name for name in burgers.columns)
