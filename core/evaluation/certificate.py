"""The certificate: what a whole pipeline finds in data without structure; the verdict.

``natural``
    Density structure beyond what data without structure shows, and at least two
    clusters that hold it. The segments are those clusters.
``reproducible``
    No such structure, but a partition that comes out the same again and again when
    everything is learnt anew on other entities. A useful map of a continuum, not groups
    that exist.
``constructive``
    Neither: a convenient cut. Simple rules do the same and are easier to explain.

A verdict is *provisional* as long as it rests on the quick check of a training run, and
*certified* once the whole pipeline has been refitted on nulls (see
`core.evaluation.certificate`).

The quick check of a training run (`core.evaluation.null`) clusters principal
components. Here everything is learnt anew on each null, by the very recipe that made
the segments: scaler, encoder and clusterer. A representation that makes groups of
nothing makes them of the nulls, too, and has to show more on the data.

For one table, in a script or a benchmark::

    from core.evaluation.certificate import certify_table
    from core.evaluation.stability import whole_pipeline
    from core.evaluation.workers import Workers

    if __name__ == "__main__":
        with Workers(2) as workers:  # to be used for many tables; None: this process
            found = certify_table(X, whole_pipeline(config), seed=42, workers=workers)
        found.is_structured, found.p_value, found.n_null, found.seconds_per_fit

with ``X`` the features as prepared: not scaled, NaN where unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from core.errors import ModelError
from core.evaluation import quality
from core.evaluation.null import (
    MIN_EXCESS,
    SIGNIFICANCE,
    GaussianCopula,
    fit_gaussian_copula,
    required_excess,
)
from core.evaluation.stability import Fit, FitStore, OnStep, Recipe, run_fits
from core.evaluation.workers import Workers
from core.models.preprocessing import FeatureScaler
from core.segments.published import Verdict, VerdictKind

# Steinley (2004): an adjusted Rand index from 0.8 is good recovery, below 0.65 poor.
REPRODUCIBLE_ARI = 0.8
# Hennig (2007): a cluster whose Jaccard similarity is at most 0.5 has dissolved.
DISSOLVED_JACCARD = 0.5


def derive_verdict(
    *,
    is_structured: bool,
    n_clusters: int,
    partition_ari: float | None,
    cluster_jaccard: float | None = None,
    rules_ari: float | None = None,
    is_certified: bool,
    **figures: Any,
) -> Verdict:
    """Derive the kind of verdict from figures.

    Parameters
    ----------
    is_structured : bool
        Whether the structure score lies beyond the nulls', with the margin: of the
        quick check (`core.evaluation.null`) or of the certificate.
    n_clusters : int
        Clusters that the published model has found; with fewer than 2 there is nothing
        natural to publish.
    partition_ari : float or None
        Mean adjusted Rand index, over all entities, between the partition and refits of
        it on 80% of the entities; None where it was not measured, which counts as not
        reproducible.
    cluster_jaccard : float or None
        Mean over the clustered entities of their cluster's Jaccard similarity under
        refits of the whole pipeline; None where it was not measured, which demands
        nothing. At most 0.5, the clusters at hand have dissolved, whatever structure
        there is: they are not called natural.
    rules_ari : float or None
        The same as `partition_ari` of rules that tell more of later months than the
        partition, and are published in its place: a convenient cut, however often it
        comes out the same. None: there are no such rules.
    is_certified : bool
        Whether the figures are those of the certificate.
    **figures
        Further JSON-able figures to be kept in the basis.

    Raises
    ------
    ModelError
        For a figure outside its range.
    """
    known = (
        ("ari", partition_ari),
        ("ari of the rules", rules_ari),
        ("jaccard", cluster_jaccard),
    )
    for name, value in known:
        if value is not None and not -1 <= value <= 1:
            raise ModelError(f"the {name} is {value}; expected a number up to 1.")
    is_dissolved = cluster_jaccard is not None and cluster_jaccard <= DISSOLVED_JACCARD
    kind: VerdictKind = "constructive"
    if is_structured and n_clusters > 1 and not is_dissolved:
        kind = "natural"
    elif rules_ari is None and (partition_ari or 0.0) >= REPRODUCIBLE_ARI:
        kind = "reproducible"
    basis = {
        "is_structured": is_structured,
        "n_clusters": n_clusters,
        "cluster_jaccard": cluster_jaccard,
        "dissolved_jaccard": DISSOLVED_JACCARD,
        "partition_ari": partition_ari,
        "reproducible_ari": REPRODUCIBLE_ARI,
    }
    if rules_ari is not None:
        basis["rules_ari"] = rules_ari
    return Verdict(kind=kind, is_certified=is_certified, basis=basis | figures)


FEWEST_NULLS = round(1 / SIGNIFICANCE) - 1
MOST_NULLS = 999
DATA = "data"


@dataclass(frozen=True)
class SegmentCheck:
    """One cluster against the best cluster of each null.

    Attributes
    ----------
    cluster : int
        Its label.
    n_entities : int
        Its members among the entities looked at.
    purity : float
        Share of members among its members' neighbours, corrected for chance.
    statistic : float
        Its part of T, as far as its members' neighbours are members: see
        `core.evaluation.quality.confirmed_scores`.
    p_value : float
        (1 + number of nulls whose best cluster has at least its statistic) / (nulls +
        1): corrected for the number of clusters (Westfall and Young, 1993: max-T).
    """

    cluster: int
    n_entities: int
    purity: float
    statistic: float
    p_value: float


@dataclass(frozen=True)
class Certificate:
    """The structure score of a recipe on the data, against its scores on nulls.

    Attributes
    ----------
    statistic : float
        T of the data: coverage x ln(effective clusters), in nats.
    null_statistics : tuple of float
        T of each null, in the order of their numbers.
    n_null_planned : int
        Nulls that were asked for.
    is_stopped_early : bool
        Whether p <= 0.05 was out of reach before all of them were made.
    p_value : float
        (1 + nulls with at least T) / (nulls + 1). Stopped early: such nulls / nulls,
        which is as valid (Besag and Clifford, 1991).
    excess, required_excess : float
        T minus the largest of the nulls, and what it has to reach.
    is_structured : bool
        Whether p is at most 0.05 and the excess reaches what is required.
    segments : tuple of SegmentCheck
        One for each cluster of the data.
    n_rows : int
        Entities looked at.
    clusters : LabelSummary
        What the recipe finds in them.
    seconds_per_fit : float
        Median time of one fit on a null.
    """

    statistic: float
    null_statistics: tuple[float, ...]
    n_null_planned: int
    is_stopped_early: bool
    p_value: float
    excess: float
    required_excess: float
    is_structured: bool
    segments: tuple[SegmentCheck, ...]
    n_rows: int
    clusters: quality.LabelSummary
    seconds_per_fit: float

    @property
    def n_null(self) -> int:
        """Nulls that were made."""
        return len(self.null_statistics)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {**asdict(self), "n_null": self.n_null}


def certify_table(
    X: quality.FloatArray,
    recipe: Recipe,
    *,
    seed: int = 0,
    n_null: int = FEWEST_NULLS,
    budget_seconds: float | None = None,
    stop_early: bool = True,
    max_entities: int = 5000,
    labels: quality.IntArray | None = None,
    workers: Workers | None = None,
    store: FitStore | None = None,
    on_step: OnStep | None = None,
) -> Certificate:
    """Refit a recipe on nulls of a table, and compare what it finds.

    The nulls are Gaussian copulas of the unscaled features: `core.evaluation.null`.
    Structure is certified if T exceeds all of 19 nulls (95% of more) and the largest
    of them by the margin of the quick check.

    Parameters
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        Features as prepared, not scaled; NaN where unknown.
    recipe : callable
        See `core.evaluation.stability.Recipe`; data and nulls get the same seed.
    seed : int
        Decides all of it.
    n_null : int, default 19
        Nulls; fewer than 19 can never reach p <= 0.05 and are refused.
    budget_seconds : float, optional
        Make as many nulls as fit instead, 19 to 999, by the time that the first take.
    stop_early : bool, default True
        Stop as soon as p <= 0.05 is out of reach.
    max_entities : int, default 5000
        Larger tables are sampled to this many entities, and so are the nulls; T is then
        that of the recipe fitted on the sample.
    labels : ndarray of int, shape (n_entities,), optional
        What the recipe has found in `X`, if that is known. Of a larger table, the
        checks of single clusters are about these.
    workers : Workers, optional
        None: everything in this process. The result is the same.
    store : FitStore, optional
        Where finished fits are kept, to go on after an interruption.
    on_step : callable, optional
        Called with (fits done, fits in all).

    Raises
    ------
    ModelError
        For fewer than 19 nulls, or a table that the recipe cannot be fitted on.
    """
    if n_null < FEWEST_NULLS:
        raise ModelError(
            f"`n_null` is {n_null}; with fewer than {FEWEST_NULLS} nulls no score can "
            f"be significant at {SIGNIFICANCE}. Ask for {FEWEST_NULLS} or more."
        )
    rng = np.random.default_rng(seed)
    if len(X) > max_entities:
        rows = np.sort(rng.choice(len(X), max_entities, replace=False))
        X, of_all, labels = X[rows], labels, None
        of_all = of_all[rows] if of_all is not None else None
    else:
        of_all = None
    if labels is None:
        task = partial(_fit_data, X, recipe, seed)
        labels = dict(run_fits({DATA: task}, workers, store))[DATA].labels
    score = quality.label_summary(labels).structure_score
    copula = fit_gaussian_copula(X, rng)
    nulls = _Nulls(partial(_fit_null, copula, recipe, seed), score, workers, store)
    if budget_seconds is not None:
        n_null = nulls.fitting(budget_seconds)
    fits, is_stopped = nulls.make(n_null, stop_early, on_step)
    checked = labels if of_all is None else of_all
    neighbours = quality.nearest_neighbours(FeatureScaler().fit_transform(X))
    segments = _check_segments(neighbours, checked, fits, rng)
    return _judge(quality.label_summary(labels), segments, fits, n_null, is_stopped)


def _fit_data(X: quality.FloatArray, recipe: Recipe, seed: int) -> Fit:
    """Fit the recipe on the data; a task for a worker."""
    return Fit(recipe(X, seed)(X))


def _fit_null(copula: GaussianCopula, recipe: Recipe, seed: int, number: int) -> Fit:
    """Draw a null and refit the recipe on it; a task for a worker."""
    started = time.perf_counter()
    null = copula.sample(np.random.default_rng([seed, number]))
    labels = recipe(null, seed)(null)
    neighbours = quality.nearest_neighbours(FeatureScaler().fit_transform(null))
    scores = quality.confirmed_scores(
        quality.neighbour_purity(neighbours, labels), labels
    )
    figures = {
        "structure_score": quality.label_summary(labels).structure_score,
        "best_segment": max(scores.values(), default=0.0),
        "seconds": time.perf_counter() - started,
    }
    return Fit(labels, figures)


@dataclass(frozen=True)
class _Nulls:
    """The nulls of one table: how each is made, and when there are enough."""

    fit: Callable[[int], Fit]
    score: float
    workers: Workers | None
    store: FitStore | None

    def fitting(self, budget_seconds: float) -> int:
        """Return how many nulls fit into a time, judged by the first of them."""
        side_by_side = max(self.workers.n_workers, 1) if self.workers else 1
        # One more than there are workers: at least one was not the first of its
        # process, and did not wait for TensorFlow's import.
        fits, _ = self.make(side_by_side + 1, False, None)
        seconds = min(fit["seconds"] for fit in fits)
        n_null = int(budget_seconds * side_by_side / max(seconds, 1e-3))
        return min(max(n_null, FEWEST_NULLS), MOST_NULLS)

    def make(
        self, n_null: int, stop_early: bool, on_step: OnStep | None
    ) -> tuple[list[Mapping[str, Any]], bool]:
        """Return the figures of the nulls by their number, and whether it stopped.

        The nulls are looked at in the order of their numbers, whichever is done first.
        """
        allowed = int(SIGNIFICANCE * (n_null + 1)) - 1
        done: dict[str, Fit] = {}
        fits: list[Mapping[str, Any]] = []
        n_reached = 0
        tasks = {f"null-{b}": partial(self.fit, b) for b in range(n_null)}
        for name, fit in run_fits(tasks, self.workers, self.store):
            done[name] = fit
            if on_step is not None:
                on_step(len(done), n_null)
            while (next_name := f"null-{len(fits)}") in done:
                fits.append(done[next_name].figures)
                n_reached += fits[-1]["structure_score"] >= self.score
                if stop_early and n_reached > allowed and len(fits) < n_null:
                    return fits, True
        return fits, False


def _check_segments(
    neighbours: quality.IntArray,
    labels: quality.IntArray,
    fits: list[Mapping[str, Any]],
    rng: np.random.Generator,
) -> tuple[SegmentCheck, ...]:
    """Compare every cluster with the best one of each null.

    A null counts at least what the same labels reach when they are dealt out at random:
    where nulls have no cluster at all, chance would be enough otherwise.
    """
    purity = quality.neighbour_purity(neighbours, labels)
    scores = quality.confirmed_scores(purity, labels)
    best = []
    for fit in fits:
        dealt = rng.permutation(labels)
        chance = quality.confirmed_scores(
            quality.neighbour_purity(neighbours, dealt), dealt
        )
        best.append(max(fit["best_segment"], *chance.values(), 0.0))
    return tuple(
        SegmentCheck(
            cluster=cluster,
            n_entities=int((labels == cluster).sum()),
            purity=purity[cluster],
            statistic=score,
            p_value=(1 + sum(other >= score for other in best)) / (len(best) + 1),
        )
        for cluster, score in scores.items()
    )


def _judge(
    summary: quality.LabelSummary,
    segments: tuple[SegmentCheck, ...],
    fits: list[Mapping[str, Any]],
    n_null_planned: int,
    is_stopped: bool,
) -> Certificate:
    """Return the certificate of the data's score and the nulls'."""
    score = summary.structure_score
    scores = [fit["structure_score"] for fit in fits]
    n_reached = sum(other >= score for other in scores)
    p_value = n_reached / len(fits) if is_stopped else (1 + n_reached) / (len(fits) + 1)
    excess = score - max(scores)
    required = required_excess(scores) if len(scores) > 1 else MIN_EXCESS
    return Certificate(
        statistic=score,
        null_statistics=tuple(scores),
        n_null_planned=n_null_planned,
        is_stopped_early=is_stopped,
        p_value=p_value,
        excess=excess,
        required_excess=required,
        is_structured=p_value <= SIGNIFICANCE and excess >= required,
        segments=segments,
        n_rows=summary.n_entities,
        clusters=summary,
        seconds_per_fit=float(np.median([fit["seconds"] for fit in fits])),
    )
