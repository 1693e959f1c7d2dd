"""The search for `min_cluster_size`, `min_samples`, method and latent size.

The criterion is that of `core.evaluation.criterion`. What takes the time is learning
scaler and encoder, so each of them serves every option of the clustering: a latent size
costs one model of all shops, one per refit, and two per data set without structure (a
model of it, and one refit), however many options there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from core.clustering.selection import ClusterGrid, ClusterOptions
from core.config import Config
from core.errors import ModelError
from core.evaluation.candidates import (
    EFFORTS,
    LEAST,
    Key,
    Plan,
    candidate_latent_sizes,
    candidate_options,
    fitted_options,
    model_keys,
    plan_search,
    standing_options,
)
from core.evaluation.copula import fit_gaussian_copula
from core.evaluation.criterion import (
    Candidate,
    GridLabels,
    Measured,
    agreements,
    choose,
    criterion_table,
    null_excess,
    values_of,
)
from core.evaluation.fits import Fit, FitStore, OnStep, run_fits
from core.evaluation.quality import FloatArray, IntArray
from core.evaluation.spaces import fit_space
from core.evaluation.stability import SUBSAMPLE_SHARE
from core.evaluation.workers import Workers
from core.representation.seeding import derived_seed

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
