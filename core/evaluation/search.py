"""What a search of options tries, and how much of it a time allows.

Everything is counted from labels, so that options of different latent spaces can be
compared. For one set of options::

    value     = refit ARI x coverage x ln(effective clusters)
    criterion = value on the data - mean value on data without structure

*Refit ARI* is the agreement with models learnt anew on 80% of the shops, noise as a
class of its own; below 0 it counts as 0. *Coverage x ln(effective clusters)* is the
structure score of `core.evaluation.quality`. *Data without structure* are
Gaussian-copula nulls, learnt and refitted by the same options.

None of the three is enough alone: one cluster of everybody is as stable as can be, and
so is noise that agrees with noise; many small clusters have a splendid structure score,
on nothing as well. The null says what the options find where nothing is.

The best criterion is an estimate, and the best of many. Among the options within one
standard error of it (Breiman et al., 1984), those that change the least of what stands
are chosen; and nothing is changed where the best is not clearly larger than the best of
one null among the others (max-T). Few refits give a small standard error by luck at
times: the median of all options counts where it is larger.

Measured on five planted data sets of 850 to 950 shops, easy to hard, with the encoder
of that time (2 or 3 latent sizes, 30 options, 3 refits, 2 nulls; adjusted Rand index
against the truth): the choice reached 0.61 to 0.94, the best of all options 0.65 to
0.94, the defaults 0.08 to 0.93. Taken by refit ARI alone it would have been 0.06 to
0.94, by the structure score alone 0.56 to 0.94; over models refitted, 0.23 to 0.93 by
the structure score and 0.46 to 0.93 by the criterion, whose rank correlation with the
truth was 0.50 to 0.90. On two data sets without structure the defaults were kept.

The criterion is that of `core.evaluation.search`. What takes the time is learning
scaler and encoder, so each of them serves every option of the clustering: a latent size
costs one model of all shops, one per refit, and two per data set without structure (a
model of it, and one refit), however many options there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.metrics import adjusted_rand_score

from core.config import Config
from core.errors import ModelError
from core.evaluation.comparison import fit_space
from core.evaluation.null import fit_gaussian_copula
from core.evaluation.quality import FloatArray, IntArray, label_summary
from core.evaluation.stability import SUBSAMPLE_SHARE, Fit, FitStore, OnStep, run_fits
from core.evaluation.workers import Workers
from core.models.density import (
    SMOOTHING,
    ClusterGrid,
    ClusterOptions,
    option_grid,
    smallest_size,
)
from core.models.seeding import derived_seed

LATENT_SIZES = (3, 5, 8, 12)
# Taken for a standing `min_samples` that is chosen anew for every model.
OPEN_MIN_SAMPLES = 10
# Shops; sizes are tried up to a tenth of the shops, larger ones leave room for a few
# clusters only.
CLUSTER_SIZES = (10, 15, 20, 30, 50, 75, 100, 150, 200)
LARGEST_SHARE = 0.1
# Refits and nulls, from what is wanted to the fewest with a standard error.
EFFORTS = ((5, 4), (4, 3), (3, 2))
LEAST = (2, 2)


class Plan(NamedTuple):
    """What a search learns.

    Attributes
    ----------
    latent_sizes : tuple of int
        The standing one first.
    n_refits : int
        Of each, on 80% of the shops; at least 2.
    n_nulls : int
        Data sets without structure, the same for every latent size; at least 2.
    """

    latent_sizes: tuple[int, ...]
    n_refits: int
    n_nulls: int

    @property
    def n_models(self) -> int:
        """Return how often scaler and encoder are learnt."""
        return len(self.latent_sizes) * (1 + self.n_refits + 2 * self.n_nulls)


def plan_search(
    latent_sizes: Sequence[int], seconds_per_model: float, seconds: float
) -> Plan:
    """Return the widest search that fits into a time.

    First there are fewer refits and nulls, then fewer latent sizes, the last first. The
    smallest plan is returned even where it takes longer.

    Parameters
    ----------
    latent_sizes : sequence of int
        The standing one first.
    seconds_per_model : float
        For scaler, encoder and all clusterings of one latent size.
    seconds : float
        For everything.
    """
    plans = [
        Plan(tuple(latent_sizes[:n]), *effort)
        for n in range(len(latent_sizes), 0, -1)
        for effort in EFFORTS
    ]
    least = Plan(tuple(latent_sizes[:1]), *LEAST)
    fitting = (p for p in plans if p.n_models * seconds_per_model <= seconds)
    return next(fitting, least)


def candidate_latent_sizes(standing: int, n_features: int) -> tuple[int, ...]:
    """Return the latent sizes to try, smaller than the features, the standing first."""
    others = [s for s in LATENT_SIZES if s < n_features and s != standing]
    # The nearest first: a shortened search drops the last.
    return (standing, *sorted(others, key=lambda s: abs(math.log(s / standing))))


def candidate_options(
    standing: ClusterOptions, n_shops: int
) -> tuple[ClusterOptions, ...]:
    """Return the options to try on so many shops, the standing ones among them.

    Parameters
    ----------
    standing : ClusterOptions
        Must fit into 80% of the shops; see `fitted_options`.
    n_shops : int
        Shops that are searched.
    """
    most = LARGEST_SHARE * n_shops
    sizes = {size for size in CLUSTER_SIZES if size <= most}
    neighbours = {k for k in SMOOTHING if k <= most}
    return option_grid(
        sizes | {standing.min_cluster_size}, neighbours | {standing.min_samples}
    )


def fitted_options(
    options: ClusterOptions, n_shops: int, n_searched: int
) -> ClusterOptions:
    """Return options meant for all shops as they are for the searched ones.

    A cluster of a share of the shops has that share of a sample; the number of
    neighbours stays. Sizes that no subsample could hold are cut to what it holds.
    """
    held = int(SUBSAMPLE_SHARE * n_searched)
    size = round(options.min_cluster_size * n_searched / n_shops)
    return options._replace(
        min_cluster_size=min(max(size, 2), max(held, 2)),
        min_samples=min(options.min_samples, max(held - 1, 1)),
    )


def standing_options(config: Config, n_shops: int) -> ClusterOptions:
    """Return the options of the clustering that a configuration names.

    Where it leaves the smallest size open, that of so many shops; where it leaves
    `min_samples` open, 10: a search over one model has it from the model instead.
    """
    clustering = config.clustering
    return ClusterOptions(
        clustering.min_cluster_size or smallest_size(n_shops),
        clustering.min_samples or OPEN_MIN_SAMPLES,
        clustering.selection_method,
    )


class Key(NamedTuple):
    """One model of a search.

    Attributes
    ----------
    latent_size : int
    table : int
        0 for the data, from 1 for data without structure.
    refit : int or None
        Number of the draw of 80% of the shops that it learns from; None: all shops.
    """

    latent_size: int
    table: int
    refit: int | None


def model_keys(plan: Plan) -> list[Key]:
    """Return the models of a plan, those of the standing latent size first."""
    data = [(0, None), *((0, number) for number in range(plan.n_refits))]
    nulls = [(n + 1, refit) for n in range(plan.n_nulls) for refit in (None, 0)]
    return [Key(size, *of) for size in plan.latent_sizes for of in [*data, *nulls]]


GridLabels = npt.NDArray[np.int32]
"""Labels under several options, shape (n_options, n_shops); -1 is noise."""

MARGIN = 0.1
"""Nats beyond the nulls that are called clear: two equal clusters of 7% of the shops,
as in `core.evaluation.null`."""

SCHEMA = {
    "latent_size": pl.Int64,
    "min_samples": pl.Int64,
    "min_cluster_size": pl.Int64,
    "selection_method": pl.String,
    "clusters": pl.Int64,
    "coverage": pl.Float64,
    "effective_clusters": pl.Float64,
    "refit_ari": pl.Float64,
    "value": pl.Float64,
    "null_value": pl.Float64,
    "criterion": pl.Float64,
    "standard_error": pl.Float64,
    "is_standing": pl.Boolean,
    "is_chosen": pl.Boolean,
}


class Candidate(NamedTuple):
    """One row of the search.

    Attributes
    ----------
    latent_size : int
        Dimensions of the latent space.
    options : ClusterOptions
        Of the clustering in it.
    """

    latent_size: int
    options: ClusterOptions


class Measured(NamedTuple):
    """What one latent size came to, under every option.

    Attributes
    ----------
    labels : ndarray of int32, shape (n_options, n_shops)
        Of the model learnt from all shops.
    ari : ndarray of float64, shape (n_refits, n_options)
        Agreement of those labels with each refit's.
    null_values : ndarray of float64, shape (n_nulls, n_options)
        Value on each data set without structure.
    """

    labels: GridLabels
    ari: FloatArray
    null_values: FloatArray


def agreements(labels: GridLabels, refit: GridLabels) -> FloatArray:
    """Return the adjusted Rand index under each option, noise as a class of its own."""
    pairs = zip(labels, refit, strict=True)
    return np.array([adjusted_rand_score(one, other) for one, other in pairs])


def structure_scores(labels: GridLabels) -> FloatArray:
    """Return coverage x ln(effective clusters) under each option, in nats."""
    return np.array([label_summary(row).structure_score for row in labels])


def values_of(labels: GridLabels, ari: FloatArray) -> FloatArray:
    """Return the value of each option for each refit: `ari` has the refits' shape."""
    return np.clip(ari, 0.0, None) * structure_scores(labels)


def criterion_table(
    latent_size: int, options: Sequence[ClusterOptions], found: Measured
) -> pl.DataFrame:
    """Return one row per option of a latent size.

    Returns
    -------
    DataFrame
        Columns of `SCHEMA`, all but the last two. ``coverage`` and
        ``effective_clusters`` are those of the labels, ``refit_ari``, ``value`` and
        ``null_value`` are means. ``standard_error`` is that of the criterion: those of
        the mean over refits and of the mean over nulls, added in quadrature. Refits
        share most of their shops, so the variance of their mean is taken as ``1 / n +
        share left out / share learnt from`` of theirs (Nadeau and Bengio, 2003), not
        as ``1 / n``.
    """
    values = values_of(found.labels, found.ari)
    overlap = (1 - SUBSAMPLE_SHARE) / SUBSAMPLE_SHARE
    error = np.hypot(
        _error_of_mean(values, overlap), _error_of_mean(found.null_values, 0.0)
    )
    value, null_value = values.mean(axis=0), found.null_values.mean(axis=0)
    rows = []
    for i, option in enumerate(options):
        summary = label_summary(found.labels[i])
        rows.append(
            (
                latent_size,
                option.min_samples,
                option.min_cluster_size,
                option.selection_method,
                summary.n_clusters,
                summary.coverage,
                summary.effective_clusters,
                found.ari[:, i].mean(),
                value[i],
                null_value[i],
                value[i] - null_value[i],
                error[i],
            )
        )
    schema = dict(list(SCHEMA.items())[:-2])
    return pl.DataFrame(rows, schema=schema, orient="row")


def null_excess(found: Sequence[Measured]) -> float:
    """Return the best criterion that one null reaches among the other ones.

    The same nulls were taken for each latent size; every option counts.
    """
    values = np.concatenate([measured.null_values for measured in found], axis=1)
    others = (values.sum(axis=0) - values) / (len(values) - 1)
    return float((values - others).max())


def choose(
    table: pl.DataFrame, standing: Candidate, on_nothing: float
) -> tuple[pl.DataFrame, bool]:
    """Mark the row to take; best criterion first.

    Parameters
    ----------
    table : DataFrame
        Rows of `criterion_table`, the standing options among them.
    standing : Candidate
        The options that are kept unless others are better by a standard error.
    on_nothing : float
        See `null_excess`.

    Returns
    -------
    table : DataFrame
        Columns of `SCHEMA`. Within one standard error of the best, the options that
        stand are chosen, else the ones that change the fewest settings, then the ones
        nearest in cluster size, then the better.
    is_beyond_null : bool
        Whether the best, less a standard error, lies above `on_nothing` by `MARGIN`. If
        not, the standing options are chosen.
    """
    ordered = table.sort(
        ["criterion", "latent_size", "min_samples", "min_cluster_size"],
        descending=[True, False, False, False],
        maintain_order=True,
    )
    changes = [_changes(row, standing) for row in ordered.iter_rows(named=True)]
    errors = ordered["standard_error"].to_numpy()
    bar = float(ordered["criterion"][0] - max(errors[0], np.median(errors)))
    is_beyond_null = bar > max(on_nothing, 0.0) + MARGIN
    within = int((ordered["criterion"] >= bar).sum())
    chosen = min(range(within), key=lambda i: (*changes[i], i))
    if not is_beyond_null:
        chosen = changes.index((0, 0.0))
    marked = ordered.with_columns(
        is_standing=pl.Series([change == (0, 0.0) for change in changes]),
        is_chosen=pl.int_range(pl.len()) == chosen,
    )
    return marked, is_beyond_null


def candidate_of(row: dict[str, object]) -> Candidate:
    """Return the candidate that a row of the table is about."""
    options = ClusterOptions(*(row[name] for name in ClusterOptions._fields))  # type: ignore[arg-type]  # the schema says so
    return Candidate(int(str(row["latent_size"])), options)


def _changes(row: dict[str, object], standing: Candidate) -> tuple[int, float]:
    """Return how many settings differ, and by which factor (in nats) the size does."""
    found = candidate_of(row)
    pairs = [
        (found.latent_size, standing.latent_size),
        *zip(found.options, standing.options, strict=True),
    ]
    ratio = found.options.min_cluster_size / standing.options.min_cluster_size
    return sum(one != other for one, other in pairs), abs(math.log(ratio))


def _error_of_mean(values: FloatArray, overlap: float) -> FloatArray:
    """Return the standard error of the mean over the first axis, of at least two."""
    variances: FloatArray = values.var(axis=0, ddof=1)
    return np.sqrt(variances * (1 / len(values) + overlap))


MAX_SHOPS = 5000
"""Shops that a search learns from: a model of more takes longer and says the same."""

NULL_STREAM = 10_000
"""Index of the nulls' seeds; those before it are the refits'."""


@dataclass(frozen=True)
class Selection:
    """What a search found.

    Attributes
    ----------
    table : DataFrame
        One row per latent size and options, best first; see `criterion.SCHEMA`.
    plan : Plan
        What was learnt.
    n_shops, n_searched : int
        Shops there are, and those that were learnt from.
    is_beyond_null : bool
        Whether the best options find more than any do where nothing is.
    """

    table: pl.DataFrame
    plan: Plan
    n_shops: int
    n_searched: int
    is_beyond_null: bool


def select(
    X: FloatArray,
    config: Config,
    budget_minutes: float = 10.0,
    plan: Plan | None = None,
    n_workers: int | None = None,
    store: FitStore | None = None,
    on_plan: Callable[[Plan, float], None] | None = None,
    on_step: OnStep | None = None,
) -> Selection:
    """Measure the criterion of every option, and choose.

    Parameters
    ----------
    X : ndarray of float64, shape (n_shops, n_features)
        Features as prepared, not scaled; NaN where unknown. Of more than `MAX_SHOPS`, a
        random sample is searched.
    config : Config
        Its clustering and latent size are what stands; its seed decides the sample, the
        refits and the nulls.
    budget_minutes : float
        The search is planned to fit, by the time of its first refit.
    plan : Plan, optional
        Instead of planning by time: then the result does not depend on the machine.
    n_workers : int, optional
        Processes that learn models; 0 for this one, None for one per core. The result
        does not depend on it.
    store : FitStore, optional
        Where finished models are kept, to go on after an interruption.
    on_plan : callable, optional
        Called with the plan that was made and the seconds that the rest will take.
    on_step : callable, optional
        Called with (models learnt, models in all).

    Raises
    ------
    ModelError
        For a budget that is not above 0, a plan with fewer than 2 refits or nulls or
        without the standing latent size, or too few shops.
    """
    _check(budget_minutes, plan, config.autoencoder.latent_size)
    searched = _sample(X, config.seed)
    stands = standing_options(config, len(X))
    standing = Candidate(
        config.autoencoder.latent_size, fitted_options(stands, len(X), len(searched))
    )
    options = candidate_options(standing.options, len(searched))
    sizes = candidate_latent_sizes(standing.latent_size, X.shape[1])
    with Workers(n_workers) as workers:
        models = _Models(searched, config, options, workers, store, on_step)
        if plan is None:
            plan, seconds = models.plan(sizes, 60 * budget_minutes)
            if on_plan is not None:
                on_plan(plan, seconds)
        models.learn(model_keys(plan))
    found = [models.measured(size, plan) for size in plan.latent_sizes]
    parts = [
        criterion_table(size, options, measured)
        for size, measured in zip(plan.latent_sizes, found, strict=True)
    ]
    table, is_beyond_null = choose(pl.concat(parts), standing, null_excess(found))
    table = table.with_columns(
        searched_cluster_size="min_cluster_size",
        min_cluster_size=_size_for_all(len(X), len(searched), stands),
    )
    return Selection(table, plan, len(X), len(searched), is_beyond_null)


def grid_labels(
    X: FloatArray,
    rows: IntArray,
    latent_size: int,
    config: Config,
    options: Sequence[ClusterOptions],
) -> Fit:
    """Learn one model, label every shop under every option.

    Parameters
    ----------
    X : ndarray of float64, shape (n_shops, n_features)
        Features, not scaled; NaN where unknown.
    rows : ndarray of int
        The shops that are learnt from.
    latent_size : int
        Instead of the configuration's.
    config : Config
        Scaling, encoder and seed.
    options : sequence of ClusterOptions

    Returns
    -------
    Fit
        ``labels`` of shape (n_options, n_shops), and the ``seconds`` that it took.
    """
    started = time.perf_counter()
    encoder = config.autoencoder.model_copy(update={"latent_size": latent_size})
    config = config.model_copy(update={"autoencoder": encoder})
    place = fit_space(X[rows], config.seed, "latent", config)
    grid = ClusterGrid(options).fit(place(X[rows]))
    labels = np.array(list(grid.assign(place(X)).values()))
    return Fit(labels, {"seconds": time.perf_counter() - started})


class _Models:
    """The models of a search: learns them, side by side, and keeps their labels."""

    def __init__(
        self,
        X: FloatArray,
        config: Config,
        options: Sequence[ClusterOptions],
        workers: Workers,
        store: FitStore | None,
        on_step: OnStep | None,
    ) -> None:
        self.X, self.config, self.options = X, config, options
        self.workers, self.store, self.on_step = workers, store, on_step
        self.labels: dict[Key, GridLabels] = {}
        self._copula = fit_gaussian_copula(X, self._rng_of_null(0))

    def plan(self, sizes: Sequence[int], seconds: float) -> tuple[Plan, float]:
        """Learn what every plan holds; return the plan, and what the rest will take.

        A worker's first model waits for TensorFlow, so the quickest of them counts.
        """
        started = time.perf_counter()
        widest = Plan(tuple(sizes), *EFFORTS[0])
        least = model_keys(Plan(tuple(sizes[:1]), *LEAST))
        each = min(self.learn(least[:3], widest.n_models)) / self._width
        left = seconds - (time.perf_counter() - started)
        plan = plan_search(sizes, each, left + 3 * each)
        return plan, (plan.n_models - 3) * each

    def learn(self, keys: Sequence[Key], n_models: int | None = None) -> list[float]:
        """Learn the models that are not known yet; return the seconds each took."""
        tasks = {_name(k): self._task(k) for k in keys if k not in self.labels}
        keys_of = {_name(key): key for key in keys}
        taken = []
        self._report(n_models or len(keys))
        for name, fit in run_fits(tasks, self.workers, self.store):
            self.labels[keys_of[name]] = fit.labels.astype(np.int32)
            taken.append(float(fit.figures["seconds"]))
            self._report(n_models or len(keys))
        return taken

    def measured(self, latent_size: int, plan: Plan) -> Measured:
        """Return what a latent size comes to under every option."""
        labels = self.labels[Key(latent_size, 0, None)]
        refits = [
            self.labels[Key(latent_size, 0, number)] for number in range(plan.n_refits)
        ]
        nulls = [
            (
                self.labels[Key(latent_size, n, None)],
                self.labels[Key(latent_size, n, 0)],
            )
            for n in range(1, plan.n_nulls + 1)
        ]
        return Measured(
            labels,
            np.array([agreements(labels, refit) for refit in refits]),
            np.array([values_of(one, agreements(one, other)) for one, other in nulls]),
        )

    @property
    def _width(self) -> int:
        """Return how many models are learnt at a time."""
        return max(self.workers.n_workers, 1)

    def _rng_of_null(self, number: int) -> np.random.Generator:
        """Return what draws a null, from 1 on; 0 fits the copula."""
        return np.random.default_rng(
            derived_seed(self.config.seed, NULL_STREAM + number)
        )

    def _task(self, key: Key) -> Callable[[], Fit]:
        """Return what learns a model, ready to be sent to a worker."""
        X = self.X
        if key.table:
            X = self._copula.sample(self._rng_of_null(key.table))
        rows = np.arange(len(X))
        if key.refit is not None:
            # The draws of `core.evaluation.stability.refit`.
            rng = np.random.default_rng(derived_seed(self.config.seed, key.refit))
            rows = rng.choice(len(X), round(SUBSAMPLE_SHARE * len(X)), replace=False)
        return partial(grid_labels, X, rows, key.latent_size, self.config, self.options)

    def _report(self, n_models: int) -> None:
        """Tell how many models are learnt, and how many there will be."""
        if self.on_step is not None:
            self.on_step(len(self.labels), n_models)


def _name(key: Key) -> str:
    """Return a plain name of a model."""
    refit = "all" if key.refit is None else f"refit-{key.refit}"
    return f"latent-{key.latent_size}-table-{key.table}-{refit}"


def _sample(X: FloatArray, seed: int) -> FloatArray:
    """Return at most `MAX_SHOPS` rows, in their order."""
    if len(X) <= MAX_SHOPS:
        return X
    rng = np.random.default_rng(seed)
    return X[np.sort(rng.choice(len(X), MAX_SHOPS, replace=False))]


def _size_for_all(n_shops: int, n_searched: int, stands: ClusterOptions) -> pl.Expr:
    """Return cluster sizes of the searched shops as they are for all shops."""
    scaled = (pl.col("min_cluster_size") * (n_shops / n_searched)).round()
    is_same = pl.col("min_cluster_size") == (
        fitted_options(stands, n_shops, n_searched).min_cluster_size
    )
    size = pl.when(is_same).then(stands.min_cluster_size).otherwise(scaled)
    return size.cast(pl.Int64)


def _check(budget_minutes: float, plan: Plan | None, standing: int) -> None:
    """Refuse a search that cannot be made."""
    if not budget_minutes > 0:
        raise ModelError(
            f"`budget_minutes` is {budget_minutes}; expected a time above 0."
        )
    if plan is not None and min(plan.n_refits, plan.n_nulls) < 2:
        raise ModelError(
            f"the plan has {plan.n_refits} refits and {plan.n_nulls} nulls; expected "
            "at least 2 of each, for a standard error."
        )
    if plan is not None and plan.latent_sizes[:1] != (standing,):
        raise ModelError(
            f"the plan has the latent sizes {list(plan.latent_sizes)}; expected the "
            f"standing one first, which is {standing}."
        )
