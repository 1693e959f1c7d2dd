"""Standing at earlier months: what was known there, and what came after.

A model is learnt at the oldest cut and frozen; every cut then asks it about the shops
as they were known there, and the months that followed say what its labels were worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from core.evaluation.explained import (
    BeyondSize,
    Explained,
    FloatArray,
    IntArray,
    summarise,
)
from core.evaluation.outcomes import outcomes_after, outcomes_by_month
from core.evaluation.stability import Recipe

SIZE = "sales_qty_last_12_months"
# Fewer shops than this tell nothing of any outcome.
MIN_SHOPS_AT_CUT = 50


@dataclass(frozen=True)
class Cut:
    """The shops that were eligible at one month.

    Attributes
    ----------
    as_of : str
        The last month known, ``YYYY-MM``.
    shop_id : Series of str
        The shops; everything else is in their order.
    X : ndarray of float64, shape (n_shops, n_features)
        Their features as of the cut, unscaled; NaN where unknown.
    size : ndarray of float64, shape (n_shops,)
        Units sold in the 12 months up to the cut.
    outcomes : DataFrame
        `core.evaluation.outcomes.outcomes_after` the cut.
    by_month : DataFrame
        `core.evaluation.outcomes.outcomes_by_month` after the cut.
    """

    as_of: str
    shop_id: pl.Series
    X: FloatArray
    size: FloatArray
    outcomes: pl.DataFrame
    by_month: pl.DataFrame


@dataclass(frozen=True)
class OutOfTime:
    """What labels explain of later outcomes beyond size, over all cuts.

    Attributes
    ----------
    mean : float
        Share of variance beyond size, averaged over outcomes and cuts; 0 if nothing
        can be judged.
    standard_error : float
        Of the mean, over shops: one that appears at several cuts is one shop. Infinite
        if nothing can be judged.
    by_cut : dict of str to Explained
        The same for each cut, oldest first.
    influence : ndarray of float64, shape (n_shops,)
        What each shop contributes to the error of the mean, by `shop_codes` of the
        cuts: of two labelings of the same cuts, the difference of these tells the
        error of theirs. Empty if nothing can be judged.
    """

    mean: float
    standard_error: float
    by_cut: dict[str, Explained]
    influence: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)


def looking_back(
    history: pl.DataFrame,
    monthly: pl.DataFrame,
    features: Sequence[str],
    horizon_months: int,
    min_shops: int = MIN_SHOPS_AT_CUT,
) -> list[Cut]:
    """Put features, size and outcomes of every usable cut together.

    Parameters
    ----------
    history, monthly : DataFrame
        `core.features.history.HISTORY` and `MONTHLY`.
    features : sequence of str
        The model's features, in order.
    horizon_months : int
        Months after a cut that every cut has, at least 1.
    min_shops : int, default 50
        Cuts with fewer shops are left out: neither a model nor a share of variance
        can be learnt from them.

    Returns
    -------
    list of Cut
        Oldest first; empty where the data does not reach back far enough.
    """
    cuts = []
    for (as_of,), table in history.sort("as_of", "shop_id").group_by(
        "as_of", maintain_order=True
    ):
        if table.height < min_shops:
            continue
        month, shops = str(as_of), table["shop_id"]
        cuts.append(
            Cut(
                as_of=month,
                shop_id=shops,
                X=table.select(pl.col(features).cast(pl.Float64)).to_numpy(),
                size=table[SIZE].cast(pl.Float64).to_numpy(),
                outcomes=outcomes_after(monthly, shops, month, horizon_months),
                by_month=outcomes_by_month(monthly, shops, month, horizon_months),
            )
        )
    return cuts


def labels_over_time(cuts: Sequence[Cut], recipe: Recipe, seed: int) -> list[IntArray]:
    """Learn a recipe at the oldest cut, freeze it, and label the shops of all cuts."""
    label = recipe(cuts[0].X, seed)
    return [label(cut.X) for cut in cuts]


def out_of_time(
    cuts: Sequence[Cut], labels: Sequence[IntArray], seed: int
) -> OutOfTime:
    """Judge labels of the shops at all cuts by the outcomes after each.

    Parameters
    ----------
    cuts : sequence of Cut
        From `looking_back`.
    labels : sequence of ndarray of int
        One array per cut, as of `labels_over_time`; -1 is a group of its own.
    seed : int
        Of the folds; with the same seed two recipes are compared on the same folds.
    """
    codes, n_shops = shop_codes(cuts)
    influence = np.zeros(n_shops)
    by_cut, shares = {}, []
    for cut, code, own in zip(cuts, codes, labels, strict=True):
        losses = BeyondSize(cut.outcomes, cut.size, seed).losses(own)
        by_cut[cut.as_of] = summarise(losses)
        for part in losses:
            shares.append(part.beyond)
            influence[code[part.rows]] += part.influence()
    if not shares:
        return OutOfTime(0.0, float("inf"), by_cut)
    influence /= len(shares)
    error = float(np.sqrt(influence @ influence))
    return OutOfTime(float(np.mean(shares)), error, by_cut, influence)


def shop_codes(cuts: Sequence[Cut]) -> tuple[list[IntArray], int]:
    """Return the shops of each cut as positions among all shops, and their number."""
    everyone = pl.concat([cut.shop_id for cut in cuts]).unique().sort()
    places = pl.DataFrame({"shop_id": everyone}).with_row_index("code")
    codes = [
        cut.shop_id.to_frame("shop_id")
        .join(places, on="shop_id", how="left", maintain_order="left")["code"]
        .cast(pl.Int64)
        .to_numpy()
        for cut in cuts
    ]
    return codes, len(everyone)
