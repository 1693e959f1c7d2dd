"""Segments of earlier months held against the months after: backtests and scorecard.

A model is learnt at the oldest cut and frozen; every cut then asks it about the
entities as they were known there, and the months that followed say what its labels were
worth.

The model is learnt on the features of the oldest cut and frozen. Entities at that cut
and at later ones are labelled by it, and the share of the variance of what they did
next is put beside the share that size alone explains, and beside what labels explain
that are dealt out among entities of one size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from core.entities import Entity
from core.errors import ModelError
from core.evaluation.outcomes import (
    FloatArray,
    IncrementalR2,
    IncrementalR2Scorer,
    IntArray,
    SquaredErrors,
    incremental_r2,
    outcomes_after,
    outcomes_by_month,
)
from core.evaluation.stability import Recipe
from core.models.seeding import derived_seed

# Fewer entities than this tell nothing of any outcome.
MIN_ENTITIES_AT_CUT = 50


@dataclass(frozen=True)
class Cut:
    """Features, size and later outcomes of the entities eligible at one month.

    Attributes
    ----------
    as_of : str
        The last month known, ``YYYY-MM``.
    ids : Series of str
        The entities, under the name of their column; everything else is in this order.
    X : ndarray of float64, shape (n_entities, n_features)
        Their features as of the cut, unscaled; NaN where unknown.
    size : ndarray of float64, shape (n_entities,)
        Size up to the cut, by the column of `core.entities.Entity`.
    outcomes : DataFrame
        `core.evaluation.outcomes.outcomes_after` the cut.
    by_month : DataFrame
        `core.evaluation.outcomes.outcomes_by_month` after the cut.
    """

    as_of: str
    ids: pl.Series
    X: FloatArray
    size: FloatArray
    outcomes: pl.DataFrame
    by_month: pl.DataFrame


@dataclass(frozen=True)
class OutOfTime:
    """Incremental R2 of labels over all cuts.

    Attributes
    ----------
    mean : float
        Share of variance beyond size, averaged over outcomes and cuts; 0 if nothing
        can be judged.
    standard_error : float
        Of the mean, over entities: one that appears at several cuts is one entity.
        Infinite if nothing can be judged.
    by_cut : dict of str to IncrementalR2
        The same for each cut, oldest first.
    influence : ndarray of float64, shape (n_entities,)
        What each entity contributes to the error of the mean, by `entity_codes` of the
        cuts: of two labelings of the same cuts, the difference of these tells the
        error of theirs. Empty if nothing can be judged.
    """

    mean: float
    standard_error: float
    by_cut: dict[str, IncrementalR2]
    influence: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)


def backtest_cuts(
    history: pl.DataFrame,
    monthly: pl.DataFrame,
    features: Sequence[str],
    horizon_months: int,
    entity: Entity,
    min_entities: int = MIN_ENTITIES_AT_CUT,
) -> list[Cut]:
    """Return the usable cuts, each with features, size and later outcomes.

    Parameters
    ----------
    history, monthly : DataFrame
        The features of eligible entities by earlier month (``as_of``), and their
        active months (``t, quantity``), by the column of ids.
    features : sequence of str
        The model's features, in order.
    horizon_months : int
        Months after a cut that every cut has, at least 1.
    entity : Entity
        Its columns of ids and of size.
    min_entities : int, default 50
        Cuts with fewer entities are left out: neither a model nor a share of variance
        can be learnt from them.

    Returns
    -------
    list of Cut
        Oldest first; empty where the data does not reach back far enough.
    """
    cuts = []
    for (as_of,), table in history.sort("as_of", entity.id_column).group_by(
        "as_of", maintain_order=True
    ):
        if table.height < min_entities:
            continue
        month, ids = str(as_of), table[entity.id_column]
        cuts.append(
            Cut(
                as_of=month,
                ids=ids,
                X=table.select(pl.col(features).cast(pl.Float64)).to_numpy(),
                size=table[entity.size_column].cast(pl.Float64).to_numpy(),
                outcomes=outcomes_after(monthly, ids, month, horizon_months),
                by_month=outcomes_by_month(monthly, ids, month, horizon_months),
            )
        )
    return cuts


def labels_over_time(cuts: Sequence[Cut], recipe: Recipe, seed: int) -> list[IntArray]:
    """Learn a recipe at the oldest cut, freeze it, and label all cuts by it."""
    label = recipe(cuts[0].X, seed)
    return [label(cut.X) for cut in cuts]


def out_of_time(
    cuts: Sequence[Cut], labels: Sequence[IntArray], seed: int
) -> OutOfTime:
    """Return the incremental R2 of labels at all cuts.

    Parameters
    ----------
    cuts : sequence of Cut
        From `backtest_cuts`.
    labels : sequence of ndarray of int
        One array per cut, as of `labels_over_time`; -1 is a group of its own.
    seed : int
        Of the folds; with the same seed two recipes are compared on the same folds.
    """
    codes, n_entities = entity_codes(cuts)
    influence = np.zeros(n_entities)
    by_cut, shares = {}, []
    for cut, code, own in zip(cuts, codes, labels, strict=True):
        losses = IncrementalR2Scorer(cut.outcomes, cut.size, seed).losses(own)
        by_cut[cut.as_of] = incremental_r2(losses)
        for part in losses:
            shares.append(part.beyond)
            influence[code[part.rows]] += part.influence()
    if not shares:
        return OutOfTime(0.0, float("inf"), by_cut)
    influence /= len(shares)
    error = float(np.sqrt(influence @ influence))
    return OutOfTime(float(np.mean(shares)), error, by_cut, influence)


def entity_codes(cuts: Sequence[Cut]) -> tuple[list[IntArray], int]:
    """Return the entities of each cut as positions among all, and how many they are."""
    everyone = pl.concat([cut.ids for cut in cuts]).unique().sort()
    places = everyone.to_frame("id").with_row_index("code")
    codes = [
        cut.ids.to_frame("id")
        .join(places, on="id", how="left", maintain_order="left")["code"]
        .cast(pl.Int64)
        .to_numpy()
        for cut in cuts
    ]
    return codes, len(everyone)


ALL = "all"
N_PERMUTATIONS = 199
MIN_PERMUTATIONS = 19
N_RESAMPLES = 500
INTERVAL = (0.025, 0.975)
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Scorecard:
    """Incremental R2 of one set of labels, by cut, outcome and month after the cut.

    Attributes
    ----------
    outcomes : DataFrame
        One row per cut and outcome, then the averages over the cuts (``cut`` is "all")
        and over the outcomes (``outcome`` is "all", too). Shares of the outcome's
        variance, out of fold, at most 1, with 95% bootstrap intervals over entities:

        ``cut, outcome`` : str; ``n_entities`` : int
            Entities whose outcome is known; entities at cuts in the averages.
        ``n_groups`` : int
            Labels that differ, -1 among them; the largest number in the averages.
        ``size, size_low, size_high`` : float
            By size alone.
        ``both, both_low, both_high`` : float
            By size and labels.
        ``beyond, beyond_low, beyond_high`` : float
            What the labels add.
        ``permuted_mean, permuted_95`` : float
            Mean and 95th percentile of `beyond` of labels exchanged between entities of
            one size.
        ``p_value`` : float
            (1 + number of these that reach `beyond`) / (permutations + 1).
    decay : DataFrame
        One row per outcome (``volume``, ``activity``) and ``month`` after the cut, from
        1, averaged over the cuts: ``outcome, month, n_entities``, and shares with their
        intervals as above, each outcome that of the single month.
    """

    outcomes: pl.DataFrame
    decay: pl.DataFrame


@dataclass(frozen=True)
class _Part:
    """Squared errors of one outcome at one cut."""

    cut: str
    losses: SquaredErrors
    n_groups: int


class Scorer:
    """Scorer of several sets of labels over the same cuts, folds and draws.

    Parameters
    ----------
    cuts : sequence of Cut
        At least one, from `core.evaluation.out_of_time.backtest_cuts`.
    seed : int
        Of folds, permutations and resamples.
    n_permutations : int, default 199
        At least 19: p is at least 1 / (permutations + 1).
    n_resamples : int, default 500
        Bootstrap samples of entities.

    Raises
    ------
    ModelError
        Without any cut, or for fewer than 19 permutations.
    """

    def __init__(
        self,
        cuts: Sequence[Cut],
        seed: int,
        n_permutations: int = N_PERMUTATIONS,
        n_resamples: int = N_RESAMPLES,
    ) -> None:
        if not cuts:
            raise ModelError("there is no cut to look back from; expected at least 1.")
        if n_permutations < MIN_PERMUTATIONS:
            raise ModelError(
                f"`n_permutations` is {n_permutations}; with fewer than "
                f"{MIN_PERMUTATIONS} nothing can be significant at 0.05. Pass "
                f"{MIN_PERMUTATIONS} or more."
            )
        self._cuts = cuts
        self._judges = [
            IncrementalR2Scorer(cut.outcomes, cut.size, seed) for cut in cuts
        ]
        self._monthly = [
            IncrementalR2Scorer(cut.by_month, cut.size, seed) for cut in cuts
        ]
        self._codes, self._n_entities = entity_codes(cuts)
        self._strata = self._exchangeable()
        self._seed = seed
        self.n_permutations = n_permutations
        rng = np.random.default_rng(derived_seed(seed, 1))
        draws = rng.integers(self._n_entities, size=(n_resamples, self._n_entities))
        self._weights = np.stack(
            [np.bincount(draw, minlength=self._n_entities) for draw in draws]
        ).astype(np.float64)

    def score(
        self, labels: Sequence[IntArray], on_step: OnStep | None = None
    ) -> Scorecard:
        """Return the scorecard of the labels of every cut.

        Parameters
        ----------
        labels : sequence of ndarray of int
            One array per cut, as `labels_over_time` returns.
        on_step : callable, optional
            Called with (permutations done, permutations in all).

        Notes
        -----
        A permutation exchanges entities that were seen at the same cuts and were in the
        same size class at the first of them, with all their labels: an entity stays one
        entity over the cuts. An interval resamples entities, with all their cuts and
        months, over their out-of-fold errors; the folds' fits are not repeated.
        """
        parts = self._parts(self._judges, labels)
        permuted = self._permuted(labels, len(parts), on_step)
        intervals = self._resampled(parts)
        outcomes = [
            _row(parts, members, permuted, intervals, cut, outcome)
            for cut, outcome, members in _groups(parts)
        ]
        monthly = self._parts(self._monthly, labels)
        month_intervals = self._resampled(monthly)
        decay = []
        for name in dict.fromkeys(part.losses.outcome for part in monthly):
            members = [
                i for i, part in enumerate(monthly) if part.losses.outcome == name
            ]
            outcome, month = name.rsplit("_", 1)
            row = _row(monthly, members, None, month_intervals, ALL, outcome)
            decay.append({"month": int(month), **row})
        return Scorecard(
            pl.DataFrame(outcomes, schema=_OUTCOMES_SCHEMA),
            pl.DataFrame(decay, schema=_DECAY_SCHEMA).sort("outcome", "month"),
        )

    def _parts(
        self, judges: Sequence[IncrementalR2Scorer], labels: Sequence[IntArray]
    ) -> list[_Part]:
        """Return the errors of every outcome at every cut."""
        return [
            _Part(cut.as_of, losses, len(np.unique(own)))
            for cut, judge, own in zip(self._cuts, judges, labels, strict=True)
            for losses in judge.losses(own)
        ]

    def _permuted(
        self, labels: Sequence[IntArray], n_parts: int, on_step: OnStep | None
    ) -> FloatArray:
        """Return `beyond` of permuted labels, shape (n_permutations, n_parts)."""
        rng = np.random.default_rng(derived_seed(self._seed, 2))
        history = np.zeros((self._n_entities, len(self._cuts)), dtype=np.int64)
        for place, (code, own) in enumerate(zip(self._codes, labels, strict=True)):
            history[code, place] = own
        home = np.argsort(self._strata, kind="stable")
        found = np.zeros((self.n_permutations, n_parts))
        for number in range(self.n_permutations):
            if on_step is not None:
                on_step(number, self.n_permutations)
            shuffled = np.empty_like(history)
            order = np.lexsort((rng.random(self._n_entities), self._strata))
            shuffled[home] = history[order]
            dealt = [shuffled[code, place] for place, code in enumerate(self._codes)]
            parts = self._parts(self._judges, dealt)
            found[number] = [part.losses.beyond for part in parts]
        if on_step is not None:
            on_step(self.n_permutations, self.n_permutations)
        return found

    def _exchangeable(self) -> IntArray:
        """Return a number for every entity; those that share it may change places."""
        size_class = np.full((self._n_entities, len(self._cuts)), -1, dtype=np.int64)
        for place, (code, judge) in enumerate(
            zip(self._codes, self._judges, strict=True)
        ):
            size_class[code, place] = judge.size_class
        is_there = size_class >= 0
        first = size_class[np.arange(self._n_entities), is_there.argmax(axis=1)]
        keys = np.column_stack([is_there.astype(np.int64), first])
        return np.unique(keys, axis=0, return_inverse=True)[1].ravel()

    def _resampled(self, parts: Sequence[_Part]) -> FloatArray:
        """Return shares of resampled entities, shape (n_resamples, n_parts, 2).

        The last axis is (size, both).
        """
        found = np.full((len(self._weights), len(parts), 2), np.nan)
        codes = dict(zip((cut.as_of for cut in self._cuts), self._codes, strict=True))
        for place, part in enumerate(parts):
            losses = part.losses
            y = losses.value
            table = np.column_stack(
                [np.ones(len(y)), y, y**2, losses.size, losses.both]
            )
            rows = codes[part.cut][losses.rows]
            n, total, squares, size, both = (self._weights[:, rows] @ table).T
            spread = squares - total**2 / np.maximum(n, 1)
            is_varied = spread > 1e-9 * losses.total
            found[is_varied, place, 0] = 1 - size[is_varied] / spread[is_varied]
            found[is_varied, place, 1] = 1 - both[is_varied] / spread[is_varied]
        return found


_SHARES = ("size", "both", "beyond")
_SHARE_SCHEMA = {
    f"{name}{end}": pl.Float64 for name in _SHARES for end in ("", "_low", "_high")
}
_OUTCOMES_SCHEMA = {
    "cut": pl.String,
    "outcome": pl.String,
    "n_entities": pl.Int64,
    "n_groups": pl.Int64,
    **_SHARE_SCHEMA,
    "permuted_mean": pl.Float64,
    "permuted_95": pl.Float64,
    "p_value": pl.Float64,
}
_DECAY_SCHEMA = {
    "outcome": pl.String,
    "month": pl.Int64,
    "n_entities": pl.Int64,
    **_SHARE_SCHEMA,
}


def _groups(parts: Sequence[_Part]) -> list[tuple[str, str, list[int]]]:
    """Return cut, outcome and members of every row of the table."""
    each = [(part.cut, part.losses.outcome, [i]) for i, part in enumerate(parts)]
    names = dict.fromkeys(part.losses.outcome for part in parts)
    means = [
        (ALL, name, [i for i, part in enumerate(parts) if part.losses.outcome == name])
        for name in names
    ]
    everything = [(ALL, ALL, list(range(len(parts))))] if parts else []
    return [*each, *means, *everything]


def _row(
    parts: Sequence[_Part],
    members: Sequence[int],
    permuted: FloatArray | None,
    intervals: FloatArray,
    cut: str,
    outcome: str,
) -> dict[str, object]:
    """Return the averages over some outcomes and cuts, with their references."""
    chosen = [parts[i] for i in members]
    size = float(np.mean([1 - p.losses.size.sum() / p.losses.total for p in chosen]))
    both = float(np.mean([1 - p.losses.both.sum() / p.losses.total for p in chosen]))
    draws = intervals[:, members].mean(axis=1)
    row: dict[str, object] = {
        "cut": cut,
        "outcome": outcome,
        "n_entities": sum(len(part.losses.rows) for part in chosen),
        "n_groups": max(part.n_groups for part in chosen),
    }
    values = (size, both, both - size)
    for name, value, draw in zip(
        _SHARES,
        values,
        (draws[:, 0], draws[:, 1], draws[:, 1] - draws[:, 0]),
        strict=True,
    ):
        low, high = np.nanquantile(draw, INTERVAL)
        row |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
    if permuted is not None:
        null = permuted[:, members].mean(axis=1)
        row |= {
            "permuted_mean": float(null.mean()),
            "permuted_95": float(np.quantile(null, 0.95)),
            "p_value": (1 + int((null >= both - size).sum())) / (len(null) + 1),
        }
    return row
