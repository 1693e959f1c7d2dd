"""From sales to the features of eligible shops, today and at earlier months.

A month is *active* for a shop when its net quantity is above 0. A shop is eligible when

- its active months number at least ``12 x min_tenure_years``, and
- its active months per active calendar year average at least
  ``min_avg_active_months_per_year``, and
- it has not lapsed by its own rhythm (`core.segments.states`).

``prepare`` reads and checks the rows, sums them to months, settles `as_of` and judges
every shop; the features themselves come batch by batch from ``Prepared.batches``.

Segments are judged by what shops did *after* a month, with features of what was known
*at* that month. Both come from here: the same features as of several cuts, features of
the months after the oldest cut alone, and the monthly sales in between. A sample of
shops serves, drawn from everyone who was eligible at any of those months, whether or
not they still are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
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
    UNCLUSTERED,
    compute_features,
    feature_set,
    write_concentration,
    write_monthly,
)
from core.retailers.monthly import (
    MAX_MONTHS,
    sales_as_trained,
    shop_activity,
)
from core.retailers.sample import generate_sales
from core.segments.states import LAPSED, LifeCycle, life_counts, month_counts
from core.tables.exact import MILLIONTHS
from core.tables.parts import parts_of, split_by_id
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
    reasons = "; ".join(f"{row['n']:,} {row['reason']}" for row in counts.to_dicts())
    months = judged["active_months"].to_numpy()
    averages = judged["avg_active_months_per_year"].to_numpy()
    shops = f"{judged.height:,} shop{'s' if judged.height != 1 else ''}"
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
    )
    if eligible > 0:
        lines.append(
            "With so few shops, `clustering.min_cluster_size` may be lowered too."
        )
    raise EligibilityError("\n".join(lines))


# A newest month with less than this share of the median month's shops is taken for
# stray rows (a mistyped year, the first days of a month), unless `as_of` is given.
THIN_MONTH_SHARE = 0.05


@dataclass(frozen=True)
class Prepared:
    """What is known of a source once its rows are read and its shops are judged.

    Attributes
    ----------
    sales : Sales
        The checked rows, what was set aside and why.
    as_of : str
        Last month looked at, ``YYYY-MM``.
    shops : DataFrame
        One row per shop: ``shop_id, active_months, active_years, state, first_month,
        last_month, avg_active_months_per_year, reason`` (null: eligible).
    states : DataFrame
        `core.segments.states.LifeCycle.states` of the shops that ever sold.
    life_cycle : LifeCycle
        What tells them.
    notes : list of str
        What a user should know of how `as_of` was settled.
    work : Path
        Folder of the interim files ``monthly`` and ``concentration``.
    config : Config
        What it was prepared with.
    """

    sales: Sales
    as_of: str
    shops: pl.DataFrame
    states: pl.DataFrame
    life_cycle: LifeCycle
    notes: list[str]
    work: Path = field(repr=False)
    config: Config = field(repr=False)

    def states_at(self, t: int) -> pl.DataFrame:
        """Return the states as of another month, by the same rhythm and rules."""
        return _states(self.life_cycle, self.work / "monthly", t)

    @property
    def eligible(self) -> pl.Series:
        """Return the ids of the eligible shops, ascending."""
        return _eligible(self.shops)

    @property
    def exclusions(self) -> pl.DataFrame:
        """Return the shops that are not eligible, each with its reason."""
        return self.shops.filter(pl.col("reason").is_not_null())

    def batches(self, batch_size: int) -> Iterator[pl.DataFrame]:
        """Yield the features of the eligible shops, at most `batch_size` at a time."""
        if self.eligible.is_empty():
            return iter(())
        return compute_features(
            self.work / "monthly",
            self.work / "concentration",
            self.eligible,
            month_index(self.as_of),
            self.config.features,
            batch_size,
        )


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
    as_of_t, notes = resolve_as_of(monthly, sales, config.features.as_of)
    concentration = work / "concentration"
    write_concentration(parts, concentration, config.features, as_of_t)
    life_cycle = life_cycle or learnt_life_cycle(monthly, as_of_t, config)
    states = _states(life_cycle, monthly, as_of_t)
    shops = _judge_shops(parts, monthly, as_of_t, states, config)
    as_of = month_label(as_of_t)
    return Prepared(sales, as_of, shops, states, life_cycle, notes, work, config)


def learnt_life_cycle(monthly: Path, t: int, config: Config) -> LifeCycle:
    """Return what tells states, learnt from what was known at a month."""
    options, parts = config.states, _sold(monthly)
    months = pl.concat([month_counts(part, t) for part in parts])
    lives = pl.concat([life_counts(part, t) for part in parts])
    return LifeCycle.from_counts(months, lives, t, options.rules, options.thresholds)


def _states(life_cycle: LifeCycle, monthly: Path, t: int) -> pl.DataFrame:
    """Return the states of all shops, which take a part of them at a time."""
    return pl.concat([life_cycle.states(part, t) for part in _sold(monthly)])


def _sold(monthly: Path) -> list[pl.LazyFrame]:
    """Return the active months part by part, as `core.segments.states` takes them."""
    scans = [pl.scan_parquet(part, glob=False) for part in parts_of(monthly)]
    return [scan.select("shop_id", "t", "quantity") for scan in scans]


def shop_parts(sales: Sales, folder: Path) -> list[Path]:
    """Return the sales in parts of whole shops, split into `folder` if need be."""
    if sales.path.is_dir():
        return parts_of(sales.path)
    n_rows = sales.intake.rows_kept
    return split_by_id(sales.frame, "shop_id", n_rows, folder) or [sales.path]


def resolve_as_of(
    monthly: Path, sales: Sales, wanted: str | None
) -> tuple[int, list[str]]:
    """Return `chosen_as_of` of the active months in a folder."""
    months = pl.scan_parquet(monthly, glob=False).group_by("t").agg(n=pl.len())
    return chosen_as_of(months.collect(), sales.intake, wanted)


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


def _judge_shops(
    parts: Sequence[Path],
    monthly: Path,
    as_of_t: int,
    states: pl.DataFrame,
    config: Config,
) -> pl.DataFrame:
    """Return every shop of the source with its activity, state and reason."""
    found = []
    for sales, months in zip(parts, parts_of(monthly), strict=True):
        everyone = pl.scan_parquet(sales, glob=False).select("shop_id").unique()
        known = everyone.join(_activity(months, as_of_t), on="shop_id", how="left")
        counts = pl.col("active_months", "active_years").fill_null(0)
        found.append(known.with_columns(counts).collect(engine="streaming"))
    judged = judge_at(_with_state(pl.concat(found), states), as_of_t, config)
    return judged.with_columns(
        first_month=month_label_column("first_t"),
        last_month=month_label_column("last_t"),
    ).drop("first_t", "last_t")


def _activity(monthly: Path, t: int) -> pl.LazyFrame:
    """Return `shop_activity` of the months up to one, of a part or of all shops."""
    months = nw.from_native(pl.scan_parquet(monthly, glob=False)).lazy()
    activity: pl.LazyFrame = shop_activity(months.filter(nw.col("t") <= t)).to_native()
    return activity


def _with_state(shops: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    return shops.join(states.select("shop_id", "state"), on="shop_id", how="left")


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


HISTORY = "history.parquet"
LATER = "later.parquet"
MONTHLY = "monthly.parquet"
STATE_HISTORY = "state-history.parquet"


def cut_months(prepared: Prepared) -> list[str]:
    """Return the cuts, newest first: the newest leaves one horizon to `as_of`."""
    options = prepared.config.evaluation
    newest = month_index(prepared.as_of) - options.horizon_months
    steps = range(options.n_cuts)
    return [month_label(newest - step * options.cut_step_months) for step in steps]


def later_months(prepared: Prepared) -> int:
    """Return the months from the oldest cut to `as_of`."""
    return month_index(prepared.as_of) - month_index(cut_months(prepared)[-1])


def write_history(prepared: Prepared, folder: Path) -> list[str]:
    """Write the past of at most ``evaluation.max_shops`` shops.

    Parameters
    ----------
    prepared : Prepared
        Its interim files are read again.
    folder : Path
        Gets four files. `HISTORY`: ``as_of`` (the cut, ``YYYY-MM``), ``shop_id``, the
        features and `core.retailers.features.UNCLUSTERED` as of it, of the shops
        eligible then. `LATER`: ``shop_id``, and the same of the months after the
        oldest cut alone, of the sampled shops with a sale in them.
        `MONTHLY`: ``shop_id, t, quantity`` (units), ``n_products`` of the sampled
        shops' active months; ``t`` is `core.months.month_index`.
        `STATE_HISTORY`: ``shop_id, as_of, state`` of the sampled shops that were
        eligible at that cut or had lapsed, by what was known then.

    Returns
    -------
    list of str
        The cuts at which at least one shop was eligible, newest first.
    """
    as_of_t = month_index(prepared.as_of)
    cuts = {month: month_index(month) for month in cut_months(prepared)}
    judged = {month: _judged_at(prepared, t) for month, t in cuts.items()}
    eligible = {month: _eligible(table) for month, table in judged.items()}
    known = [_with_lapsed(table) for table in (*judged.values(), prepared.shops)]
    sample = _draw(prepared, [table["shop_id"] for table in known])
    work = prepared.work / "history"
    work.mkdir()
    sales = work / "sales.parquet"
    prepared.sales.frame.join(
        sample.to_frame().lazy(), on="shop_id", how="semi"
    ).sink_parquet(sales)
    parts = [
        table.select(pl.lit(month).alias("as_of"), pl.all())
        for month, shops in eligible.items()
        for table in _features_at(prepared, sales, _among(shops, sample), cuts[month])
    ]
    history = pl.concat([_empty(prepared, ["as_of"]), *parts], how="vertical_relaxed")
    history.write_parquet(folder / HISTORY)
    states = [
        table.filter(pl.col("shop_id").is_in(sample.implode())).select(
            "shop_id", pl.lit(month).alias("as_of"), "state"
        )
        for month, table in zip(cuts, known, strict=False)
    ]
    pl.concat(states).write_parquet(folder / STATE_HISTORY)
    window = later_months(prepared)
    active = _active_since(prepared, as_of_t - window + 1)
    later = _features_at(prepared, sales, _among(active, sample), as_of_t, window)
    recent = pl.concat([_empty(prepared, []), *later], how="vertical_relaxed")
    recent.write_parquet(folder / LATER)
    _months_of(prepared, sample, as_of_t).write_parquet(folder / MONTHLY)
    shutil.rmtree(work)
    return [month for month, shops in eligible.items() if len(shops)]


def _judged_at(prepared: Prepared, t: int) -> pl.DataFrame:
    """Judge shops by what they had done, and what was known, up to a month."""
    monthly = prepared.work / "monthly"
    parts = [_activity(part, t) for part in parts_of(monthly)]
    known = pl.concat([part.collect(engine="streaming") for part in parts])
    life_cycle = learnt_life_cycle(monthly, t, prepared.config)
    found = _with_state(known, _states(life_cycle, monthly, t))
    return judge_at(found, t, prepared.config)


def _eligible(judged: pl.DataFrame) -> pl.Series:
    return judged.filter(pl.col("reason").is_null())["shop_id"]


def _with_lapsed(judged: pl.DataFrame) -> pl.DataFrame:
    """Return the shops that are eligible, or would be if they had not lapsed."""
    return judged.filter(pl.col("reason").is_null() | (pl.col("reason") == HAS_LAPSED))


def _draw(prepared: Prepared, eligible: list[pl.Series]) -> pl.Series:
    """Draw shops from everyone who was eligible, or lapsed, at any of the months."""
    everyone = pl.concat(eligible).unique().sort()
    n = min(len(everyone), prepared.config.evaluation.max_shops)
    return everyone.sample(n, seed=prepared.config.seed).sort().rename("shop_id")


def _among(shops: pl.Series, sample: pl.Series) -> pl.Series:
    return shops.filter(shops.is_in(sample.implode()))


def _active_since(prepared: Prepared, t: int) -> pl.Series:
    """Return the shops with a sale from a month on."""
    months = pl.scan_parquet(prepared.work / "monthly", glob=False)
    recent = months.filter(pl.col("t").is_between(t, month_index(prepared.as_of)))
    return recent.select(pl.col("shop_id").unique()).collect()["shop_id"]


def _features_at(
    prepared: Prepared, sales: Path, shops: pl.Series, t: int, window: int | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the features of shops as of a month, of `window` months where given."""
    if shops.is_empty():
        return
    features = prepared.config.features
    monthly = prepared.work / "monthly"
    if window is not None:
        features = features.model_copy(update={"history_months": window})
        monthly = prepared.work / "history" / "recent.parquet"
        pl.scan_parquet(prepared.work / "monthly", glob=False).filter(
            pl.col("t") > t - window
        ).sink_parquet(monthly)
    concentration = prepared.work / "history" / f"concentration-{t}-{window}"
    write_concentration([sales], concentration, features, t)
    size = prepared.config.clustering.batch_size
    yield from compute_features(monthly, concentration, shops, t, features, size)


def _months_of(prepared: Prepared, sample: pl.Series, as_of_t: int) -> pl.DataFrame:
    """Return the active months of the sampled shops up to `as_of`."""
    return (
        pl.scan_parquet(prepared.work / "monthly", glob=False)
        .filter(pl.col("t") <= as_of_t)
        .join(sample.to_frame().lazy(), on="shop_id", how="semi")
        .select(
            "shop_id",
            pl.col("t").cast(pl.Int32),
            quantity=pl.col("quantity") / MILLIONTHS,
            n_products=pl.col("n_products").cast(pl.Int32),
        )
        .sort("shop_id", "t")
        .collect(engine="streaming")
    )


def _empty(prepared: Prepared, first: list[str]) -> pl.DataFrame:
    """Return a table of features without rows, so that no cut leaves no columns."""
    names = feature_set(prepared.config.features.name).names
    schema: dict[str, Any] = dict.fromkeys([*first, "shop_id"], pl.String)
    numbers = [*names, *UNCLUSTERED]
    return pl.DataFrame(schema=schema | dict.fromkeys(numbers, pl.Float64))


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
