"""What out-of-time validation of baskets claims of customers whose truth is planted.

Customers order on any day with a chance of their own. With a spread of 0 all are alike,
so nothing that is known at a cut tells what comes after: every interval above 0 is a
false claim. With a spread, habits last, and intervals should hold what runs of this
size expect, the mean of them all.

    python benchmarks/basket_out_of_time.py             # 400 runs of each
    python benchmarks/basket_out_of_time.py --runs 20   # a smoke test, not a result
"""

from __future__ import annotations

import argparse
from datetime import date

import numpy as np
import polars as pl

from core.baskets.out_of_time import OutOfTime, out_of_time
from core.evaluation.schemes import ALL
from core.rules.grammar import read_rules

N_DAYS = 240
FIRST_DAY = (date(2024, 1, 1) - date(1970, 1, 1)).days
N_PRODUCTS = 200
PRODUCTS = pl.DataFrame(
    {"product_id": range(N_PRODUCTS), "aisle_id": [0, 1] * (N_PRODUCTS // 2)}
)
AISLES = pl.DataFrame({"aisle_id": [0, 1], "aisle": ["fruit", "milk"]})
SPREAD = 0.4


def memoryless_baskets(
    n_customers: int, seed: int, spread: float, *, has_dates: bool = True
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return orders and items of customers who order on any day with their own chance.

    `spread` is the deviation of the logarithms of habits: of the chance, of the size of
    baskets, which goes with it, and of the number of products that are bought.
    """
    rng = np.random.default_rng(seed)
    habit = rng.lognormal(0, spread, n_customers)
    width = np.clip(20 * rng.lognormal(0, 2 * spread, n_customers), 1, N_PRODUCTS)
    chance = np.minimum(0.08 * habit, 0.9)[:, None]
    owner, day = np.nonzero(rng.random((n_customers, N_DAYS)) < chance)
    order = np.repeat(np.arange(len(owner)), 1 + rng.poisson(4 * habit[owner]))
    product = (rng.random(len(order)) * width[owner[order]]).astype(np.int64)
    own = pl.col("day").diff().over("customer_id").cast(pl.Float64)
    orders = pl.DataFrame({"customer_id": owner, "day": day}).select(
        pl.int_range(pl.len()).alias("order_id"),
        pl.col("customer_id").cast(pl.String),
        pl.int_range(1, pl.len() + 1).over("customer_id").alias("order_number"),
        pl.lit(12.0).alias("order_hour_of_day"),
        own.alias("days_since_prior_order"),
        (pl.col("day") + FIRST_DAY if has_dates else pl.lit(None))
        .cast(pl.Int32)
        .alias("order_day"),
    )
    first = pl.col("order_id").min().over("owner", "product_id")
    items = (
        pl.DataFrame({"order_id": order, "product_id": product, "owner": owner[order]})
        .unique(["order_id", "product_id"], maintain_order=True)
        .with_columns((pl.col("order_id") > first).cast(pl.Int8).alias("reordered"))
    )
    return orders, items.drop("owner")


def judged(
    n_customers: int, seed: int, spread: float, *, has_dates: bool = True
) -> OutOfTime:
    """Return what two cuts with a horizon of 45 days say of such customers."""
    orders, items = memoryless_baskets(n_customers, seed, spread, has_dates=has_dates)
    return out_of_time(
        orders.lazy(),
        items.lazy(),
        PRODUCTS,
        AISLES,
        read_rules("basket-quadrants"),
        cuts=2,
        horizon_days=45,
        seed=seed,
    )


def simulated(runs: int, n_customers: int, spread: float, *, has_dates: bool) -> str:
    """Return what many runs claimed, and how often intervals held their mean."""
    found = [
        judged(n_customers, seed, spread, has_dates=has_dates) for seed in range(runs)
    ]
    keys = ["outcome", "scheme", "over"]
    table = (
        pl.concat([one.table.filter(cut=ALL) for one in found])
        .with_columns(pl.col("r2").mean().over(keys).alias("mean"))
        .group_by(keys, maintain_order=True)
        .agg(
            pl.col("mean").first(),
            (pl.col("low") > 0).mean().alias("above_0"),
            pl.col("mean").is_between("low", "high").mean().alias("holds_mean"),
        )
    )
    leads = np.mean(["none of" not in one.lines[0] for one in found])
    lines = [
        f"{'with' if has_dates else 'without'} dates, spread {spread}: {runs} runs of "
        f"{n_customers} customers; the first sentence claims a lead in {leads:.1%}"
    ]
    for outcome, scheme, over, mean, above, holds in table.iter_rows():
        name = scheme if over is None else f"{scheme}, over {over}"
        lines.append(
            f"  {outcome:<7} {name:<66} {mean:+.3f}  above 0 {above:6.1%}  holds the "
            f"mean {holds:6.1%}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the simulations and print what was claimed and what intervals held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--customers", type=int, default=400)
    options = parser.parse_args()
    for has_dates in (True, False):
        for spread in (0.0, SPREAD):
            print(
                simulated(options.runs, options.customers, spread, has_dates=has_dates),
                flush=True,
            )


if __name__ == "__main__":
    main()
