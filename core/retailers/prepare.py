"""From sales to the features of eligible shops, today and at earlier months.

A month is *active* for a shop when its net quantity is above 0. A shop is eligible when

- its active months number at least ``12 x min_tenure_years``, and
- its active months per active calendar year average at least
  ``min_avg_active_months_per_year``, and
- it has not lapsed by its own rhythm (`core.segments.states`).

``prepare`` reads and checks the rows, sums them to months, settles `as_of` and judges
every shop; the features themselves come batch by batch from ``Prepared.batches``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from core.config import Config, EligibilityConfig
from core.errors import ConfigError, EligibilityError
from core.months import month_index, month_label, month_label_column
from core.retailers.features import (
    compute_features,
    write_concentration,
    write_monthly,
)
from core.retailers.monthly import (
    MAX_MONTHS,
    grid_start,
    sales_as_trained,
    shop_activity,
)
from core.retailers.sample import generate_sales
from core.segments.states import LAPSED, LifeCycle, life_counts, month_counts
from core.tables.parts import parts_of, split_by
from core.tables.sales import (
    Sales,
    ValidationReport,
    read_sales,
    sales_from_frame,
)

# What a shop did that it is not segmented; the numbers are those of the options.
TOO_SHORT = "sold in fewer than {:g} months"
TOO_SPARSE = "sold in fewer than {:g} months a year on average"
NO_SALES = "never sold more than was returned"
HAS_LAPSED = "stopped selling (lapsed)"


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
            .then(pl.lit(TOO_SHORT.format(12 * rule.min_tenure_years)))
            .when(
                pl.col("avg_active_months_per_year")
                < rule.min_avg_active_months_per_year
            )
            .then(pl.lit(TOO_SPARSE.format(rule.min_avg_active_months_per_year)))
            .otherwise(pl.lit(None, dtype=pl.String))
        )
        .sort("shop_id")
    )


def require_eligible(
    judged: pl.DataFrame | pl.LazyFrame, rule: EligibilityConfig, needed: int
) -> None:
    """Raise unless at least `needed` shops are eligible.

    Raises
    ------
    EligibilityError
        Saying how many shops fail which rule, how near the nearest come, and which
        thresholds this data would meet.
    """
    n_by_reason = reason_counts(judged)
    n_shops, eligible = sum(n_by_reason.values()), n_by_reason.pop(None, 0)
    if eligible >= max(needed, 1):
        return
    reasons = "; ".join(f"{n:,} {reason}" for reason, n in n_by_reason.items())
    known = judged.lazy().select("active_months", "avg_active_months_per_year")
    months, averages = (column.to_numpy() for column in known.collect())
    shops = f"{n_shops:,} shop{'s' if n_shops != 1 else ''}"
    lines = [
        f"{eligible:,} of {shops} can be segmented; a run needs at least "
        f"{max(needed, 1):,}."
    ]
    if reasons:
        lines.append(f"Not segmented: {reasons}.")
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
        if n_shops >= needed
        else f"Bring more shops: the rows have {shops} in all, whatever the rules are."
    )
    if eligible > 0:
        lines.append(
            "With so few shops, `clustering.min_cluster_size` may be lowered too."
        )
    raise EligibilityError("\n".join(lines))


def shop_counts(n_by_reason: Mapping[str | None, int]) -> dict[str, Any]:
    """Return ``n_shops``, ``n_eligible`` and ``exclusions``, the others by reason."""
    excluded = {reason: n for reason, n in n_by_reason.items() if reason is not None}
    n_eligible = n_by_reason.get(None, 0)
    n_shops = n_eligible + sum(excluded.values())
    return {"n_shops": n_shops, "n_eligible": n_eligible, "exclusions": excluded}


def reason_counts(judged: pl.DataFrame | pl.LazyFrame) -> dict[str | None, int]:
    """Return how many shops are eligible (None), or why they are not; most first."""
    counts = judged.lazy().group_by("reason").agg(n=pl.len()).collect()
    return dict(counts.sort("n", "reason", descending=[True, False]).iter_rows())


# A newest month with less than this share of the median month's shops is taken for
# stray rows (a mistyped year, the first days of a month), unless `as_of` is given.
THIN_MONTH_SHARE = 0.05


@dataclass(frozen=True)
class Known:
    """What is known of all shops when those of a part are looked at.

    Attributes
    ----------
    config : Config
        Rules and features.
    as_of_t : int
        Last month looked at (`core.months.month_index`).
    oldest : int or None
        The first active month of anybody, if any is.
    life_cycle : LifeCycle
        What tells states.
    """

    config: Config
    as_of_t: int
    oldest: int | None
    life_cycle: LifeCycle

    @property
    def span(self) -> tuple[int, int]:
        """Return the first and the last month of everybody's grid."""
        return grid_start(self.oldest, self.as_of_t), self.as_of_t


@dataclass(frozen=True)
class Prepared:
    """What is known of a source once its rows are read and its shops are judged.

    Attributes
    ----------
    sales : Sales
        The checked rows, what was set aside and why.
    known : Known
        What is of all shops together.
    notes : list of str
        What a user should know of how `as_of` was settled.
    work : Path
        Folder of the interim folders ``monthly``, ``concentration`` and ``shops``:
        a file for each part of the shops, in ascending order.
    """

    sales: Sales
    known: Known
    notes: list[str]
    work: Path = field(repr=False)

    @property
    def config(self) -> Config:
        """Return what it was prepared with."""
        return self.known.config

    @property
    def as_of(self) -> str:
        """Return the last month looked at, ``YYYY-MM``."""
        return month_label(self.known.as_of_t)

    @property
    def life_cycle(self) -> LifeCycle:
        """Return what tells states."""
        return self.known.life_cycle

    @property
    def shops(self) -> pl.LazyFrame:
        """Return `judged_shops` of all parts: a row for every shop, ascending."""
        return pl.scan_parquet(self.work / "shops", glob=False)

    @property
    def exclusions(self) -> pl.LazyFrame:
        """Return `JUDGED_COLUMNS` of the shops that are not eligible."""
        return self.shops.filter(pl.col("reason").is_not_null()).select(JUDGED_COLUMNS)

    @property
    def states(self) -> pl.LazyFrame:
        """Return `LifeCycle.states` of the shops that ever sold."""
        sold = self.shops.filter(pl.col("active_months") > 0)
        return sold.select("shop_id", "state", pl.exclude(JUDGED_COLUMNS))

    def states_at(self, t: int) -> pl.DataFrame:
        """Return the states as of another month, by the same rhythm and rules."""
        sold = _sold(self.work / "monthly")
        return pl.concat([self.life_cycle.states(part, t) for part in sold])

    def facts(self) -> dict[str, Any]:
        """Return how many shops there are, are eligible, or why they are not."""
        return shop_counts(reason_counts(self.shops))

    def parts(
        self, batch_size: int
    ) -> Iterator[tuple[pl.DataFrame, Iterator[pl.DataFrame]]]:
        """Yield the shops part by part, with the features of those eligible.

        Yields
        ------
        shops : DataFrame
            Rows of `shops`.
        batches : iterator of DataFrame
            Features of the eligible among them, at most `batch_size` at a time.
        """
        interim = ("shops", "monthly", "concentration")
        files = [parts_of(self.work / name) for name in interim]
        for path, monthly, concentration in zip(*files, strict=True):
            shops = read_part(path)
            yield (
                shops,
                compute_features(
                    monthly,
                    concentration,
                    eligible_of(shops),
                    self.known.span,
                    self.config.features,
                    batch_size,
                ),
            )

    def batches(self, batch_size: int) -> Iterator[pl.DataFrame]:
        """Yield the features of the eligible shops, at most `batch_size` at a time."""
        for _, batches in self.parts(batch_size):
            yield from batches


def prepare(
    config: Config,
    work: Path,
    frame: Any = None,
    *,
    has_products: bool | None = None,
    life_cycle: LifeCycle | None = None,
) -> Prepared:
    """Read, check and sum a source, and judge its shops.

    Parameters
    ----------
    config : Config
        Says what to read and by which rules.
    work : Path
        Folder for interim Parquet files; must outlive the result.
    frame : pandas, Polars, DuckDB or Arrow table, or Sales, optional
        Rows to use instead of the configured source; `Sales` are not checked again.
    has_products : bool, optional
        Whether the model that they are for was trained with products; see
        `core.retailers.monthly.sales_as_trained`. Default: no model has a say.
    life_cycle : LifeCycle, optional
        Of that model. Default: learnt from these rows.

    Raises
    ------
    SourceError, SchemaError
        If the source cannot be read, or its columns or rows cannot be used.
    FeatureMismatchError
        If the model was trained with products and the rows have none.
    ConfigError
        If `as_of` lies before the first month of the data.
    """
    if isinstance(frame, Sales):
        sales = frame
    elif frame is None:
        sales = read_sales(config, work, generate_sales)
    else:
        sales = sales_from_frame(frame, config, work)
    if has_products is not None:
        path = work / "as_trained.parquet"
        sales = sales_as_trained(sales, has_products, path)
    monthly = work / "monthly"
    parts = shop_parts(sales, work / "parts")
    write_monthly(parts, monthly, config.features, sales.has_unique_keys)
    months = pl.scan_parquet(monthly, glob=False).group_by("t").agg(n=pl.len())
    found = months.collect(engine="streaming")
    as_of_t, notes = chosen_as_of(found, sales.intake, config.features.as_of)
    write_concentration(parts, work / "concentration", config.features, as_of_t)
    life_cycle = life_cycle or learnt_life_cycle(monthly, as_of_t, config)
    oldest: Any = found["t"].min()  # typed by Polars as of any kind
    known = Known(config, as_of_t, oldest, life_cycle)
    (work / "shops").mkdir()
    for rows, own in zip(parts, parts_of(monthly), strict=True):
        everyone = pl.scan_parquet(rows, glob=False).select("shop_id").unique()
        judged = judged_shops(read_part(own), known, everyone)
        judged.write_parquet(work / "shops" / own.name)
    return Prepared(sales, known, notes, work)


def learnt_life_cycle(monthly: Path, t: int, config: Config) -> LifeCycle:
    """Return what tells states, learnt from what was known at a month."""
    options, parts = config.states, _sold(monthly)
    months = pl.concat([month_counts(part, t) for part in parts])
    lives = pl.concat([life_counts(part, t) for part in parts])
    return LifeCycle.from_counts(months, lives, t, options.rules, options.thresholds)


def _sold(monthly: Path) -> list[pl.LazyFrame]:
    """Return the active months part by part, as `core.segments.states` takes them."""
    scans = [pl.scan_parquet(part, glob=False) for part in parts_of(monthly)]
    return [scan.select("shop_id", "t", "quantity") for scan in scans]


def shop_parts(sales: Sales, folder: Path) -> list[Path]:
    """Return the sales in parts of whole shops, split into `folder` if need be."""
    if sales.path.is_dir():
        return parts_of(sales.path)
    n_rows = sales.intake.rows_kept
    return split_by(sales.frame, "shop_id", n_rows, folder) or [sales.path]


def chosen_as_of(
    months: pl.DataFrame, intake: ValidationReport, wanted: str | None
) -> tuple[int, list[str]]:
    """Return the month index of `as_of`, and what to tell the user about it.

    A month asked for is taken. Otherwise it is the newest month that is complete (dated
    rows reach to its last days) and has at least 5% of the median month's shops.

    Parameters
    ----------
    months : DataFrame
        ``t`` and ``n``, the shops that were active in a month.
    intake : ValidationReport
        The account of the rows.
    wanted : str or None
        ``YYYY-MM``.
    """
    months = months.sort("t")
    if months.is_empty():
        newest = intake.newest_month or "1900-01"
        return month_index(wanted or newest), []
    t, n = months["t"].to_list(), months["n"].to_list()
    if wanted is not None:
        return month_index(wanted), _notes_on_wanted(wanted, t)
    candidates = [i for i in range(len(t)) if n[i] >= THIN_MONTH_SHARE * _median(n)]
    partial = intake.partial_last_month
    if partial is not None and len(candidates) > 1:
        candidates = [
            i for i in candidates if t[i] < month_index(partial)
        ] or candidates
    last = candidates[-1]
    notes = []
    if last < len(t) - 1:
        why = (
            f"{partial} is not complete"
            if partial == month_label(t[-1]) and last == len(t) - 2
            else "later months are incomplete or hold few shops"
        )
        notes.append(
            f"`as_of` is {month_label(t[last])}: {why} (newest: {month_label(t[-1])} "
            f"with {n[-1]:,} shops). Pass `--as-of` to choose another month."
        )
    return t[last], notes


def _notes_on_wanted(wanted: str, t: list[int]) -> list[str]:
    """Check a month that the user named against the months there are."""
    index = month_index(wanted)
    if index < t[0]:
        raise ConfigError(
            f"`features.as_of` is {wanted}, but the data starts in {month_label(t[0])} "
            f"and ends in {month_label(t[-1])}."
        )
    if index > t[-1]:
        return [f"`as_of` is {wanted}, but the data ends in {month_label(t[-1])}."]
    return []


def _median(values: list[int]) -> float:
    return float(sorted(values)[len(values) // 2])


JUDGED_COLUMNS = (
    *("shop_id", "active_months", "active_years", "state"),
    *("avg_active_months_per_year", "reason", "first_month", "last_month"),
)
"""What `judged_shops` tells before what states follow from, as in exclusions.csv."""


def judged_shops(
    monthly: pl.DataFrame, known: Known, everyone: pl.LazyFrame | None = None
) -> pl.DataFrame:
    """Judge the shops of a part by what they had done up to a month.

    Parameters
    ----------
    monthly : DataFrame
        `core.retailers.monthly.monthly_sales` of all months of whole shops.
    known : Known
    everyone : LazyFrame, optional
        ``shop_id`` of all shops of the part, also those that never sold. Default:
        those that sold up to the month.

    Returns
    -------
    DataFrame
        By ascending id, `JUDGED_COLUMNS`; ``reason`` is null for an eligible shop;
        then what the state follows from, see `core.segments.states.LifeCycle.states`.
        Of a shop that had never sold, only id, counts and ``reason`` are not null.
    """
    t = known.as_of_t
    until_then = nw.from_native(monthly.lazy().filter(pl.col("t") <= t)).lazy()
    found: pl.LazyFrame = shop_activity(until_then).to_native()
    if everyone is not None:
        counts = pl.col("active_months", "active_years").fill_null(0)
        found = everyone.join(found, on="shop_id", how="left").with_columns(counts)
    states = known.life_cycle.states(monthly.select("shop_id", "t", "quantity"), t)
    own = states.lazy().select("shop_id", "state")
    activity = found.join(own, on="shop_id", how="left").collect()
    judged = judge_at(activity, t, known.config).with_columns(
        first_month=month_label_column("first_t"),
        last_month=month_label_column("last_t"),
    )
    told = judged.select(JUDGED_COLUMNS)
    return told.join(
        states.drop("state"), on="shop_id", how="left", maintain_order="left"
    )


def eligible_of(judged: pl.DataFrame) -> pl.Series:
    """Return the ids of the eligible shops."""
    return judged.filter(pl.col("reason").is_null())["shop_id"]


def read_part(path: Path) -> pl.DataFrame:
    """Return an interim file of a part of the shops."""
    return pl.read_parquet(path, glob=False, memory_map=False)


def judge_at(activity: pl.DataFrame, as_of_t: int, config: Config) -> pl.DataFrame:
    """Judge shops by what they did up to a month.

    Parameters
    ----------
    activity : DataFrame
        `core.retailers.monthly.shop_activity` of the months up to `as_of_t`, with
        ``state``.
    as_of_t : int
        Month index.
    config : Config
        Its eligibility rules, and the window of the features.

    Returns
    -------
    DataFrame
        `core.retailers.prepare.judge` of it; shops that have lapsed, or without a sale
        in the window, have a reason, too.
    """
    has_lapsed = pl.col("reason").is_null() & (pl.col("state") == LAPSED)
    judged = judge(activity, config.eligibility).with_columns(
        reason=pl.when(has_lapsed).then(pl.lit(HAS_LAPSED)).otherwise("reason")
    )
    oldest = as_of_t - MAX_MONTHS + 1
    window = config.features.history_months
    if config.features.name == "behaviour":
        oldest = max(oldest, as_of_t - window + 1)
    if (silent := config.eligibility.max_inactive_months) is not None:
        oldest = max(oldest, as_of_t - silent + 1)
    is_gone = pl.col("reason").is_null() & (pl.col("last_t") < oldest)
    gone = f"sold nothing in the last {as_of_t - oldest + 1} months"
    return judged.with_columns(
        reason=pl.when(is_gone).then(pl.lit(gone)).otherwise(pl.col("reason"))
    )


def write_batches(batches: Iterator[pl.DataFrame], path: Path) -> None:
    """Write batches as row groups of one Parquet file."""
    import pyarrow.parquet as pq

    writer = None
    for batch in batches:
        table = batch.to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()
