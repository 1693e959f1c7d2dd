"""The number of segments of a partition: by stability and out-of-time value.

A partition exists for any number of segments, so something outside of it has to choose.
That is what entities did later: every candidate is learnt on the features of the oldest
cut, frozen, and judged at every cut by how much of the outcomes after it the segments
explain beyond usual sales, their level of two years and season
(`core.evaluation.outcomes`). Of those within one standard error of
the best, the simplest is taken: the fewest segments, KMeans before a mixture (the rule
of Breiman et al., 1984).

Data without a usable past cannot say what is of use, nor can a past of which no
candidate tells anything: leaving the entities undivided explains 0, and where the best
candidate is not two standard errors above that, taking one by its score is to follow
noise. What the data can say then is how fine a cut still comes back: KMeans takes the
largest number of segments whose refits on 80% of the entities agree with one another by
an ARI of at least 0.9 (as Tibshirani & Walther, 2005, do with their prediction
strength); if none does, the number with the highest. That a cut can be repeated does
not make it useful, so the choice carries its criterion with it.

A refit that goes on from another model keeps that model's method and number where they
are as good: within one standard error of the best, or, by refits, above what is asked;
where nothing comes back as asked, less than two standard errors below the best.
Otherwise two choices that nothing tells apart would take turns, and everybody's segment
with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import polars as pl

from core.config import Config
from core.entities import Entity
from core.evaluation.out_of_time import (
    Cut,
    backtest_cuts,
    labels_over_time,
    out_of_time,
)
from core.evaluation.stability import (
    FloatArray,
    Labels,
    Recipe,
    agreement,
    rand_indices,
    refit,
)
from core.models.partition import METHODS, Partition
from core.models.preprocessing import FeatureScaler
from core.models.seeding import derived_seed

Criterion = Literal["out_of_time", "refits"]
OnStep = Callable[[int, int], None]

MAX_SEGMENTS = 10
"""More than ten groups of customers are not told apart by those who act on them."""
ENTITIES_PER_SEGMENT = 10
"""Fewest entities per segment, on average: 30 are cut into 3 segments at most."""
REPRODUCED_ARI = 0.9
"""Asked of refits where they choose. Above the 0.8 of the verdict, so that the verdict,
which refits anew, does not hang on the luck of the choice."""
TELLING_ERRORS = 2.0
"""Standard errors above 0 from which a candidate is taken to explain anything; more
than the one that compares them, since the best of 18 is looked at."""
N_CHOOSING_REFITS = 5
N_REFITS = 10
REFITTED_ROWS = 10_000
"""Entities that refits see: as many as a partition learns from."""


@dataclass(frozen=True)
class PartitionCandidate:
    """A partition that was considered.

    Attributes
    ----------
    method : str
        See `core.models.centroids`.
    n_segments : int
        Segments asked for.
    score : float
        By the choice's criterion: share of variance explained beyond size, averaged
        over outcomes and cuts; or mean ARI between refits.
    standard_error : float
        Of the score; over entities, or over pairs of refits.
    """

    method: str
    n_segments: int
    score: float
    standard_error: float


@dataclass(frozen=True)
class PartitionChoice:
    """The partition that was chosen, and why.

    Attributes
    ----------
    method : str
    n_segments : int
    criterion : {'out_of_time', 'refits'}
        Whether later behaviour chose, or only how well the cut comes back.
    reason : str
        In words.
    cuts : tuple of str
        The months at which candidates were judged, oldest first; empty for 'refits'.
    candidates : tuple of PartitionCandidate
        All that were considered, the simplest first.
    """

    method: str
    n_segments: int
    criterion: Criterion
    reason: str
    cuts: tuple[str, ...]
    candidates: tuple[PartitionCandidate, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def partition_recipe(config: Config, method: str, n_segments: int) -> Recipe:
    """Return the recipe of a partition: scaler and partition, nothing else.

    Parameters
    ----------
    config : Config
        Its scaling.
    method, n_segments
        See `core.models.centroids.Partition`.
    """
    scaling = config.scaling.model_dump()
    return partial(_fit, scaling=scaling, method=method, n_segments=n_segments)


def choose_partition(
    X: FloatArray,
    features: Sequence[str],
    history: pl.DataFrame,
    monthly: pl.DataFrame,
    config: Config,
    entity: Entity,
    on_step: OnStep | None = None,
    before: tuple[str, int] | None = None,
) -> PartitionChoice:
    """Choose method and number of segments.

    Parameters
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        Features of today's entities, unscaled; NaN where unknown.
    features : sequence of str
        Their names.
    history, monthly : DataFrame
        As of `core.evaluation.out_of_time.backtest_cuts`; both may be empty.
    config : Config
        Scaling, horizon and seed.
    entity : Entity
        Its columns, and its plural for the reason.
    on_step : callable, optional
        Called with (candidates judged, candidates in all).
    before : (method, number of segments), optional
        Of the model that is gone on from: kept where it is as good.
    """
    horizon_months = config.evaluation.horizon_months
    cuts = backtest_cuts(history, monthly, features, horizon_months, entity)
    entities = entity.plural
    recipe_of = partial(partition_recipe, config, METHODS[0])
    if not cuts:
        why = (
            f"no earlier month has enough {entities} to judge partitions by what came "
            "after"
        )
        return by_refits(X, recipe_of, config.seed, why, entity.plural, before, on_step)
    candidates = _scored_candidates(cuts, config, on_step)
    best = max(candidates, key=lambda candidate: candidate.score)
    months = tuple(cut.as_of for cut in cuts)
    if not best.score > TELLING_ERRORS * best.standard_error:
        why = (
            f"no partition tells what {entities} did after {', '.join(months)}, beyond "
            "their usual sales"
        )
        return by_refits(X, recipe_of, config.seed, why, entities, before, on_step)
    enough = best.score - best.standard_error
    kept = _previous_candidate(candidates, before, enough)
    chosen = kept or simplest(candidates)
    which = "that of the model before, one" if kept is not None else "the simplest"
    reason = (
        f"{which} of {len(candidates)} partitions within one standard error of "
        f"the best at explaining what {entities} did after {', '.join(months)}, beyond "
        f"their usual sales: {100 * chosen.score:.2g}% of the variance, the "
        f"best {100 * best.score:.2g}%"
    )
    return PartitionChoice(
        chosen.method, chosen.n_segments, "out_of_time", reason, months,
        tuple(candidates),
    )  # fmt: skip


def partition_stability(
    X: FloatArray, labels: Labels, choice: PartitionChoice, config: Config
) -> dict[str, Any]:
    """Learn scaler and partition anew on 80% of the entities, ten times, and compare.

    No encoder takes part in a partition, so this is the whole of its pipeline, but for
    the choice of method and number, which is kept.

    Parameters
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        Features, unscaled; NaN where unknown. A random 10,000 are used of more.
    labels : ndarray of int64, shape (n_entities,)
        The published partition.
    choice : PartitionChoice
    config : Config
        Scaling and seed.

    Returns
    -------
    dict
        ``ari`` (mean over the refits of the adjusted Rand index with `labels`, over all
        entities, seen by the refit or not), ``lowest_ari``, ``ami``, ``n_refits``,
        ``how`` and ``n_entities``.
    """
    recipe = partition_recipe(config, choice.method, choice.n_segments)
    return recipe_stability(X, labels, recipe, config.seed)


def recipe_stability(
    X: FloatArray, labels: Labels, recipe: Recipe, seed: int
) -> dict[str, Any]:
    """Measure as `partition_stability` how well the labels of any recipe come back."""
    rows = _sampled(len(X), seed)
    refits = refit(X[rows], recipe, seed, N_REFITS)
    found = agreement(labels[rows], refits)
    return {
        "ari": float(found["ari"].to_numpy().mean()),
        "lowest_ari": float(found["ari"].to_numpy().min()),
        "ami": float(found["ami"].to_numpy().mean()),
        "n_refits": N_REFITS,
        "how": "subsample",
        "n_entities": len(rows),
    }


def simplest(candidates: Sequence[PartitionCandidate]) -> PartitionCandidate:
    """Return the first candidate within one standard error of the best.

    Parameters
    ----------
    candidates : sequence of PartitionCandidate
        The simplest first.
    """
    best = max(candidates, key=lambda candidate: candidate.score)
    enough = best.score - best.standard_error
    return next(c for c in candidates if c.score >= enough)


def _previous_candidate(
    candidates: Sequence[PartitionCandidate],
    before: tuple[str, int] | None,
    enough: float,
) -> PartitionCandidate | None:
    """Return the candidate that was chosen before, if it scores enough."""
    for candidate in candidates:
        is_same = (candidate.method, candidate.n_segments) == before
        if is_same and candidate.score >= enough:
            return candidate
    return None


def _fit(
    X: FloatArray, seed: int, scaling: dict[str, Any], method: str, n_segments: int
) -> Callable[[FloatArray], Labels]:
    """Learn scaler and partition; return what labels other entities."""
    scaler = FeatureScaler(**scaling).fit(X)
    partition = Partition(method, n_segments, seed).fit(scaler.transform(X))

    def label(table: FloatArray) -> Labels:
        return partition.assign(scaler.transform(table)).labels

    return label


def _candidate_numbers(n_entities: int) -> range:
    """Return the numbers of segments that so many entities allow, at least 2."""
    return range(2, max(min(MAX_SEGMENTS, n_entities // ENTITIES_PER_SEGMENT), 2) + 1)


def _scored_candidates(
    cuts: Sequence[Cut], config: Config, on_step: OnStep | None
) -> list[PartitionCandidate]:
    """Judge every candidate by what its segments explain, the simplest first."""
    options = [(m, n) for n in _candidate_numbers(len(cuts[0].X)) for m in METHODS]
    candidates: list[PartitionCandidate] = []
    for method, n in options:
        if on_step is not None:
            on_step(len(candidates), len(options))
        recipe = partition_recipe(config, method, n)
        labels = labels_over_time(cuts, recipe, config.seed)
        found = out_of_time(cuts, labels, config.seed)
        candidates.append(
            PartitionCandidate(method, n, found.mean, found.standard_error)
        )
    return candidates


def by_refits(
    X: FloatArray,
    recipe_of: Callable[[int], Recipe],
    seed: int,
    why: str,
    entities: str,
    before: tuple[str, int] | None = None,
    on_step: OnStep | None = None,
    most: int = MAX_SEGMENTS,
) -> PartitionChoice:
    """Choose by how fine a cut comes back, which says nothing of its use.

    Parameters
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        What the recipes learn from; a random 10,000 are used of more.
    recipe_of : callable
        From a number of segments to the recipe of KMeans with so many.
    seed : int
    why : str
        Why nothing better can choose, in words.
    entities : str
        Several of them in messages.
    before, on_step
        As for `choose_partition`.
    most : int
        Segments at most; two at least.
    """
    X = X[_sampled(len(X), seed)]
    # Other draws than those of `partition_stability`, which judges what is chosen.
    seed = derived_seed(seed, N_REFITS)
    candidates: list[PartitionCandidate] = []
    numbers = [n for n in _candidate_numbers(len(X)) if n <= max(most, 2)]
    for n in numbers:
        if on_step is not None:
            on_step(len(candidates), len(numbers))
        refits = refit(X, recipe_of(n), seed, N_CHOOSING_REFITS)
        pairs = [
            rand_indices(one.labels, refits[place + 1 :])
            for place, one in enumerate(refits[:-1])
        ]
        values = np.concatenate(pairs)
        error = float(values.std(ddof=1) / np.sqrt(N_CHOOSING_REFITS))
        candidates.append(
            PartitionCandidate(METHODS[0], n, float(values.mean()), error)
        )
    kept = [c for c in candidates if c.score >= REPRODUCED_ARI]
    best = max(candidates, key=lambda c: c.score)
    same = _previous_candidate(candidates, before, REPRODUCED_ARI if kept else -1.0)
    if same is not None and not kept:
        error = float(np.hypot(best.standard_error, same.standard_error))
        same = same if best.score - same.score <= TELLING_ERRORS * error else None
    chosen = same or (kept[-1] if kept else best)
    if same is not None:
        found = "the number of the model before, which comes back about as well as any"
    elif kept:
        found = (
            f"the most segments that still come back (ARI of at least {REPRODUCED_ARI})"
        )
    else:
        found = f"the number that comes back best, though below {REPRODUCED_ARI},"
    reason = (
        f"{why}; {found} when refitted on 80% of the {entities}: ARI "
        f"{chosen.score:.2f}. Whether they are of use is not known"
    )
    return PartitionChoice(
        chosen.method, chosen.n_segments, "refits", reason, (), tuple(candidates)
    )


def _sampled(n_entities: int, seed: int) -> np.ndarray:
    """Return the rows of a random sample, all where there are few enough."""
    if n_entities <= REFITTED_ROWS:
        return np.arange(n_entities)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(n_entities, REFITTED_ROWS, replace=False))
