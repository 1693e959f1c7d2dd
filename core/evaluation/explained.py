"""How much labels tell of an outcome that the size of a shop does not tell already.

Big shops stay big: nearly any segmentation that sees size "predicts" sales. So size
goes first, as ten classes and a straight line within them, and the labels get what they
add, measured on shops that the fit has not seen.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from threadpoolctl import ThreadpoolController

from core.errors import ModelError
from core.evaluation.mixed import N_FOLDS, TOLERANCE, Folded
from core.evaluation.outcomes import small_unit
from core.evaluation.quality import check_labels

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

N_REPEATS = 4
SIZE_CLASSES = 10
SHOPS_PER_SIZE_CLASS = 20
# An outcome that fewer shops show is an anecdote (two of 5,000 stopped).
MIN_DEVIATING_SHOPS = 10


@dataclass(frozen=True)
class OutcomeShare:
    """Which share of one outcome's variance is explained, on shops not fitted.

    Attributes
    ----------
    n_shops : int
        Shops whose outcome is known.
    size : float
        By size alone: out-of-fold R squared, at most 1; below 0 if it misleads.
    both : float
        By size and labels.
    standard_error : float
        Of `beyond`, over shops.
    """

    n_shops: int
    size: float
    both: float
    standard_error: float

    @property
    def beyond(self) -> float:
        """What the labels add: `both` - `size`."""
        return self.both - self.size


@dataclass(frozen=True)
class Explained:
    """What labels explain beyond size.

    Attributes
    ----------
    mean : float
        `OutcomeShare.beyond`, averaged over the outcomes; 0 if none can be judged.
    standard_error : float
        Of the mean, over shops; infinite if no outcome can be judged.
    by_outcome : mapping of str to OutcomeShare
        Outcomes that hardly any shop shows are left out.
    """

    mean: float
    standard_error: float
    by_outcome: Mapping[str, OutcomeShare]


@dataclass(frozen=True)
class Losses:
    """Squared errors of one outcome, per shop, each on a fit without that shop.

    Attributes
    ----------
    outcome : str
        Its name.
    rows : ndarray of int, shape (n_known,)
        The shops whose outcome is known, as positions.
    value : ndarray of float, shape (n_known,)
        The outcome, minus its mean.
    size, both : ndarray of float, shape (n_known,)
        Squared error of size alone, and of size and labels; mean over the repeats.
    """

    outcome: str
    rows: npt.NDArray[np.intp]
    value: FloatArray
    size: FloatArray
    both: FloatArray

    @property
    def total(self) -> float:
        """Sum of squares about the mean."""
        return float(self.value @ self.value)

    @property
    def beyond(self) -> float:
        """Share of the variance that labels explain beyond size."""
        return float((self.size - self.both).sum()) / self.total

    def influence(self) -> FloatArray:
        """Return what each shop contributes to the error of `beyond`, (n_known,)."""
        n = len(self.rows)
        deviation = self.size - self.both - self.beyond * self.value**2
        scaled: FloatArray = deviation / self.total * np.sqrt(n / max(n - 1, 1))
        return scaled


def explained_beyond_size(
    labels: npt.ArrayLike, outcomes: pl.DataFrame, size: FloatArray, seed: int
) -> Explained:
    """Return the share of each outcome's variance that labels explain beyond size.

    Parameters
    ----------
    labels : array-like of int, shape (n_shops,)
        Segment per shop; -1 is a group of its own.
    outcomes : DataFrame
        One row per shop in the same order, a column per outcome, null where unknown;
        a column ``shop_id`` is passed over. See `core.evaluation.outcomes`.
    size : ndarray of float, shape (n_shops,)
        Volume before the cut, from 0.
    seed : int
        Of the folds: with the same seed, two labelings meet the same folds, and
        their difference is a paired one.

    Raises
    ------
    ModelError
        Where the inputs do not tell of the same shops, or `size` is not finite.

    Notes
    -----
    See `BeyondSize` for the model. Labels that say nothing get a mean near 0, mostly
    a little below: the price of having been fitted.
    """
    return summarise(BeyondSize(outcomes, size, seed).losses(labels))


def summarise(losses: Sequence[Losses]) -> Explained:
    """Return shares of explained variance from squared errors."""
    by_outcome = {}
    n_rows = max((int(part.rows.max()) + 1 for part in losses), default=0)
    influence = np.zeros(n_rows)
    for part in losses:
        own = part.influence()
        influence[part.rows] += own / len(losses)
        by_outcome[part.outcome] = OutcomeShare(
            n_shops=len(part.rows),
            size=1 - float(part.size.sum()) / part.total,
            both=1 - float(part.both.sum()) / part.total,
            standard_error=float(np.sqrt(own @ own)),
        )
    if not by_outcome:
        return Explained(0.0, float("inf"), {})
    mean = float(np.mean([share.beyond for share in by_outcome.values()]))
    return Explained(mean, float(np.sqrt(influence @ influence)), by_outcome)


class BeyondSize:
    """Outcomes and sizes of the shops of one cut, ready to judge any labels of them.

    An outcome is fitted by an effect per size class (deciles; classes of about 20 shops
    where there are fewer than 200), a slope in ln(1 + size) common to all classes, so
    that labels get no credit for telling size more finely than ten classes do, and a
    random effect per label: shrunk by ``var_error / var_label``, both estimated in the
    training folds (Henderson's method 3, 1953), to 0 where the labels differ by no more
    than chance. 5 folds over shops, 4 times; closed form throughout.

    Parameters
    ----------
    outcomes, size, seed
        As for `explained_beyond_size`.

    Attributes
    ----------
    size_class : ndarray of int, shape (n_shops,)
        Equal sizes share a class; ascending from 0.
    """

    def __init__(self, outcomes: pl.DataFrame, size: FloatArray, seed: int) -> None:
        self.n_shops = outcomes.height
        _check_size(size, self.n_shops)
        self.size_class = size_classes(size)
        slope = _standardised(np.log1p(size / small_unit(size)))
        rng = np.random.default_rng(seed)
        folds = np.stack(
            [rng.permutation(self.n_shops) % N_FOLDS for _ in range(N_REPEATS)]
        )
        columns = [name for name in outcomes.columns if name != "shop_id"]
        values = outcomes.select(pl.col(columns).cast(pl.Float64)).to_numpy()
        self._blocks = [
            Folded(
                [columns[j] for j in members],
                rows,
                values[rows][:, members],
                self.size_class[rows],
                slope[rows],
                folds[:, rows],
            )
            for rows, members in _by_known_rows(values)
        ]

    def losses(self, labels: npt.ArrayLike) -> list[Losses]:
        """Return the squared errors of every outcome that can be judged.

        Raises
        ------
        ModelError
            For labels that are not one integer of at least -1 per shop.
        """
        array = check_labels(labels)
        if len(array) != self.n_shops:
            raise ModelError(
                f"there are {len(array):,} labels and {self.n_shops:,} shops with "
                "outcomes; expected one label per shop, in the same order."
            )
        found = []
        for block in self._blocks:
            # Thousands of small decompositions: 20 times slower on threads that wait
            # for one another.
            with _libraries().limit(limits=1):
                both = block.errors_with(array[block.rows])
            found += [
                Losses(
                    name, block.rows, block.Y[:, j], block.size_only[:, j], both[:, j]
                )
                for j, name in enumerate(block.names)
            ]
        return found


def size_classes(size: FloatArray) -> IntArray:
    """Return deciles of size, 0 the smallest; equal sizes stay together.

    With fewer than 200 shops the classes are fewer, of about 20 shops each.
    """
    n_classes = min(SIZE_CLASSES, max(len(size) // SHOPS_PER_SIZE_CLASS, 1))
    edges = np.quantile(size, np.arange(1, n_classes) / n_classes)
    place = np.searchsorted(edges, size, side="right")
    return np.unique(place, return_inverse=True)[1].astype(np.int64)


@functools.cache
def _libraries() -> ThreadpoolController:
    """Return what limits the threads of the linear algebra; finding it takes time."""
    return ThreadpoolController()


def _by_known_rows(
    values: FloatArray,
) -> list[tuple[npt.NDArray[np.intp], list[int]]]:
    """Return the rows known, and the columns that share them, of those that vary."""
    found: dict[bytes, tuple[npt.NDArray[np.intp], list[int]]] = {}
    for j, column in enumerate(values.T):
        is_known = np.isfinite(column)
        rows = np.flatnonzero(is_known)
        counts = np.unique(column[rows], return_counts=True)[1]
        n_deviating = len(rows) - int(counts.max(initial=0))
        if len(rows) >= 2 * N_FOLDS and n_deviating >= MIN_DEVIATING_SHOPS:
            found.setdefault(is_known.tobytes(), (rows, []))[1].append(j)
    return list(found.values())


def _standardised(values: FloatArray) -> FloatArray:
    """Return values with mean 0 and standard deviation 1; 0 where nothing varies."""
    spread = values.std()
    centred: FloatArray = values - values.mean()
    return centred / spread if spread > TOLERANCE else np.zeros_like(values)


def _check_size(size: FloatArray, n_shops: int) -> None:
    """Refuse sizes that are not one finite number of at least 0 per shop."""
    if size.shape != (n_shops,) or not n_shops:
        raise ModelError(
            f"`size` has shape {size.shape}, there are {n_shops:,} shops with "
            "outcomes; expected one size per shop, and at least one shop."
        )
    if not (np.isfinite(size) & (size >= 0)).all():
        raise ModelError(
            "`size` holds values that are missing, not finite or below 0; expected "
            "the volume that each shop had sold before the cut."
        )
