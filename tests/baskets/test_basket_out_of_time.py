"""Segments of earlier days against what customers ordered afterwards."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from core.baskets.out_of_time import DECILES, out_of_time
from core.rules.grammar import read_rules

RULES = read_rules("basket-quadrants")
N_DAYS = 240
PRODUCTS = pl.DataFrame(
    {"product_id": range(200), "aisle_id": [k % 4 for k in range(200)]}
)
AISLES = pl.DataFrame({"aisle_id": range(4), "aisle": ["a", "b", "c", "d"]})


def baskets(n, seed, spread=0.0):
    """Customers who order on any day with their own chance, the same for all at 0.

    No day knows of the days before: what comes after a cut follows from the customer's
    chance, its size of baskets and its habit alone.
    """
    rng = np.random.default_rng(seed)
    habit = rng.lognormal(0, spread, n)
    chance, size = np.clip(0.08 * habit, 0, 0.9), 4 * habit
    kept = 20 * rng.lognormal(0, 2 * spread, n)
    owner, day = np.nonzero(rng.random((n, N_DAYS)) < chance[:, None])
    lines = 1 + rng.poisson(size[owner])
    order = np.repeat(np.arange(len(owner)), lines)
    product = (rng.random(len(order)) * np.clip(kept[owner[order]], 1, 200)).astype(int)
    first = int((date(2024, 1, 1) - date(1970, 1, 1)).days)
    orders = pl.DataFrame(
        {"customer_id": owner, "order_day": day + first}
    ).with_row_index("order_id").with_columns(
        pl.col("customer_id").cast(pl.String),
        pl.int_range(1, pl.len() + 1).over("customer_id").alias("order_number"),
        pl.lit(12.0).alias("order_hour_of_day"),
        pl.col("order_day").cast(pl.Int32).diff().over("customer_id")
        .cast(pl.Float64).alias("days_since_prior_order"),
    )  # fmt: skip
    items = pl.DataFrame(
        {"order_id": order, "product_id": product, "owner": owner[order]}
    )
    items = items.unique(["order_id", "product_id"], maintain_order=True).with_columns(
        (pl.col("order_id") > pl.col("order_id").min().over("owner", "product_id"))
        .cast(pl.Int8)
        .alias("reordered")
    )
    return orders, items.drop("owner")


def judged(orders, items, **options):
    options = {"cuts": 2, "horizon_days": 45, **options}
    return out_of_time(orders.lazy(), items.lazy(), PRODUCTS, AISLES, RULES, **options)


def undated(orders):
    return orders.with_columns(order_day=pl.lit(None, pl.Int32))


def figure(found, outcome, scheme="segments", over=None):
    own = pl.col("over").is_null() if over is None else pl.col("over") == over
    table = found.table.filter(
        pl.col("cut") == "all", pl.col("outcome") == outcome, own
    )
    return table.filter(pl.col("scheme") == scheme).row(0, named=True)


@pytest.fixture(scope="module")
def planted():
    return judged(*baskets(500, 1, spread=0.5))


def test_habits_that_last_are_told_and_the_deciles_are_named(planted):
    for outcome in ("orders", "basket", "items"):
        assert figure(planted, outcome)["low"] > 0
        assert figure(planted, outcome, "segments", "permuted labels")["low"] > 0
    assert figure(planted, "orders", DECILES)["r2"] > 0.2
    assert "`orders`" in planted.lines[0]
    assert "worse than the deciles" in planted.lines[1]


def test_nothing_is_claimed_where_the_past_tells_nothing():
    claims = [
        judged(*baskets(150, seed)).table.filter(
            pl.col("cut") == "all", pl.col("low") > 0
        ).height
        for seed in range(4)
    ]  # fmt: skip
    assert sum(claims) <= 1  # of 112


def test_everyone_at_a_cut_is_followed_or_counted(planted):
    rows = planted.cuts
    assert rows["cut"][0] == str(date(2024, 1, 1) + timedelta(days=N_DAYS - 1 - 45))
    parts = rows["had_left"] + rows["not_observed"] + rows["followed"]
    assert parts.equals(rows["known"], check_names=False)
    assert rows["not_observed"].to_list() == [0, 0]


def test_outcomes_are_those_of_the_horizon_alone():
    # All order on four days up to day 30; of the 60, the first ten once more by day 60.
    days = pl.DataFrame(
        {"order_day": [0, 10, 20, 30, 60, 61]}, schema={"order_day": pl.Int32}
    )
    rows = pl.DataFrame({"c": range(61)}).join(days, how="cross")
    late = pl.when(pl.col("c") == 60).then(100).when(pl.col("c") < 10).then(60)
    rows = rows.filter(pl.col("order_day") <= late.otherwise(30)).with_row_index(
        "order_id"
    )
    orders = rows.with_columns(
        pl.col("c").cast(pl.String).alias("customer_id"),
        pl.int_range(1, pl.len() + 1).over("c").alias("order_number"),
        pl.lit(9.0).alias("order_hour_of_day"),
        pl.col("order_day")
        .diff()
        .over("c")
        .cast(pl.Float64)
        .alias("days_since_prior_order"),
    )
    items = orders.select("order_id", product_id=pl.lit(1), reordered=pl.lit(0))
    found = judged(orders, items, cuts=1, horizon_days=31, min_orders=4)
    assert found.cuts.row(0)[1:6] == (30, 61, 0, 0, 61)
    # 11 of 61 order again, all with a basket of one.
    assert found.table["outcome"].unique().sort().to_list() == [
        "churn",
        "items",
        "orders",
    ]
    assert found.table["n"].unique().to_list() == [61]
    assert any(line.startswith("`basket` cannot be judged") for line in found.lines)
    nobody = judged(orders.filter(pl.col("order_day") <= 30), items, horizon_days=1)
    assert nobody.table.is_empty()


def test_without_dates_a_cut_is_a_day_of_the_customers_own_clock():
    orders, items = baskets(300, 2, spread=0.5)
    found = judged(undated(orders), items)
    assert found.cuts["cut"][0] == f"day {found.cuts['day'][0]}"
    assert found.cuts["not_observed"].max() > 0
    parts = pl.sum_horizontal("had_left", "not_observed", "followed")
    assert found.cuts.select((parts == pl.col("known")).all()).item()
    assert figure(found, "orders")["low"] > 0
    assert any("after each customer's first order" in line for line in found.lines)


def test_a_limit_of_the_gaps_is_told():
    orders, items = baskets(200, 3, spread=0.5)
    capped = undated(orders).with_columns(
        pl.col("days_since_prior_order").clip(upper_bound=14)
    )
    lines = judged(capped, items).lines
    assert any("of the gaps are 14 days, and none is longer" in line for line in lines)
    assert not any("of the gaps are" in line for line in judged(orders, items).lines)


def test_the_future_changes_neither_labels_nor_thresholds():
    orders, items = baskets(200, 4, spread=0.5)
    before = judged(orders, items)
    last = before.cuts["day"][0]
    is_future = (pl.col("order_day") > last) & (pl.col("order_day") < last + 45)
    fewer = judged(orders.filter(~is_future), items)
    assert before.cuts["thresholds"][0] == fewer.cuts["thresholds"][0]
    assert before.cuts["known"][0] == fewer.cuts["known"][0]
    assert before.table.filter(pl.col("cut") == before.cuts["cut"][0]).height
    assert not before.table.equals(fewer.table)


def test_any_other_scheme_is_held_against_the_deciles():
    orders, items = baskets(200, 5, spread=0.5)
    schemes = {"baskets": lambda f: f["avg_basket_size"].round()}
    found = judged(orders, items, schemes=schemes)
    assert figure(found, "basket", "baskets", DECILES)["low"] > 0
    assert "Baskets predict" in " ".join(found.lines)


def test_the_same_seed_draws_the_same_customers():
    orders, items = baskets(200, 6, spread=0.5)
    one, two = (judged(orders, items, max_customers=120) for _ in range(2))
    assert one.table.equals(two.table)
    assert one.cuts["known"].max() <= 120


@pytest.mark.parametrize("options", [{"horizon_days": 230}, {"cuts": 0}])
def test_too_short_a_history_is_told_and_claims_nothing(options):
    found = judged(*baskets(80, 7), **options)
    assert found.table.is_empty()
    assert any("needs 50 customers" in line for line in found.lines)
