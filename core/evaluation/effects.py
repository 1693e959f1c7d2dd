"""Effect sizes of segments on features, today and in held-out months.

The effect is Cliff's delta, P(an entity of the segment lies above another entity) minus
P(below): -1 to 1, 0 where the segment says nothing. It needs no unit and no scale,
outliers cannot carry it, and where most entities share one value (months without a
sale, say) it still counts those who do not, while a difference of medians is 0 there.

Testing a segmentation on the data that made it is circular: a cut through one
population differs "significantly" in what it was cut by. Splitting the entities does
not help, for the other half has to be put into segments by these very features (Gao,
Bien and Witten, 2022). Splitting time alone does not either: a model that was trained
on all months knows an entity's later ones, and may know the entity again.

So both are split. Everything (scaler, encoder, clusters) is learnt anew on one half of
the entities; the other half gets its segments from what was known of it at an earlier
month, and is compared by features of the months after that month alone; then the halves
change places. What an entity did later can have no part in its segment. (Learning from
the earlier features alone would be as honest, but has less history to learn from: on
the built-in sample of 2,000 shops it found 7 of 8 published segments again, this all
8.)

The segments compared are thus not the published ones, but those of the same recipe
learnt from half as many entities: each is matched with a published one by the entities
that they share, and where too few are shared, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import hypergeom, norm, rankdata
from scipy.stats import t as student_t

from core.entities import Entity
from core.errors import ModelError
from core.evaluation.multiple import benjamini_hochberg
from core.evaluation.outcomes import OUTCOMES, outcomes_after
from core.evaluation.quality import NOISE, FloatArray, IntArray, check_labels
from core.evaluation.stability import Recipe
from core.months import month_index

BoolArray = NDArray[np.bool_]
# Below it neither the test nor the interval is to be trusted.
MIN_SIDE = 10
ERROR_RATE = 0.05
EFFECTS: dict[str, Any] = {
    "segment": pl.Int64,
    "feature": pl.String,
    "n": pl.Int64,
    "n_rest": pl.Int64,
    "median": pl.Float64,
    "rest_median": pl.Float64,
    "effect": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p_value": pl.Float64,
    "adjusted_p": pl.Float64,
}


def effects_against_rest(
    table: pl.DataFrame,
    labels: IntArray,
    features: Sequence[str],
    is_tested: bool,
    scopes: Mapping[int, BoolArray] | None = None,
) -> pl.DataFrame:
    r"""Compare every segment with all other entities, feature by feature.

    Parameters
    ----------
    table : DataFrame
        One row per entity with the numeric `features`; null and NaN are left out of
        their feature.
    labels : ndarray of int, shape (n_entities,)
        Segment per entity; -1 belongs to none, and to the rest of every segment.
    features : sequence of str
        Columns to compare.
    is_tested : bool
        Whether to add intervals and p-values. They mean something only where the
        labels were made *without* these features' values: a segmentation of pure noise
        differs "significantly" in what it was cut by.
    scopes : mapping of segment to ndarray of bool, shape (n_entities,), optional
        The entities among which a segment is compared; all of them where not named.

    Returns
    -------
    DataFrame
        One row per segment (ascending) and feature (as given):

        ``segment`` : int; ``feature`` : str
        ``n``, ``n_rest`` : int
            Entities with a value.
        ``median``, ``rest_median`` : float
            In the feature's unit; null without a value.
        ``effect`` : float, -1 to 1
            Cliff's delta (1993); null where a side has no value.
        ``low``, ``high`` : float
            Interval of the effect: :math:`\delta \pm t s`, with `s` from the placements
            (DeLong, DeLong and Clarke-Pearson, 1988), at least one entity of the
            smaller side (1 / n), and as many degrees of freedom as the smaller side has
            less one. Its level is 1 - 0.05 R / m, where R of the m comparisons have an
            adjusted p of at most 0.05 (at least one), so that at most 5% of the
            intervals of those are expected to miss (Benjamini and Yekutieli, 2005).
        ``p_value`` : float
            Mann and Whitney's test, normal approximation with ties. Where one value is
            so common that fewer than 10 others are expected on a side, at least the
            exact p of their number (Fisher): there the normal is too bold (measured on
            random cuts: 10% instead of 5% of the families with a false finding).
        ``adjusted_p`` : float
            Over all rows, by Benjamini and Hochberg (1995). The test and the interval
            rest on different variances, so one in between may differ.

        The last four are null if not `is_tested`, and with fewer than 10 values on
        either side.

    Raises
    ------
    ModelError
        If labels and table are not of the same entities.
    """
    labels = check_labels(labels)
    if len(labels) != table.height:
        raise ModelError(
            f"there are {len(labels):,} labels for {table.height:,} rows; expected "
            "one per row of the table."
        )
    everyone = np.ones(len(labels), dtype=bool)
    rows = []
    for feature in features:
        values = table[feature].cast(pl.Float64).fill_null(np.nan).to_numpy()
        known = ~np.isnan(values)
        for segment in (int(label) for label in np.unique(labels) if label != NOISE):
            among = known & (scopes or {}).get(segment, everyone)
            compared = _compare(values[among], labels[among] == segment)
            rows.append({"segment": segment, "feature": feature, **compared})
    place = {name: position for position, name in enumerate(features)}
    rows.sort(key=lambda row: (row["segment"], place[row["feature"]]))
    if is_tested:
        _add_tests(rows)
    shown = EFFECTS if is_tested else list(EFFECTS)[:-4]
    found = [{name: row.get(name) for name in shown} for row in rows]
    return pl.DataFrame(found, schema=EFFECTS)


def _compare(values: FloatArray, own: BoolArray) -> dict[str, Any]:
    """Compare the values of a segment's entities with those of the others."""
    n, n_rest = int(own.sum()), int((~own).sum())
    result: dict[str, Any] = {
        "n": n,
        "n_rest": n_rest,
        "median": float(np.median(values[own])) if n else None,
        "rest_median": float(np.median(values[~own])) if n_rest else None,
    }
    if not n or not n_rest:
        return result
    ranks = rankdata(values)
    # Share of the other side that lies below each entity, ties counted half.
    placed = (ranks[own] - rankdata(values[own])) / n_rest
    placed_rest = (ranks[~own] - rankdata(values[~own])) / n
    result["effect"] = float(2 * placed.mean() - 1)
    if min(n, n_rest) >= MIN_SIDE:
        variance = placed.var(ddof=1) / n + placed_rest.var(ddof=1) / n_rest
        result["error"] = max(2 * float(np.sqrt(variance)), 1 / min(n, n_rest))
        result["p_value"] = _p_value(values, own, result["effect"])
    return result


def _p_value(values: FloatArray, own: BoolArray, effect: float) -> float:
    """Return the p of Mann and Whitney's test, or of rare values where they are few."""
    distinct, counts = np.unique(values, return_counts=True)
    n, n_own = len(values), int(own.sum())
    ties = (counts.astype(np.float64) ** 3 - counts).sum() / (n * (n - 1))
    # Of P(above) + P(tie) / 2 under the null, with ties; delta is twice that.
    variance = (n + 1 - ties) / (12 * n_own * (n - n_own))
    if variance <= 0:
        return 1.0  # nothing varies, so nothing differs
    p_value = 2 * float(norm.sf(abs(effect) / (2 * np.sqrt(variance))))
    return max(p_value, _p_of_rare(values != distinct[counts.argmax()], own))


def _p_of_rare(is_rare: BoolArray, own: BoolArray) -> float:
    """Return the exact two-sided p of the number of uncommon values, or 0 if many."""
    n, n_own, n_rare = len(own), int(own.sum()), int(is_rare.sum())
    if n_rare * min(n_own, n - n_own) >= MIN_SIDE * n:
        return 0.0
    k = int((is_rare & own).sum())
    tails = (hypergeom.sf(k - 1, n, n_rare, n_own), hypergeom.cdf(k, n, n_rare, n_own))
    return min(2 * float(min(tails)), 1.0)


def _add_tests(rows: list[dict[str, Any]]) -> None:
    """Adjust the p-values of the rows that have one, and add intervals."""
    tested = [row for row in rows if "error" in row]
    if not tested:
        return
    adjusted = benjamini_hochberg(np.array([row["p_value"] for row in tested]))
    n_found = max(int((adjusted <= ERROR_RATE).sum()), 1)
    alpha = ERROR_RATE * n_found / len(tested)
    for row, adjusted_p in zip(tested, adjusted, strict=True):
        row["adjusted_p"] = float(adjusted_p)
        degrees = min(row["n"], row["n_rest"]) - 1
        half = float(student_t.isf(alpha / 2, degrees)) * row["error"]
        row["low"] = max(row["effect"] - half, -1.0)
        row["high"] = min(row["effect"] + half, 1.0)


# Two sets that share more than half of what either holds have no better partner.
MIN_JACCARD = 0.5
MIN_ENTITIES = 20
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
class HoldoutData:
    """An earlier month and the months after it, for a test on held-out months.

    Attributes
    ----------
    at_cut : DataFrame
        ``as_of`` (one month, the cut), the ids and the features of the entities that
        were eligible then.
    later : DataFrame
        The ids and the same features of the months after the cut alone. Entities that
        have sold nothing since are not in it; only ``later_activity`` and
        ``later_churn`` tell of them.
    monthly : DataFrame
        The ids, ``t`` and ``quantity`` of active months, before and after the cut.
    as_of : str
        Last month of the data, ``YYYY-MM``.
    entity : Entity
        Its column of ids, in all tables, and its words.
    """

    at_cut: pl.DataFrame
    later: pl.DataFrame
    monthly: pl.DataFrame
    as_of: str
    entity: Entity

    @property
    def cut(self) -> str:
        """The earlier month."""
        return str(self.at_cut["as_of"][0])

    @property
    def n_months(self) -> int:
        """Months after the cut."""
        return month_index(self.as_of) - month_index(self.cut)


@dataclass(frozen=True)
class HoldoutEffects:
    """Effect sizes of segments of an earlier month on the months after it.

    Attributes
    ----------
    cut, n_months
        As of `HoldoutData`.
    n_entities : int
        Entities that were compared.
    matches : DataFrame
        One row per published segment: ``segment``, ``n_halves`` (0 to 2: in how many
        it was found again), ``jaccard`` (mean over both halves, 0 where there is no
        partner) and ``is_tested`` (found again in at least one half).
    effects : DataFrame
        `core.evaluation.effects.effects_against_rest` of the tested segments: features
        of the later months, then what entities did in them (``later_volume``,
        ``later_growth``, ``later_activity``, ``later_churn``; see
        `core.evaluation.outcomes.outcomes_after`).
    left_out : list of str
        Features that so few months do not tell, such as a trend.
    """

    cut: str
    n_months: int
    n_entities: int
    matches: pl.DataFrame
    effects: pl.DataFrame
    left_out: list[str]


def holdout_effects(
    table: pl.DataFrame,
    segments: IntArray,
    past: HoldoutData,
    features: list[str],
    recipe: Recipe,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> HoldoutEffects:
    """Compare segments of an earlier month by the months after it.

    Parameters
    ----------
    table : DataFrame
        The ids and the features as of today, of the entities to learn from.
    segments : ndarray of int, shape (n_entities,)
        Their published segments; -1 is none.
    past : HoldoutData
        Of as many of these entities as is known.
    features : list of str
    recipe : callable
        What made the published segments, for half as many entities; see
        `core.evaluation.stability.Recipe`.
    seed : int
        Of the halves and of the recipe.
    on_step : callable, optional
        Called with (halves done, 2).

    Notes
    -----
    ``later_growth`` compares with the year before the cut, from which entities got
    their segments. Chance works against a claim there: an entity that seems to grow
    because it ended high by luck will fall back.

    Raises
    ------
    ModelError
        With fewer than 20 entities, or none of them known at the cut.
    """
    ids = table[past.entity.id_column]
    joined = ids.to_frame().join(
        past.at_cut, on=ids.name, how="left", maintain_order="left"
    )
    was_known = joined["as_of"].is_not_null().to_numpy()
    if table.height < MIN_ENTITIES or not was_known.any():
        raise ModelError(
            f"{table.height:,} {past.entity.plural}, {int(was_known.sum()):,} of them "
            f"known at the earlier month; expected at least {MIN_ENTITIES} and 1."
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
        match = pair_segments(segments[is_learnt], label(now[is_learnt]))
        if is_asked.any():
            found[is_asked] = _under_published_ids(label(then[is_asked]), match)
        matches.append(match)
    compared, left_out = _outcome_table(ids, past, features)
    scopes = _halves_compared(matches, half, was_known)
    tested = [name for name in compared.columns if name != ids.name]
    return HoldoutEffects(
        cut=past.cut,
        n_months=past.n_months,
        n_entities=int(was_known.sum()),
        matches=_summary(matches),
        effects=effects_against_rest(compared, found, tested, True, scopes),
        left_out=left_out,
    )


def pair_segments(published: IntArray, found: IntArray) -> pl.DataFrame:
    """Match segments with others by the entities that they share.

    Parameters
    ----------
    published, found : ndarray of int, shape (n_entities,)
        Two labels of the same entities; -1 belongs to no segment.

    Returns
    -------
    DataFrame
        One row per published segment, ascending: ``segment``, ``jaccard`` (entities in
        both over entities in either; 0 without a partner), ``partner`` (null where the
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


def _under_published_ids(found: IntArray, match: pl.DataFrame) -> IntArray:
    """Return found labels under the published ids; -1 where they have none."""
    known = match.drop_nulls("partner")
    result = np.full(len(found), NOISE, dtype=np.int64)
    for segment, partner in known.select("segment", "partner").iter_rows():
        result[found == partner] = segment
    return result


def _outcome_table(
    ids: pl.Series, past: HoldoutData, features: list[str]
) -> tuple[pl.DataFrame, list[str]]:
    """Return what is known of the later months, and the features that are not."""
    after = outcomes_after(past.monthly, ids, past.cut, past.n_months)
    later = past.later.select(ids.name, *features)
    later = ids.to_frame().join(later, ids.name, "left", maintain_order="left")
    is_short = past.n_months < TREND_MONTHS
    left_out = [
        name
        for name in features
        if later[name].count() == 0 or (is_short and name in TRENDS)
    ]
    renamed = after.select(pl.col(name).alias(f"later_{name}") for name in OUTCOMES)
    return later.drop(left_out).hstack(renamed), left_out


def _halves_compared(
    matches: list[pl.DataFrame], half: IntArray, was_known: BoolArray
) -> dict[int, BoolArray]:
    """Return, for each segment, who was in the halves in which it was looked for."""
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
            # A half that holds none of a segment's entities has no row of it.
            jaccard=pl.col("jaccard").sum() / len(matches),
        )
        .sort("segment")
        .with_columns(is_tested=pl.col("n_halves") > 0)
    )


UNTESTED = "descriptive only, not tested"
N_STRONGEST = 5
_PAIR = ["segment", "feature"]
_FIGURES = ["n", "median", "rest_median", "effect"]


def profile_table(
    today: pl.DataFrame,
    tested: HoldoutEffects | None,
    why_not: str | None,
    names: Mapping[int, str],
    entity: Entity,
) -> pl.DataFrame:
    """Return effect sizes of today beside their tests on held-out months.

    Parameters
    ----------
    today : DataFrame
        `core.evaluation.effects.effects_against_rest` of the published segments, not
        tested: what made them cannot test them.
    tested : HoldoutEffects or None
    why_not : str or None
        Why there is no test, where there is none.
    names : mapping of segment to name
    entity : Entity
        Its plural, for the reasons.

    Returns
    -------
    DataFrame
        One row per segment (ascending) and feature, the clearest first: ``segment``,
        ``segment_name``, ``feature``; ``n``, ``median``, ``rest_median`` and ``effect``
        of today; ``later_n``, ``later_median``, ``later_rest_median``,
        ``later_effect``, ``low``, ``high``, ``p_value`` and ``adjusted_p`` of the test;
        ``status``: "tested", or "descriptive only, not tested: " and the reason. What
        entities did later (``later_growth``, say) has no figures of today.
    """
    later = pl.DataFrame(schema=EFFECTS) if tested is None else tested.effects
    later = later.drop("n_rest").rename({name: f"later_{name}" for name in _FIGURES})
    joined = today.select(*_PAIR, *_FIGURES).join(
        later, on=_PAIR, how="full", coalesce=True
    )
    is_tested = pl.col("adjusted_p").is_not_null()
    reason = pl.format(f"{UNTESTED}: {{}}", _reason(tested, why_not, entity))
    name = pl.col("segment").replace_strict(names, return_dtype=pl.String)
    return (
        joined.with_columns(
            segment_name=name,
            status=pl.when(is_tested).then(pl.lit("tested")).otherwise(reason),
            order=pl.coalesce("effect", "later_effect").abs(),
        )
        .sort("segment", "order", "feature", descending=[False, True, False])
        .select("segment", "segment_name", pl.exclude("segment", "segment_name"))
        .drop("order")
    )


def _reason(
    tested: HoldoutEffects | None, why_not: str | None, entity: Entity
) -> pl.Expr:
    if tested is None:
        return pl.lit(why_not)
    found = tested.matches.filter("is_tested")["segment"].to_list()
    return (
        pl.when(~pl.col("segment").is_in(found))
        .then(pl.lit("the segment was not found again"))
        .when(pl.col("feature").is_in(tested.left_out))
        .then(pl.lit(f"not known from {tested.n_months} months"))
        .when(pl.col("later_n").is_null())
        .then(pl.lit("volume is described, not clustered"))
        .otherwise(pl.lit(f"too few {entity.plural}"))
    )


def strongest(
    profiles: pl.DataFrame, features: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the five clearest differences of today of every segment.

    Parameters
    ----------
    profiles : DataFrame
        Of `profile_table`.
    features : sequence of str
        Those that count; volume, for one, is not clustered.

    Returns
    -------
    dict
        By segment (as text, for JSON), rows as plain values, the clearest first.
    """
    kept = profiles.filter(
        pl.col("effect").is_not_null(), pl.col("feature").is_in(list(features))
    )
    return {
        str(segment): table.head(N_STRONGEST).drop("segment", "segment_name").to_dicts()
        for (segment,), table in kept.group_by(["segment"], maintain_order=True)
    }


def holdout_facts(tested: HoldoutEffects | None, why_not: str | None) -> dict[str, Any]:
    """Return the test as plain values; ``why_not`` where there was none."""
    if tested is None:
        return {"why_not": why_not}
    adjusted = tested.effects["adjusted_p"].drop_nulls()
    return {
        "why_not": None,
        "cut": tested.cut,
        "n_months": tested.n_months,
        "n_entities": tested.n_entities,
        "n_segments": tested.matches.height,
        "n_found_again": int(tested.matches["is_tested"].sum()),
        "n_comparisons": len(adjusted),
        "n_clear": int((adjusted <= ERROR_RATE).sum()),
        "matches": tested.matches.to_dicts(),
        "left_out": tested.left_out,
    }
