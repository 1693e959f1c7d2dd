"""Segments of earlier months held against the months after: backtests.

A model is learnt at the oldest cut and frozen; every cut then asks it about the
entities as they were known there, and the months that followed say what its labels were
worth.

The model is learnt on the features of the oldest cut and frozen. Entities at that cut
and at later ones are labelled by it, and the share of the variance of what they did
next is put beside the share that size alone explains, and beside what labels explain
that are dealt out among entities of one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from core.entities import Entity
from core.evaluation.outcomes import (
    FloatArray,
    Followed,
    IncrementalR2,
    IncrementalR2Scorer,
    IntArray,
    in_business,
    incremental_r2,
    outcomes_after,
    outcomes_by_month,
    usual_sales,
)

if TYPE_CHECKING:
    from core.evaluation.stability import Recipe

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
    level, season : ndarray of float64, shape (n_entities,), or None
        `core.evaluation.outcomes.usual_sales` of the entities.
    """

    as_of: str
    ids: pl.Series
    X: FloatArray
    size: FloatArray
    outcomes: pl.DataFrame
    by_month: pl.DataFrame
    level: FloatArray | None = None
    season: FloatArray | None = None
    _judges: dict[int, IncrementalR2Scorer] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def part(self, places: IntArray) -> Cut:
        """Return some of the entities, in the order of `places`."""
        return Cut(
            as_of=self.as_of,
            ids=self.ids[places],
            X=self.X[places],
            size=self.size[places],
            outcomes=self.outcomes[places],
            by_month=self.by_month[places],
            level=None if self.level is None else self.level[places],
            season=None if self.season is None else self.season[places],
        )

    def judge(self, seed: int) -> IncrementalR2Scorer:
        """Return the judge of labels by `outcomes` on the folds of a seed.

        Beyond level and season where they are known, else beyond size. It is kept,
        since it takes longer to make than to judge one labeling.
        """
        if seed not in self._judges:
            size = self.size if self.level is None else self.level
            judge = IncrementalR2Scorer(self.outcomes, size, seed, self.season)
            self._judges[seed] = judge
        return self._judges[seed]


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
    followed: Followed = in_business,
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
    followed : callable
        Of which entities the outcomes are known; see
        `core.evaluation.outcomes.outcomes_after`.

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
        asked = (monthly, ids, month, horizon_months, followed)
        level, season = usual_sales(*asked[:-1])
        cuts.append(
            Cut(
                as_of=month,
                ids=ids,
                X=table.select(pl.col(features).cast(pl.Float64)).to_numpy(),
                size=table[entity.size_column].cast(pl.Float64).to_numpy(),
                outcomes=outcomes_after(*asked),
                by_month=outcomes_by_month(*asked),
                level=level,
                season=season,
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
        losses = cut.judge(seed).losses(own)
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
