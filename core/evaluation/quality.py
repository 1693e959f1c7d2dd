"""Figures about clusters that may be compared between spaces.

A distance or a density has no meaning outside its own space, so a silhouette in the
latent space cannot be held against one in the raw space. Everything here is counted
from the labels alone, or measured on one yardstick that all spaces share: the same
scaled features. A noise ratio never travels without the effective number of clusters
and the largest share, because on its own it says nothing: one cluster that holds
nearly everybody has a splendid noise ratio.

Only the order of distances in one space counts, the scaled features that every model
starts from, so the figures can be held against those of another model or another table:
no distance or density of a latent space enters.

Which figure tells a cluster of the data from the best one of each null was tried on
three of the built-in tables of 1,135 shops (19 nulls each, the whole pipeline on every
one; p <= 0.05). Purity alone told 0 of 17 planted clusters: in a null, one cluster
often holds 95% of the entities and is as pure as can be. The part of the structure
score alone, which depends on sizes only, told 8; the product of both,
`confirmed_scores`, 11, and 0 of the 2 clusters of the table without structure. What it
does not tell are clusters of less than some 6% of the entities: nulls have dense spots
of that size, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from core.errors import ModelError, listed

NOISE = -1
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class LabelSummary:
    """What labels say by themselves.

    Attributes
    ----------
    n_entities : int
        Labelled entities, noise included.
    n_clusters : int
        Distinct labels other than -1.
    noise_ratio : float
        Share of entities with label -1, 0 to 1.
    effective_clusters : float
        exp(entropy) of the cluster sizes, noise excluded (the Hill number of order
        1): 4 equal clusters count as 4, one of 97% beside three of 1% as 1.18.
        0 without any cluster.
    largest_share : float or None
        Share of the *clustered* entities that sit in the largest cluster; ``None``
        without any cluster.
    sizes : tuple of int
        Entities per cluster, largest first.
    """

    n_entities: int
    n_clusters: int
    noise_ratio: float
    effective_clusters: float
    largest_share: float | None
    sizes: tuple[int, ...]

    @property
    def coverage(self) -> float:
        """Share of entities in any cluster: 1 - `noise_ratio`."""
        return sum(self.sizes) / self.n_entities

    @property
    def structure_score(self) -> float:
        """Coverage x ln(effective clusters), in nats, from 0.

        0 for no cluster, and for one; ln 2 = 0.69 for two equal clusters without
        noise. It rewards neither covering everybody with one cluster nor many
        clusters of a few. It does not say that the clusters are real: structureless
        data scores above 0 too, which is what `core.evaluation.null` compares with.
        """
        if not self.n_clusters:
            return 0.0
        return self.coverage * float(np.log(self.effective_clusters))


def label_summary(labels: ArrayLike) -> LabelSummary:
    """Count clusters, noise, and how evenly the clusters share the entities.

    Parameters
    ----------
    labels : array-like of int, shape (n_entities,)
        Cluster per entity; -1 is noise.

    Raises
    ------
    ModelError
        Without any label, or for a label that is not an integer of at least -1.
    """
    array = check_labels(labels)
    counts = np.unique(array[array != NOISE], return_counts=True)[1]
    sizes = tuple(sorted((int(count) for count in counts), reverse=True))
    shares = np.array(sizes, dtype=np.float64) / max(sum(sizes), 1)
    return LabelSummary(
        n_entities=len(array),
        n_clusters=len(sizes),
        noise_ratio=1.0 - sum(sizes) / len(array),
        effective_clusters=(
            float(np.exp(-(shares * np.log(shares)).sum())) if sizes else 0.0
        ),
        largest_share=float(shares[0]) if sizes else None,
        sizes=sizes,
    )


def check_labels(labels: ArrayLike) -> IntArray:
    """Return labels as int64, or say what is wrong with them."""
    array = np.asarray(labels)
    if array.ndim != 1 or not len(array):
        raise ModelError(
            f"labels have shape {array.shape}; expected one label per row, and at "
            "least one row."
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise ModelError(
            f"labels are of type {array.dtype}; expected integers, -1 for noise. "
            "Leave out rows that have no label."
        )
    if array.min() < NOISE:
        raise ModelError(
            f"labels hold {array.min()}; expected -1 for noise and 0 or more for "
            "clusters."
        )
    return array.astype(np.int64)


def explained_variance(X: FloatArray, labels: ArrayLike) -> float:
    """Share of the features' variance that the labels explain, beyond chance.

    Each clustered entity is predicted by the mean of its cluster, each noise entity by
    the mean of all entities, and eta squared = 1 - residual / total sum of squares is
    averaged over the features that vary. Labels dealt out at random explain, in
    expectation, ``e = sum_c (1 - n_c / n) / (n - 1)`` (sampling without replacement),
    so what is returned is ``(eta squared - e) / (1 - e)``; without noise this is
    epsilon squared (Kelley, 1935).

    Returns
    -------
    float
        At most 1; about 0 for labels that say nothing of the features, slightly
        negative at times. 0 without any cluster, or where no feature varies. It does
        not say that the clusters are dense or separate, and more clusters explain
        more: a grid laid over one smooth population explains a lot.
    """
    array = check_labels(labels)
    _check_rows(X, array, "labels")
    centred = X - X.mean(axis=0)
    total = np.einsum("ij,ij->j", centred, centred)
    varies = total > np.finfo(np.float64).eps * len(X)
    ids, codes, counts = np.unique(array, return_inverse=True, return_counts=True)
    is_cluster = ids != NOISE
    if not is_cluster.any() or not varies.any():
        return 0.0
    sums = np.stack(
        [
            np.bincount(codes, weights=centred[:, j], minlength=len(ids))
            for j in np.flatnonzero(varies)
        ]
    )
    between = (sums**2 / counts)[:, is_cluster].sum(axis=1)
    eta_squared = float((between / total[varies]).mean())
    by_chance = float((1 - counts[is_cluster] / len(X)).sum() / (len(X) - 1))
    return (eta_squared - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0


def compare_spaces(
    labels: Mapping[str, ArrayLike],
    X: FloatArray,
    strengths: Mapping[str, ArrayLike],
) -> pl.DataFrame:
    """Put the spaces side by side, in figures that hold across spaces.

    Parameters
    ----------
    labels : mapping of space to array-like of int, shape (n_entities,)
        The same entities in the same order in every space; -1 is noise.
    X : ndarray of float64, shape (n_entities, n_features)
        The scaled features: the one yardstick, whatever space made the labels.
    strengths : mapping of space to array-like of float, shape (n_entities,)
        Strength per entity, 0 to 1; 0 for noise.

    Returns
    -------
    polars.DataFrame
        One row per space, in the order of `labels`:

        ``space``, ``n_entities``, ``clusters``, ``noise_ratio``,
        ``effective_clusters``,
        ``largest_share``
            See `LabelSummary`.
        ``sizes`` : str
            Largest first, as ``"412|96|50"``; empty without clusters.
        ``structure_score`` : float, in nats, from 0
            See `LabelSummary.structure_score`.
        ``explained_variance`` : float, at most 1
            See `explained_variance`.
        ``agreement_ami``, ``agreement_ari`` : float, at most 1; about 0 by chance
            Adjusted mutual information and adjusted Rand index with the other space
            (the mean over them, where there are several), noise as a class of its
            own. Null for a single space, and where either has no cluster. Two spaces
            can agree on something that is not there: noise agrees with noise.
        ``mean_strength`` : float, 0 to 1
            Over the clustered entities; null without any. Strength is relative to the
            densest point of the entity's own cluster: it tells core-heavy clusters
            from straggling ones, and is no measure of quality.

    Raises
    ------
    ModelError
        Where labels, strengths and `X` do not tell of the same entities, or `X` holds
        values that are not finite.
    """
    if set(labels) != set(strengths):
        raise ModelError(
            f"labels are given for {listed(sorted(labels))}, strengths for "
            f"{listed(sorted(strengths))}; expected the same spaces."
        )
    check_matrix(X)
    arrays = {space: check_labels(values) for space, values in labels.items()}
    rows = [
        _space_row(space, arrays, X, np.asarray(strengths[space], dtype=np.float64))
        for space in arrays
    ]
    return pl.DataFrame(rows, schema=_COMPARISON_SCHEMA)


def check_matrix(X: FloatArray) -> None:
    """Refuse what is not a table of finite numbers with a row and a column."""
    if X.ndim != 2 or 0 in X.shape:
        raise ModelError(
            f"the feature matrix has shape {X.shape}; expected at least one row "
            "and one feature (column)."
        )
    n_bad = int((~np.isfinite(X)).sum())
    if n_bad:
        raise ModelError(
            f"the feature matrix holds {n_bad:,} values that are missing or not "
            f"finite, out of {X.size:,}. Impute and scale the features first."
        )


def principal_scores(X: FloatArray, n_components: int) -> tuple[FloatArray, FloatArray]:
    """Project onto the leading principal components, with fixed signs.

    Parameters
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        Finite; centred here, not rescaled.
    n_components : int
        Columns returned; those beyond `n_features` are 0.

    Returns
    -------
    scores : ndarray of float64, shape (n_entities, n_components)
        The largest loading of each component is positive, so that a picture does not
        flip from one run to the next.
    shares : ndarray of float64, shape (n_components,)
        Share of the total variance along each component; 0 where nothing varies.
    """
    check_matrix(X)
    centred = X - X.mean(axis=0)
    variances, vectors = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(-variances, kind="stable")[:n_components]
    leading = vectors[:, order]
    rows = np.abs(leading).argmax(axis=0)
    signs = np.sign(leading[rows, np.arange(len(order))])
    scores = np.zeros((len(X), n_components))
    scores[:, : len(order)] = centred @ (leading * signs)
    shares = np.zeros(n_components)
    total = variances.sum()
    if total > 0:
        shares[: len(order)] = np.clip(variances[order], 0, None) / total
    return scores, shares


def project_2d(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the two leading principal components and their shares of variance."""
    return principal_scores(X, 2)


_COMPARISON_SCHEMA: dict[str, Any] = {
    "space": pl.String,
    "n_entities": pl.Int64,
    "clusters": pl.Int64,
    "noise_ratio": pl.Float64,
    "effective_clusters": pl.Float64,
    "largest_share": pl.Float64,
    "sizes": pl.String,
    "structure_score": pl.Float64,
    "explained_variance": pl.Float64,
    "agreement_ami": pl.Float64,
    "agreement_ari": pl.Float64,
    "mean_strength": pl.Float64,
}


def _space_row(
    space: str, labels: Mapping[str, IntArray], X: FloatArray, strength: FloatArray
) -> dict[str, Any]:
    """Return one row of the comparison."""
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    own = labels[space]
    _check_rows(X, own, f"labels of `{space}`")
    _check_rows(X, strength, f"strengths of `{space}`")
    summary = label_summary(own)
    agreements = [
        (adjusted_mutual_info_score(own, other), adjusted_rand_score(own, other))
        for name, other in labels.items()
        if name != space and (own != NOISE).any() and (other != NOISE).any()
    ]
    ami, ari = np.mean(agreements, axis=0).tolist() if agreements else (None, None)
    is_clustered = own != NOISE
    return {
        "space": space,
        "n_entities": summary.n_entities,
        "clusters": summary.n_clusters,
        "noise_ratio": summary.noise_ratio,
        "effective_clusters": summary.effective_clusters,
        "largest_share": summary.largest_share,
        "sizes": "|".join(str(size) for size in summary.sizes),
        "structure_score": summary.structure_score,
        "explained_variance": explained_variance(X, own),
        "agreement_ami": ami,
        "agreement_ari": ari,
        "mean_strength": (
            float(strength[is_clustered].mean()) if is_clustered.any() else None
        ),
    }


def _check_rows(X: FloatArray, values: NDArray[Any], what: str) -> None:
    """Refuse values that are not one per row of the features."""
    if values.shape != (len(X),):
        raise ModelError(
            f"{what} have shape {values.shape}, the feature matrix has {len(X):,} "
            "rows; expected one value per row, in the same order."
        )


N_NEIGHBOURS = 15


def nearest_neighbours(
    scaled: FloatArray, n_neighbours: int = N_NEIGHBOURS
) -> IntArray:
    """Return the rows nearest to each row, itself not counted.

    Parameters
    ----------
    scaled : ndarray of float64, shape (n_entities, n_features)
        Scaled features, finite.
    n_neighbours : int
        Fewer where there are not so many entities.

    Returns
    -------
    ndarray of int, shape (n_entities, n_neighbours)
    """
    k = min(n_neighbours, len(scaled) - 1)
    if k < 1:
        return np.empty((len(scaled), 0), dtype=np.int64)
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k).fit(scaled)
    return np.asarray(search.kneighbors(return_distance=False), dtype=np.int64)


def neighbour_purity(neighbours: IntArray, labels: IntArray) -> dict[int, float]:
    """Return each cluster's share of members among its members' neighbours.

    Corrected for chance: ``(share of the members' nearest neighbours with the same
    label - s) / (1 - s)``, with ``s`` the share of the other entities that are members.

    Parameters
    ----------
    neighbours : ndarray of int, shape (n_entities, n_neighbours)
        As `nearest_neighbours` returns them.
    labels : ndarray of int, shape (n_entities,)
        Cluster per entity; -1 is noise, and has no purity.

    Returns
    -------
    dict of int to float
        By cluster: 1 if all neighbours are members, 0 by chance, below 0 if fewer; 0
        for a cluster of everybody.
    """
    if not neighbours.shape[1]:
        return dict.fromkeys(map(int, np.unique(labels[labels != NOISE])), 0.0)
    share_same = (labels[neighbours] == labels[:, None]).mean(axis=1)
    purity = {}
    for cluster in np.unique(labels[labels != NOISE]):
        members = labels == cluster
        by_chance = (members.sum() - 1) / (len(labels) - 1)
        found = float(share_same[members].mean())
        excess = (found - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0
        purity[int(cluster)] = float(excess)
    return purity


def confirmed_scores(purity: Mapping[int, float], labels: IntArray) -> dict[int, float]:
    """Return each cluster's part of the structure score, as far as neighbours agree.

    ``max(purity, 0) x n_c / n x ln(m / n_c)``, with `n_c` members among `m` clustered
    and `n` entities in all. Without the purity, the parts add up to the structure score
    (`core.evaluation.quality.LabelSummary`).

    Parameters
    ----------
    purity : mapping of int to float
        As `neighbour_purity` returns it.
    labels : ndarray of int, shape (n_entities,)

    Returns
    -------
    dict of int to float
        By cluster, in nats, from 0.
    """
    n_clustered = int((labels != NOISE).sum())
    scores = {}
    for cluster, value in purity.items():
        size = int((labels == cluster).sum())
        part = size / len(labels) * float(np.log(n_clustered / size))
        scores[cluster] = max(value, 0.0) * part
    return scores
