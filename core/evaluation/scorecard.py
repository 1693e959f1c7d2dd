"""What labels tell of later months beyond size, with intervals: the scorecard.

Several sets of labels over the same cuts, folds and draws: the incremental R2 of each
outcome (`core.evaluation.outcomes`), a bootstrap interval over entities, permutations
within size classes where they are asked for, and an answer in one word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from core.errors import ModelError
from core.evaluation.out_of_time import Cut, entity_codes
from core.evaluation.outcomes import (
    FloatArray,
    IncrementalR2Scorer,
    IntArray,
    SquaredErrors,
)
from core.models.seeding import derived_seed

ALL = "all"
N_PERMUTATIONS = 199
MIN_PERMUTATIONS = 19
N_RESAMPLES = 500
INTERVAL = (0.025, 0.975)
OnStep = Callable[[int, int], None]
Answer = Literal["yes", "slightly", "no"]
YES_SHARE = 0.05
"""Of an outcome's variance: labels that add as much tell of it."""
SLIGHT_SHARE = 0.01
SIGNIFICANCE = 0.05


def answer(row: Mapping[str, Any]) -> Answer:
    """Return whether labels tell of an outcome.

    Parameters
    ----------
    row : mapping
        Of `Scorer.score`.

    Returns
    -------
    {'yes', 'slightly', 'no'}
        "no" unless the whole interval of `beyond` lies above 0, `beyond` is at least
        0.01 and, where labels were permuted, p is at most 0.05; "yes" from 0.05 on.
    """
    p_value = row.get("p_value")
    is_clear = row["beyond_low"] > 0 and (p_value is None or p_value <= SIGNIFICANCE)
    if not is_clear or row["beyond"] < SLIGHT_SHARE:
        return "no"
    return "yes" if row["beyond"] >= YES_SHARE else "slightly"


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
    n_permutations : int, default 0
        0: none, and no p. At least 19 otherwise: p is at least 1 / (permutations + 1).
    n_resamples : int, default 500
        Bootstrap samples of entities.

    Raises
    ------
    ModelError
        Without any cut, or for 1 to 18 permutations.
    """

    def __init__(
        self,
        cuts: Sequence[Cut],
        seed: int,
        n_permutations: int = 0,
        n_resamples: int = N_RESAMPLES,
    ) -> None:
        if not cuts:
            raise ModelError(
                "there is no past date to measure at; expected at least 1."
            )
        if 0 < n_permutations < MIN_PERMUTATIONS:
            raise ModelError(
                f"`n_permutations` is {n_permutations}; with fewer than "
                f"{MIN_PERMUTATIONS} nothing can be significant at 0.05. Pass "
                f"{MIN_PERMUTATIONS} or more, or 0 for none."
            )
        self._cuts = cuts
        self._judges = [_judge(cut, cut.outcomes, seed) for cut in cuts]
        self._codes, self._n_entities = entity_codes(cuts)
        self._strata = self._exchangeable()
        self._seed = seed
        self.n_permutations = n_permutations
        rng = np.random.default_rng(derived_seed(seed, 1))
        shape = (n_resamples, self._n_entities)
        draws = rng.integers(self._n_entities, size=shape)
        draws += np.arange(n_resamples)[:, None] * self._n_entities
        counts = np.bincount(draws.ravel(), minlength=draws.size)
        self._weights = counts.reshape(shape).astype(np.float64)

    def score(
        self, labels: Sequence[IntArray], on_step: OnStep | None = None
    ) -> pl.DataFrame:
        """Return what the labels of every cut tell of the outcomes.

        Parameters
        ----------
        labels : sequence of ndarray of int
            One array per cut, as `core.evaluation.out_of_time.labels_over_time`
            returns; -1 is a group of its own.
        on_step : callable, optional
            Called with (permutations done, permutations in all).

        Returns
        -------
        DataFrame
            One row per cut and outcome, then the averages over the cuts (``cut`` is
            "all") and over the outcomes (``outcome`` is "all", too). Shares of the
            outcome's variance, out of fold, at most 1, with 95% bootstrap intervals:

            ``cut, outcome`` : str; ``n_entities`` : int
                Entities whose outcome is known; entities at cuts in the averages.
            ``n_groups`` : int
                Labels that differ; the largest number in the averages.
            ``size, size_low, size_high`` : float
                By size alone: `core.evaluation.outcomes.usual_sales`.
            ``both, both_low, both_high`` : float
                By size and labels.
            ``beyond, beyond_low, beyond_high`` : float
                What the labels add.
            ``permuted_mean, permuted_95`` : float
                Mean and 95th percentile of `beyond` of labels exchanged between
                entities of one size; null without permutations.
            ``p_value`` : float
                (1 + number of these that reach `beyond`) / (permutations + 1), or null.

        Notes
        -----
        A permutation exchanges entities that were seen at the same cuts and were in the
        same size class at the first of them, with all their labels: an entity stays one
        entity over the cuts. An interval resamples entities, with all their cuts and
        months, over their out-of-fold errors; the folds' fits are not repeated.
        """
        parts = self._parts(self._judges, labels)
        permuted = (
            self._permuted(labels, len(parts), on_step) if self.n_permutations else None
        )
        intervals = self._resampled(parts)
        rows = [
            _row(parts, members, permuted, intervals, cut, outcome)
            for cut, outcome, members in _groups(parts)
        ]
        return pl.DataFrame(rows, schema=_OUTCOMES_SCHEMA)

    def decay(self, labels: Sequence[IntArray]) -> pl.DataFrame:
        """Return what the labels tell of each single month after the cuts.

        Parameters
        ----------
        labels : sequence of ndarray of int
            As for `score`.

        Returns
        -------
        DataFrame
            One row per outcome (``volume``, ``activity``) and ``month`` after the cut,
            from 1, averaged over the cuts: ``outcome, month, n_entities``, and shares
            with their intervals as in `score`.
        """
        judges = [_judge(cut, cut.by_month, self._seed) for cut in self._cuts]
        parts = self._parts(judges, labels)
        intervals = self._resampled(parts)
        rows = []
        for name in dict.fromkeys(part.losses.outcome for part in parts):
            members = [i for i, part in enumerate(parts) if part.losses.outcome == name]
            outcome, month = name.rsplit("_", 1)
            row = _row(parts, members, None, intervals, ALL, outcome)
            rows.append({"month": int(month), **row})
        return pl.DataFrame(rows, schema=_DECAY_SCHEMA).sort("outcome", "month")

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
        # By entity, so that one product serves all parts: nothing is gathered.
        table = np.zeros((self._n_entities, len(parts), 5))
        codes = dict(zip((cut.as_of for cut in self._cuts), self._codes, strict=True))
        for place, part in enumerate(parts):
            losses, y = part.losses, part.losses.value
            table[codes[part.cut][losses.rows], place] = np.column_stack(
                [np.ones(len(y)), y, y**2, losses.size, losses.both]
            )
        sums = self._weights @ table.reshape(self._n_entities, -1)
        n, total, squares, *errors = sums.reshape(-1, len(parts), 5).transpose(2, 0, 1)
        spread = squares - total**2 / np.maximum(n, 1)
        is_varied = spread > 1e-9 * np.array([part.losses.total for part in parts])
        spread = np.where(is_varied, spread, np.nan)
        return np.stack([1 - error / spread for error in errors], axis=2)


def _judge(cut: Cut, outcomes: pl.DataFrame, seed: int) -> IncrementalR2Scorer:
    """Return the judge of outcomes beyond the entities' usual sales."""
    level = cut.size if cut.level is None else cut.level
    return IncrementalR2Scorer(outcomes, level, seed, cut.season)


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
