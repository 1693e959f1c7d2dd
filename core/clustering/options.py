"""What is clustered with where the user names no number: sizes by the number of shops.

A cluster of 50 shops is small among 5,000 and a quarter of 200, so the smallest size
follows the number of shops. How far to smooth, no rule knows beforehand: too little
lets a bridge of in-between shops join two groups, too much dissolves small ones. So a
few degrees are tried, and the clusters that tell most shops apart are taken: those with
the highest structure score, coverage x ln(effective clusters).

Taking the highest of several scores favours finding clusters, in data without any as
well. That is why every null of the structure check and of the certificate goes through
the same choice.

A refit may stay near the labels that shops already have: of the degrees whose score is
within `TOLERANCE` of the best, the one that agrees most with them is taken, and what
that costs in score is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import adjusted_rand_score

from core.clustering.density import DensityClusterer
from core.config import ClusteringConfig
from core.errors import ModelError

SIZE_BOUNDS = (10, 50)
SMOOTHING = (5, 10, 30, 100)
# More neighbours than a twentieth of the shops would smooth whole groups away.
LARGEST_SHARE = 0.05
# A million shops with 200 neighbours each take 2 GB.
LARGEST_DEGREE = 200
# The degree is chosen on so many shops: each degree costs a spanning tree.
MAX_ROWS = 10_000
# Share of the highest score within which degrees of smoothing count as equally good:
# another seed of the encoder alone moves the score by up to 6.5% (six populations of
# the built-in generator, 2,000 shops). The price is measured in
# `core.representation.warm`.
TOLERANCE = 0.05


def smallest_size(n_shops: int) -> int:
    """Return the fewest shops in a cluster by default.

    >>> [smallest_size(n) for n in (100, 1_000, 4_000, 60_000)]
    [10, 20, 50, 600]
    """
    low, high = SIZE_BOUNDS
    return max(min(max(n_shops // 50, low), high), n_shops // 100)


@dataclass(frozen=True)
class DensityFit:
    """Clusters, and what it cost to have them near earlier ones.

    Attributes
    ----------
    clusterer : DensityClusterer
        Fitted to all rows; its parameters are the options taken.
    kept_score : float
        Structure score of the degree of smoothing taken, over the highest of those
        tried; 1 where it is the best one, or none was to choose.
    agreement : float or None
        Adjusted Rand index of its clusters with the labels to stay near, over all rows,
        -1 as one more group; None without such labels.
    """

    clusterer: DensityClusterer
    kept_score: float = 1.0
    agreement: float | None = None


def fit_density(
    X: npt.NDArray[Any],
    options: ClusteringConfig,
    seed: int,
    near: npt.NDArray[np.integer] | None = None,
) -> DensityClusterer:
    """Cluster rows as `choose_density` does; return the clusterer alone."""
    return choose_density(X, options, seed, near).clusterer


def choose_density(
    X: npt.NDArray[Any],
    options: ClusteringConfig,
    seed: int,
    near: npt.NDArray[np.integer] | None = None,
) -> DensityFit:
    """Cluster rows with the options named, and defaults for the others.

    Parameters
    ----------
    X : ndarray of float, shape (n_rows, n_columns)
        Finite, on comparable scales.
    options : ClusteringConfig
        Without a `min_cluster_size`, it is `smallest_size`. Without `min_samples`, the
        one of `SMOOTHING` (up to 5% of the rows) with the highest coverage x
        ln(effective clusters) of at most 10,000 rows; the smallest where several are
        as high. With more rows it grows in proportion, up to 200: over denser rows, the
        same number of neighbours would smooth less.
    seed : int
        Draws the rows to choose on where there are more.
    near : ndarray of int, shape (n_rows,), optional
        Labels that the rows already have, -1 for none. Without `min_samples`, the one
        whose clusters agree most with them is taken, of those whose score is at least
        1 - `TOLERANCE` of the highest; of several, the one with the higher score.

    Raises
    ------
    ConfigError, ModelError
        As `core.clustering.density.DensityClusterer.fit`; also where `near` has another
        length than `X`.
    """
    if near is not None and len(near) != len(X):
        raise ModelError(
            f"`near` labels {len(near):,} rows; expected one label for each of "
            f"{len(X):,}."
        )
    size, method = options.min_cluster_size, options.selection_method
    size = smallest_size(len(X)) if size is None else size
    if options.min_samples is not None:
        fitted = DensityClusterer(size, options.min_samples, method).fit(X)
        return DensityFit(fitted, agreement=_agreement(near, fitted))
    rows, places = X, np.arange(len(X))
    if len(X) > MAX_ROWS:
        drawn = np.random.default_rng(seed).choice(len(X), MAX_ROWS, replace=False)
        places = np.sort(drawn)
        rows = X[places]
    share = len(rows) / len(X)
    least = max(min(size, SIZE_BOUNDS[0]), round(size * share))
    degrees = [n for n in SMOOTHING if n <= LARGEST_SHARE * len(rows)] or [SMOOTHING[0]]
    tried = [DensityClusterer(least, n, method).fit(rows) for n in degrees]
    chosen, kept_score = _best_of(tried, None if near is None else near[places])
    if rows is not X:
        # As many neighbours per row: over all rows they reach as far as in the draw.
        degree = min(round(chosen.min_samples / share), LARGEST_DEGREE)
        chosen = DensityClusterer(size, degree, method).fit(X)
    return DensityFit(chosen, kept_score, _agreement(near, chosen))


def _best_of(
    tried: list[DensityClusterer], near: npt.NDArray[np.integer] | None
) -> tuple[DensityClusterer, float]:
    """Return the clusterer to take, and its score over the highest."""
    scores = [structure_score(clusterer.labels_) for clusterer in tried]
    highest = max(scores)
    if near is None or highest == 0.0:
        return tried[scores.index(highest)], 1.0
    good = [i for i, s in enumerate(scores) if s >= (1.0 - TOLERANCE) * highest]
    agreements = {i: _agreement(near, tried[i]) for i in good}
    best = max(good, key=lambda i: (agreements[i], scores[i]))
    return tried[best], scores[best] / highest


def _agreement(
    near: npt.NDArray[np.integer] | None, clusterer: DensityClusterer
) -> float | None:
    """Return the adjusted Rand index with earlier labels; None where there are none.

    Rounded, so that equal clusters agree alike however they are numbered.
    """
    if near is None:
        return None
    return round(float(adjusted_rand_score(near, clusterer.labels_)), 12)


def structure_score(labels: npt.NDArray[np.integer]) -> float:
    """Return coverage x ln(effective clusters) = coverage x entropy of the sizes.

    Rounded to 12 digits, so that equal clusters score alike however they are numbered.
    """
    sizes = np.bincount(labels[labels >= 0])
    shares = sizes[sizes > 0] / max(sizes.sum(), 1)
    coverage = sizes.sum() / max(len(labels), 1)
    return round(float(-coverage * (shares * np.log(shares)).sum()), 12) + 0.0
