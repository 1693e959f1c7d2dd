"""Who may be clustered: enough history, and enough of it in every year.

A month is *active* for a shop when its net quantity is above 0. A shop is eligible when

- its active months number at least ``12 x min_tenure_years``, and
- its active months per active calendar year average at least
  ``min_avg_active_months_per_year``.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from core.config import EligibilityConfig
from core.errors import EligibilityError

TOO_SHORT = "too few active months"
TOO_SPARSE = "too few active months per active year"
NO_SALES = "no month with net sales"


def judge(activity: pl.DataFrame, rule: EligibilityConfig) -> pl.DataFrame:
    """Say of every shop whether it is eligible, and if not, why.

    Parameters
    ----------
    activity : DataFrame
        ``shop_id, active_months, active_years`` (and any further columns), one row per
        shop; 0 active months for a shop that never sold.
    rule : EligibilityConfig
        The two thresholds.

    Returns
    -------
    DataFrame
        `activity` sorted by ``shop_id``, with ``avg_active_months_per_year`` (months)
        and ``reason``: null for an eligible shop, else the first rule that it fails.
    """
    average = pl.col("active_months") / pl.col("active_years").cast(pl.Float64)
    return (
        activity.with_columns(
            avg_active_months_per_year=pl.when(pl.col("active_years") > 0)
            .then(average)
            .otherwise(0.0)
        )
        .with_columns(
            reason=pl.when(pl.col("active_months") == 0)
            .then(pl.lit(NO_SALES))
            .when(pl.col("active_months") < 12 * rule.min_tenure_years)
            .then(pl.lit(TOO_SHORT))
            .when(
                pl.col("avg_active_months_per_year")
                < rule.min_avg_active_months_per_year
            )
            .then(pl.lit(TOO_SPARSE))
            .otherwise(pl.lit(None, dtype=pl.String))
        )
        .sort("shop_id")
    )


def require_eligible(
    judged: pl.DataFrame, rule: EligibilityConfig, needed: int
) -> None:
    """Raise unless at least `needed` shops are eligible.

    Raises
    ------
    EligibilityError
        Saying how many shops fail which rule, how near the nearest come, and which
        thresholds this data would meet.
    """
    eligible = judged["reason"].null_count()
    if eligible >= max(needed, 1):
        return
    counts = judged.drop_nulls("reason")["reason"].value_counts(sort=True, name="n")
    reasons = "; ".join(f"{row['n']:,}: {row['reason']}" for row in counts.to_dicts())
    months = judged["active_months"].to_numpy()
    averages = judged["avg_active_months_per_year"].to_numpy()
    shops = f"{judged.height:,} shop{'s' if judged.height != 1 else ''}"
    lines = [
        f"{eligible:,} of {shops} may be clustered; a run needs at least "
        f"{max(needed, 1):,}."
    ]
    if reasons:
        lines.append(f"Set apart: {reasons}.")
    lines.append(
        f"Active months per shop: median {np.median(months):.0f}, most {months.max()} "
        f"(rule: at least {12 * rule.min_tenure_years:g}). Active months per active "
        f"year: median {np.median(averages):.1f}, most {averages.max():.1f} (rule: at "
        f"least {rule.min_avg_active_months_per_year:g})."
    )
    lines.append(
        "Lower `eligibility.min_tenure_years` or "
        "`eligibility.min_avg_active_months_per_year` to fit the data's span (such as "
        "`--set eligibility.min_tenure_years=0.5`), or bring more history or shops."
    )
    if eligible > 0:
        lines.append(
            "With so few shops, `clustering.min_cluster_size` may be lowered too."
        )
    raise EligibilityError("\n".join(lines))
