"""Spaces and clusterers side by side, each recipe judged as a whole.

A space learns from unscaled features and a seed and returns what places any entities in
it; a clusterer learns from a space. One of each makes a recipe
(`core.evaluation.stability.Recipe`), learnt whole: scaler, space and clusters.

=============  =========================================================================
space          what it is
=============  =========================================================================
``raw``        the features, scaled as the run scales them
``pca``        as many principal components of them as the latent space has dimensions
``umap``       as many coordinates of UMAP of them (15 neighbours, packed densely)
``reference``  the published latent space: robust scaling, LayerNorm latent of 5
``latent``     the run's own latent space
``hdbscan``    the run's clusterer with the run's options
``kmeans``     k means: `core.models.centroids`
``mixture``    k Gaussians with one covariance, as the run's own partitions
=============  =========================================================================

A distance or a density has no meaning outside its own space, so none is in this table.
What is: counts of labels, whether the labels come back when all is learnt anew, whether
the same recipe finds as much in data without structure, and what the labels tell of
later sales.

**How many parts.** KMeans and mixtures are told ``k``, the same in every space, so that
two rows differ by space or clusterer and never by the number of parts. It is chosen
before, without any truth (`core.retailers.research`).

**The p of KMeans and mixtures** is left out. It would ask how much of the data is in
how many clusters; they put everything into k parts, of nothing as of anything.
Whether their parts are more than a convenient cut is told by stability beside the
out-of-time score.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import polars as pl
from sklearn.decomposition import PCA

from core.config import Config
from core.errors import ModelError
from core.evaluation.certificate import FEWEST_NULLS, certify_table
from core.evaluation.out_of_time import Cut, labels_over_time, out_of_time
from core.evaluation.quality import IntArray, label_summary
from core.evaluation.stability import FloatArray, Labels, Recipe, rand_indices, refit
from core.evaluation.workers import Workers
from core.models.autoencoder.estimator import Autoencoder
from core.models.density import fit_density
from core.models.partition import Partition
from core.models.preprocessing import FeatureScaler
from core.models.umap import fit_umap

SpaceName = Literal["raw", "pca", "umap", "reference", "latent"]
ClustererName = Literal["hdbscan", "kmeans", "mixture"]
SPACES: dict[SpaceName, str] = {
    "raw": "raw features",
    "pca": "principal components",
    "umap": "UMAP",
    "reference": "reference latent",
    "latent": "our latent",
}
CLUSTERERS: dict[ClustererName, str] = {
    "hdbscan": "HDBSCAN",
    "kmeans": "KMeans",
    "mixture": "Gaussian mixture",
}
Transform = Callable[[FloatArray], FloatArray]


def fit_space(X: FloatArray, seed: int, name: SpaceName, config: Config) -> Transform:
    """Learn a space; return what places entities in it.

    Parameters
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        Features as prepared, not scaled; NaN where unknown.
    seed : int
        Of UMAP and of the encoders.
    name : str
        One of `SPACES`.
    config : Config
        Its scaling, its autoencoder and that one's latent size.

    Raises
    ------
    ModelError
        For `umap` where it is not installed, or too few entities.
    """
    if name == "reference":
        scaler = FeatureScaler(method="robust").fit(X)
        place = _encoder(scaler.transform(X), Autoencoder("reference", seed=seed))
    else:
        scaler = FeatureScaler(**config.scaling.model_dump()).fit(X)
        place = _fit_scaled_space(scaler.transform(X), seed, name, config)
    return lambda table: place(scaler.transform(table))


def _fit_scaled_space(
    scaled: FloatArray, seed: int, name: SpaceName, config: Config
) -> Transform:
    """Learn a space from scaled features."""
    size = config.autoencoder.latent_size
    if name == "raw":
        return lambda table: table
    if name == "pca":
        n_components = min(size, *scaled.shape)
        fitted = PCA(n_components, svd_solver="full").fit(scaled)
        return lambda table: np.asarray(fitted.transform(table), dtype=np.float64)
    if name == "umap":
        return fit_umap(scaled, size, seed)
    return _encoder(scaled, Autoencoder(**config.autoencoder.model_dump(), seed=seed))


def _encoder(scaled: FloatArray, encoder: Autoencoder) -> Transform:
    return encoder.fit(scaled).transform


def fit_clusters(
    Z: FloatArray, seed: int, name: ClustererName, config: Config, k: int
) -> Callable[[FloatArray], Labels]:
    """Learn clusters in a space; return what labels rows of that space.

    Parameters
    ----------
    Z : ndarray of float64, shape (n_entities, n_columns)
        The space.
    seed : int
        Of the starts of KMeans and of the mixture, and of samples.
    name : str
        One of `CLUSTERERS`.
    config : Config
        Its clustering options are those of `hdbscan`.
    k : int
        Parts of `kmeans` and `mixture`; fewer where there are fewer different rows.
    """
    if name == "hdbscan":
        density = fit_density(Z, config.clustering, seed)
        return lambda table: density.assign(table).labels
    partition = Partition(name, n_segments=k, seed=seed).fit(Z)
    return lambda table: partition.assign(table).labels


def recipe_of(
    space: SpaceName, clusterer: ClustererName, config: Config, k: int = 2
) -> Recipe:
    """Return the recipe of a space and a clusterer; it can be pickled.

    `latent` with `hdbscan` is `core.evaluation.stability.whole_pipeline`.
    """
    return partial(_fit_recipe, space=space, clusterer=clusterer, config=config, k=k)


def _fit_recipe(
    X: FloatArray,
    seed: int,
    space: SpaceName,
    clusterer: ClustererName,
    config: Config,
    k: int,
) -> Callable[[FloatArray], Labels]:
    """Learn space and clusters; return what labels entities by their features."""
    place = fit_space(X, seed, space, config)
    label = fit_clusters(place(X), seed, clusterer, config, k)
    return lambda table: label(place(table))


class SharedSpace:
    """A space with a cache: learnt once per table and seed.

    Three clusterers refitted on the same entities need the same space; learning it is
    what takes the time. What is learnt is kept as long as this object lives.

    Parameters
    ----------
    name : str
        One of `SPACES`.
    config : Config
        As for `fit_space`.
    on_learnt : callable, optional
        Called without arguments each time that the space has been learnt.
    """

    def __init__(
        self,
        name: SpaceName,
        config: Config,
        on_learnt: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._config = config
        self._on_learnt = on_learnt
        self._learnt: dict[tuple[bytes, int], Transform] = {}

    def fit(self, X: FloatArray, seed: int) -> Transform:
        """Return `fit_space` of the table, learnt now or before."""
        key = (_digest(X), seed)
        if key not in self._learnt:
            place = fit_space(X, seed, self.name, self._config)
            self._learnt[key] = _cached(place)
            if self._on_learnt is not None:
                self._on_learnt()
        return self._learnt[key]

    def recipe(self, clusterer: ClustererName, k: int) -> Recipe:
        """Return the recipe of this space and a clusterer; it cannot be pickled."""

        def fit(X: FloatArray, seed: int) -> Callable[[FloatArray], Labels]:
            place = self.fit(X, seed)
            label = fit_clusters(place(X), seed, clusterer, self._config, k)
            return lambda table: label(place(table))

        return fit


def _cached(place: Transform) -> Transform:
    """Return a transform that remembers what it has returned."""
    placed: dict[bytes, FloatArray] = {}

    def transform(table: FloatArray) -> FloatArray:
        key = _digest(table)
        if key not in placed:
            placed[key] = place(table)
        return placed[key]

    return transform


def _digest(table: FloatArray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(table).tobytes()).digest()


SCHEMA: dict[str, Any] = {
    "feature_set": pl.String,
    "space": pl.String,
    "clusterer": pl.String,
    "n_entities": pl.Int64,
    "k": pl.Int64,
    "clusters": pl.Int64,
    "noise_ratio": pl.Float64,
    "effective_clusters": pl.Float64,
    "largest_share": pl.Float64,
    "stability": pl.Float64,
    "stability_lowest": pl.Float64,
    "stability_highest": pl.Float64,
    "null_p": pl.Float64,
    "n_nulls": pl.Int64,
    "beyond_null": pl.Boolean,
    "out_of_time": pl.Float64,
    "out_of_time_se": pl.Float64,
    "seconds": pl.Float64,
    "note": pl.String,
}
NO_P = "p not applicable: any data is cut into k parts"
NO_TIME = "p not measured: the time budget was used up"
NO_NULLS = "p not measured: no nulls were requested"
NO_PAST = "no out-of-time score: no month far enough back"
NO_CLUSTER = "no stability: there is no cluster that could come back"
WARM_UP_ROWS = 64
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class FeatureTable:
    """The entities as one feature set sees them.

    Attributes
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        Features, unscaled; NaN where unknown.
    cuts : sequence of Cut
        The entities eligible at earlier months, from `core.evaluation.out_of_time`;
        empty where the data does not reach back far enough.
    """

    X: FloatArray
    cuts: Sequence[Cut]


@dataclass(frozen=True)
class ComparisonEffort:
    """Numbers of refits and nulls, and the time allowed.

    Attributes
    ----------
    n_refits : int
        Refits on 80% of the entities, at least 2.
    n_nulls : int
        Most data sets without structure per recipe, at least 19, or 0 for none at all;
        fewer are made where the answer is settled earlier.
    budget_seconds : float or None
        After which no further nulls are started.
    """

    n_refits: int = 3
    n_nulls: int = 19
    budget_seconds: float | None = None


def compare_recipes(
    tables: Mapping[str, FeatureTable],
    config: Config,
    k: int,
    spaces: Sequence[SpaceName],
    effort: ComparisonEffort,
    workers: Workers | None = None,
    on_step: OnStep | None = None,
) -> pl.DataFrame:
    """Judge every feature set x space x clusterer.

    Parameters
    ----------
    tables : mapping of feature set to FeatureTable
        The same entities in every set.
    config : Config
        Options of scaling, autoencoder and clusterer, and the seed.
    k : int
        Parts of KMeans and of the mixture, at least 2.
    spaces : sequence of str
        Of `core.evaluation.comparison.SPACES`, in the order wanted.
    effort : ComparisonEffort
        Refits, nulls, time.
    workers : Workers, optional
        Who makes the nulls; None: this process. The result is the same.
    on_step : callable, optional
        Called with (spaces learnt, spaces to be learnt at most).

    Returns
    -------
    DataFrame
        One row per recipe:

        ``feature_set, space, clusterer, n_entities``
        ``k`` : int
            Null for HDBSCAN, which is not told.
        ``clusters, noise_ratio, effective_clusters, largest_share``
            See `core.evaluation.quality.LabelSummary`.
        ``stability, stability_lowest, stability_highest`` : float
            Adjusted Rand index of the labels with those of the recipe learnt anew on
            80% of the entities, noise as a class of its own: mean and range of the
            refits. Null without a cluster: that all is noise again and again is no
            stability.
        ``null_p, n_nulls, beyond_null`` : float, int, bool
            Of HDBSCAN: see `core.evaluation.certificate`. Null for the others, and
            where the time budget was used up.
        ``out_of_time, out_of_time_se`` : float
            Share of the variance of later outcomes that the labels explain beyond
            size, and its standard error: `out_of_time` of the
            recipe learnt at the oldest cut. Null where there is no cut.
        ``seconds`` : float
            To learn space and clusters once, imports and compilation left aside.
        ``note`` : str
            Why a figure is missing; empty if none is.

    Raises
    ------
    ModelError
        For fewer than 2 refits or parts, or 1 to 18 nulls.
    """
    if k < 2:
        raise ModelError(f"`k` is {k}; expected at least 2 parts.")
    if 0 < effort.n_nulls < FEWEST_NULLS or effort.n_nulls < 0:
        raise ModelError(
            f"`n_nulls` is {effort.n_nulls}; expected {FEWEST_NULLS} or more, with "
            "fewer no p can be significant, or 0 for none at all."
        )
    _warm_up(next(iter(tables.values())).X, spaces, config)
    watch = _Progress(tables, spaces, effort, on_step)
    cells: list[_Cell] = []
    for feature_set, table in tables.items():
        for space in spaces:
            shared = SharedSpace(space, config, watch.step)
            place = _SpaceRun(feature_set, table, shared, config, k, effort.n_refits)
            cells += place.cells()
    for cell in sorted(cells, key=lambda cell: cell.row["seconds"]):
        if cell.row["clusterer"] == "hdbscan":
            X = tables[cell.row["feature_set"]].X
            _compare_with_nulls(cell, X, config, watch, workers)
    rows = [cell.row | {"note": "; ".join(cell.notes)} for cell in cells]
    return pl.DataFrame(rows, schema=SCHEMA)


def _warm_up(X: FloatArray, spaces: Sequence[SpaceName], config: Config) -> None:
    """Learn everything once on a few entities.

    Imports and compilation (20 s for UMAP) are paid by the first fit of a process, and
    would pass for the seconds of whichever recipe comes first.
    """
    few = X[: max(WARM_UP_ROWS, config.clustering.n_needed)]
    for space in spaces:
        shared = SharedSpace(space, config)
        for clusterer in CLUSTERERS:
            shared.recipe(clusterer, 2)(few, config.seed)(few[1:])


@dataclass
class _Cell:
    """One row before it is complete."""

    row: dict[str, Any]
    labels: IntArray
    notes: list[str] = field(default_factory=list)


class _Progress:
    """Spaces learnt so far, and whether the time budget is used up."""

    def __init__(
        self,
        tables: Mapping[str, FeatureTable],
        spaces: Sequence[SpaceName],
        effort: ComparisonEffort,
        on_step: OnStep | None,
    ) -> None:
        self.effort = effort
        self._on_step = on_step
        self._started = time.monotonic()
        per_space = [
            1 + effort.n_refits + bool(table.cuts) + effort.n_nulls
            for table in tables.values()
        ]
        self._done, self._total = 0, sum(per_space) * len(spaces)
        self.step(0)

    @property
    def is_over(self) -> bool:
        """Whether the time budget is used up; never without one."""
        budget = self.effort.budget_seconds
        return budget is not None and time.monotonic() - self._started >= budget

    def step(self, n: int = 1) -> None:
        """Count spaces that were learnt, or need not be."""
        self._done += n
        if self._on_step is not None:
            self._on_step(self._done, self._total)


@dataclass(frozen=True)
class _SpaceRun:
    """One space of one feature set, and the entities in it."""

    feature_set: str
    table: FeatureTable
    shared: SharedSpace
    config: Config
    k: int
    n_refits: int

    def cells(self) -> list[_Cell]:
        """Judge the clusterers one after the other; the space is learnt once."""
        started = time.perf_counter()
        self.shared.fit(self.table.X, self.config.seed)(self.table.X)
        learning = time.perf_counter() - started
        return [self._cell(clusterer, learning) for clusterer in CLUSTERERS]

    def _cell(self, clusterer: ClustererName, learning: float) -> _Cell:
        recipe = self.shared.recipe(clusterer, self.k)
        started = time.perf_counter()
        labels = recipe(self.table.X, self.config.seed)(self.table.X)
        summary = label_summary(labels)
        is_told = clusterer != "hdbscan"
        row = dict.fromkeys(SCHEMA) | {
            "feature_set": self.feature_set,
            "space": self.shared.name,
            "clusterer": clusterer,
            "n_entities": summary.n_entities,
            "k": self.k if is_told else None,
            "clusters": summary.n_clusters,
            "noise_ratio": summary.noise_ratio,
            "effective_clusters": summary.effective_clusters,
            "largest_share": summary.largest_share,
            "seconds": learning + time.perf_counter() - started,
        }
        notes = [NO_P] if is_told else []
        notes += [] if self.table.cuts else [NO_PAST]
        notes += [] if summary.n_clusters else [NO_CLUSTER]
        row |= self._stability(recipe, labels) if summary.n_clusters else {}
        return _Cell(row | self._out_of_time(recipe), labels, notes)

    def _stability(self, recipe: Recipe, labels: IntArray) -> dict[str, float]:
        """Return how well the labels come back when all is learnt on other entities."""
        refits = refit(self.table.X, recipe, self.config.seed, self.n_refits)
        values = rand_indices(labels, refits)
        return {
            "stability": float(values.mean()),
            "stability_lowest": float(values.min()),
            "stability_highest": float(values.max()),
        }

    def _out_of_time(self, recipe: Recipe) -> dict[str, float]:
        """Return what labels of earlier months explain of the time after them."""
        cuts, seed = self.table.cuts, self.config.seed
        if not cuts:
            return {}
        found = out_of_time(cuts, labels_over_time(cuts, recipe, seed), seed)
        if not np.isfinite(found.standard_error):
            return {}
        return {"out_of_time": found.mean, "out_of_time_se": found.standard_error}


class _OutOfBudget(Exception):  # noqa: N818 - ends a loop, tells of no fault
    """Raised between two nulls when the budget is used up."""


def _compare_with_nulls(
    cell: _Cell,
    X: FloatArray,
    config: Config,
    watch: _Progress,
    workers: Workers | None,
) -> None:
    """Add the p of the whole recipe against data without structure."""
    if not watch.effort.n_nulls:
        cell.notes.append(NO_NULLS)
        return
    if not cell.row["clusters"]:
        # T is 0, which every null reaches.
        cell.row |= {"null_p": 1.0, "n_nulls": 0, "beyond_null": False}
        watch.step(watch.effort.n_nulls)
        return
    made = 0

    def on_step(done: int, total: int) -> None:
        nonlocal made
        watch.step(done - made)
        made = done
        if watch.is_over and done < total:
            raise _OutOfBudget

    recipe = recipe_of(cell.row["space"], "hdbscan", config)
    try:
        if watch.is_over:
            raise _OutOfBudget
        found = certify_table(
            X,
            recipe,
            seed=config.seed,
            n_null=watch.effort.n_nulls,
            max_entities=len(X),
            labels=cell.labels,
            workers=workers,
            on_step=on_step,
        )
    except _OutOfBudget:
        cell.notes.append(NO_TIME)
    else:
        cell.row |= {
            "null_p": found.p_value,
            "n_nulls": found.n_null,
            "beyond_null": found.is_structured,
        }
    watch.step(watch.effort.n_nulls - made)
