"""Whether orders carry a segmentation: how much history, how regular, how sparse.

Every figure is of the customers with enough orders, each of whom counts once. What is
judged has two bounds: at the first it is in order, beyond the second it fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from core.baskets.features import HOURS

THRESHOLDS = (3, 5, 7, 10)
_COLUMNS = {
    "check": pl.String,
    "value": pl.Float64,
    "unit": pl.String,
    "threshold": pl.String,
    "status": pl.String,
    "advice": pl.String,
}
_ANGLE = pl.col("mean_order_hour") * (2 * math.pi / HOURS)
_TURN = pl.arctan2(_ANGLE.sin().mean(), _ANGLE.cos().mean()) * (HOURS / (2 * math.pi))


class Check(NamedTuple):
    """One figure, and from where it is in order or fails.

    Attributes
    ----------
    name, meaning, unit : str
    figure : Expr or None
        Over customers with their features, `n_orders` and, in every row, `n_products`;
        None: of the table of thresholds.
    good, bad : float or None
        In order at `good` or better, failed where worse than `bad`, a caution between;
        `good` below `bad`: less is better; None: a fact.
    why : str
        Why the bounds lie there. What orders at random give was simulated: exponential
        gaps with a mean of 14 days, and uniform hours, of 5 to 40 orders.
    advice : str
        What to do where it is not in order.
    """

    name: str
    meaning: str
    unit: str
    figure: pl.Expr | None
    good: float | None = None
    bad: float | None = None
    why: str = ""
    advice: str = ""

    @property
    def threshold(self) -> str | None:
        """Both bounds in words; None for a fact."""
        if self.good is None or self.bad is None:
            return None
        if self.good >= self.bad:
            return f"at least {self.good:g}; fails below {self.bad:g}"
        return f"at most {self.good:g}; fails above {self.bad:g}"

    def status(self, value: float | None) -> str:
        """Return ``ok``, ``caution``, ``fails`` or ``fact``."""
        if self.good is None or self.bad is None:
            return "fact"
        if value is None:
            return "caution"
        sign = 1 if self.good >= self.bad else -1
        if sign * value >= sign * self.good:
            return "ok"
        return "caution" if sign * value >= sign * self.bad else "fails"


CHECKS = (
    Check(
        "customers",
        "customers with enough orders",
        "customers",
        pl.len(),
        1000,
        200,
        "four segments of 250 know a share to 6 points, of 50 to 14",
        "Take a longer period or more shops.",
    ),
    Check("orders", "their orders", "orders", pl.col("n_orders").sum()),
    Check(
        "customers_lost",
        "customers with too few orders / all",
        "share",
        None,
        0.3,
        0.6,
        "who is lost gets no segment, and the rest are no picture of all",
        "Lower `baskets.min_orders` or take a longer period; treat the others as new.",
    ),
    Check(
        "orders_kept",
        "orders of those with enough / all orders",
        "share",
        None,
        0.8,
        0.5,
        "a segmentation should speak for most of what is ordered",
        "Lower `baskets.min_orders` or take a longer period.",
    ),
    Check(
        "median_orders",
        "median of orders",
        "orders",
        pl.col("n_orders").median(),
        8,
        5,
        "where gaps vary by 60%, eight orders tell their mean to 23%, five to 30%",
        "Take a longer period; read the frequency of a single customer with care.",
    ),
    Check(
        "mean_gap",
        "mean of `mean_days_between_orders`",
        "days",
        pl.col("mean_days_between_orders").mean(),
        31,
        92,
        "who orders every month can be watched by month, else by quarter",
        "Watch by quarter; ask whether these are purchases out of habit.",
    ),
    Check(
        "median_gap_cv",
        "median of `cv_days_between_orders`",
        "ratio",
        pl.col("cv_days_between_orders").median(),
        0.7,
        1.5,
        "orders at random give 0.8 to 1, or 0.75 where gaps end at 30 days; above 1.5 "
        "they come in bursts, and a mean gap describes nobody",
        "Look for pauses and seasons; do not time offers by the mean gap.",
    ),
    Check(
        "regular_customers",
        "customers with `cv_days_between_orders` below 1 / those with any",
        "share",
        (pl.col("cv_days_between_orders").drop_nulls() < 1).mean(),
        0.9,
        0.3,
        "orders at random give 60% to 76%, or 85% to 99% where gaps end at 30 days; "
        "below 30% most come in bursts",
        "Time offers for those alone who are regular.",
    ),
    Check("mean_hour", "circular mean of `mean_order_hour`", "hours", _TURN % HOURS),
    Check(
        "hour_deviation",
        "mean of `std_order_hour`",
        "hours",
        pl.col("std_order_hour").mean(),
        5,
        HOURS,
        "orders at any hour give 5.4 h with five orders, 6.5 h with twelve",
        "Do not time messages by a customer's usual hour.",
    ),
    Check(
        "median_products",
        "median of `unique_products`",
        "products",
        pl.col("unique_products").median(),
        15,
        5,
        "with fewer, one product moves the share of reorders by many points",
        "Take a longer period, or a wider range of products.",
    ),
    Check(
        "catalogue_coverage",
        "median of `unique_products` / products of the catalogue",
        "share",
        pl.col("unique_products").median() / pl.col("n_products").first(),
    ),
    Check(
        "median_basket",
        "median of `avg_basket_size`",
        "products",
        pl.col("avg_basket_size").median(),
        3,
        1.5,
        "baskets of one or two products say little of what goes together",
        "Look at what customers buy over all orders, not by order.",
    ),
    Check(
        "median_reordered",
        "median of `reorder_ratio`",
        "share",
        pl.col("reorder_ratio").median(),
        0.1,
        0.01,
        "where half of the customers buy nothing twice, loyalty splits nobody",
        "Check that a product keeps its id over time.",
    ),
)
_BY_NAME = {check.name: check for check in CHECKS}
_worse = ("fact", "ok", "caution", "fails").index


@dataclass(frozen=True)
class Readiness:
    """Checks of whether orders carry a segmentation.

    Attributes
    ----------
    checks : DataFrame
        `check`, `value` (null if it cannot be known), `unit`, `threshold` (null for a
        fact), `status` (``ok``, ``caution``, ``fails``, ``fact``) and `advice` (null
        where there is nothing to do).
    thresholds : DataFrame
        As `customers_kept` returns it.
    verdict : str
        One sentence.
    """

    checks: pl.DataFrame
    thresholds: pl.DataFrame
    verdict: str


def assess_readiness(
    features: pl.DataFrame, customers: pl.DataFrame, n_products: int, min_orders: int
) -> Readiness:
    """Return how far orders carry a segmentation.

    Parameters
    ----------
    features : DataFrame
        As `core.baskets.features.customer_features` returns them, of those at least who
        have `min_orders`.
    customers : DataFrame
        `customer_id` and `n_orders`, of everyone who ordered.
    n_products : int
        Products of the catalogue, or that were ever bought where there is none.
    min_orders : int
        Fewest orders of a customer who is segmented.
    """
    thresholds = customers_kept(customers, (*THRESHOLDS, min_orders))
    chosen = thresholds.row(by_predicate=pl.col("min_orders") == min_orders, named=True)
    known = (
        customers.filter(pl.col("n_orders") >= min_orders)
        .join(features, on="customer_id", how="left")
        .with_columns(pl.lit(max(n_products, 1)).alias("n_products"))
    )
    figures = known.select(
        c.figure.alias(c.name) for c in CHECKS if c.figure is not None
    )
    values = chosen | figures.row(0, named=True)
    rows = [_row(check, values[check.name]) for check in CHECKS]
    checks = pl.DataFrame(rows, schema=_COLUMNS, orient="row")
    return Readiness(checks, thresholds, _verdict(checks, min_orders))


def customers_kept(customers: pl.DataFrame, thresholds: Sequence[int]) -> pl.DataFrame:
    """Return how many customers and orders are left at each fewest number of orders.

    Parameters
    ----------
    customers : DataFrame
        `n_orders`, a row per customer.
    thresholds : sequence of int

    Returns
    -------
    DataFrame
        `min_orders` (ascending, distinct), `customers`, `customers_lost` and
        `orders_kept` (shares; 0 where there is nobody), and `status`, the worse one of
        both shares.
    """
    n_orders = customers["n_orders"].to_numpy()
    n, total = max(len(n_orders), 1), max(int(n_orders.sum()), 1)
    rows = []
    for least in sorted(set(thresholds)):
        kept = n_orders[n_orders >= least]
        lost = (len(n_orders) - len(kept)) / n
        shares = {"customers_lost": lost, "orders_kept": int(kept.sum()) / total}
        status = max(
            (_BY_NAME[name].status(v) for name, v in shares.items()), key=_worse
        )
        rows.append(
            {"min_orders": least, "customers": len(kept), **shares, "status": status}
        )
    return pl.DataFrame(rows)


def _row(check: Check, value: Any) -> tuple[Any, ...]:
    figure = None if value is None else float(value)
    status = check.status(figure)
    advice = check.advice if status in {"caution", "fails"} else None
    return check.name, figure, check.unit, check.threshold, status, advice


def _verdict(checks: pl.DataFrame, min_orders: int) -> str:
    """Return in one sentence what the checks amount to."""
    n = f"{int(checks['value'][0]):,} customers with at least {min_orders} orders"
    named = {
        status: ", ".join(f"`{name}`" for name in part["check"])
        for (status,), part in checks.group_by("status", maintain_order=True)
    }
    if "fails" in named:
        return f"Not ready: {n}; {named['fails']} failed."
    if "caution" in named:
        return f"Ready, with caution on {named['caution']}: {n}."
    return f"Ready: {n}; every check is passed."
