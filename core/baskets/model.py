"""The saved model of the basket segments: a rule set with its thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from core.baskets.files import FILES
from core.rules.check import require_proven
from core.rules.grammar import RuleSet
from core.segments.rule_axis import (
    SEGMENT,
    RuleAssigner,
    RuleModel,
    rule_axis,
    segment_names,
)


@dataclass(frozen=True, kw_only=True)
class BasketsAssigner(RuleAssigner):
    """A versioned model of the basket segments: one axis, `segment`."""

    files = FILES
    figures = (
        "total_orders",
        "freq_score",
        "loyalty_score",
        "mean_days_between_orders",
        "reorder_ratio",
        "avg_basket_size",
        "unique_products",
    )

    def segments(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return the segment of each customer with the features it rests on.

        Parameters
        ----------
        features : DataFrame
            ``customer_id`` and what the rules ask for.

        Returns
        -------
        DataFrame
            ``customer_id``, ``segment_id`` (-1: no rule holds), ``segment`` and the
            features of the rules; row by row as `features`.
        """
        ids = self.model.assign(features)[SEGMENT].labels
        names = self.model.names[SEGMENT]
        return features.select(
            "customer_id",
            pl.Series("segment_id", ids, dtype=pl.Int32),
            pl.Series("segment", [names[int(i)] for i in ids], dtype=pl.String),
            *(feature.name for feature in self.model.rules.features),
        )


def learn_baskets(
    features: pl.DataFrame,
    rules: RuleSet,
    before: RuleModel | None = None,
    view: pl.DataFrame | None = None,
) -> RuleModel:
    """Settle the thresholds of the rules, and keep the ids and names of before.

    Parameters
    ----------
    features : DataFrame
        A row per customer.
    rules : RuleSet
        Thresholds without a number are learnt from `features`.
    before : RuleModel, optional
        The model whose ids and names live on.
    view : DataFrame, optional
        The same rows as `before` knows them; None: it cannot place them.

    Raises
    ------
    SchemaError
        If a feature is absent, or nobody has a value to learn a threshold from.
    ContractError
        If the settled rules do not put every possible customer into one segment.
    """
    settled = require_proven(rules.settle(features))
    names = segment_names(settled, features)
    known = None if before is None else before.axes[SEGMENT]
    old = None
    if before is not None and view is not None:
        old = before.assign(view)[SEGMENT].labels
    axis = rule_axis(settled, names, known, old)
    return RuleModel([axis], {"rules": settled.to_yaml()})
