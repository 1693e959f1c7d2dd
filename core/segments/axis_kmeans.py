"""KMeans on one axis, and what is measured of its segments."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from core.segments.axis_model import FloatArray, IntArray, squared_distances

Distances = npt.NDArray[np.float32]

N_INIT = 8
"""Starts of KMeans, of which the best counts."""
NEAR_TOLERANCE = 0.02
"""Share by which the sum of squares within segments may be larger where KMeans goes on
from segments that there were, as in `core.segments.partition`."""


class Clusters(NamedTuple):
    """What KMeans found: centres, the nearest one of each row, squares within."""

    centres: FloatArray
    labels: IntArray
    squares: float


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep KMeans to one thread: short tasks lose by waiting for a second one.

    Sums have one order on every machine, too. Rows closer than rounding make one centre
    of two, which is no news to a user.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def kmeans(
    rows: FloatArray,
    n: int,
    seed: int,
    *,
    n_init: int = N_INIT,
    start: FloatArray | None = None,
    weights: FloatArray | None = None,
) -> Clusters:
    """Return `n` clusters of scaled rows, shape (n_rows, n_features).

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    n : int
    seed, n_init : int
        Of the starts by lot.
    start : ndarray of shape (n, n_features), optional
        Centres to go on from, instead.
    weights : ndarray of shape (n_rows,), optional
    """
    from sklearn.cluster import KMeans

    init = "k-means++" if start is None else start
    model = KMeans(
        n, init=init, n_init=n_init if start is None else 1, random_state=seed
    )
    found = model.fit(rows, sample_weight=weights)
    centres = np.asarray(found.cluster_centers_, dtype=np.float64)
    return Clusters(centres, found.labels_.astype(np.int64), float(found.inertia_))


def means_of(rows: FloatArray, labels: IntArray) -> FloatArray:
    """Return the mean row of every label, ascending, those below 0 left out."""
    known = np.unique(labels[labels >= 0])
    return np.array([rows[labels == label].mean(axis=0) for label in known])


def going_on(rows: FloatArray, n: int, seed: int, before: IntArray | None) -> Clusters:
    """Return `n` clusters, near the segments of before where that is as good.

    Parameters
    ----------
    rows, n, seed
        As in `kmeans`.
    before : ndarray of int, shape (n_rows,), optional
        Segments of an earlier model; -1 is none. Used if they are `n`.
    """
    found = kmeans(rows, n, seed)
    means = None if before is None else means_of(rows, before)
    if means is None or len(means) != n:
        return found
    near = kmeans(rows, n, seed, start=means)
    return near if near.squares <= (1.0 + NEAR_TOLERANCE) * found.squares else found


def split_half_ari(
    rows: FloatArray, n: int, seed: int, n_splits: int, start: FloatArray | None = None
) -> float:
    """Return the mean ARI between clusters of two halves, both placing every row.

    Parameters
    ----------
    rows, n, seed
        As in `kmeans`.
    n_splits : int
    start : ndarray of shape (n, n_features), optional
        Centres that both halves go on from; None: each has starts by lot of its own.
    """
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(seed)
    columns = np.ascontiguousarray(rows.T)
    scores = []
    for split in range(n_splits):
        halves = np.array_split(rng.permutation(len(rows)), 2)
        centres = (
            kmeans(rows[half], n, seed + split, start=start).centres for half in halves
        )
        labels = [squared_distances(columns, c).argmin(axis=0) for c in centres]
        scores.append(adjusted_rand_score(*labels))
    return float(np.mean(scores))


def pairwise_distances(rows: FloatArray) -> Distances:
    """Return the Euclidean distances between rows, shape (n_rows, n_rows)."""
    squares = (rows * rows).sum(axis=1)
    total = squares[:, None] + squares - 2.0 * (rows @ rows.T)
    return np.asarray(np.sqrt(np.maximum(total, 0.0)), dtype=np.float32)


def mean_silhouette(distances: Distances, labels: IntArray) -> float:
    """Return the mean silhouette (Rousseeuw, 1987); 0 for a cluster of one row.

    The same as scikit-learn's `silhouette_score`, for several labellings of the same
    rows without computing their distances anew. NaN for one cluster.
    """
    found, labels = np.unique(labels, return_inverse=True)
    if len(found) < 2:
        return float("nan")
    everyone = np.arange(len(labels))
    member = np.zeros((len(labels), len(found)), dtype=np.float32)
    member[everyone, labels] = 1.0
    sizes = member.sum(axis=0)
    sums = (distances @ member).astype(np.float64)
    own = sums[everyone, labels] / np.maximum(sizes[labels] - 1.0, 1.0)
    means = sums / sizes
    means[everyone, labels] = np.inf
    other = means.min(axis=1)
    larger = np.maximum(np.maximum(own, other), np.finfo(float).tiny)
    scores = np.where(sizes[labels] > 1, (other - own) / larger, 0.0)
    return float(scores.mean())
