"""Outcomes after a month, and what labels tell of them beyond size: incremental R2.

Segments are made of what was known at a month (the cut). What counts is whether they
tell something of the months that followed, which no feature has seen.

Outcomes are regressed on size (classes and a slope), and label effects are added as
random effects with a variance estimated by Henderson's third method (Searle, Casella
and McCulloch, 1992), so that labels which tell nothing shrink to nothing. Everything is
closed form over sums per fold.

Big entities stay big: nearly any segmentation that sees size "predicts" sales. So size
goes first, as ten classes and a straight line within them, and the labels get what they
add, measured on entities that the fit has not seen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from threadpoolctl import ThreadpoolController

from core.errors import ModelError
from core.evaluation.quality import check_labels
from core.evaluation.random_effects import TOLERANCE, FixedFit
from core.months import month_index

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
OUTCOMES = ("volume", "growth", "activity", "churn")
# A factor of twenty either way: beyond it an entity has opened a branch or closed, and
# how far beyond, which is its size, would decide every mean.
GROWTH_LIMIT = 3.0
# Silent for a quarter at the cut: gone already, or pausing.
IN_BUSINESS_MONTHS = 3
SELLING_MONTHS = 2
LEVEL_MONTHS = 24
MONTHS = 12
Followed = Callable[[pl.DataFrame, pl.Series, str], BoolArray]
"""Which entities are followed after a cut, of ``monthly``, ``ids`` and ``cut`` as of
`outcomes_after`; shape (n_entities,)."""


def everyone(monthly: pl.DataFrame, ids: pl.Series, cut: str) -> BoolArray:
    """Follow all entities that have sold up to the cut, those that stopped included."""
    return np.asarray(_opened(monthly, ids) <= month_index(cut))


def in_business(monthly: pl.DataFrame, ids: pl.Series, cut: str) -> BoolArray:
    """Follow entities with a sale in the three months up to the cut.

    That one stays away which had stopped, or paused, before is no forecast.
    """
    return np.asarray(_sold(monthly, ids, cut, IN_BUSINESS_MONTHS).any(axis=1))


def still_selling(monthly: pl.DataFrame, ids: pl.Series, cut: str) -> BoolArray:
    """Follow entities that sold in each of the two months up to the cut."""
    return np.asarray(_sold(monthly, ids, cut, SELLING_MONTHS).all(axis=1))


def outcomes_after(
    monthly: pl.DataFrame,
    ids: pl.Series,
    cut: str,
    horizon_months: int,
    followed: Followed = in_business,
) -> pl.DataFrame:
    """Return what entities did in the months after a cut.

    All outcomes of entities that are not followed are null. Of the others, with
    ``q[j]`` the quantity of the j-th month after the cut (0 in a month that was not
    active), ``b[j]`` that of the same calendar month in the last year up to the cut,
    and h the horizon:

    ``volume`` = ln(1 + mean q / u)
        u is one unit; see `small_unit` for data that counts in tonnes.
    ``growth`` = ln(1 + sum q[j] / u) - ln(1 + sum b[j] / u), clipped to +-3
        Over the months j whose ``b[j]`` is not older than the entity's first active
        month, so that neither season nor the opening of an entity passes for growth.
        Null where these are fewer than half of the horizon. An entity that sold nothing
        after has shrunk.
    ``activity`` = active months / h, 0 to 1
    ``churn`` = 1.0 if no month was active, else 0.0

    Parameters
    ----------
    monthly : DataFrame
        The column of ids, ``t`` and ``quantity``: active months only, back to the
        first one of each entity.
    ids : Series of str
        Entities wanted, under the name of the column of ids in `monthly`; one without
        any row is not followed either.
    cut : str
        Last month known, ``YYYY-MM``. The data must reach `horizon_months` beyond it:
        a month that is not there counts as one without sales.
    horizon_months : int
        Months looked at after the cut, at least 1.
    followed : callable
        `in_business`, `everyone` or `still_selling`.

    Returns
    -------
    DataFrame
        The ids in the order given, then Float64 `volume`, `growth`, `activity`
        and `churn`; null as said above.

    Raises
    ------
    ModelError
        For a horizon below 1.
    """
    after = _months_after(monthly, ids, cut, horizon_months)
    sold = after.sum(axis=1)
    unit = small_unit(monthly["quantity"].to_numpy())
    columns = {
        "volume": np.log1p(sold / horizon_months / unit),
        "growth": _growth(monthly, ids, cut, after),
        "activity": (after > 0).mean(axis=1),
        "churn": (sold <= 0).astype(np.float64),
    }
    return _table(ids, columns, followed(monthly, ids, cut))


def outcomes_by_month(
    monthly: pl.DataFrame,
    ids: pl.Series,
    cut: str,
    horizon_months: int,
    followed: Followed = in_business,
) -> pl.DataFrame:
    """Return the volume and the activity of each single month after a cut.

    Returns
    -------
    DataFrame
        The ids, then ``volume_1, activity_1`` to ``volume_h, activity_h``:
        ln(1 + q / u), and 1.0 in an active month, else 0.0; null for the entities that
        `outcomes_after` does not follow.
    """
    after = _months_after(monthly, ids, cut, horizon_months)
    unit = small_unit(monthly["quantity"].to_numpy())
    columns = {}
    for month, sold in enumerate(after.T, start=1):
        columns[f"volume_{month}"] = np.log1p(sold / unit)
        columns[f"activity_{month}"] = (sold > 0).astype(np.float64)
    return _table(ids, columns, followed(monthly, ids, cut))


def small_unit(quantities: FloatArray) -> float:
    """Return the unit in which ln(1 + quantity / unit) behaves like a logarithm.

    That is 1, unless more than a tenth of the positive quantities lie below it (kegs
    counted in tonnes): then their tenth percentile, or the logarithm would not tame
    the largest entities. 1 where nothing is positive.
    """
    positive = quantities[quantities > 0]
    return min(1.0, float(np.quantile(positive, 0.1))) if len(positive) else 1.0


def _table(
    ids: pl.Series, columns: dict[str, FloatArray], is_followed: BoolArray
) -> pl.DataFrame:
    """Return columns of the entities that are followed; null for the others."""
    known = {
        name: np.where(is_followed, values, np.nan) for name, values in columns.items()
    }
    table = pl.DataFrame({ids.name: ids, **known})
    return table.with_columns(pl.exclude(ids.name).fill_nan(None))


def _sold(monthly: pl.DataFrame, ids: pl.Series, cut: str, n_months: int) -> BoolArray:
    """Return in which months up to a cut entities sold, (n_entities, n_months)."""
    last = month_index(cut)
    return _grid(monthly, ids, last - n_months + 1, last) > 0


def _opened(monthly: pl.DataFrame, ids: pl.Series) -> FloatArray:
    """Return the first active month of entities, infinite where there is none."""
    first = monthly.group_by(ids.name).agg(pl.col("t").min().cast(pl.Float64))
    found = ids.to_frame().join(first, on=ids.name, how="left", maintain_order="left")
    return found["t"].fill_null(float("inf")).to_numpy()


def _months_after(
    monthly: pl.DataFrame, ids: pl.Series, cut: str, horizon_months: int
) -> FloatArray:
    """Return quantities after a cut, shape (n_entities, horizon_months)."""
    if horizon_months < 1:
        raise ModelError(f"`horizon_months` is {horizon_months}; expected at least 1.")
    first = month_index(cut) + 1
    return _grid(monthly, ids, first, first + horizon_months - 1)


def usual_sales(
    monthly: pl.DataFrame, ids: pl.Series, cut: str, horizon_months: int
) -> tuple[FloatArray, FloatArray]:
    """Return the level of entities, and how far the base of growth was from it.

    Who had a low year by luck will sell more, and who had low base months "grows", when
    they are themselves again. So whatever tells that they were low seems to tell of
    later months: year-on-year change a tenth of the growth of shops that are nothing
    but noise, beyond their sales of the last year. Beyond these two, nothing.

    Parameters
    ----------
    monthly, ids, cut, horizon_months
        As for `outcomes_after`.

    Returns
    -------
    level : ndarray of float64, shape (n_entities,)
        Mean monthly sales over the last two years up to the cut, or since the first.
    season : ndarray of float64, shape (n_entities,)
        ln(1 + sum b[j] / u) - ln(1 + the same months at that level / u), clipped to
        +-3; see `outcomes_after`.
    """
    last, unit = month_index(cut), small_unit(monthly["quantity"].to_numpy())
    n_months = np.clip(last - _opened(monthly, ids) + 1, 1, LEVEL_MONTHS)
    sold = _grid(monthly, ids, last - LEVEL_MONTHS + 1, last).sum(axis=1)
    level: FloatArray = sold / n_months
    base, is_matched = _base(monthly, ids, cut, horizon_months)
    usual = level * is_matched.sum(axis=1)
    season = np.log1p(base.sum(axis=1) / unit) - np.log1p(usual / unit)
    return level, np.clip(season, -GROWTH_LIMIT, GROWTH_LIMIT)


def _base(
    monthly: pl.DataFrame, ids: pl.Series, cut: str, horizon_months: int
) -> tuple[FloatArray, BoolArray]:
    """Return what growth compares with, 0 before an entity opened, and where it can.

    Both of shape (n_entities, horizon_months).
    """
    first = month_index(cut) - MONTHS + 1
    place = np.arange(horizon_months) % MONTHS
    before = _grid(monthly, ids, first, first + MONTHS - 1)[:, place]
    is_matched = first + place[None, :] >= _opened(monthly, ids)[:, None]
    return before * is_matched, is_matched


def _growth(
    monthly: pl.DataFrame, ids: pl.Series, cut: str, after: FloatArray
) -> FloatArray:
    """Return the logarithmic growth over the same calendar months; NaN if unknown."""
    horizon = after.shape[1]
    before, is_matched = _base(monthly, ids, cut, horizon)
    unit = small_unit(monthly["quantity"].to_numpy())
    old, new = (q.sum(axis=1) / unit for q in (before, after * is_matched))
    growth = np.clip(np.log1p(new) - np.log1p(old), -GROWTH_LIMIT, GROWTH_LIMIT)
    is_known = 2 * is_matched.sum(axis=1) >= horizon
    found: FloatArray = np.where(is_known, growth, np.nan)
    return found


def _grid(monthly: pl.DataFrame, ids: pl.Series, first: int, last: int) -> FloatArray:
    """Return quantities by entity and month, 0 where there is no row."""
    codes = ids.to_frame().with_row_index("code")
    rows = monthly.filter(pl.col("t").is_between(first, last)).join(
        codes, on=ids.name, how="inner"
    )
    grid = np.zeros((len(ids), last - first + 1))
    grid[rows["code"].to_numpy(), rows["t"].to_numpy() - first] = rows["quantity"]
    return grid


IntArray = npt.NDArray[np.int64]

N_FOLDS = 5


class FoldSums:
    """Outcomes known of the same entities, as sums over folds.

    Parameters
    ----------
    names : list of str
        Of the outcomes.
    rows : ndarray of int, shape (n_known,)
        The entities, among all.
    Y : ndarray of float64, shape (n_known, n_outcomes)
    size_class : ndarray of int, shape (n_known,)
    slopes : ndarray of float64, shape (n_known,) or (n_known, n_slopes)
        Size on a continuous scale, and what else goes before the labels.
    folds : ndarray of int, shape (n_repeats, n_known)
        The fold, 0 to 4, in which each entity is judged, per repeat.

    Attributes
    ----------
    size_only : ndarray of float64, shape (n_known, n_outcomes)
        Squared errors of size alone on entities not seen, means over the repeats.
    """

    def __init__(
        self,
        names: list[str],
        rows: npt.NDArray[np.intp],
        Y: FloatArray,
        size_class: IntArray,
        slopes: FloatArray,
        folds: IntArray,
    ) -> None:
        self.names, self.rows, self.folds = names, rows, folds
        self.Y = Y - Y.mean(axis=0)
        classes, codes = np.unique(size_class, return_inverse=True)
        self.n_classes = len(classes)
        self.codes, self.slopes = codes, slopes.reshape(len(slopes), -1)
        self.S = np.column_stack([np.eye(self.n_classes)[codes], slopes])
        self._size_fits = [
            [FixedFit.of(self.S[fold != f], self.Y[fold != f]) for f in range(N_FOLDS)]
            for fold in folds
        ]
        self.size_only = np.zeros_like(self.Y)
        for fold, fits in zip(folds, self._size_fits, strict=True):
            for f, fit in enumerate(fits):
                test = fold == f
                error = self.Y[test] - self.S[test] @ fit.coefficients
                self.size_only[test] += error**2 / len(folds)

    def errors_with(self, labels: IntArray) -> FloatArray:
        """Return squared errors of size and labels, shape (n_known, n_outcomes)."""
        ids, group = np.unique(labels, return_inverse=True)
        squared = np.zeros_like(self.Y)
        for fold, fits in zip(self.folds, self._size_fits, strict=True):
            counts, cross, sums = self._sums(group, len(ids), fold)
            fitted = np.empty_like(self.Y)
            for f, fit in enumerate(fits):
                test = np.flatnonzero(fold == f)
                size, label = fit.with_random(
                    np.diag(counts.sum(axis=0) - counts[f]),
                    cross.sum(axis=0) - cross[f],
                    sums.sum(axis=0) - sums[f],
                )
                fitted[test] = self.S[test] @ size + label[group[test]]
            squared += (self.Y - fitted) ** 2
        mean: FloatArray = squared / len(self.folds)
        return mean

    def _sums(
        self, group: IntArray, n_groups: int, fold: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return entities per label, and sums of size and outcomes, per fold."""
        n_classes, n_columns = self.n_classes, self.Y.shape[1]
        cell = fold * n_groups + group
        shape = (N_FOLDS, n_groups)
        length = N_FOLDS * n_groups
        counts = np.bincount(cell, minlength=length).reshape(shape)
        by_class = np.bincount(
            (fold * n_classes + self.codes) * n_groups + group,
            minlength=length * n_classes,
        ).reshape(N_FOLDS, n_classes, n_groups)
        slopes = [
            np.bincount(cell, weights=column, minlength=length)
            for column in self.slopes.T
        ]
        along = np.stack(slopes).reshape(-1, N_FOLDS, n_groups).swapaxes(0, 1)
        cross = np.concatenate([by_class, along], axis=1)
        sums = [
            np.bincount(cell, weights=self.Y[:, j], minlength=length).reshape(shape)
            for j in range(n_columns)
        ]
        return counts.astype(np.float64), cross, np.stack(sums, axis=2)


N_REPEATS = 4
SIZE_CLASSES = 10
ENTITIES_PER_SIZE_CLASS = 20
# An outcome that fewer entities show is an anecdote (two of 5,000 stopped).
MIN_DEVIATING_ENTITIES = 10


@dataclass(frozen=True)
class OutcomeR2:
    """R2 of one outcome by size, and by size and labels, out of fold.

    Attributes
    ----------
    n_entities : int
        Entities whose outcome is known.
    size : float
        By size alone: out-of-fold R squared, at most 1; below 0 if it misleads.
    both : float
        By size and labels.
    standard_error : float
        Of `beyond`, over entities.
    """

    n_entities: int
    size: float
    both: float
    standard_error: float

    @property
    def beyond(self) -> float:
        """What the labels add: `both` - `size`."""
        return self.both - self.size


@dataclass(frozen=True)
class IncrementalR2:
    """Incremental R2 of labels over size, averaged over outcomes.

    Attributes
    ----------
    mean : float
        `OutcomeR2.beyond`, averaged over the outcomes; 0 if none can be judged.
    standard_error : float
        Of the mean, over entities; infinite if no outcome can be judged.
    by_outcome : mapping of str to OutcomeR2
        Outcomes that hardly any entity shows are left out.
    """

    mean: float
    standard_error: float
    by_outcome: Mapping[str, OutcomeR2]


@dataclass(frozen=True)
class SquaredErrors:
    """Out-of-fold squared errors of one outcome, per entity.

    Attributes
    ----------
    outcome : str
        Its name.
    rows : ndarray of int, shape (n_known,)
        The entities whose outcome is known, as positions.
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
        """Return what each entity contributes to the error of `beyond`, (n_known,)."""
        n = len(self.rows)
        deviation = self.size - self.both - self.beyond * self.value**2
        scaled: FloatArray = deviation / self.total * np.sqrt(n / max(n - 1, 1))
        return scaled


def incremental_r2(losses: Sequence[SquaredErrors]) -> IncrementalR2:
    """Return the incremental R2 that squared errors amount to."""
    by_outcome = {}
    n_rows = max((int(part.rows.max()) + 1 for part in losses), default=0)
    influence = np.zeros(n_rows)
    for part in losses:
        own = part.influence()
        influence[part.rows] += own / len(losses)
        by_outcome[part.outcome] = OutcomeR2(
            n_entities=len(part.rows),
            size=1 - float(part.size.sum()) / part.total,
            both=1 - float(part.both.sum()) / part.total,
            standard_error=float(np.sqrt(own @ own)),
        )
    if not by_outcome:
        return IncrementalR2(0.0, float("inf"), {})
    mean = float(np.mean([share.beyond for share in by_outcome.values()]))
    return IncrementalR2(mean, float(np.sqrt(influence @ influence)), by_outcome)


class IncrementalR2Scorer:
    """Scorer of any labels of the entities of one cut: incremental R2 over size.

    An outcome is fitted by an effect per size class (deciles; classes of about 20
    where there are fewer than 200), a slope in ln(1 + size) common to all classes, so
    that labels get no credit for telling size more finely than ten classes do, and a
    random effect per label: shrunk by ``var_error / var_label``, both estimated in the
    training folds (Henderson's method 3, 1953), to 0 where the labels differ by no more
    than chance. 5 folds over entities, 4 times; closed form throughout. Labels that say
    nothing explain about 0, mostly a little less: the price of having been fitted.

    Parameters
    ----------
    outcomes : DataFrame
        One row per entity, a column per outcome, null where unknown; columns of
        text are passed over.
    size : ndarray of float, shape (n_entities,)
        Volume before the cut, from 0.
    seed : int
        Of the folds: with the same seed, two labelings meet the same folds, and
        their difference is a paired one.
    season : ndarray of float, shape (n_entities,), optional
        Of `usual_sales`: has a slope beside that of size, before the labels.

    Attributes
    ----------
    size_class : ndarray of int, shape (n_entities,)
        Equal sizes share a class; ascending from 0.
    """

    def __init__(
        self,
        outcomes: pl.DataFrame,
        size: FloatArray,
        seed: int,
        season: FloatArray | None = None,
    ) -> None:
        self.n_entities = outcomes.height
        _check_size(size, self.n_entities)
        self.size_class = size_classes(size)
        first = [np.log1p(size / small_unit(size))]
        first += [] if season is None else [season]
        slopes = np.column_stack([_standardised(values) for values in first])
        rng = np.random.default_rng(seed)
        folds = np.stack(
            [rng.permutation(self.n_entities) % N_FOLDS for _ in range(N_REPEATS)]
        )
        columns = [n for n, dtype in outcomes.schema.items() if dtype != pl.String]
        values = outcomes.select(pl.col(columns).cast(pl.Float64)).to_numpy()
        self._blocks = [
            FoldSums(
                [columns[j] for j in members],
                rows,
                values[rows][:, members],
                self.size_class[rows],
                slopes[rows],
                folds[:, rows],
            )
            for rows, members in by_known_rows(values)
        ]

    def losses(self, labels: npt.ArrayLike) -> list[SquaredErrors]:
        """Return the squared errors of every outcome that can be judged.

        Parameters
        ----------
        labels : array-like of int, shape (n_entities,)
            Segment per entity, in the order of the outcomes; -1 is a group of its own.

        Raises
        ------
        ModelError
            For labels that are not one integer of at least -1 per entity.
        """
        array = check_labels(labels)
        if len(array) != self.n_entities:
            raise ModelError(
                f"there are {len(array):,} labels and {self.n_entities:,} rows of "
                "outcomes; expected one label per row, in the same order."
            )
        found = []
        for block in self._blocks:
            # Thousands of small decompositions: 20 times slower on threads that wait
            # for one another.
            with _libraries().limit(limits=1):
                both = block.errors_with(array[block.rows])
            found += [
                SquaredErrors(
                    name, block.rows, block.Y[:, j], block.size_only[:, j], both[:, j]
                )
                for j, name in enumerate(block.names)
            ]
        return found


def size_classes(size: FloatArray) -> IntArray:
    """Return deciles of size, 0 the smallest; equal sizes stay together.

    With fewer than 200 rows the classes are fewer, of about 20 rows each.
    """
    n_classes = min(SIZE_CLASSES, max(len(size) // ENTITIES_PER_SIZE_CLASS, 1))
    edges = np.quantile(size, np.arange(1, n_classes) / n_classes)
    place = np.searchsorted(edges, size, side="right")
    return np.unique(place, return_inverse=True)[1].astype(np.int64)


@functools.cache
def _libraries() -> ThreadpoolController:
    """Return what limits the threads of the linear algebra; finding it takes time."""
    return ThreadpoolController()


def by_known_rows(
    values: FloatArray, min_deviating: int = MIN_DEVIATING_ENTITIES
) -> list[tuple[npt.NDArray[np.intp], list[int]]]:
    """Return the rows known, and the columns that share them, of those that vary.

    Parameters
    ----------
    values : ndarray of float, shape (n_entities, n_outcomes)
        NaN where unknown.
    min_deviating : int, default 10
        An outcome with fewer entities that deviate from its commonest value is left
        out.

    Returns
    -------
    list of (rows, columns)
        Positions of the known rows, and of the outcomes that are known there.
    """
    found: dict[bytes, tuple[npt.NDArray[np.intp], list[int]]] = {}
    for j, column in enumerate(values.T):
        is_known = np.isfinite(column)
        rows = np.flatnonzero(is_known)
        counts = np.unique(column[rows], return_counts=True)[1]
        n_deviating = len(rows) - int(counts.max(initial=0))
        if len(rows) >= 2 * N_FOLDS and n_deviating >= min_deviating:
            found.setdefault(is_known.tobytes(), (rows, []))[1].append(j)
    return list(found.values())


def _standardised(values: FloatArray) -> FloatArray:
    """Return values with mean 0 and standard deviation 1; 0 where nothing varies."""
    spread = values.std()
    centred: FloatArray = values - values.mean()
    return centred / spread if spread > TOLERANCE else np.zeros_like(values)


def _check_size(size: FloatArray, n_entities: int) -> None:
    """Refuse sizes that are not one finite number of at least 0 per entity."""
    if size.shape != (n_entities,) or not n_entities:
        raise ModelError(
            f"`size` has shape {size.shape}, there are {n_entities:,} rows of "
            "outcomes; expected one size per row, and at least one row."
        )
    if not (np.isfinite(size) & (size >= 0)).all():
        raise ModelError(
            "`size` holds values that are missing, not finite or below 0; expected "
            "the volume of each row before the cut."
        )
