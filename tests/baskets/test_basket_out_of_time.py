"""Segments of earlier days against what customers ordered afterwards."""

from datetime import date, timedelta
from functools import partial

import polars as pl
import pytest
from basket_out_of_time import AISLES, N_DAYS, PRODUCTS, memoryless_baskets

from core.baskets.features import aisle_columns
from core.baskets.out_of_time import DECILES, out_of_time
from core.baskets.study import learn_clusters
from core.rules.grammar import read_rules

RULES = read_rules("basket-quadrants")


def judged(orders, items, rules=RULES, **options):
    options = {"cuts": 2, "horizon_days": 45, **options}
    return out_of_time(orders.lazy(), items.lazy(), PRODUCTS, AISLES, rules, **options)


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
    return judged(*memoryless_baskets(500, 1, 0.5))


def test_habits_that_last_are_told_and_the_deciles_are_named(planted):
    for outcome in ("orders", "basket", "items"):
        assert figure(planted, outcome)["low"] > 0
        assert figure(planted, outcome, "segments", "permuted labels")["low"] > 0
    assert figure(planted, "orders", DECILES)["r2"] > 0.2
    assert "`orders`" in planted.lines[0]
    assert "worse than the deciles" in planted.lines[1]


def test_nothing_is_claimed_where_the_past_tells_nothing():
    claims = [
        judged(*memoryless_baskets(150, seed, 0.0)).table.filter(
            pl.col("cut") == "all", pl.col("low") > 0
        ).height
        for seed in range(4)
    ]  # fmt: skip
    assert sum(claims) <= 2  # of 112


def test_everyone_at_a_cut_is_followed_or_counted(planted):
    rows = planted.cuts
    assert rows["cut"][0] == str(date(2024, 1, 1) + timedelta(days=N_DAYS - 1 - 45))
    parts = (
        rows["not_placed"] + rows["had_left"] + rows["not_observed"] + rows["followed"]
    )
    assert parts.equals(rows["known"], check_names=False)
    assert rows["not_observed"].to_list() == [0, 0]


def test_outcomes_are_those_of_the_horizon_alone():
    # All order on four days up to day 30, 40 of the 100 again on day 60, the last of
    # the horizon, and one of the others on day 61.
    later = {c: [60] if c < 40 else [] for c in range(100)} | {99: [61]}
    rows = [(c, day) for c, days in later.items() for day in (0, 10, 20, 30, *days)]
    orders = pl.DataFrame(rows, schema=["c", "day"], orient="row").select(
        pl.int_range(pl.len()).alias("order_id"),
        pl.col("c").cast(pl.String).alias("customer_id"),
        pl.int_range(1, pl.len() + 1).over("c").alias("order_number"),
        pl.lit(9.0).alias("order_hour_of_day"),
        pl.col("day").diff().over("c").cast(pl.Float64).alias("days_since_prior_order"),
        pl.col("day").cast(pl.Int32).alias("order_day"),
    )
    items = orders.select("order_id", product_id=pl.lit(1), reordered=pl.lit(0))
    found = judged(orders, items, cuts=1, horizon_days=31, min_orders=4)
    assert found.cuts.row(0)[1:7] == (30, 100, 0, 0, 0, 100)
    # 41 of 100 order again, all of them a basket of one.
    assert set(found.table["outcome"]) == {"churn", "items", "orders"}
    assert set(found.table["n"]) == {100}
    assert any(line.startswith("`basket` cannot be judged") for line in found.lines)
    nobody = judged(orders.filter(pl.col("order_day") <= 30), items, horizon_days=1)
    assert nobody.table.is_empty()


def test_without_dates_a_cut_is_a_day_of_the_customers_own_clock():
    orders, items = memoryless_baskets(300, 2, 0.5)
    found = judged(undated(orders), items)
    assert found.cuts["cut"][0] == f"day {found.cuts['day'][0]}"
    assert found.cuts["not_observed"].max() > 0
    parts = pl.sum_horizontal("not_placed", "had_left", "not_observed", "followed")
    assert found.cuts.select((parts == pl.col("known")).all()).item()
    assert figure(found, "orders")["low"] > 0
    assert any("after each customer's first order" in line for line in found.lines)


def test_a_limit_of_the_gaps_is_told():
    orders, items = memoryless_baskets(200, 3, 0.5)
    capped = undated(orders).with_columns(
        pl.col("days_since_prior_order").clip(upper_bound=14)
    )
    lines = judged(capped, items).lines
    assert any("of the gaps are 14 days, and none is longer" in line for line in lines)
    assert not any("of the gaps are" in line for line in judged(orders, items).lines)


def test_the_future_changes_neither_labels_nor_thresholds():
    orders, items = memoryless_baskets(200, 4, 0.5)
    before = judged(orders, items)
    last = before.cuts["day"][0]
    is_future = (pl.col("order_day") > last) & (pl.col("order_day") < last + 45)
    fewer = judged(orders.filter(~is_future), items)
    assert before.cuts["thresholds"][0] == fewer.cuts["thresholds"][0]
    assert before.cuts["known"][0] == fewer.cuts["known"][0]
    assert before.table.filter(pl.col("cut") == before.cuts["cut"][0]).height
    assert not before.table.equals(fewer.table)


def test_clusters_of_the_study_are_held_against_the_deciles():
    orders, items = memoryless_baskets(300, 5, 0.5)
    clusters = partial(
        learn_clusters,
        aisle_names=aisle_columns(AISLES),
        space="behaviour",
        method="kmeans",
        k=4,
        seed=1,
    )
    found = judged(orders, items, schemes={"clusters": clusters})
    assert figure(found, "basket", "clusters")["low"] > 0
    assert figure(found, "basket", "clusters and " + DECILES, DECILES)["n"] > 200
    assert any(line.startswith("Clusters predict") for line in found.lines)


def test_the_same_seed_draws_the_same_customers():
    orders, items = memoryless_baskets(200, 6, 0.5)
    one, two = (judged(orders, items, max_customers=120) for _ in range(2))
    assert one.table.equals(two.table)
    assert one.cuts["known"].max() <= 120
    assert one.notes == ("120 of 200 customers were drawn.",)


def test_rules_may_ask_for_the_number_of_orders_up_to_the_cut(tmp_path):
    path = tmp_path / "few-many.yaml"
    path.write_text(
        "name: few-many\nfeatures:\n  total_orders: {type: integer, from: 1}\n"
        "segments:\n  - {name: few, when: total_orders < 10}\n"
        "  - {name: many, when: total_orders >= 10}\n",
        encoding="utf-8",
    )
    found = judged(*memoryless_baskets(200, 9, 0.5), read_rules(path), cuts=1)
    assert figure(found, "orders")["low"] > 0
    assert found.cuts["thresholds"].to_list() == [""]


def test_customers_of_one_order_have_no_rhythm_and_are_counted():
    # On the first day of the customer's own clock nobody has a second order.
    orders, items = memoryless_baskets(200, 8, 0.3)
    found = judged(undated(orders), items, min_orders=1)
    first = found.cuts.filter(pl.col("day") == 0)
    assert first["known"].item() == first["not_placed"].item() > 190
    assert first["thresholds"].item() == ""
    assert figure(found, "orders")["n"] == found.cuts["followed"].sum()


@pytest.mark.parametrize("options", [{"horizon_days": 230}, {"cuts": 0}])
def test_too_short_a_history_is_told_and_claims_nothing(options):
    found = judged(*memoryless_baskets(80, 7, 0.0), **options)
    assert found.table.is_empty()
    assert any("needs 50 customers" in line for line in found.lines)
