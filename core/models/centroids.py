"""The centroid model: segments around centres, learnt by KMeans, assigned in NumPy.

What is learnt is small: how to scale each feature, and one centre per segment; a row
belongs to the nearest centre. Assigning needs NumPy only, and every sum runs feature by
feature, never through a matrix product, so that a row's segment is the same, to the
last bit, alone in a request and among a million others.

**Strength.** With ``d_own`` and ``d_next`` the distances to the own and to the second
nearest centre, and ``D`` the distance between these two::

    strength = min(1, (d_next^2 - d_own^2) / D^2)

which is how far the customer stands on the way from the border between the two segments
(0) to its own centre (1), seen along the line that joins the centres; beyond the own
centre it stays 1. It has no unit, and features in which the two segments do not differ
cancel out, so 0.5 is half of the way whatever the axis, the number of its features and
of its segments. It is no probability. On an axis with one segment there is no border
that could be near: the strength is 1 and says nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from core.artifacts.arrays import Arrays, Meta, State, checked_arrays
from core.errors import PROGRAM, ArtifactError, ModelError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Distances = npt.NDArray[np.float32]
# How one feature is scaled: the fields of `Scaling`.
Step = tuple[bool, float, float, float, float]

FORMAT = 1
NOWHERE = -1
"""Segment of a row that lacks a feature, and runner-up where there is none."""
ROWS_AT_ONCE = 4096
"""Rows assigned together: a few numbers per row and segment stay in the cache."""
N_INIT = 8
"""Starts of KMeans, of which the best counts."""
TAIL_SHARE = 0.01
"""Share of the values at either end that scaling clips."""
NEAR_TOLERANCE = 0.02
"""Share by which the sum of squares within segments may be larger where KMeans goes on
from segments that there were: of two answers that nothing tells apart, the old one."""


class Assignment(NamedTuple):
    """Where rows lie among centres; distances are Euclidean, in scaled features.

    Attributes
    ----------
    labels : ndarray of shape (n_rows,), int64
        Segment; -1 where a feature is unknown and nothing stands for it.
    strength : ndarray of shape (n_rows,), float64
        0 on the border to the runner-up, 1 at the own centre or beyond it; 0 where the
        segment is -1, and 1 where there is one segment.
    runner_up : ndarray of shape (n_rows,), int64
        The other segment whose centre is nearest; -1 where there is none.
    distances, runner_up_distances : ndarray of shape (n_rows,), float64
        To the centres of the two; NaN where there is none.
    """

    labels: IntArray
    strength: FloatArray
    runner_up: IntArray
    distances: FloatArray
    runner_up_distances: FloatArray


class Placed(NamedTuple):
    """Where one row lies, as in `Assignment`.

    Attributes
    ----------
    label : int
    strength : float
    runner_up : int
    """

    label: int
    strength: float
    runner_up: int


@dataclass(frozen=True)
class Scaling:
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
        logs = np.where(self.is_log, values, 0.0)
        restored = np.copysign(np.expm1(np.abs(logs)), logs)
        return np.asarray(np.where(self.is_log, restored, values))


def learn_scaling(
    table: FloatArray, is_log: list[bool], tail_share: float = TAIL_SHARE
) -> Scaling:
    """Learn how features are put on one scale.

    Parameters
    ----------
    table : ndarray of shape (n_rows, n_features)
        In the features' own units, all known.
    is_log : list of bool
    tail_share : float
        Values are clipped to its quantile and that of 1 minus it, see
        `core.models.preprocessing`; 0: to nothing.
    """
    from core.models.preprocessing import FeatureScaler

    p = table.shape[1]
    same, free = (np.zeros(p), np.ones(p)), np.full(p, np.finfo(np.float64).max)
    plain = Scaling(np.array(is_log), -free, free, *same)
    scaler = FeatureScaler("winsorised", tail_share).fit(plain.columns(table).T)
    learnt = scaler.scaling_
    lower, upper = (learnt.lower, learnt.upper) if tail_share else (-free, free)
    return Scaling(plain.is_log, lower, upper, learnt.centre, learnt.scale)


class CentroidModel:
    """Centres, and how rows are brought into their space.

    Parameters
    ----------
    centres : ndarray of shape (n_segments, n_features)
        In scaled features.
    scaling : Scaling, optional
        Of rows in the features' own units; None: rows come scaled.
    handicap : ndarray of shape (n_segments,), optional
        Added to squared distances of whitened rows: -2 ln(weight) of a component.
    whitening : ndarray of shape (n_features, n_features), optional
        Upper triangular, applied to rows and centres before the nearest is looked for.
        Without a handicap, strengths and distances are taken on whitened rows, too.
    fill : ndarray of shape (n_features,), optional
        What stands for an unknown value, in the features' own units; None: a row that
        lacks a feature has no segment.

    Examples
    --------
    >>> same = np.zeros(1), np.ones(1)
    >>> scaling = Scaling(np.array([False]), same[0], 9 * same[1], *same)
    >>> orders_per_month = CentroidModel(np.array([[1.0], [5.0]]), scaling)
    >>> found = orders_per_month.assign(np.array([[1.0], [4.0], [np.nan]]))
    >>> found.labels.tolist(), found.strength.tolist(), found.runner_up.tolist()
    ([0, 1, -1], [1.0, 0.5, 0.0], [1, 0, -1])
    """

    def __init__(
        self,
        centres: FloatArray,
        scaling: Scaling | None = None,
        *,
        handicap: FloatArray | None = None,
        whitening: FloatArray | None = None,
        fill: FloatArray | None = None,
    ) -> None:
        self.centres, self.scaling, self.fill = centres, scaling, fill
        self.handicap, self.whitening = handicap, whitening
        is_metric = whitening is not None and handicap is None
        self._metric = whitening if is_metric else None
        self._seen = self._in_metric(centres.T).T
        apart = squared_distances(self._seen.T, self._seen)
        self._apart = np.maximum(apart, np.finfo(np.float64).tiny)
        self._centres = centres.tolist()
        self._steps: list[Step] | None = None
        if scaling is not None and whitening is None and fill is None:
            columns = (getattr(scaling, name).tolist() for name in SCALING)
            self._steps = list(zip(*columns, strict=True))

    @property
    def n_features(self) -> int:
        """The number of features."""
        return int(self.centres.shape[1])

    @property
    def n_segments(self) -> int:
        """The number of segments."""
        return len(self.centres)

    @property
    def method(self) -> str:
        """Which partition it is: ``mixture`` where rows are whitened, or ``kmeans``."""
        return "kmeans" if self.whitening is None else "mixture"

    def assign(self, table: FloatArray) -> Assignment:
        """Assign rows, those of the fit or new ones.

        Parameters
        ----------
        table : ndarray of shape (n_rows, n_features)
            In the features' own units where there is a scaling; NaN and infinite are
            unknown.

        Raises
        ------
        ModelError
            For a table of another width.
        """
        if table.ndim != 2 or table.shape[1] != self.n_features:
            raise ModelError(
                f"the table has the shape {table.shape}; expected (n_rows, "
                f"{self.n_features}), the features that the centres were learnt from."
            )
        if len(table) <= ROWS_AT_ONCE:
            return self._assign_block(table)
        parts = [
            self._assign_block(table[start : start + ROWS_AT_ONCE])
            for start in range(0, len(table), ROWS_AT_ONCE)
        ]
        return Assignment(*map(np.concatenate, zip(*parts, strict=True)))

    def assign_one(self, row: Sequence[float]) -> Placed:
        """Assign one row, to the last bit as among others.

        The steps are those of `_assign_block` in plain numbers: NumPy takes ten times
        as long over a single row. Of a model that whitens or fills rows, or takes them
        scaled, they are NumPy's.

        Parameters
        ----------
        row : sequence of float, n_features long
            As for `assign`.
        """
        if self._steps is None:
            found = self.assign(np.array([row]))
            return Placed(
                int(found.labels[0]), float(found.strength[0]), int(found.runner_up[0])
            )
        if not all(map(math.isfinite, row)):
            return Placed(NOWHERE, 0.0, NOWHERE)
        squares = self._squares_of_one(row, self._steps)
        own = min(squares)
        label = squares.index(own)
        if len(squares) == 1:
            return Placed(label, 1.0, NOWHERE)
        squares[label] = math.inf
        next_one = min(squares)
        runner_up = squares.index(next_one)
        strength = (next_one - own) / float(self._apart[label, runner_up])
        return Placed(label, min(max(strength, 0.0), 1.0), runner_up)

    def distances(self, table: FloatArray) -> FloatArray:
        """Return the distances of rows to all centres, shape (n_rows, n_segments).

        Parameters
        ----------
        table : ndarray of shape (n_rows, n_features)
            As for `assign`; rows with an unknown value are NaN.
        """
        scaled = table.T if self.scaling is None else self.scaling.columns(table)
        scaled = self._in_metric(scaled)
        return np.asarray(np.sqrt(squared_distances(scaled, self._seen)).T)

    def _in_metric(self, columns: FloatArray) -> FloatArray:
        """Return scaled features as distances are taken on them."""
        return columns if self._metric is None else _whitened(columns, self._metric)

    def _assign_block(self, rows: FloatArray) -> Assignment:
        if self.fill is not None:
            rows = np.where(np.isfinite(rows), rows, self.fill)
        is_known = np.asarray(np.isfinite(rows).all(axis=1))
        rows = np.where(is_known[:, None], rows, 0.0)
        scaled = np.ascontiguousarray(rows.T)
        if self.scaling is not None:
            scaled = self.scaling.columns(rows)
        squares = squared_distances(self._in_metric(scaled), self._seen)
        labels = self._scores(scaled, squares).argmin(axis=0)
        everyone = np.arange(len(rows))
        own = squares[labels, everyone]
        strength, next_one = np.ones(len(rows)), np.full(len(rows), np.nan)
        runner_up = np.full(len(rows), NOWHERE, dtype=np.int64)
        if self.n_segments > 1:
            squares[labels, everyone] = np.inf
            runner_up = squares.argmin(axis=0)
            next_one = squares[runner_up, everyone]
            apart = self._apart[labels, runner_up]
            strength = np.clip((next_one - own) / apart, 0.0, 1.0)
        return Assignment(
            np.where(is_known, labels, NOWHERE),
            np.where(is_known, strength, 0.0),
            np.where(is_known, runner_up, NOWHERE),
            np.where(is_known, np.sqrt(own), np.nan),
            np.where(is_known, np.sqrt(next_one), np.nan),
        )

    def _squares_of_one(self, row: Sequence[float], steps: list[Step]) -> list[float]:
        """Return the squared distances of one row, in the features' own units."""
        scaled = []
        for given, (is_log, lower, upper, centre, scale) in zip(
            row, steps, strict=True
        ):
            value = math.copysign(np.log1p(abs(given)), given) if is_log else given
            scaled.append((min(max(value, lower), upper) - centre) / scale)
        squares = []
        for centres in self._centres:
            # Not `sum`, which makes rounding good from Python 3.12 on.
            total = 0.0
            for value, centre in zip(scaled, centres, strict=True):
                total += (value - centre) * (value - centre)
            squares.append(total)
        return squares

    def _scores(self, scaled: FloatArray, squares: FloatArray) -> FloatArray:
        """Return what is smallest for the segment that a row belongs to."""
        if self.whitening is None or self.handicap is None:
            return squares
        white = _whitened(scaled, self.whitening)
        centres = _whitened(self.centres.T, self.whitening).T
        return squared_distances(white, centres) + self.handicap[:, None]

    def by_size(self, table: FloatArray) -> CentroidModel:
        """Return the segments by descending size among rows, without empty ones.

        Equally large ones are in the order of their centres.
        """
        labels = self.assign(table).labels
        sizes = np.bincount(labels[labels >= 0], minlength=self.n_segments)
        order = np.lexsort([*self.centres.T[::-1], -sizes])
        kept = order[: int((sizes > 0).sum())]
        return CentroidModel(
            np.ascontiguousarray(self.centres[kept]),
            self.scaling,
            handicap=None if self.handicap is None else self.handicap[kept],
            whitening=self.whitening,
            fill=self.fill,
        )

    def in_units(self) -> FloatArray:
        """Return the centres in the features' own units."""
        if self.scaling is None:
            return self.centres
        return self.scaling.in_units(self.centres)

    def get_state(self) -> State:
        """Return what `assign` needs as named arrays and JSON-able values."""
        arrays = {} if self.scaling is None else dict(vars(self.scaling))
        arrays["centres"] = self.centres
        for name in ("handicap", "whitening", "fill"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        return arrays, {"format": FORMAT}

    @classmethod
    def from_state(
        cls, arrays: Arrays, meta: Meta, cure: str = f"Run `{PROGRAM} axes` again."
    ) -> Self:
        """Return a model that assigns exactly as the one `get_state` was asked of.

        Parameters
        ----------
        arrays, meta
            The state.
        cure : str
            What to do about a state that is unusable.

        Raises
        ------
        ArtifactError
            For a state that is not whole, or not one that fitting leaves.
        """
        if meta.get("format") != FORMAT:
            raise refused(
                f"its format is {meta.get('format')!r}, expected {FORMAT}", cure
            )
        is_scaled = any(name in arrays for name in SCALING)
        spec: dict[str, tuple[str, ...]] = {"centres": ("segments", "features")}
        spec |= SCALING if is_scaled else {"handicap": ("segments",)}
        if "whitening" in arrays:
            spec["whitening"] = ("features", "features")
        if "fill" in arrays:
            spec["fill"] = ("features",)
        given = checked_arrays(arrays, spec, partial(refused, cure=cure))
        if not is_scaled:
            return cls(
                given["centres"],
                handicap=given["handicap"],
                whitening=given.get("whitening"),
            )
        if (given["scale"] <= 0).any():
            raise refused("`scale` holds values that are not above 0", cure)
        scaling = Scaling(**{name: given[name] for name in SCALING})
        return cls(
            given["centres"],
            scaling,
            whitening=given.get("whitening"),
            fill=given.get("fill"),
        )


SCALING = dict.fromkeys(("is_log", "lower", "upper", "centre", "scale"), ("features",))


def refused(finding: str, cure: str = f"Run `{PROGRAM} axes` again.") -> ArtifactError:
    """Return the error for a state that fitting cannot have left."""
    return ArtifactError(f"the saved segments are unusable: {finding}. {cure}")


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


def _whitened(columns: FloatArray, whitening: FloatArray) -> FloatArray:
    """Return ``whitening.T @ columns``, summed in one order."""
    result = np.zeros(columns.shape)
    for row, values in enumerate(columns):
        for column in range(row, len(columns)):
            result[column] += values * whitening[row, column]
    return result


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

    with _thread_pools().limit(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@cache
def _thread_pools() -> ThreadpoolController:
    """Look for the pools once: it takes longer than a small KMeans."""
    import sklearn.cluster  # noqa: F401  which loads them
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


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


def means_of(rows: FloatArray, labels: npt.NDArray[np.integer]) -> FloatArray:
    """Return the mean row of every label, ascending, those below 0 left out."""
    known = np.unique(labels[labels >= 0])
    return np.array([rows[labels == label].mean(axis=0) for label in known])


def warm_start(
    rows: FloatArray,
    n: int,
    seed: int,
    before: npt.NDArray[np.integer] | None,
    n_init: int = N_INIT,
) -> Clusters:
    """Return `n` clusters, near the segments of before where that is as good.

    Parameters
    ----------
    rows, n, seed, n_init
        As in `kmeans`.
    before : ndarray of int, shape (n_rows,), optional
        Segments of an earlier model; -1 is none. Used if they are `n`.
    """
    found = kmeans(rows, n, seed, n_init=n_init)
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
