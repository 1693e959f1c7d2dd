"""Readiness: every check beside plain numbers, and what it says of poor data."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.baskets.features import BEHAVIOUR, customer_features
from core.baskets.readiness import (
    CHECKS,
    Check,
    assess_readiness,
    customers_kept,
)
from core.baskets.sample import catalogue, generate_baskets

PUBLISHED = {
    "customers": "Total Users (Qualified)",
    "median_orders": "Orders per User (Median)",
    "mean_gap": "Mean Days Between Orders",
    "median_gap_cv": "CV (Median)",
    "hour_deviation": "Std Hour (Circular)",
    "median_products": "Unique Products (Median)",
    "median_basket": "Avg Basket Size (Median)",
}


@pytest.fixture(scope="module")
def known():
    """Return features, customers and the number of products of the sample."""
    sample, goods = generate_baskets(1_500, 3), catalogue()
    customers = sample.orders.group_by("customer_id").len("n_orders")
    tables = (sample.orders.lazy(), sample.items.lazy(), goods.products, goods.aisles)
    return customer_features(*tables), customers, goods.products.height


def by_check(readiness, column="status"):
    return dict(readiness.checks.select("check", column).iter_rows())


def status_of(name, value):
    (check,) = (check for check in CHECKS if check.name == name)
    return check.status(value)


def test_every_figure_is_of_the_customers_with_enough_orders(known):
    features, customers, n_products = known
    readiness = assess_readiness(*known, min_orders=5)
    values = by_check(readiness, "value")
    joined = features.join(customers, on="customer_id")
    own = {c.name: c.to_numpy() for c in joined.filter(pl.col("n_orders") >= 5)}
    n = len(own["n_orders"])
    turns = np.exp(2j * np.pi * own["mean_order_hour"] / 24)
    products = np.median(own["unique_products"])
    assert values == pytest.approx(
        {
            "customers": n,
            "orders": own["n_orders"].sum(),
            "customers_lost": 1 - n / customers.height,
            "orders_kept": own["n_orders"].sum() / customers["n_orders"].sum(),
            "median_orders": np.median(own["n_orders"]),
            "mean_gap": np.mean(own["mean_days_between_orders"]),
            "median_gap_cv": np.median(own["cv_days_between_orders"]),
            "regular_customers": np.mean(own["cv_days_between_orders"] < 1),
            "mean_hour": np.angle(turns.mean()) % (2 * np.pi) * 24 / (2 * np.pi),
            "hour_deviation": np.mean(own["std_order_hour"]),
            "median_products": products,
            "catalogue_coverage": products / n_products,
            "median_basket": np.median(own["avg_basket_size"]),
            "median_reordered": np.median(own["reorder_ratio"]),
        }
    )
    assert readiness.thresholds["min_orders"].to_list() == [3, 5, 7, 10]


def test_the_sample_is_ready(known):
    readiness = assess_readiness(*known, min_orders=5)
    assert set(by_check(readiness).values()) == {"ok", "fact"}
    assert readiness.checks["advice"].null_count() == len(CHECKS)
    assert readiness.verdict.startswith("Ready: ")


@pytest.mark.parametrize(
    ("shape", "status", "verdict"),
    [(1.0, "caution", "Ready, with caution on "), (0.1, "fails", "Not ready: ")],
    ids=["at random", "in bursts"],
)
def test_orders_at_random_are_no_rhythm_and_bursts_fail(known, shape, status, verdict):
    features, customers, n_products = known
    rng = np.random.default_rng(1)
    gaps = [
        rng.gamma(shape, 14 / shape, max(n - 1, 1))
        for n in features.join(customers, on="customer_id", maintain_order="left")[
            "n_orders"
        ]
    ]
    cv = [g.std(ddof=1) / g.mean() if len(g) > 1 else None for g in gaps]
    at_random = features.with_columns(
        pl.Series("cv_days_between_orders", cv, dtype=pl.Float64)
    )
    readiness = assess_readiness(at_random, customers, n_products, min_orders=5)
    assert by_check(readiness)["median_gap_cv"] == status
    assert by_check(readiness)["regular_customers"] == status
    assert readiness.verdict.startswith(verdict)
    assert "`median_gap_cv`, `regular_customers`" in readiness.verdict


def test_what_is_not_known_is_a_caution_with_an_advice(known):
    features, customers, n_products = known
    timeless = features.with_columns(
        pl.lit(None, pl.Float64).alias(name)
        for name in ("mean_order_hour", "std_order_hour")
    )
    readiness = assess_readiness(timeless, customers, n_products, min_orders=5)
    hours = readiness.checks.filter(
        pl.col("check").is_in(["mean_hour", "hour_deviation"])
    )
    assert hours["value"].to_list() == [None, None]
    assert hours["status"].to_list() == ["fact", "caution"]
    assert hours["advice"].is_not_null().to_list() == [False, True]
    assert "with caution on `hour_deviation`" in readiness.verdict


def test_too_few_customers_fail_and_nobody_fails_without_an_error(known):
    features, customers, n_products = known
    some = assess_readiness(features, customers.head(150), n_products, min_orders=5)
    assert by_check(some)["customers"] == "fails"
    nobody = assess_readiness(features, customers, n_products, min_orders=1_000)
    assert by_check(nobody, "value")["customers"] == 0
    assert by_check(nobody, "value")["mean_hour"] is None
    assert by_check(nobody)["orders_kept"] == "fails"
    assert nobody.thresholds["min_orders"].to_list() == [3, 5, 7, 10, 1_000]
    empty = assess_readiness(features.clear(), customers.clear(), 0, min_orders=5)
    assert empty.verdict.startswith("Not ready: 0 customers")


def test_customers_with_too_few_orders_need_no_features(known):
    features, customers, n_products = known
    enough = customers.filter(pl.col("n_orders") >= 5)
    only = features.join(enough, on="customer_id", how="semi")
    found = assess_readiness(only, customers, n_products, min_orders=5)
    assert found.checks.equals(assess_readiness(*known, min_orders=5).checks)


def test_customers_kept_by_hand():
    kept = customers_kept(pl.DataFrame({"n_orders": [1, 3, 4, 5, 12]}), (10, 3, 5, 5))
    assert kept.rows() == [
        (3, 4, 1 / 5, 24 / 25, "ok"),
        (5, 2, 3 / 5, 17 / 25, "caution"),
        (10, 1, 4 / 5, 12 / 25, "fails"),
    ]


@pytest.mark.shared_data
def test_published_figures_are_ours(shared_data):
    """Of the published users the scores alone are known, and what follows from them."""
    scores = pl.read_parquet(shared_data / "instacart_scores.parquet")
    features = scores.select(
        pl.col("user_id").alias("customer_id"),
        (1 / pl.col("freq_score") - 1).alias("mean_days_between_orders"),
        pl.col("loyalty_score").alias("reorder_ratio"),
        *(
            pl.lit(None, pl.Float64).alias(name)
            for name in BEHAVIOUR
            if name not in {"mean_days_between_orders", "reorder_ratio"}
        ),
    )
    customers = features.select("customer_id", n_orders=pl.lit(5))
    found = assess_readiness(features, customers, 49_688, min_orders=5)
    table = pl.read_csv(shared_data / "instacart_published" / "assessment_summary.csv")
    published = dict(table.select("Metric", "Value").iter_rows())
    values = by_check(found, "value")
    assert f"{values['customers']:,.0f}" == published["Total Users (Qualified)"]
    assert f"{values['mean_gap']:.2f}" == published["Mean Days Between Orders"]
    assert f"{54 / 49_688:.3%}" == published["Catalog Coverage (Median)"]
    statuses = {
        check: status_of(check, float(published[name].rstrip("%").replace(",", "")))
        for check, name in PUBLISHED.items()
    }
    assert set(statuses.values()) == {"ok"}


@given(st.floats(0, 30), st.floats(0, 30), st.floats(-5, 40))
def test_a_better_figure_never_has_a_worse_status(good, bad, value):
    check = Check("any", "", "", pl.len(), good, bad)
    better = value + (1 if good >= bad else -1)
    ranks = ["fails", "caution", "ok"]
    assert ranks.index(check.status(better)) >= ranks.index(check.status(value))
    assert check.status(good) == "ok"
    assert check.status(None) == "caution"
