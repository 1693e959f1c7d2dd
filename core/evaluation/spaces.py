"""The spaces and clusterers that are put side by side, as recipes.

A space learns from unscaled features and a seed and returns what places any shops in
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
``kmeans``     k means: `core.segments.partition`
``mixture``    k Gaussians with one covariance, as the run's own partitions
=============  =========================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA

from core.clustering.options import fit_density
from core.config import Config
from core.evaluation.stability import FloatArray, Labels, Recipe
from core.features.scaling import FeatureScaler
from core.representation.autoencoder import Autoencoder
from core.representation.umap_space import fit_umap
from core.segments.partition import Partition

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
Space = Callable[[FloatArray, int], Transform]


def fit_space(X: FloatArray, seed: int, name: SpaceName, config: Config) -> Transform:
    """Learn a space; return what places shops in it.

    Parameters
    ----------
    X : ndarray of float64, shape (n_shops, n_features)
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
        For `umap` where it is not installed, or too few shops.
    """
    if name == "reference":
        scaler = FeatureScaler(method="robust").fit(X)
        place = _encoder(scaler.transform(X), Autoencoder("reference", seed=seed))
    else:
        scaler = FeatureScaler(**config.scaling.model_dump()).fit(X)
        place = _placing(scaler.transform(X), seed, name, config)
    return lambda table: place(scaler.transform(table))


def _placing(
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
    Z : ndarray of float64, shape (n_shops, n_columns)
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
    """Learn space and clusters; return what labels shops by their features."""
    place = fit_space(X, seed, space, config)
    label = fit_clusters(place(X), seed, clusterer, config, k)
    return lambda table: label(place(table))


class SharedSpace:
    """A space that is learnt once per table and seed, whoever asks.

    Three clusterers refitted on the same shops need the same space; learning it is what
    takes the time. What is learnt is kept as long as this object lives.

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
            self._learnt[key] = _remembering(place)
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


def _remembering(place: Transform) -> Transform:
    """Return a transform that places the same table only once."""
    placed: dict[bytes, FloatArray] = {}

    def transform(table: FloatArray) -> FloatArray:
        key = _digest(table)
        if key not in placed:
            placed[key] = place(table)
        return placed[key]

    return transform


def _digest(table: FloatArray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(table).tobytes()).digest()
