"""Stability: refits of the whole pipeline on other samples and seeds, compared.

A store keeps each fit under its name, so that what was interrupted goes on where it
was. It belongs to one key (a model, a seed); opened with another one, it starts empty.

A recipe (scaler, encoder and clusterer, say) is refitted on other entities or with
another seed, and all entities are labelled by the new model. Refitting the clusterer
alone over a frozen encoder tells nothing: the encoder has already cast the groups, on
data without any as well.

Stability is needed, and it is not enough: noise agrees with noise, and a convenient cut
can come back every time. Read it beside the structure check.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from core.artifacts.arrays import load_arrays, save_arrays
from core.config import Config
from core.errors import ArtifactError, ModelError
from core.evaluation.workers import Workers
from core.models.autoencoder.estimator import Autoencoder
from core.models.density import fit_density
from core.models.preprocessing import FeatureScaler
from core.models.seeding import derived_seed

KEY = "key.txt"
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Fit:
    """Labels and figures of one fit.

    Attributes
    ----------
    labels : ndarray of int64, shape (n_entities,)
        Cluster per entity, -1 for noise.
    figures : dict
        JSON-able figures.
    """

    labels: npt.NDArray[np.int64]
    figures: dict[str, Any] = field(default_factory=dict)


class FitStore:
    """A folder of finished fits.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    key : str
        What the fits belong to; those of another key are deleted.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        path = folder / KEY
        if not path.is_file() or path.read_text(encoding="utf-8") != key:
            self.discard()
            folder.mkdir(parents=True)
            path.write_text(key, encoding="utf-8")

    def get(self, name: str) -> Fit | None:
        """Return a fit, or None where it was not finished."""
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            arrays, figures = load_arrays(path)
            return Fit(arrays["labels"].astype(np.int64), figures)
        except (ArtifactError, KeyError):
            return None  # damaged, so it is made again

    def put(self, name: str, fit: Fit) -> None:
        """Keep a fit; a kill leaves it whole or not there."""
        interim = self.folder / f".new-{name}"
        save_arrays(interim, {"labels": fit.labels.astype(np.int32)}, fit.figures)
        interim.replace(self._path(name))

    def discard(self) -> None:
        """Delete the folder with everything in it."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def run_fits(
    tasks: Mapping[str, Callable[[], Fit]],
    workers: Workers | None = None,
    store: FitStore | None = None,
) -> Iterator[tuple[str, Fit]]:
    """Yield each task's name and fit: the stored ones first, then as they finish.

    Parameters
    ----------
    tasks : mapping of name to callable
        Plain names: they become names of files.
    workers : Workers, optional
        None: one after the other, in this process.
    store : FitStore, optional
        Where finished fits are found and put.
    """
    waiting = []
    for name in tasks:
        fit = store.get(name) if store is not None else None
        if fit is None:
            waiting.append(name)
        else:
            yield name, fit
    runner = workers or Workers(0)
    for number, fit in runner.run(tasks[name] for name in waiting):
        if store is not None:
            store.put(waiting[number], fit)
        yield waiting[number], fit


FloatArray = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
# From features as prepared (not scaled, NaN where unknown) and a seed to what labels
# any entities' features. Everything that is learnt is learnt in it. To be run by
# `Workers` it must be picklable: a module's function, or a `partial` of one.
Recipe = Callable[[FloatArray, int], Callable[[FloatArray], Labels]]
How = Literal["subsample", "bootstrap", "seed"]
SUBSAMPLE_SHARE = 0.8
# Hennig (2007): below 0.6 a cluster is not found again, from 0.75 it is a valid
# pattern, from 0.85 highly stable.
LEVELS = ((0.85, "highly stable"), (0.75, "stable"), (0.6, "unclear borders"))
DISSOLVED = "unstable"


@dataclass(frozen=True)
class Refit:
    """Labels by one refit, and the rows that it learnt from.

    Attributes
    ----------
    labels : ndarray of int, shape (n_entities,)
        Its cluster for every entity; -1 is noise.
    is_seen : ndarray of bool, shape (n_entities,)
        The entities that it learnt from.
    """

    labels: Labels
    is_seen: npt.NDArray[np.bool_]


def whole_pipeline(config: Config) -> Recipe:
    """Return the recipe of the latent clusters: scaler, encoder and clusterer.

    Parameters
    ----------
    config : Config
        Options of all three. Its seed plays no part: a recipe is given one.
    """
    return partial(_fit_whole, config=config)


def _fit_whole(
    X: FloatArray, seed: int, config: Config
) -> Callable[[FloatArray], Labels]:
    """Learn scaler, encoder and latent clusters; return what labels other entities."""
    scaler = FeatureScaler(**config.scaling.model_dump()).fit(X)
    encoder = Autoencoder(**config.autoencoder.model_dump(), seed=seed)
    latent = encoder.fit_transform(scaler.transform(X))
    clusterer = fit_density(latent, config.clustering, seed)

    def label(table: FloatArray) -> Labels:
        return clusterer.assign(encoder.transform(scaler.transform(table))).labels

    return label


def refit(
    X: FloatArray,
    recipe: Recipe,
    seed: int,
    n_refits: int,
    how: How = "subsample",
    on_step: OnStep | None = None,
    *,
    workers: Workers | None = None,
    store: FitStore | None = None,
) -> list[Refit]:
    """Refit a recipe several times, and label all rows each time.

    Parameters
    ----------
    X : ndarray of float, shape (n_entities, n_features)
        Features as prepared, not scaled; NaN where unknown.
    recipe : callable
        What is learnt; see `Recipe`.
    seed : int
        Decides all of it; the recipe itself is given this seed, except for 'seed'.
    n_refits : int
        At least 2.
    how : {'subsample', 'bootstrap', 'seed'}
        80% of the entities without replacement; as many as there are, with replacement;
        or all entities with another seed of the recipe.
    on_step : callable, optional
        Called with (refits done, refits in all).
    workers : Workers, optional
        None: everything in this process. The result is the same.
    store : FitStore, optional
        Where finished refits are kept, to go on after an interruption.

    Raises
    ------
    ModelError
        For fewer than 2 refits, or too few entities for one.
    """
    if n_refits < 2:
        raise ModelError(f"`n_refits` is {n_refits}; expected at least 2.")
    tasks = {
        f"{how}-{number}": partial(_fit_again, X, recipe, seed, number, how)
        for number in range(n_refits)
    }
    labels = {}
    if on_step is not None:
        on_step(0, n_refits)
    for name, fit in run_fits(tasks, workers, store):
        labels[name] = fit.labels
        if on_step is not None:
            on_step(len(labels), n_refits)
    found = []
    for number, name in enumerate(tasks):
        is_seen = np.zeros(len(X), dtype=bool)
        is_seen[_drawn(len(X), how, derived_seed(seed, number))] = True
        found.append(Refit(labels[name], is_seen))
    return found


def _fit_again(X: FloatArray, recipe: Recipe, seed: int, number: int, how: How) -> Fit:
    """Learn everything anew once; a task for a worker."""
    own_seed = derived_seed(seed, number)
    rows = _drawn(len(X), how, own_seed)
    return Fit(recipe(X[rows], own_seed if how == "seed" else seed)(X))


def _drawn(n: int, how: How, seed: int) -> npt.NDArray[np.intp]:
    """Return the rows that one refit learns from."""
    rng = np.random.default_rng(seed)
    if how == "subsample":
        return rng.choice(n, round(SUBSAMPLE_SHARE * n), replace=False)
    if how == "bootstrap":
        return rng.choice(n, n)
    return np.arange(n)


def rand_indices(reference: Labels, refits: Sequence[Refit]) -> FloatArray:
    """Return the adjusted Rand index with each refit, noise as a class of its own."""
    from sklearn.metrics import adjusted_rand_score

    return np.array([adjusted_rand_score(reference, r.labels) for r in refits])


def agreement(reference: Labels, refits: Sequence[Refit]) -> pl.DataFrame:
    """Compare labels with those of each refit, over all entities.

    Returns
    -------
    DataFrame
        One row per refit: ``ari`` and ``ami`` with noise as a class of its own;
        ``ari_clustered`` and ``ami_clustered`` over the entities that both put into a
        cluster; ``ari_held_out`` as ``ari``, over the entities that the refit has not
        learnt from. Null where there are no such entities; 1 is the same, 0 is chance.
    """
    from sklearn import metrics

    ari, ami = metrics.adjusted_rand_score, metrics.adjusted_mutual_info_score
    rows = []
    for refit in refits:
        clustered = (reference >= 0) & (refit.labels >= 0)
        row = {
            "ari": float(ari(reference, refit.labels)),
            "ami": float(ami(reference, refit.labels)),
            "ari_held_out": _same(ari, reference, refit, ~refit.is_seen),
        }
        of_clustered = {"ari_clustered": row["ari"], "ami_clustered": row["ami"]}
        if not clustered.all():
            of_clustered = {
                "ari_clustered": _same(ari, reference, refit, clustered),
                "ami_clustered": _same(ami, reference, refit, clustered),
            }
        rows.append(row | of_clustered)
    names = ("ari", "ami", "ari_clustered", "ami_clustered", "ari_held_out")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Float64))


def _same(
    index: Callable[[Labels, Labels], float],
    reference: Labels,
    refit: Refit,
    rows: npt.NDArray[np.bool_],
) -> float | None:
    """Return an index of agreement over some entities, None without any."""
    if not rows.any():
        return None
    return float(index(reference[rows], refit.labels[rows]))


def cluster_stability(reference: Labels, refits: Sequence[Refit]) -> pl.DataFrame:
    """Return how well each cluster is found again (Hennig's clusterwise Jaccard).

    Returns
    -------
    DataFrame
        One row per cluster: ``cluster, size``, ``jaccard`` (mean over the refits of the
        best Jaccard similarity with any of their clusters, over the entities that the
        refit has seen), ``lowest_jaccard`` and ``verdict`` in words.
    """
    rows = []
    for cluster in range(int(reference.max(initial=-1)) + 1):
        members = reference == cluster
        values = [
            _best_jaccard(members[r.is_seen], r.labels[r.is_seen]) for r in refits
        ]
        mean = float(np.mean(values))
        verdict = next((word for level, word in LEVELS if mean >= level), DISSOLVED)
        size = int(members.sum())
        rows.append((cluster, size, mean, float(np.min(values)), verdict))
    schema = {
        "cluster": pl.Int64,
        "size": pl.Int64,
        "jaccard": pl.Float64,
        "lowest_jaccard": pl.Float64,
        "verdict": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _best_jaccard(members: npt.NDArray[np.bool_], labels: Labels) -> float:
    """Return the largest Jaccard similarity of a set with any cluster, else 0."""
    best = 0.0
    for cluster in np.unique(labels[members & (labels >= 0)]):
        other = labels == cluster
        best = max(best, (members & other).sum() / (members | other).sum())
    return float(best)
