"""Segments of earlier days held against what customers ordered afterwards.

At a cut, thresholds are learnt and customers placed from what was known then; the
orders of the horizon after it say what segments were worth beside the plainest rival,
tenths by recency and by frequency, and beside the same labels dealt out at random.

Where orders have dates, a cut is a day of the calendar. Where they have none, the only
clock is each customer's own: a cut at day 120 is 120 days after its first order. It
looks at nothing later, as a cut at a share of a customer's orders would, whose place
depends on how many are still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import polars as pl

from core.baskets.features import customer_features
from core.baskets.rows import N_ORDERS
from core.errors import listed
from core.evaluation.out_of_time import MIN_ENTITIES_AT_CUT
from core.evaluation.outcomes import size_classes
from core.evaluation.schemes import (
    ALL,
    LabelledCut,
    combined,
    compare_schemes,
)
from core.models.seeding import derived_seed
from core.rules.assign import assign_rules
from core.rules.grammar import RuleSet

SEGMENTS = "segments"
DECILES = "recency-frequency deciles"
YEAR = 365
# More add nothing that an interval would show.
MAX_CUSTOMERS = 50_000
# Of the gaps, from which the largest one looks like a limit of the source.
CAPPED_SHARE = 0.02
ALIKE = "about as well as"
OUTCOMES = ("orders", "basket", "items", "churn")
CUTS = {
    "cut": pl.String,
    "day": pl.Int64,
    "known": pl.Int64,
    "not_placed": pl.Int64,
    "had_left": pl.Int64,
    "not_observed": pl.Int64,
    "followed": pl.Int64,
    "thresholds": pl.String,
}
_GAP = "days_since_prior_order"
_IS_FOLLOWED = pl.col("is_observed") & ~pl.col("had_left")
Scheme = Callable[[pl.DataFrame], pl.Series]


@dataclass(frozen=True)
class OutOfTime:
    """What segments told of the time after them, by cut.

    Attributes
    ----------
    table : DataFrame
        Columns `core.evaluation.schemes.COMPARED`: the share of the variance of
        `orders`, `basket` (items per order), `items` and `churn` (1.0 without an order)
        of the horizon that each scheme explains, and leads.
    cuts : DataFrame
        Columns `CUTS`: day (since 1970-01-01, or since the customer's first order),
        customers with enough orders by then (`known`), of these without a feature that
        the rules need (`not_placed`), without an order in a horizon before the cut
        (`had_left`), and not observed for a whole horizon after it (`not_observed`);
        none of them is followed. Thresholds learnt, as text.
    horizon_days : int
    notes : tuple of str
        What limits the reading, a sentence each.
    """

    table: pl.DataFrame
    cuts: pl.DataFrame
    horizon_days: int
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def lines(self) -> list[str]:
        """What the tables say, a sentence each, the verdict first."""
        return [*_verdict(self.table), *_followed(self), *self.notes]


def out_of_time(
    orders: pl.LazyFrame,
    items: pl.LazyFrame,
    products: pl.DataFrame,
    aisles: pl.DataFrame,
    rules: RuleSet,
    *,
    cuts: int = 3,
    horizon_days: int = 60,
    min_orders: int = 5,
    seed: int = 42,
    schemes: Mapping[str, Scheme] | None = None,
    max_customers: int = MAX_CUSTOMERS,
) -> OutOfTime:
    """Return how well segments tell next orders, baskets, items and churn.

    Parameters
    ----------
    orders, items, products, aisles : frames
        As `core.baskets.features.customer_features` takes them; `orders` with
        `order_day`, days since 1970-01-01, which is null where orders have no dates.
    rules : RuleSet
        As written, so that each cut learns the thresholds anew; thresholds with a
        number stay.
    cuts : int, default 3
        Evenly over the days at which at least half as many customers can be followed
        as at the best one, the last of them first.
    horizon_days : int, default 60
        Days after a cut that are looked at.
    min_orders : int, default 5
        Fewest orders up to a cut of a customer who is placed.
    seed : int, default 42
    schemes : mapping of str to callable, optional
        Further labels, such as a partition of the study: the features at a cut to a
        Series of one label per row.
    max_customers : int, default 50,000
        More are drawn from.

    Returns
    -------
    OutOfTime
        Without a row where fewer than 50 customers can be followed; a line says so.
    """
    drawn, n_customers = _drawn(orders, max_customers, seed)
    timeline, is_dated = _timeline(orders, drawn)
    days = _cut_days(timeline, is_dated, cuts, horizon_days, min_orders)
    timeline = _with_sizes(timeline, items)
    needed = [f.name for f in rules.features if f.missing is None]
    labelled, told = [], []
    for day in days:
        known = _known(timeline, day, horizon_days, min_orders, is_dated)
        ids = timeline.filter(pl.col("day") <= day).join(
            known, on="customer_id", how="semi"
        )
        features = (
            customer_features(
                orders.join(ids.lazy(), on="order_id", how="semi"),
                items.join(ids.lazy(), on="order_id", how="semi"),
                products,
                aisles,
            )
            .join(known.select("customer_id", N_ORDERS), on="customer_id", how="left")
            .sort("customer_id")
            .drop_nulls(needed)
        )
        placed = known.join(
            features, on="customer_id", how="semi", maintain_order="left"
        )
        settled = rules
        if placed.filter(_IS_FOLLOWED).height >= MIN_ENTITIES_AT_CUT:
            assigned = assign_rules(rules, features, "customer_id")
            settled = assigned.rules
            table = assigned.table.rename({"segment": SEGMENTS}).with_columns(
                make(features).alias(name) for name, make in (schemes or {}).items()
            )
            labelled.append(_labelled(placed, table, _name(day, is_dated)))
        told.append(_told(placed, known.height, _name(day, is_dated), day, settled))
    notes = _notes(timeline, is_dated, horizon_days)
    if drawn.height < n_customers:
        notes = [f"{drawn.height:,} of {n_customers:,} customers were drawn.", *notes]
    return OutOfTime(
        compare_schemes(labelled, DECILES, seed),
        pl.DataFrame(told, schema=CUTS, orient="row"),
        horizon_days,
        tuple(notes),
    )


def _name(day: int, is_dated: bool) -> str:
    return str(date(1970, 1, 1) + timedelta(days=day)) if is_dated else f"day {day}"


def _drawn(
    orders: pl.LazyFrame, max_customers: int, seed: int
) -> tuple[pl.DataFrame, int]:
    """Return at most so many customers, and how many there are."""
    everyone = orders.select("customer_id").unique().collect().sort("customer_id")
    n = min(everyone.height, max_customers)
    return everyone.sample(n, seed=derived_seed(seed, 3)), everyone.height


def _timeline(
    orders: pl.LazyFrame, customers: pl.DataFrame
) -> tuple[pl.DataFrame, bool]:
    """Return the orders of some customers by day, and whether days are dates."""
    rows = (
        orders.join(customers.lazy(), on="customer_id", how="semi")
        .select("order_id", "customer_id", "order_number", "order_day", _GAP)
        .collect()
        .sort("customer_id", "order_number")
    )
    is_dated = rows["order_day"].null_count() == 0
    own_clock = pl.col(_GAP).fill_null(0).cum_sum().over("customer_id").floor()
    day = (pl.col("order_day") if is_dated else own_clock).cast(pl.Int64)
    return rows.select("order_id", "customer_id", _GAP, day.alias("day")), is_dated


def _with_sizes(timeline: pl.DataFrame, items: pl.LazyFrame) -> pl.DataFrame:
    """Add the number of items of each order; null where none are known."""
    sizes = (
        items.join(timeline.lazy(), on="order_id", how="semi")
        .group_by("order_id")
        .agg(pl.len().cast(pl.Int64).alias("size"))
        .collect(engine="streaming")
    )
    return timeline.join(sizes, on="order_id", how="left")


def _cut_days(
    timeline: pl.DataFrame, is_dated: bool, cuts: int, horizon: int, min_orders: int
) -> list[int]:
    """Return the days of the cuts, the latest first."""
    spans = (
        timeline.group_by("customer_id", maintain_order=True)
        .agg(
            pl.col("day").get(min_orders - 1, null_on_oob=True).alias("first"),
            pl.col("day").last().alias("last"),
        )
        .drop_nulls()
    )
    end = pl.lit(timeline["day"].max()) if is_dated else pl.col("last")
    spans = spans.with_columns((end - horizon).alias("last")).filter(
        pl.col("first") <= pl.col("last")
    )
    if not spans.height or cuts < 1:
        return []
    start = int(spans["first"].min())  # type: ignore[arg-type]
    length = int(spans["last"].max()) - start + 2  # type: ignore[arg-type]
    change = np.bincount(spans["first"] - start, minlength=length).astype(np.int64)
    change -= np.bincount(spans["last"] - start + 1, minlength=length)
    followed = np.cumsum(change)
    usable = np.flatnonzero(2 * followed >= followed.max()) + start
    days = np.round(np.linspace(usable[-1], usable[0], cuts)).astype(int)
    return list(dict.fromkeys(days.tolist()))


def _known(
    timeline: pl.DataFrame, day: int, horizon: int, min_orders: int, is_dated: bool
) -> pl.DataFrame:
    """Return the customers with enough orders by a day, and what they did after it."""
    at = pl.col("day")
    is_before, is_after = at <= day, at.is_between(day + 1, day + horizon)
    size = pl.col("size").filter(is_after)
    return (
        timeline.group_by("customer_id")
        .agg(
            is_before.sum().alias(N_ORDERS),
            (day - at.filter(is_before).max()).alias("recency"),
            (is_before & (at > day - YEAR)).sum().alias("frequency"),
            pl.lit(is_dated).or_(at.max() >= day + horizon).alias("is_observed"),
            is_after.sum().cast(pl.Float64).alias("orders"),
            size.mean().alias("basket"),
            pl.when(size.null_count() == 0).then(size.sum()).alias("items"),
            (~is_after.any()).cast(pl.Float64).alias("churn"),
        )
        .filter(pl.col(N_ORDERS) >= min_orders)
        .with_columns(
            (pl.col("is_observed") & (pl.col("recency") > horizon)).alias("had_left")
        )
        .sort("customer_id")
    )


def _labelled(known: pl.DataFrame, labels: pl.DataFrame, cut: str) -> LabelledCut:
    """Return the customers who are followed, with all their labels and outcomes."""
    rows = known.filter(_IS_FOLLOWED).join(
        labels, on="customer_id", how="left", maintain_order="left"
    )
    recency, frequency = (
        pl.Series(size_classes(rows[name].cast(pl.Float64).to_numpy()))
        for name in ("recency", "frequency")
    )
    schemes = {name: [rows[name]] for name in labels.columns[1:]}
    # What each tells alone, and what their cells tell beyond.
    schemes[DECILES] = [recency, frequency, recency * 100 + frequency]
    return LabelledCut(cut, rows["customer_id"], rows.select(OUTCOMES), schemes)


def _told(
    placed: pl.DataFrame, n_known: int, cut: str, day: int, rules: RuleSet
) -> tuple[str | int, ...]:
    had_left = int(placed["had_left"].sum())
    followed = placed.filter(_IS_FOLLOWED).height
    not_observed = placed.height - had_left - followed
    thresholds = ", ".join(
        f"{t.name} {t.value:.4g}" for t in rules.thresholds if t.value is not None
    )
    left_out = n_known - placed.height, had_left, not_observed
    return cut, day, n_known, *left_out, followed, thresholds


Figures = Mapping[tuple[str, str | None], tuple[float, float, float]]


def _verdict(table: pl.DataFrame) -> Iterator[str]:
    rows = table.filter(pl.col("cut") == ALL)
    found: dict[str, dict[tuple[str, str | None], tuple[float, float, float]]] = {}
    for row in rows.iter_rows(named=True):
        pair = row["scheme"], row["over"]
        found.setdefault(row["outcome"], {})[pair] = row["r2"], row["low"], row["high"]
    pairs = next(iter(found.values()), {})
    for scheme, over in pairs:
        if over == DECILES and (combined(scheme, DECILES), DECILES) in pairs:
            yield _headline(found, scheme)
            yield from (_compared(own, scheme, name) for name, own in found.items())


def _headline(found: Mapping[str, Figures], scheme: str) -> str:
    better = [name for name, own in found.items() if _is_better(own, scheme)]
    name = scheme.capitalize()
    if not better:
        *most, last = (f"`{outcome}`" for outcome in found)
        any_of = f"{', '.join(most)} or {last}" if most else last
        return f"{name} do not predict {any_of} better than {DECILES}."
    others = [outcome for outcome in found if outcome not in better]
    rest = f", but not {listed(others)}" if others else ""
    return f"{name} predict {listed(better)} better than {DECILES}{rest}."


def _is_better(own: Figures, scheme: str) -> bool:
    """Whether a scheme tells something, and more than the deciles."""
    return own[scheme, None][1] > 0 and own[scheme, DECILES][1] > 0


def _compared(own: Figures, scheme: str, outcome: str) -> str:
    r2, low, high = own[scheme, None]
    said = (
        f"explain {r2:.1%} of the variance ({low:.1%} to {high:.1%})"
        if low > 0
        else "explain nothing that can be seen"
    )
    lead, added = own[scheme, DECILES], own[combined(scheme, DECILES), DECILES]
    word = "worse than" if lead[2] < 0 else ALIKE
    word = "better than" if _is_better(own, scheme) else word
    adds = "add to them" if added[1] > 0 else "add nothing to them that can be seen"
    return (
        f"`{outcome}`: {scheme} {said}, {DECILES} "
        f"{own[DECILES, None][0]:.1%}. {scheme.capitalize()} predict it {word} the "
        f"deciles ({_points(lead)}), and {adds} ({_points(added)})."
    )


def _points(figures: tuple[float, float, float]) -> str:
    value, low, high = (100 * number for number in figures)
    return f"{value:+.1f} points, {low:+.1f} to {high:+.1f}"


def _followed(found: OutOfTime) -> Iterator[str]:
    horizon = found.horizon_days
    for cut in found.cuts.iter_rows(named=True):
        yield (
            f"Cut {cut['cut']}: {cut['known']:,} customers had enough orders; left out "
            f"were {cut['not_placed']:,} without a feature that the rules need, "
            f"{cut['had_left']:,} without an order in the {horizon} days before and "
            f"{cut['not_observed']:,} not observed for {horizon} days after; "
            f"{cut['followed']:,} were followed."
            + (f" Thresholds: {cut['thresholds']}." if cut["thresholds"] else "")
        )
    if not (found.cuts["followed"] >= MIN_ENTITIES_AT_CUT).any():
        yield (
            f"Out-of-time validation needs {MIN_ENTITIES_AT_CUT} customers who are "
            f"followed for {horizon} days after a cut; there are fewer. Set a smaller "
            "`baskets.horizon_days`, or bring a longer history."
        )
        return
    judged = found.table["outcome"].unique()
    if missing := [name for name in OUTCOMES if name not in judged]:
        yield f"{listed(missing)} cannot be judged: nearly all customers are alike."


def _notes(timeline: pl.DataFrame, is_dated: bool, horizon: int) -> list[str]:
    if is_dated:
        return []
    notes = [
        "Orders have no dates, so a cut is a number of days after each customer's "
        "first order, and only customers with an order at or after the end of the "
        "horizon are followed: the figures hold for customers who stayed, and `churn` "
        "means a pause."
    ]
    gaps = timeline[_GAP].drop_nulls().cast(pl.Float64).to_numpy()
    longest = gaps.max(initial=0.0)
    if len(gaps) and (share := float((gaps == longest).mean())) >= CAPPED_SHARE:
        notes.append(
            f"{share:.1%} of the gaps are {longest:g} days, and none is longer: this "
            "looks like a limit of the source. Days count short after such a gap"
            + (", and nobody can be seen to pause." if longest <= horizon else ".")
        )
    return notes
