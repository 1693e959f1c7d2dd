"""What is kept for looking back: the past of a sample of shops, as it was known then.

Segments are judged by what shops did *after* a month, with features of what was known
*at* that month. Both come from here: the same features as of several cuts, features of
the months after the oldest cut alone, and the monthly sales in between. A sample of
shops serves, drawn from everyone who was eligible at any of those months, whether or
not they still are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from core.months import month_index, month_label
from core.retailers.features import (
    UNCLUSTERED,
    compute_features,
    feature_set,
    write_concentration,
)
from core.retailers.prepare import (
    HAS_LAPSED,
    Known,
    Prepared,
    eligible_of,
    judged_shops,
    learnt_life_cycle,
    read_part,
)
from core.tables.exact import MILLIONTHS
from core.tables.parts import parts_of

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
    work = prepared.work / "history"
    cuts = _known_at_cuts(prepared)
    n_eligible = _write_cuts(prepared, cuts, work)
    sample = _draw(prepared, [work / month for month in cuts])
    _write_sample(prepared, sample, work)
    past = {
        month: pl.scan_parquet(work / month, glob=False)
        .join(sample.to_frame().lazy(), on="shop_id", how="semi", maintain_order="left")
        .collect()
        for month in cuts
    }
    parts = [
        table.select(pl.lit(month).alias("as_of"), pl.all())
        for month, shops in past.items()
        for table in _features_at(prepared, eligible_of(shops), cuts[month])
    ]
    history = pl.concat([_empty(prepared, ["as_of"]), *parts], how="vertical_relaxed")
    history.write_parquet(folder / HISTORY)
    states = [
        shops.select("shop_id", pl.lit(month).alias("as_of"), "state")
        for month, shops in past.items()
    ]
    pl.concat(states).write_parquet(folder / STATE_HISTORY)
    _write_later(prepared, folder)
    shutil.rmtree(work)
    return [month for month, n in n_eligible.items() if n]


def _known_at_cuts(prepared: Prepared) -> dict[str, Known]:
    """Return what was known of all shops at each cut."""
    known, monthly = prepared.known, prepared.work / "monthly"
    found = {}
    for month in cut_months(prepared):
        t = month_index(month)
        life_cycle = learnt_life_cycle(monthly, t, known.config)
        found[month] = replace(known, as_of_t=t, life_cycle=life_cycle)
    return found


def _write_cuts(
    prepared: Prepared, cuts: Mapping[str, Known], work: Path
) -> dict[str, int]:
    """Judge shops at months, by what was known then; return how many were eligible.

    Each month gets a folder with ``shop_id, state, reason`` of the shops that are
    eligible, or would be if they had not lapsed: a file per part.
    """
    for month in cuts:
        (work / month).mkdir(parents=True)
    n_eligible = dict.fromkeys(cuts, 0)
    for part in parts_of(prepared.work / "monthly"):
        months = read_part(part)
        for month, known in cuts.items():
            judged = _with_lapsed(judged_shops(months, known))
            n_eligible[month] += judged["reason"].null_count()
            table = judged.select("shop_id", "state", "reason")
            table.write_parquet(work / month / part.name)
    return n_eligible


def _with_lapsed(judged: pl.DataFrame) -> pl.DataFrame:
    """Return the shops that are eligible, or would be if they had not lapsed."""
    return judged.filter(pl.col("reason").is_null() | (pl.col("reason") == HAS_LAPSED))


def _draw(prepared: Prepared, cuts: Sequence[Path]) -> pl.Series:
    """Draw shops from everyone who was eligible, or lapsed, at any of the months."""
    n_drawn, seed = prepared.config.evaluation.max_shops, prepared.config.seed
    shops = parts_of(prepared.work / "shops")
    n_each = [len(_ever_known(path, cuts)) for path in shops]
    everyone = pl.int_range(sum(n_each), dtype=pl.UInt32, eager=True)
    places = everyone.sample(min(len(everyone), n_drawn), seed=seed).sort()
    drawn, start = [], 0
    for path, n in zip(shops, n_each, strict=True):
        own = places.filter(places.is_between(start, start + n - 1)) - start
        drawn.append(_ever_known(path, cuts).gather(own))
        start += n
    return pl.concat(drawn)


def _ever_known(shops: Path, cuts: Sequence[Path]) -> pl.Series:
    """Return the shops of a part that were eligible, or lapsed, now or at a cut."""
    tables = [_with_lapsed(read_part(shops))]
    tables += [read_part(cut / shops.name) for cut in cuts]
    return pl.concat([table["shop_id"] for table in tables]).unique().sort()


def _write_sample(prepared: Prepared, sample: pl.Series, work: Path) -> None:
    """Write the sales and the active months of some shops."""
    drawn = sample.to_frame().lazy()
    rows = prepared.sales.frame.join(drawn, on="shop_id", how="semi")
    rows.sink_parquet(work / "sales.parquet")
    months = pl.scan_parquet(prepared.work / "monthly", glob=False)
    own = months.join(drawn, on="shop_id", how="semi").sort("shop_id", "t")
    own.sink_parquet(work / "monthly.parquet")


def _features_at(
    prepared: Prepared, shops: pl.Series, known: Known, window: int | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the features of sampled shops at a cut, of `window` months if given."""
    work, features, t = prepared.work / "history", known.config.features, known.as_of_t
    monthly = work / "monthly.parquet"
    if window is not None:
        features = features.model_copy(update={"history_months": window})
        is_recent = pl.col("t") > t - window
        everyones = pl.scan_parquet(prepared.work / "monthly", glob=False)
        oldest = everyones.filter(is_recent).select(pl.col("t").min()).collect().item()
        known = replace(known, oldest=oldest)
        own = pl.scan_parquet(monthly, glob=False).filter(is_recent)
        monthly = work / "recent.parquet"
        own.sink_parquet(monthly)
    concentration = work / f"concentration-{t}-{window}"
    write_concentration([work / "sales.parquet"], concentration, features, t)
    if shops.is_empty():
        return
    size = known.config.clustering.batch_size
    found = (monthly, concentration, shops, known.span, features, size)
    yield from compute_features(*found)


def _write_later(prepared: Prepared, folder: Path) -> None:
    """Write what the sampled shops did up to `as_of`, and after the oldest cut."""
    as_of_t, window = prepared.known.as_of_t, later_months(prepared)
    months = pl.scan_parquet(prepared.work / "history" / "monthly.parquet", glob=False)
    known = months.filter(pl.col("t") <= as_of_t)
    recent = known.filter(pl.col("t") > as_of_t - window).select("shop_id")
    active = recent.unique().collect()["shop_id"]
    later = _features_at(prepared, active, prepared.known, window)
    table = pl.concat([_empty(prepared, []), *later], how="vertical_relaxed")
    table.write_parquet(folder / LATER)
    known.select(
        "shop_id",
        pl.col("t").cast(pl.Int32),
        quantity=pl.col("quantity") / MILLIONTHS,
        n_products=pl.col("n_products").cast(pl.Int32),
    ).collect().write_parquet(folder / MONTHLY)


def _empty(prepared: Prepared, first: list[str]) -> pl.DataFrame:
    """Return a table of features without rows, so that no cut leaves no columns."""
    names = feature_set(prepared.config.features.name).names
    schema: dict[str, Any] = dict.fromkeys([*first, "shop_id"], pl.String)
    numbers = [*names, *UNCLUSTERED]
    return pl.DataFrame(schema=schema | dict.fromkeys(numbers, pl.Float64))
