"""The clusterings that the study tries in a space, and how each labels other customers.

``kmeans``
    From three starts.
``mixture``
    Gaussian components with a variance of their own in every column (the information
    criterion BIC is told); from KMeans.
``ward``
    One tree, cut at every number of clusters. Others go to the nearest cluster mean.
``dbscan``
    On the leading `DENSITY_COMPONENTS` principal components of the space: in 60 columns
    all customers are equally far apart, and a density says nothing. A dense place has
    `NEIGHBOURS` customers within eps, and eps is the knee of the sorted distances to
    the `NEIGHBOURS`-th neighbour: where their curve is farthest below its chord.
``hdbscan``
    On the same components, with the project's default size and `NEIGHBOURS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.evaluation.stability import Labels
from core.models import centroids
from core.models.density import DensityClusterer, smallest_size
from core.models.scaling import FloatArray

N_STARTS: Final = 3
NEIGHBOURS: Final = 10
DENSITY_COMPONENTS: Final = 5
MIXTURE_ITERATIONS: Final = 50
REGULARISATION: Final = 0.01
"""Least variance of a component's column, of scaled features."""


@dataclass(frozen=True)
class Clustering:
    """What one method has found.

    Attributes
    ----------
    k : int or None
        Clusters asked for; None: the method finds their number.
    labels : ndarray of int64, shape (n_rows,)
        -1 is noise.
    assign : callable
        From rows of the same space to labels.
    bic : float or None
        Of a mixture, less is better.
    """

    k: int | None
    labels: Labels
    assign: Callable[[FloatArray], Labels]
    bic: float | None = None


def _kmeans(Z: FloatArray, numbers: Iterable[int], seed: int) -> Iterator[Clustering]:
    for k in numbers:
        found = centroids.kmeans(Z, k, seed, n_init=N_STARTS)
        yield Clustering(k, found.labels, _nearest(found.centres))


def _mixture(Z: FloatArray, numbers: Iterable[int], seed: int) -> Iterator[Clustering]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    for k in numbers:
        start = centroids.kmeans(Z, k, seed, n_init=1)
        model = GaussianMixture(
            k,
            covariance_type="diag",
            reg_covar=REGULARISATION,
            means_init=start.centres,
            max_iter=MIXTURE_ITERATIONS,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            labels = model.fit_predict(Z).astype(np.int64)
        yield Clustering(k, labels, model.predict, float(model.bic(Z)))


def _ward(Z: FloatArray, numbers: Iterable[int], seed: int) -> Iterator[Clustering]:
    from scipy.cluster.hierarchy import fcluster, linkage

    del seed  # nothing is left to chance
    tree = linkage(Z, "ward")
    for k in numbers:
        labels = fcluster(tree, k, "maxclust").astype(np.int64) - 1
        yield Clustering(k, labels, _nearest(centroids.means_of(Z, labels)))


def _dbscan(Z: FloatArray, numbers: Iterable[int], seed: int) -> Iterator[Clustering]:
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import NearestNeighbors

    del numbers, seed
    reduce = leading_components(Z)
    rows = reduce(Z)
    eps = knee_distance(rows)
    model = DBSCAN(eps=eps, min_samples=NEIGHBOURS).fit(rows)
    labels = model.labels_.astype(np.int64)
    core = model.core_sample_indices_
    if not len(core):
        yield Clustering(None, labels, lambda table: np.full(len(table), -1))
        return
    search = NearestNeighbors(n_neighbors=1).fit(rows[core])

    def assign(table: FloatArray) -> Labels:
        distance, place = search.kneighbors(reduce(table))
        return np.where(distance[:, 0] <= eps, labels[core][place[:, 0]], -1)

    yield Clustering(None, labels, assign)


def _hdbscan(Z: FloatArray, numbers: Iterable[int], seed: int) -> Iterator[Clustering]:
    del numbers, seed
    reduce = leading_components(Z)
    size = smallest_size(len(Z))
    model = DensityClusterer(size, min(NEIGHBOURS, size)).fit(reduce(Z))
    yield Clustering(
        None, model.labels_, lambda table: model.assign(reduce(table)).labels
    )


METHODS: Final = {
    "kmeans": _kmeans,
    "mixture": _mixture,
    "ward": _ward,
    "dbscan": _dbscan,
    "hdbscan": _hdbscan,
}
"""From the simplest on."""


def knee_distance(rows: FloatArray) -> float:
    """Return the knee of the sorted distances to the `NEIGHBOURS`-th neighbour.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        More than `NEIGHBOURS` of them.

    Returns
    -------
    float
        Above 0, in the units of the rows.
    """
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(rows).kneighbors()[0][:, -1]
    distances = np.sort(found)
    chord = np.linspace(distances[0], distances[-1], len(distances))
    return max(float(distances[(chord - distances).argmax()]), 1e-9)


def leading_components(Z: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Return what projects rows onto the leading principal components of `Z`."""
    from sklearn.decomposition import PCA

    n = min(DENSITY_COMPONENTS, *Z.shape)
    transform: Callable[[FloatArray], FloatArray]
    transform = PCA(n, svd_solver="covariance_eigh").fit(Z).transform
    return transform


def _nearest(centres: FloatArray) -> Callable[[FloatArray], Labels]:
    model = centroids.CentroidModel(centres)
    return lambda table: model.assign(table).labels
