"""Segments around centroids: KMeans partitions of a table, and of one axis.

What is learnt is small: how to scale each feature, and one centre per segment. A
customer belongs to the nearest centre. Placing needs NumPy only, and every sum runs
feature by feature, so that a customer's place is the same, to the last bit, alone in a
request and among a million others.

**Strength.** With ``d_own`` and ``d_next`` the distances to the own and to the second
nearest centre, and ``D`` the distance between these two::

    strength = min(1, (d_next^2 - d_own^2) / D^2)

which is how far the customer stands on the way from the border between the two segments
(0) to its own centre (1), seen along the line that joins the centres; beyond the own
centre it stays 1. It has no unit, and features in which the two segments do not differ
cancel out, so 0.5 is half of the way whatever the axis, the number of its features and
of its segments. It is no probability. On an axis with one segment there is no border
that could be near: the strength is 1 and says nothing.

Where the data has no density structure, a cut through it can still be of use, if it is
labelled as a cut. Two kinds are offered, both on the scaled features:

``kmeans``
    Every shop belongs to its nearest centre.
``mixture``
    A Gaussian mixture whose components share one covariance (*tied*): every shop
    belongs to the component with the largest posterior probability, which is the
    nearest centre once the features are whitened by that covariance, the larger
    components reaching a little farther. Features that move together inside every
    segment count once, not twice.

Measured on the built-in archetypes (3,000 shops, 8 segments, medium and hard): ARI 0.95
and 0.64 for KMeans, 0.93 and 0.87 for the tied mixture, 0.90 and 0.69 for a diagonal
one, 0.69 and 0.55 for full covariances, which also take ten times as long.

What is learnt are centres and one matrix, so a million shops are placed in seconds, and
a shop's place does not depend, not even in its last bit, on the shops beside it: sums
run feature by feature, never through a matrix product.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin

from core.errors import ArtifactError, ConfigError, ModelError, did_you_mean, listed
from core.models.matrix import FloatArray, checked_matrix

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FORMAT = 1
NOWHERE = -1
"""Segment of a customer who lacks a feature of the axis, and runner-up of none."""
ROWS_AT_ONCE = 4096
"""Rows placed together: a few numbers per row and segment stay in the cache."""


class AxisPlacement(NamedTuple):
    """Where customers lie on one axis.

    Attributes
    ----------
    labels : ndarray of shape (n_customers,), int64
        Segment; -1 where a feature of the axis is unknown.
    strength : ndarray of shape (n_customers,), float64
        0 on the border to the runner-up, 1 at the own centre or beyond it; 0 where the
        segment is -1, and 1 on an axis with one segment.
    runner_up : ndarray of shape (n_customers,), int64
        The segment with the second nearest centre; -1 where there is none.
    """

    labels: IntArray
    strength: FloatArray
    runner_up: IntArray


@dataclass(frozen=True)
class AxisScaling:
    """How features are put on one scale: logarithm, bounds, centre, spread.

    Attributes
    ----------
    is_log : ndarray of bool, shape (n_features,)
        Whether ``sign(x) ln(1 + |x|)`` is taken first.
    lower, upper : ndarray of shape (n_features,)
        Bounds that values are clipped to.
    centre, scale : ndarray of shape (n_features,)
        Subtracted, and divided by.
    """

    is_log: BoolArray
    lower: FloatArray
    upper: FloatArray
    centre: FloatArray
    scale: FloatArray

    def columns(self, table: FloatArray, *, is_clipped: bool = True) -> FloatArray:
        """Return scaled features, shape (n_features, n_rows); NaN stays NaN."""
        columns = np.array(table.T, dtype=np.float64, order="C")
        for column, is_log in zip(columns, self.is_log, strict=True):
            if is_log:
                np.copysign(np.log1p(np.abs(column)), column, out=column)
        if is_clipped:
            np.clip(columns, self.lower[:, None], self.upper[:, None], out=columns)
        columns -= self.centre[:, None]
        columns /= self.scale[:, None]
        return columns

    def in_units(self, centres: FloatArray) -> FloatArray:
        """Return scaled rows, shape (n_rows, n_features), in the features' own units.

        Of a logarithmic feature this is the geometric kind of middle.
        """
        values = centres * self.scale + self.centre
        restored = np.copysign(np.expm1(np.abs(values)), values)
        return np.asarray(np.where(self.is_log, restored, values))


class AxisModel:
    """The scaling and the centres of one axis' segments.

    Parameters
    ----------
    scaling : AxisScaling
    centres : ndarray of shape (n_segments, n_features)
        In scaled features.

    Examples
    --------
    >>> same = np.zeros(1), np.ones(1)
    >>> scaling = AxisScaling(np.array([False]), same[0], 9 * same[1], *same)
    >>> orders_per_month = AxisModel(scaling, np.array([[1.0], [5.0]]))
    >>> placed = orders_per_month.place(np.array([[1.0], [4.0], [np.nan]]))
    >>> placed.labels.tolist(), placed.strength.tolist(), placed.runner_up.tolist()
    ([0, 1, -1], [1.0, 0.5, 0.0], [1, 0, -1])
    """

    def __init__(self, scaling: AxisScaling, centres: FloatArray) -> None:
        self.scaling = scaling
        self.centres = centres
        self._apart = squared_distances(centres.T, centres)

    @property
    def n_features(self) -> int:
        """The number of features."""
        return int(self.centres.shape[1])

    @property
    def n_segments(self) -> int:
        """The number of segments."""
        return len(self.centres)

    def place(self, table: FloatArray) -> AxisPlacement:
        """Place customers, those of the fit or new ones.

        Parameters
        ----------
        table : ndarray of shape (n_customers, n_features)
            In the features' own units; NaN and infinite are unknown.

        Returns
        -------
        AxisPlacement
            With clusters, from 0, as segments.

        Raises
        ------
        ModelError
            For a table of another width.
        """
        if table.ndim != 2 or table.shape[1] != self.n_features:
            raise ModelError(
                f"the table has the shape {table.shape}; expected (n_customers, "
                f"{self.n_features}), the features that the axis was learnt from."
            )
        if not len(table):
            none = np.empty(0, dtype=np.int64)
            return AxisPlacement(none, np.empty(0), none)
        parts = [
            self._place_block(table[start : start + ROWS_AT_ONCE])
            for start in range(0, len(table), ROWS_AT_ONCE)
        ]
        return AxisPlacement(*map(np.concatenate, zip(*parts, strict=True)))

    def _place_block(self, rows: FloatArray) -> AxisPlacement:
        """Place a few rows."""
        is_known = np.asarray(np.isfinite(rows).all(axis=1))
        columns = self.scaling.columns(np.where(is_known[:, None], rows, 0.0))
        distances = squared_distances(columns, self.centres)
        everyone = np.arange(len(rows))
        labels = distances.argmin(axis=0)
        runner_up = np.full(len(rows), NOWHERE, dtype=np.int64)
        strength = np.ones(len(rows))
        if self.n_segments > 1:
            own = distances[labels, everyone]
            distances[labels, everyone] = np.inf
            runner_up = distances.argmin(axis=0)
            gain = distances[runner_up, everyone] - own
            strength = np.clip(gain / self._apart[labels, runner_up], 0.0, 1.0)
        return AxisPlacement(
            np.where(is_known, labels, NOWHERE),
            np.where(is_known, strength, 0.0),
            np.where(is_known, runner_up, NOWHERE),
        )

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return what `place` needs as named arrays and JSON-able values."""
        arrays = {name: getattr(self.scaling, name) for name in _SCALING}
        return {**arrays, "centres": self.centres}, {"format": FORMAT}

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Return a model that places exactly as the one `get_state` was asked of.

        Raises
        ------
        ArtifactError
            For a state that is not whole, or not one that fitting leaves.
        """
        if meta.get("format") != FORMAT:
            raise refused(f"its format is {meta.get('format')!r}, expected {FORMAT}")
        missing = [name for name in (*_SCALING, "centres") if name not in arrays]
        if missing:
            raise refused(f"missing {listed(missing)}")
        given = {name: np.asarray(arrays[name]) for name in (*_SCALING, "centres")}
        _require_sound(given)
        scaling = AxisScaling(**{name: given[name] for name in _SCALING})
        return cls(scaling, given["centres"])


_SCALING = ("is_log", "lower", "upper", "centre", "scale")


def squared_distances(columns: FloatArray, centres: FloatArray) -> FloatArray:
    """Return squared distances, shape (n_centres, n_rows), summed in one order.

    Parameters
    ----------
    columns : ndarray of shape (n_features, n_rows)
    centres : ndarray of shape (n_centres, n_features)
    """
    total = np.zeros((len(centres), columns.shape[1]))
    for values, centre in zip(columns, centres.T, strict=True):
        difference = values - centre[:, None]
        difference *= difference
        total += difference
    return total


def refused(finding: str) -> ArtifactError:
    """Return the error for a state that fitting cannot have left."""
    return ArtifactError(
        f"the saved axes are unusable: {finding}. Run `segments axes` again."
    )


def _require_sound(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse arrays of unfit types, shapes or values."""
    shape = arrays["centres"].shape
    if len(shape) != 2 or 0 in shape:
        raise refused(f"`centres` has the shape {shape}; expected segments, features")
    for name, array in arrays.items():
        expected = "bool" if name == "is_log" else "float64"
        if str(array.dtype) != expected or not np.isfinite(array).all():
            raise refused(f"`{name}` holds other values than it should")
        if name != "centres" and array.shape != shape[1:]:
            raise refused(f"`{name}` has the shape {array.shape}, not {shape[1:]}")
    if (arrays["scale"] <= 0).any():
        raise refused("`scale` holds values that are not above 0")


Distances = npt.NDArray[np.float32]

N_INIT = 8
"""Starts of KMeans, of which the best counts."""
NEAR_TOLERANCE = 0.02
"""Share by which the sum of squares within segments may be larger where KMeans goes on
from segments that there were, as in `core.models.centroids`."""


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


METHODS = ("kmeans", "mixture")

REGULARISATION = 0.01
"""Share of the features' mean variance added to each one's own within segments, so that
features which sum to a constant (shares of a year) cannot make a distance infinite."""

MIXTURE_ITERATIONS = 200


class Placement(NamedTuple):
    """Where rows lie in a partition; distances are Euclidean, in scaled features.

    Attributes
    ----------
    labels : ndarray of shape (n_rows,), int64
        Segment, from 0, by descending size at fit.
    distances : ndarray of shape (n_rows,), float64
        To the centre of the row's own segment.
    nearest : ndarray of shape (n_rows,), int64
        The other segment whose centre is nearest; -1 where there is no other.
    nearest_distances : ndarray of shape (n_rows,), float64
        To that centre; NaN where there is no other.
    """

    labels: IntArray
    distances: FloatArray
    nearest: IntArray
    nearest_distances: FloatArray


class Partition(ClusterMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Divide all shops into segments around centres.

    Segments are numbered by descending size, equally large ones by their centre. There
    are fewer than asked for where the rows learnt from differ in fewer places, or a
    component of the mixture wins no shop.

    Parameters
    ----------
    method : {'kmeans', 'mixture'}
        See the module.
    n_segments : int
        Segments wanted, at least 1.
    seed : int
        Of the rows learnt from and of KMeans's starts. The mixture starts from KMeans.
    n_init : int
        Starts of KMeans, of which the best counts.
    max_rows : int
        Rows learnt from, drawn at random where there are more; the rest is placed.

    Attributes
    ----------
    labels_ : ndarray of shape (n_rows,), int64
        Segment of each row; what `assign` returns for the same rows.
    centres_ : ndarray of shape (n_segments, n_features), float64
    sizes_ : ndarray of shape (n_segments,), int64
        Rows per segment; not part of the state.
    n_segments_ : int
    n_features_in_ : int

    Examples
    --------
    >>> cases_per_month = [[1.0], [1.2], [9.0], [9.1], [9.2]]
    >>> partition = Partition(n_segments=2).fit(cases_per_month)
    >>> partition.labels_.tolist()
    [1, 1, 0, 0, 0]
    >>> partition.assign([[8.0]]).nearest.tolist()
    [1]
    """

    def __init__(
        self,
        method: str = "kmeans",
        n_segments: int = 6,
        seed: int = 0,
        n_init: int = 10,
        max_rows: int = 10_000,
    ) -> None:
        self.method = method
        self.n_segments = n_segments
        self.seed = seed
        self.n_init = n_init
        self.max_rows = max_rows

    def fit(
        self, X: Any, y: None = None, start: npt.NDArray[np.integer] | None = None
    ) -> Self:
        """Learn the segments, and place every row.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers on comparable scales.
        y : None
            Ignored.
        start : ndarray of int, shape (n_rows,), optional
            Segments that the rows have already, from 0. Where they are as many as
            wanted, KMeans goes on from them, and is content with what comes of it
            unless its own starts end with less than 1 / 1.02 of the squares within.

        Raises
        ------
        ConfigError
            For an impossible parameter.
        ModelError
            For a table that is not numeric and finite, or a `start` of another length.
        """
        self._check_options()
        table = checked_matrix(self, X, is_fit=True)
        if start is not None and len(start) != len(table):
            raise ModelError(
                f"`start` has {len(start):,} labels; expected one for each of "
                f"{len(table):,} rows."
            )
        sample = table
        if len(table) > self.max_rows:
            rng = np.random.default_rng(self.seed)
            drawn = rng.choice(len(table), self.max_rows, replace=False)
            sample = table[np.sort(drawn)]
            start = start if start is None else start[np.sort(drawn)]
        n = min(int(self.n_segments), len(np.unique(sample, axis=0)))
        options = self.method, n, int(self.seed), int(self.n_init)
        self._rule = _learn(sample, *options, start)
        sizes = np.bincount(self.assign(table).labels, minlength=n)
        order = np.lexsort([*self._rule.centres.T[::-1], -sizes])
        self._rule = self._rule.take(order[: int((sizes > 0).sum())])
        self.labels_ = self.assign(table).labels
        self.sizes_ = np.bincount(self.labels_, minlength=self.n_segments_)
        return self

    @property
    def centres_(self) -> FloatArray:
        """The centres, in scaled features."""
        return self._fitted_rule().centres

    @property
    def n_segments_(self) -> int:
        """The number of segments."""
        return len(self._fitted_rule().centres)

    def assign(self, X: Any) -> Placement:
        """Return the segment of rows, new ones or those of `fit`, and the runner-up.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers, scaled as in `fit`.

        Raises
        ------
        ModelError
            Before `fit`, and for a table that is not numeric and finite or has other
            columns.
        """
        rule = self._fitted_rule()
        table = checked_matrix(self, X, is_fit=False)
        parts = [
            rule.place(table[start : start + ROWS_AT_ONCE])
            for start in range(0, len(table), ROWS_AT_ONCE)
        ]
        return Placement(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return what `assign` needs as named arrays and JSON-able values."""
        rule = self._fitted_rule()
        arrays = {"centres": rule.centres, "handicap": rule.handicap}
        if rule.whitening is not None:
            arrays["whitening"] = rule.whitening
        options = {name: int(getattr(self, name)) for name in ("seed", "n_init")}
        options |= {"n_segments": int(self.n_segments), "max_rows": int(self.max_rows)}
        return arrays, {"format": FORMAT, "method": self.method, **options}

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Return a partition that assigns exactly as the one `get_state` was asked of.

        Raises
        ------
        ArtifactError
            For a state that is not whole, or not one that fitting leaves.
        """
        if meta.get("format") != FORMAT:
            raise _refused(f"its format is {meta.get('format')!r}, expected {FORMAT}")
        names = ("method", "n_segments", "seed", "n_init", "max_rows")
        missing = [name for name in names if name not in meta]
        if missing:
            raise _refused(f"missing {listed(missing)}")
        partition = cls(**{name: meta[name] for name in names})
        try:
            partition._check_options()
        except ConfigError as error:
            raise _refused(str(error)) from None
        partition._rule = _restored_rule(arrays, partition.method == "mixture")
        partition.n_features_in_ = partition.centres_.shape[1]
        return partition

    def _fitted_rule(self) -> _Rule:
        if not hasattr(self, "_rule"):
            raise ModelError("this `Partition` has no segments yet; call `fit` first.")
        return self._rule

    def _check_options(self) -> None:
        """Refuse impossible parameters."""
        if self.method not in METHODS:
            raise ConfigError(
                f"`method` is {self.method!r}; expected {listed(METHODS)}."
                f"{did_you_mean(str(self.method), METHODS)}"
            )
        smallest = {"n_segments": 1, "n_init": 1, "max_rows": 1, "seed": 0}
        for name, least in smallest.items():
            value = getattr(self, name)
            is_whole = isinstance(value, int | np.integer) and value is not True
            if not is_whole or not least <= value < 2**32:
                raise ConfigError(
                    f"`{name}` is {value!r}; expected a whole number of at least "
                    f"{least}."
                )


class _Rule(NamedTuple):
    """Who belongs where: the smallest squared distance plus handicap wins.

    ``whitening`` of shape (n_features, n_features), upper triangular, is applied to
    rows and centres first (None: not at all); ``handicap`` is -2 ln(weight).
    """

    centres: FloatArray
    handicap: FloatArray
    whitening: FloatArray | None

    def take(self, order: npt.NDArray[np.intp]) -> _Rule:
        """Return some of the segments, in another order."""
        return _Rule(self.centres[order], self.handicap[order], self.whitening)

    def place(self, rows: FloatArray) -> Placement:
        """Place a few rows."""
        columns = np.ascontiguousarray(rows.T)
        plain = _squared_distances(columns, self.centres)
        score = plain
        if self.whitening is not None:
            white = _whitened(columns, self.whitening)
            centres = _whitened(self.centres.T, self.whitening).T
            score = _squared_distances(white, centres) + self.handicap[:, None]
        labels = score.argmin(axis=0)
        everyone = np.arange(len(labels))
        own = np.sqrt(plain[labels, everyone])
        nearest = np.full(len(labels), NOWHERE, dtype=np.int64)
        distance = np.full(len(labels), np.nan)
        if len(self.centres) > 1:
            plain[labels, everyone] = np.inf
            nearest = plain.argmin(axis=0)
            distance = np.sqrt(plain[nearest, everyone])
        return Placement(labels, own, nearest, distance)


def _squared_distances(columns: FloatArray, centres: FloatArray) -> FloatArray:
    """Return squared distances, shape (n_centres, n_rows), summed in one order."""
    total = np.zeros((len(centres), columns.shape[1]))
    for values, centre in zip(columns, centres.T, strict=True):
        difference = values - centre[:, None]
        difference *= difference
        total += difference
    return total


def _whitened(columns: FloatArray, whitening: FloatArray) -> FloatArray:
    """Return ``whitening.T @ columns``, summed in one order."""
    result = np.zeros(columns.shape)
    for row, values in enumerate(columns):
        for column in range(row, len(columns)):
            result[column] += values * whitening[row, column]
    return result


def _learn(
    sample: FloatArray,
    method: str,
    n: int,
    seed: int,
    n_init: int,
    start: npt.NDArray[np.integer] | None,
) -> _Rule:
    """Learn a rule for `n` segments from a few thousand rows."""
    # Here, because inference must not wait for what only learning needs.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # One thread: so short a task is 10 times faster without waiting for a second one
    # on a busy machine, and sums have one order on every machine.
    with threadpool_limits(1), warnings.catch_warnings():
        # Rows closer than rounding make one centre of two, and a mixture may stop
        # improving late: neither is news to the user, and empty segments are dropped.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(n, n_init=n_init, random_state=seed).fit(sample)
        groups = () if start is None else np.unique(start)
        if len(groups) == n:
            means = np.array([sample[start == group].mean(axis=0) for group in groups])
            near = KMeans(n, init=means, n_init=1, random_state=seed).fit(sample)
            if near.inertia_ <= (1.0 + NEAR_TOLERANCE) * found.inertia_:
                found = near
        centres = np.asarray(found.cluster_centers_, dtype=np.float64)
        if method == "mixture" and n > 1:
            return _mixture(sample, found.labels_, centres)
    return _Rule(centres, np.zeros(len(centres)), None)


def _mixture(sample: FloatArray, labels: IntArray, centres: FloatArray) -> _Rule:
    """Fit a mixture with one covariance for all components, from KMeans's segments."""
    from sklearn.mixture import GaussianMixture

    # About the middle: the covariance is taken as a difference of mean squares.
    middle = sample.mean(axis=0)
    sample, centres = sample - middle, centres - middle
    floor = REGULARISATION * float(sample.var(axis=0).mean())
    within = sample - centres[labels]
    covariance = within.T @ within / len(sample)
    covariance[np.diag_indices_from(covariance)] += floor
    weights = np.maximum(np.bincount(labels, minlength=len(centres)), 1.0)
    precision = np.linalg.inv(covariance)
    model = GaussianMixture(
        len(centres),
        covariance_type="tied",
        reg_covar=floor,
        max_iter=MIXTURE_ITERATIONS,
        weights_init=weights / weights.sum(),
        means_init=centres,
        precisions_init=(precision + precision.T) / 2,  # as it is but for rounding
    ).fit(sample)
    smallest = np.finfo(np.float64).tiny
    handicap = -2.0 * np.log(np.maximum(model.weights_, smallest))
    return _Rule(model.means_ + middle, handicap, np.triu(model.precisions_cholesky_))


def _refused(finding: str) -> ArtifactError:
    """Return the error for a state that fitting cannot have left."""
    return ArtifactError(
        f"the saved partition is unusable: {finding}. Train the clusters again."
    )


def _restored_rule(arrays: Mapping[str, npt.NDArray[Any]], is_mixture: bool) -> _Rule:
    """Return the rule that `Partition.get_state` took apart, checked."""
    names = ("centres", "handicap", *(("whitening",) if "whitening" in arrays else ()))
    missing = [name for name in names if name not in arrays]
    if missing:
        raise _refused(f"missing {listed(missing)}")
    given = {name: np.asarray(arrays[name]) for name in names}
    for name, array in given.items():
        if array.dtype != np.float64 or not np.isfinite(array).all():
            raise _refused(f"`{name}` holds other values than finite floats")
    shape = given["centres"].shape
    if len(shape) != 2 or 0 in shape:
        raise _refused(f"`centres` has the shape {shape}; expected segments, features")
    if "whitening" in given and not is_mixture:
        raise _refused("KMeans knows no `whitening`")
    if "whitening" not in given and is_mixture and shape[0] > 1:
        raise _refused("missing `whitening`")
    expected = {"handicap": (shape[0],), "whitening": (shape[1], shape[1])}
    for name in names[1:]:
        if given[name].shape != expected[name]:
            raise _refused(
                f"`{name}` has the shape {given[name].shape}; expected {expected[name]}"
            )
    return _Rule(given["centres"], given["handicap"], given.get("whitening"))
