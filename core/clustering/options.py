"""What is clustered with where the user names no number: sizes by the number of shops.

A cluster of 50 shops is small among 5,000 and a quarter of 200, so the smallest size
follows the number of shops. How far to smooth, no rule knows beforehand: too little
lets a bridge of in-between shops join two groups, too much dissolves small ones. So a
few degrees are tried, and the clusters that tell most shops apart are taken: those with
the highest structure score, coverage x ln(effective clusters).

Taking the highest of several scores favours finding clusters, in data without any as
well. That is why every null of the structure check and of the certificate goes through
the same choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from core.clustering.density import DensityClusterer
from core.config import ClusteringConfig

SIZE_BOUNDS = (10, 50)
SMOOTHING = (5, 10, 30, 100)
# More neighbours than a twentieth of the shops would smooth whole groups away.
LARGEST_SHARE = 0.05
# The degree is chosen on so many shops: each degree costs a spanning tree.
MAX_ROWS = 10_000


def smallest_size(n_shops: int) -> int:
    """Return the fewest shops in a cluster by default.

    >>> [smallest_size(n) for n in (100, 1_000, 4_000, 60_000)]
    [10, 20, 50, 600]
    """
    low, high = SIZE_BOUNDS
    return max(min(max(n_shops // 50, low), high), n_shops // 100)


def fit_density(
    X: npt.NDArray[Any], options: ClusteringConfig, seed: int
) -> DensityClusterer:
    """Cluster rows with the options named, and defaults for the others.

    Parameters
    ----------
    X : ndarray of float, shape (n_rows, n_columns)
        Finite, on comparable scales.
    options : ClusteringConfig
        Without a `min_cluster_size`, it is `smallest_size`. Without `min_samples`, the
        one of `SMOOTHING` (up to 5% of the rows) with the highest coverage x
        ln(effective clusters) of at most 10,000 rows; the smallest where several are
        as high.
    seed : int
        Draws the rows to choose on where there are more.

    Returns
    -------
    DensityClusterer
        Fitted to all rows; its parameters are the options taken.

    Raises
    ------
    ConfigError, ModelError
        As `core.clustering.density.DensityClusterer.fit`.
    """
    size, method = options.min_cluster_size, options.selection_method
    size = smallest_size(len(X)) if size is None else size
    if options.min_samples is not None:
        return DensityClusterer(size, options.min_samples, method).fit(X)
    rows = X
    if len(X) > MAX_ROWS:
        drawn = np.random.default_rng(seed).choice(len(X), MAX_ROWS, replace=False)
        rows = X[np.sort(drawn)]
    share = len(rows) / len(X)
    least = max(min(size, SIZE_BOUNDS[0]), round(size * share))
    degrees = [n for n in SMOOTHING if n <= LARGEST_SHARE * len(rows)] or [SMOOTHING[0]]
    tried = [DensityClusterer(least, n, method).fit(rows) for n in degrees]
    best = max(tried, key=lambda clusterer: structure_score(clusterer.labels_))
    if rows is X:
        return best
    return DensityClusterer(size, best.min_samples, method).fit(X)


def structure_score(labels: npt.NDArray[np.integer]) -> float:
    """Return coverage x ln(effective clusters) = coverage x entropy of the sizes.

    Rounded to 12 digits, so that equal clusters score alike however they are numbered.
    """
    sizes = np.bincount(labels[labels >= 0])
    shares = sizes[sizes > 0] / max(sizes.sum(), 1)
    coverage = sizes.sum() / max(len(labels), 1)
    return round(float(-coverage * (shares * np.log(shares)).sum()), 12) + 0.0
