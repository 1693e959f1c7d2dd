"""The built-in generator: monthly FMCG sales of shops whose behaviour is known.

The model, for shop i, month t of its tenure and calendar month c(t)::

    units[i, t] = level[i] * season[i, c(t)] * exp(growth[i] * years[i, t]) * noise
    count[i, t] = 1 + Binomial(listed[i] - 1, (breadth[i, t] - 1) / (listed[i] - 1))
    breadth[i, t] = breadth[i] * exp(breadth_growth[i] * years[i, t]), at least 1

where `years` counts from the middle of the shop's tenure, the noise is lognormal with
mean 1 and `listed` is the size of the shop's repertoire, drawn from a catalogue with
popularity. A month is active with the shop's own probability. Its units are spread over
`count` products of the repertoire by Zipf weights. Levels are lognormal and independent
of the behaviour.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import polars as pl

from core.config import SampleConfig
from core.data.archetypes import (
    FAMILIES,
    ArchetypeFamily,
    Population,
    draw_population,
)
from core.data.assortment import Sales, catalogue_size_for, draw_baskets
from core.data.demand import Demand, draw_demand
from core.errors import ConfigError, did_you_mean, listed


@dataclass(frozen=True)
class Difficulty:
    """How hard the archetypes are to tell from the rows.

    Attributes
    ----------
    noise_cv : float
        Coefficient of variation of the monthly noise on units.
    between_share : float
        Probability that a shop stands between two archetypes.
    """

    noise_cv: float
    between_share: float


# Given the truth of other shops, a linear discriminant on seasonal factors, trends,
# activity, breadth, concentration and residual spread of the eligible archetype shops
# (5,000 shops, 36 months, seed 7) reaches an adjusted Rand index of 0.98, 0.95, 0.92;
# with 20 active months or more, 0.99, 0.96 and 0.94.
DIFFICULTIES = {
    "easy": Difficulty(noise_cv=0.35, between_share=0.05),
    "medium": Difficulty(noise_cv=0.55, between_share=0.15),
    "hard": Difficulty(noise_cv=0.70, between_share=0.20),
}
YEARS_ALLOWED = (1900, 2199)


@dataclass(frozen=True)
class SyntheticSales:
    """Generated sales and what they were generated from.

    Attributes
    ----------
    rows : polars.DataFrame
        One row per shop, product, year and month with sales: `shop_id` and
        `product_id` (String), `year` and `month` (Int32), `sales_qty` (Float64, whole
        units, at least 1). No key twice, no nulls.
    truth : polars.DataFrame
        One row per shop, for evaluation only: `shop_id`; `kind` (``archetype``,
        ``between`` or ``structureless``); `archetype` (its name; both parents as
        ``a + b`` for an in-between shop; null for a structureless one); `weight` (part
        of the first parent, 0.3 to 0.7; null unless in between); `first_month` and
        `last_month` with sales (YYYY-MM); `monthly_level` (units of an average active
        month in mid-tenure, before noise).
    """

    rows: pl.DataFrame
    truth: pl.DataFrame


def generate_sales(sample: SampleConfig, seed: int) -> SyntheticSales:
    """Generate monthly sales with known archetypes, or without any structure.

    Parameters
    ----------
    sample : SampleConfig
        Shops, months, structure, difficulty, family, products per month.
    seed : int
        Seed, at least 0. The same configuration and seed give the same rows.

    Returns
    -------
    SyntheticSales
        Rows by shop and month, and the truth about each shop.

    Raises
    ------
    ConfigError
        If `sample.family` is unknown, or the months leave the years 1900 to 2199.
    """
    family = _family(sample.family)
    months = month_starts(sample.first_month, sample.n_months)
    difficulty = DIFFICULTIES[sample.difficulty]
    # A stream per stage: a change in one leaves the draws of the others alone.
    people, demands, baskets = np.random.default_rng(seed).spawn(3)
    population = draw_population(
        family, sample.structure, difficulty.between_share, sample.n_shops, people
    )
    demand = draw_demand(
        population,
        calendar_month=months.dt.month().to_numpy(),
        noise_cv=difficulty.noise_cv,
        products_per_month=sample.products_per_month,
        rng=demands,
    )
    catalogue_size = catalogue_size_for(sample.products_per_month)
    sales = list(draw_baskets(demand, catalogue_size, baskets))
    shop_id = identifiers("S", sample.n_shops, width=6)
    product_id = identifiers("P", catalogue_size, width=4)
    return SyntheticSales(
        rows=rows_table(sales, shop_id, product_id, months),
        truth=_truth_table(population, family, demand, shop_id, months),
    )


def _family(name: str) -> ArchetypeFamily:
    """Return the family of archetypes of that name."""
    if name not in FAMILIES:
        raise ConfigError(
            f"`sample.family` is `{name}`; expected one of {listed(list(FAMILIES))}."
            f"{did_you_mean(name, FAMILIES)}"
        )
    return FAMILIES[name]


def month_starts(first_month: str, n_months: int) -> pl.Series:
    """Return the first day of every month of the window."""
    year, month = (int(part) for part in first_month.split("-"))
    final_year, final_month = divmod(year * 12 + month - 1 + n_months - 1, 12)
    earliest, latest = YEARS_ALLOWED
    if year < earliest or final_year > latest:
        raise ConfigError(
            f"`sample.first_month` {first_month} with `sample.n_months` {n_months} "
            f"reaches from {year:04} to {final_year:04}; expected years from "
            f"{earliest} to {latest}. Choose another first month or fewer months."
        )
    return pl.date_range(
        dt.date(year, month, 1),
        dt.date(final_year, final_month + 1, 1),
        interval="1mo",
        eager=True,
    )


def identifiers(prefix: str, count: int, width: int) -> pl.Series:
    """Return `count` names such as ``S000007``, longer where the number needs it."""
    number = pl.int_range(count, eager=True).cast(pl.String).str.zfill(width)
    return prefix + number


def rows_table(
    sales: list[Sales], shop_id: pl.Series, product_id: pl.Series, months: pl.Series
) -> pl.DataFrame:
    """Put the chunks into one table with names instead of positions."""
    shop, month, product, units = (
        np.concatenate([getattr(chunk, name) for chunk in sales])
        for name in Sales._fields
    )
    return pl.DataFrame(
        {
            "shop_id": shop_id.gather(shop),
            "product_id": product_id.gather(product),
            "year": months.dt.year().cast(pl.Int32).gather(month),
            "month": months.dt.month().cast(pl.Int32).gather(month),
            "sales_qty": units,
        }
    )


def _truth_table(
    population: Population,
    family: ArchetypeFamily,
    demand: Demand,
    shop_id: pl.Series,
    months: pl.Series,
) -> pl.DataFrame:
    """Tell of every shop what it was generated from."""
    n_months = demand.is_active.shape[1]
    first = demand.is_active.argmax(axis=1)
    last = n_months - 1 - demand.is_active[:, ::-1].argmax(axis=1)
    labels = months.dt.strftime("%Y-%m")
    names = pl.Series([archetype.name for archetype in family.archetypes])
    parents = pl.DataFrame(
        {"first": population.first, "second": population.second}
    ).with_columns(pl.all().replace(-1, None))
    is_between = pl.col("first") != pl.col("second")
    return parents.with_columns(
        a=names.gather(parents["first"]), b=names.gather(parents["second"])
    ).select(
        shop_id=shop_id,
        kind=pl.when(pl.col("first").is_null())
        .then(pl.lit("structureless"))
        .when(is_between)
        .then(pl.lit("between"))
        .otherwise(pl.lit("archetype")),
        archetype=pl.when(is_between)
        .then(pl.col("a") + " + " + pl.col("b"))
        .otherwise(pl.col("a")),
        weight=pl.when(is_between).then(pl.lit(population.weight)),
        first_month=labels.gather(first),
        last_month=labels.gather(last),
        monthly_level=demand.level,
    )
