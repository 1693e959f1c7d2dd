"""One table clustered under many options, for little more than the price of one.

Neighbours and spanning tree depend on `min_samples` alone and take nearly all the time;
condensing the tree and selecting clusters of some size is quick. So each `min_samples`
is linked once, and every `min_cluster_size` and method starts from that linkage. Labels
and assignments are those of a `DensityClusterer` fitted anew with the same options.

Measured on 5,000 rows of 5 columns, 2 busy cores: 36 options in 2.6 s, and assigning
5,000 further rows under all of them in 0.2 s; fitted anew each time, 8.2 and 3.3 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from core.clustering.density import DensityClusterer
from core.clustering.prediction import Joins
from core.errors import ConfigError, ModelError

Labels = npt.NDArray[np.int64]


class ClusterOptions(NamedTuple):
    """What decides the clusters of a given table; see `DensityClusterer`.

    Attributes
    ----------
    min_cluster_size : int
    min_samples : int
    selection_method : {'eom', 'leaf'}
    """

    min_cluster_size: int
    min_samples: int
    selection_method: str


def option_grid(
    min_cluster_sizes: Iterable[int],
    min_samples: Iterable[int],
    methods: Iterable[str] = ("eom", "leaf"),
) -> tuple[ClusterOptions, ...]:
    """Return every combination once, ascending by `min_samples`, size and method."""
    sizes, methods = sorted(set(min_cluster_sizes)), sorted(set(methods))
    return tuple(
        ClusterOptions(size, neighbours, method)
        for neighbours in sorted(set(min_samples))
        for size in sizes
        for method in methods
    )


class ClusterGrid:
    """The clusters of one table under each of several options.

    Parameters
    ----------
    options : sequence of ClusterOptions
        All different, at least one.
    n_jobs : int or None
        Threads; None or -1 for one per processor.

    Attributes
    ----------
    clusterers_ : dict of ClusterOptions to DensityClusterer
        Fitted, in the order of `options`.

    Examples
    --------
    >>> monthly_sales = [[1.0], [1.1], [1.2], [9.0], [9.1], [9.2], [9.3], [30.0]]
    >>> grid = ClusterGrid(option_grid([3, 4], [1], ["eom"])).fit(monthly_sales)
    >>> [labels.tolist() for labels in grid.labels.values()]
    [[1, 1, 1, 0, 0, 0, 0, -1], [-1, -1, -1, -1, -1, -1, -1, -1]]
    """

    def __init__(
        self, options: Sequence[ClusterOptions], n_jobs: int | None = None
    ) -> None:
        self.options = options
        self.n_jobs = n_jobs

    def fit(self, X: Any) -> Self:
        """Cluster the rows of a table under every option.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            As for `DensityClusterer.fit`.

        Raises
        ------
        ConfigError
            Without any option, and for an impossible one.
        ModelError
            For a table that is not numeric and finite, or has too few rows.
        """
        if not self.options:
            raise ConfigError("there are no options to cluster by; expected some.")
        linkages = {}
        self.clusterers_ = {}
        for options in self.options:
            clusterer = DensityClusterer(*options, n_jobs=self.n_jobs)
            key = options.min_samples
            if key not in linkages:
                linkages[key] = clusterer.link(X)
            self.clusterers_[options] = clusterer.fit_linked(linkages[key])
        return self

    @property
    def labels(self) -> dict[ClusterOptions, Labels]:
        """Return the cluster of each fitted row under every option; -1 is noise."""
        return {o: clusterer.labels_ for o, clusterer in self._fitted().items()}

    def assign(self, X: Any) -> dict[ClusterOptions, Labels]:
        """Return the cluster of each row of a table under every option; -1 is noise.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite; neighbours of all its rows are held at once.
        """
        joins: dict[int, Joins] = {}
        found = {}
        for options, clusterer in self._fitted().items():
            key = options.min_samples
            if key not in joins:
                joins[key] = clusterer.join(X)
            found[options] = clusterer.labels_at(joins[key]).labels
        return found

    def _fitted(self) -> dict[ClusterOptions, DensityClusterer]:
        """Return the fitted clusterers, or refuse."""
        if not hasattr(self, "clusterers_"):
            raise ModelError("this `ClusterGrid` has no clusters yet; call `fit`.")
        return self.clusterers_


def label_grid(
    X: Any, options: Sequence[ClusterOptions], n_jobs: int | None = None
) -> dict[ClusterOptions, Labels]:
    """Return the labels of the rows of a table under every option."""
    return ClusterGrid(options, n_jobs).fit(X).labels
