"""The built-in sample: what is planted is there, and nothing else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.axes.sample import CHANNELS, TRAITS, generate_shoppers
from core.config import Config
from core.errors import ConfigError
from core.tables.orders import read_purchases

N = 3000


@pytest.fixture(scope="module")
def made():
    return generate_shoppers(N, 7)


def by_type(made, trait, frame, value):
    """Return the mean over customers of a mean per customer, by type of a trait."""
    means = frame.group_by("customer_id").agg(value.mean().alias("x"))
    joined = means.join(made.truth, on="customer_id")
    return dict(joined.group_by(trait).agg(pl.col("x").mean()).rows())


def test_the_same_seed_gives_the_same_rows(made):
    again = generate_shoppers(N, 7)
    assert again.orders.equals(made.orders)
    assert again.items.equals(made.items)
    assert again.truth.equals(made.truth)
    assert not generate_shoppers(N, 8).orders.equals(made.orders)


def test_everyone_orders_and_the_mean_is_as_asked(made):
    assert made.orders["customer_id"].n_unique() == N
    assert made.orders.height / N == pytest.approx(10.7, rel=0.02)
    assert generate_shoppers(N, 7, mean_orders=3.0).orders.height / N == pytest.approx(
        3.0, rel=0.05
    )
    assert 2.6 < made.items.height / made.orders.height < 3.2


def test_totals_are_the_goods_less_the_discount(made):
    goods = made.items.group_by("order_id").agg(
        goods=(pl.col("price") * pl.col("quantity")).sum()
    )
    joined = made.orders.join(goods, on="order_id", how="left")
    paid = joined["total_price"] + joined["discount_amount"]
    assert np.allclose(paid, joined["goods"], atol=0.011)
    assert joined["total_price"].min() > 0


def read_sample(config, work):
    return read_purchases(config, work, generate_shoppers)


def test_the_sample_passes_the_intake_without_a_fault(tmp_path):
    config = Config.model_validate({"axes": {"sample_customers": 200}, "seed": 3})
    purchases = read_sample(config, tmp_path)
    assert purchases.absent == ()
    assert purchases.rejected.is_empty()
    assert purchases.truth.height == purchases.intake["n_customers"] == 200
    assert purchases.intake["notes"] == []
    assert read_sample(config, tmp_path).fingerprint == purchases.fingerprint
    other = Config.model_validate({"axes": {"sample_customers": 200}, "seed": 4})
    assert read_sample(other, tmp_path).fingerprint != purchases.fingerprint


def test_the_sample_ignores_the_columns_and_formats_of_a_users_files(tmp_path):
    axes = {"sample_customers": 20, "order_columns": {"order_date": "bought"}}
    data = {"date_format": "%d.%m.%Y", "decimal": ","}
    config = Config.model_validate({"axes": axes, "data": data})
    assert read_sample(config, tmp_path).intake["n_customers"] == 20


def test_shares_of_the_types_are_those_of_the_table(made):
    for trait, kinds in TRAITS.items():
        assert sum(kind.share for kind in kinds) == pytest.approx(1.0)
        found = dict(made.truth[trait].value_counts(normalize=True).rows())
        for kind in kinds:
            assert found[kind.name] == pytest.approx(kind.share, abs=0.03)


def test_planted_types_show_in_the_rows(made):
    orders, items = made.orders, made.items
    discounted = by_type(made, "discount", orders, pl.col("discount_amount") > 0)
    assert discounted["full_price"] < 0.08
    assert discounted["deal_hunter"] > 0.8
    weekend = pl.col("order_date").dt.weekday() > 5
    weekends = by_type(made, "cadence", orders, weekend)
    assert weekends["weekend"] > 0.8
    assert weekends["office_hours"] < 0.1
    hours = by_type(made, "cadence", orders, pl.col("order_date").dt.hour())
    assert hours["evening"] - hours["office_hours"] > 6
    refunds = by_type(made, "returns", items, pl.col("refund_amount") > 0)
    assert refunds["returner"] > 0.2
    assert refunds["keeper"] < 0.02
    for channel in CHANNELS:
        used = by_type(made, "channel", orders, pl.col("source") == channel)
        assert used[channel] > 0.9
    totals = by_type(made, "value", orders, pl.col("total_price"))
    assert totals["middle_basket"] > 2 * totals["small_basket"]
    assert totals["large_basket"] > 3 * totals["middle_basket"]
    n_orders = orders.group_by("customer_id").len().join(made.truth, on="customer_id")
    rate = dict(n_orders.group_by("frequency").agg(pl.col("len").mean()).rows())
    assert rate["frequent"] > 5 * rate["occasional"]


def test_favourites_and_categories_follow_the_types(made):
    busy = made.items.group_by("customer_id").agg(
        pl.len().alias("n"),
        categories=pl.col("category").n_unique(),
        again=1 - pl.col("product_id").n_unique() / pl.len(),
    )
    busy = busy.filter(pl.col("n") >= 20).join(made.truth, on="customer_id")
    categories = dict(
        busy.group_by("exploration").agg(pl.col("categories").mean()).rows()
    )
    assert categories["many_categories"] > 3 * categories["one_category"]
    again = dict(busy.group_by("repurchase").agg(pl.col("again").mean()).rows())
    assert again["loyal"] > again["variety_seeker"] + 0.25


def test_without_structure_no_trait_has_types():
    plain = generate_shoppers(N, 7, structure="none")
    assert plain.truth.height == N
    assert all(plain.truth[trait].null_count() == N for trait in TRAITS)
    shares = plain.orders["source"].value_counts(normalize=True)
    assert dict(shares.rows())["web"] == pytest.approx(0.45, abs=0.02)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="at least 1 customer"):
        generate_shoppers(0, 1)
    with pytest.raises(ConfigError, match="more than 1 order"):
        generate_shoppers(10, 1, mean_orders=1.0)
