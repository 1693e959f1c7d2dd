"""The built-in grocery sample: its rhythms, its kinds, and that it is what it says."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from core.baskets import sample as sample_module
from core.baskets.sample import (
    KINDS,
    MOST_DAYS,
    BasketSample,
    generate_baskets,
    write_sample,
)
from core.errors import ConfigError


@cache
def sample(*, has_structure: bool = True) -> BasketSample:
    return generate_baskets(1500, 7, has_structure=has_structure)


@cache
def habits(*, has_structure: bool = True) -> pl.DataFrame:
    """What the orders of each customer show of its habits, and its kind."""
    made = sample(has_structure=has_structure)
    sizes = made.items.group_by("order_id").agg(
        size=pl.len(), again=pl.mean("reordered")
    )
    return (
        made.orders.join(sizes, on="order_id")
        .group_by("customer_id")
        .agg(
            n_orders=pl.len(),
            gap=pl.mean("days_since_prior_order"),
            basket=pl.mean("size"),
            again=pl.mean("again"),
            hour=pl.mean("order_hour_of_day"),
        )
        .filter(pl.col("n_orders") >= 5)
        .join(made.truth, on="customer_id")
        .sort("customer_id")
    )


def test_gaps_heap_at_weeks_and_at_the_longest_that_is_kept():
    gaps = sample().orders["days_since_prior_order"].drop_nulls()
    n = dict(gaps.value_counts().rows())
    for heap in (7, 14, MOST_DAYS):
        around = [n[heap - 1]] if heap == MOST_DAYS else [n[heap - 1], n[heap + 1]]
        assert n[heap] > 2 * max(around)
    assert gaps.max() == MOST_DAYS
    assert gaps.min() == 0


def test_weekday_and_gap_of_an_order_agree():
    orders = (
        sample()
        .orders.with_columns(before=pl.col("order_dow").shift().over("customer_id"))
        .filter(pl.col("days_since_prior_order") < MOST_DAYS)
    )
    passed = (orders["order_dow"] - orders["before"]) % 7
    assert (passed == orders["days_since_prior_order"] % 7).all()


def test_only_a_first_order_has_no_gap_and_numbers_follow_on_another():
    orders = sample().orders
    is_first = orders["order_number"] == 1
    assert (orders["days_since_prior_order"].is_null() == is_first).all()
    by_customer = orders.group_by("customer_id").agg(
        pl.len(), pl.max("order_number").alias("last"), pl.n_unique("order_number")
    )
    assert (by_customer["len"] == by_customer["last"]).all()
    assert (by_customer["len"] == by_customer["order_number"]).all()
    assert by_customer.height == 1500


def test_an_item_is_reordered_if_an_earlier_order_had_it():
    made = sample()
    lines = made.items.join(
        made.orders.select("order_id", "customer_id", "order_number"), on="order_id"
    )
    first = pl.col("order_number").min().over("customer_id", "product_id")
    assert (
        lines["reordered"] == lines.select(pl.col("order_number") > first)[:, 0]
    ).all()
    assert lines.select("order_id", "product_id").is_unique().all()
    last = made.items.group_by("order_id").agg(pl.max("add_to_cart_order"), n=pl.len())
    assert (last["add_to_cart_order"] == last["n"]).all()


def test_kinds_are_of_unequal_size_and_show_in_what_customers_do():
    found = habits()
    shares = sample().truth["kind"].value_counts()
    assert set(shares["kind"]) == set(KINDS)
    assert shares["count"].max() > 2 * shares["count"].min()
    for column in ("gap", "basket", "again"):
        total = found[column].var()
        within = found.select(pl.col(column).var().over("kind"))[:, 0].mean()
        assert within < 0.5 * total


def test_without_structure_habits_are_independent_and_kinds_unknown():
    found = habits(has_structure=False)
    assert found["kind"].null_count() == found.height
    for one, other in (("gap", "basket"), ("basket", "hour"), ("gap", "hour")):
        assert abs(spearmanr(found[one], found[other]).statistic) < 0.1
    with_kinds = habits()
    assert spearmanr(with_kinds["gap"], with_kinds["hour"]).statistic > 0.1


@pytest.mark.parametrize("has_structure", [True, False])
def test_what_comes_after_a_date_follows_from_habits(has_structure):
    made = sample(has_structure=has_structure)
    is_early = (
        pl.col("order_number") <= pl.col("order_number").max().over("customer_id") / 2
    )
    halves = (
        made.orders.with_columns(is_early=is_early)
        .group_by("customer_id")
        .agg(
            early=pl.col("days_since_prior_order").filter("is_early").mean(),
            late=pl.col("days_since_prior_order").filter(~pl.col("is_early")).mean(),
            n=pl.len(),
        )
        .filter(pl.col("n") >= 10)
    )
    assert spearmanr(halves["early"], halves["late"]).statistic > 0.5


def test_histories_differ_in_length_and_some_customers_lapse():
    gap = pl.col("days_since_prior_order").fill_null(0)
    days = sample().orders.group_by("customer_id").agg(gap.sum(), n=pl.len())
    spans = days["days_since_prior_order"]
    assert spans.quantile(0.1) < 60
    assert spans.quantile(0.9) > 250
    assert 0.5 < (days["n"] >= 5).mean() < 0.95


def test_the_same_arguments_give_the_same_rows_and_another_seed_others():
    one, same, other = (generate_baskets(40, seed) for seed in (3, 3, 4))
    assert one.orders.equals(same.orders)
    assert one.items.equals(same.items)
    assert not one.items.equals(other.items)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_have_the_rows_of_all_blocks(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(sample_module, "BLOCK", 30)
    rows = write_sample(tmp_path, 70, 5, suffix, has_truth=True)
    read = pl.read_csv if suffix == "csv" else pl.read_parquet
    found = {path.name: read(path) for path in tmp_path.iterdir()}
    assert {name: table.height for name, table in found.items()} == rows
    made = generate_baskets(70, 5)
    orders = found[f"orders.{suffix}"]
    assert orders.columns[:3] == ["order_id", "user_id", "eval_set"]
    assert orders.drop("eval_set").rows() == made.orders.rows()
    assert found[f"order_products__prior.{suffix}"].rows() == made.items.rows()
    assert found[f"truth.{suffix}"].rows() == made.truth.rows()
    products, aisles = found[f"products.{suffix}"], found[f"aisles.{suffix}"]
    assert set(products["aisle_id"]) == set(aisles["aisle_id"])
    assert set(made.items["product_id"]) <= set(products["product_id"])
    assert np.all(np.diff(np.sort(orders["user_id"].unique())) == 1)


def test_planted_kinds_are_written_on_request_only(tmp_path):
    assert "truth.csv" not in write_sample(tmp_path, 5, 1)
    assert not (tmp_path / "truth.csv").exists()


@pytest.mark.parametrize(("customers", "seed"), [(0, 1), (5, -1)])
def test_numbers_out_of_range_are_refused(customers, seed):
    with pytest.raises(ConfigError, match="cannot be generated"):
        generate_baskets(customers, seed)
