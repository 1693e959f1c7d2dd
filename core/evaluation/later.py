"""Whether what sets a segment apart still holds in months that nothing has seen.

Testing a segmentation on the data that made it is circular: a cut through one
population differs "significantly" in what it was cut by. Splitting the shops does not
help, for the other half has to be put into segments by these very features (Gao, Bien
and Witten, 2022). Splitting time alone does not either: a model that was trained on
all months knows a shop's later ones, and may know the shop again.

So both are split. Everything (scaler, encoder, clusters) is learnt anew on one half of
the shops; the other half gets its segments from what was known of it at an earlier
month, and is compared by features of the months after that month alone; then the halves
change places. What a shop did later can have no part in its segment. (Learning from the
earlier features alone would be as honest, but has less history to learn from: on the
built-in sample of 2,000 shops it found 7 of 8 published segments again, this all 8.)

The segments compared are thus not the published ones, but those of the same recipe
learnt from half as many shops: each is matched with a published one by the shops that
they share, and where too few are shared, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment

from core.errors import ModelError
from core.evaluation.effects import BoolArray, effects_against_rest
from core.evaluation.outcomes import OUTCOMES, outcomes_after
from core.evaluation.quality import NOISE, FloatArray, IntArray
from core.evaluation.stability import Recipe
from core.months import month_index

# Two sets that share more than half of what either holds have no better partner.
MIN_JACCARD = 0.5
MIN_SHOPS = 20
# Within less than two years a trend cannot be told from a season: a peak in December
# looks like growth from January on. `later_growth` compares with the year before.
TRENDS = (
    "sales_trend_per_year",
    "assortment_trend_per_year",
    "median_yoy_sales_growth",
    "median_yoy_spread_growth",
)
TREND_MONTHS = 24


@dataclass(frozen=True)
class Past:
    """What the past of a sample of shops offers for a test.

    Attributes
    ----------
    at_cut : DataFrame
        ``as_of`` (one month, the cut), ``shop_id`` and the features of the shops that
        were eligible then.
    later : DataFrame
        ``shop_id`` and the same features of the months after the cut alone. Shops that
        have sold nothing since are not in it; only ``later_activity`` and
        ``later_churn`` tell of them.
    monthly : DataFrame
        ``shop_id, t, quantity`` of active months, before and after the cut.
    as_of : str
        Last month of the data, ``YYYY-MM``.
    """

    at_cut: pl.DataFrame
    later: pl.DataFrame
    monthly: pl.DataFrame
    as_of: str

    @property
    def cut(self) -> str:
        """The earlier month."""
        return str(self.at_cut["as_of"][0])

    @property
    def n_months(self) -> int:
        """Months after the cut."""
        return month_index(self.as_of) - month_index(self.cut)


@dataclass(frozen=True)
class LaterEffects:
    """Segments of earlier months, compared by what came after.

    Attributes
    ----------
    cut, n_months
        As of `Past`.
    n_shops : int
        Shops that were compared.
    matches : DataFrame
        One row per published segment: ``segment``, ``n_halves`` (0 to 2: in how many
        it was found again), ``jaccard`` (mean over both halves, 0 where there is no
        partner) and ``is_tested`` (found again in at least one half).
    effects : DataFrame
        `core.evaluation.effects.effects_against_rest` of the tested segments: features
        of the later months, then what shops did in them (``later_volume``,
        ``later_growth``, ``later_activity``, ``later_churn``; see
        `core.evaluation.outcomes.outcomes_after`).
    left_out : list of str
        Features that so few months do not tell, such as a trend.
    """

    cut: str
    n_months: int
    n_shops: int
    matches: pl.DataFrame
    effects: pl.DataFrame
    left_out: list[str]


def later_effects(
    table: pl.DataFrame,
    segments: IntArray,
    past: Past,
    features: list[str],
    recipe: Recipe,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> LaterEffects:
    """Compare segments that are given by the past, by what came after it.

    Parameters
    ----------
    table : DataFrame
        ``shop_id`` and the features as of today, of the shops to learn from.
    segments : ndarray of int, shape (n_shops,)
        Their published segments; -1 is none.
    past : Past
        Of as many of these shops as is known.
    features : list of str
    recipe : callable
        What made the published segments, for half as many shops; see
        `core.evaluation.stability.Recipe`.
    seed : int
        Of the halves and of the recipe.
    on_step : callable, optional
        Called with (halves done, 2).

    Notes
    -----
    ``later_growth`` compares with the year before the cut, from which shops got their
    segments. Chance works against a claim there: a shop that seems to grow because it
    ended high by luck will fall back.

    Raises
    ------
    ModelError
        With fewer than 20 shops, or none of them known at the cut.
    """
    joined = table.select("shop_id").join(
        past.at_cut, on="shop_id", how="left", maintain_order="left"
    )
    was_known = joined["as_of"].is_not_null().to_numpy()
    if table.height < MIN_SHOPS or not was_known.any():
        raise ModelError(
            f"{table.height:,} shops, {int(was_known.sum()):,} of them known at the "
            f"earlier month; expected at least {MIN_SHOPS} and 1."
        )
    now, then = _matrix(table, features), _matrix(joined, features)
    half = np.random.default_rng(seed).permutation(len(now)) % 2
    found = np.full(len(now), NOISE, dtype=np.int64)
    matches = []
    for number in (0, 1):
        if on_step is not None:
            on_step(number, 2)
        is_learnt, is_asked = half != number, (half == number) & was_known
        label = recipe(now[is_learnt], seed)
        match = match_segments(segments[is_learnt], label(now[is_learnt]))
        if is_asked.any():
            found[is_asked] = _translated(label(then[is_asked]), match)
        matches.append(match)
    compared, left_out = _outcome_table(table["shop_id"], past, features)
    scopes = _scopes(matches, half, was_known)
    tested = [name for name in compared.columns if name != "shop_id"]
    return LaterEffects(
        cut=past.cut,
        n_months=past.n_months,
        n_shops=int(was_known.sum()),
        matches=_summary(matches),
        effects=effects_against_rest(compared, found, tested, True, scopes),
        left_out=left_out,
    )


def match_segments(published: IntArray, found: IntArray) -> pl.DataFrame:
    """Match segments with others by the shops that they share.

    Parameters
    ----------
    published, found : ndarray of int, shape (n_shops,)
        Two labels of the same shops; -1 belongs to no segment.

    Returns
    -------
    DataFrame
        One row per published segment, ascending: ``segment``, ``jaccard`` (shops in
        both over shops in either; 0 without a partner), ``partner`` (null where the
        Jaccard similarity is below 0.5). The pairs are those with the largest sum of
        similarities (the Hungarian method).
    """
    ours = [int(label) for label in np.unique(published) if label != NOISE]
    theirs = [int(label) for label in np.unique(found) if label != NOISE]
    jaccard = np.zeros((len(ours), len(theirs)))
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            either = ((published == a) | (found == b)).sum()
            jaccard[i, j] = ((published == a) & (found == b)).sum() / either
    pairs = dict(zip(*linear_sum_assignment(-jaccard), strict=True))
    rows = []
    for i, label in enumerate(ours):
        value = float(jaccard[i, pairs[i]]) if i in pairs else 0.0
        partner = theirs[pairs[i]] if value >= MIN_JACCARD else None
        rows.append({"segment": label, "jaccard": value, "partner": partner})
    schema = {"segment": pl.Int64, "jaccard": pl.Float64, "partner": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def _matrix(table: pl.DataFrame, features: list[str]) -> FloatArray:
    return table.select(pl.col(features).cast(pl.Float64)).to_numpy()


def _translated(found: IntArray, match: pl.DataFrame) -> IntArray:
    """Return found labels under the published ids; -1 where they have none."""
    known = match.drop_nulls("partner")
    result = np.full(len(found), NOISE, dtype=np.int64)
    for segment, partner in known.select("segment", "partner").iter_rows():
        result[found == partner] = segment
    return result


def _outcome_table(
    shop_ids: pl.Series, past: Past, features: list[str]
) -> tuple[pl.DataFrame, list[str]]:
    """Return what is known of the later months, and the features that are not."""
    after = outcomes_after(past.monthly, shop_ids, past.cut, past.n_months)
    later = past.later.select("shop_id", *features)
    later = shop_ids.to_frame().join(later, "shop_id", "left", maintain_order="left")
    is_short = past.n_months < TREND_MONTHS
    left_out = [
        name
        for name in features
        if later[name].count() == 0 or (is_short and name in TRENDS)
    ]
    renamed = after.select(pl.col(name).alias(f"later_{name}") for name in OUTCOMES)
    return later.drop(left_out).hstack(renamed), left_out


def _scopes(
    matches: list[pl.DataFrame], half: IntArray, was_known: BoolArray
) -> dict[int, BoolArray]:
    """Return, for each segment, the shops of the halves in which it was looked for."""
    scopes: dict[int, BoolArray] = {}
    for number, match in enumerate(matches):
        for segment in match.drop_nulls("partner")["segment"]:
            among = scopes.get(segment, np.zeros(len(half), dtype=bool))
            scopes[segment] = among | ((half == number) & was_known)
    return scopes


def _summary(matches: list[pl.DataFrame]) -> pl.DataFrame:
    """Return how often each segment was found again."""
    return (
        pl.concat(matches)
        .group_by("segment")
        .agg(
            n_halves=pl.col("partner").count().cast(pl.Int64),
            # A half that holds none of a segment's shops has no row of it.
            jaccard=pl.col("jaccard").sum() / len(matches),
        )
        .sort("segment")
        .with_columns(is_tested=pl.col("n_halves") > 0)
    )
