"""A few plain rules that imitate the segments, and how well they do.

The segments are made in a space that nobody can look into. A small decision tree on the
features themselves says nearly the same in sentences, for those who have to act without
the model; its fidelity says how nearly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from core.entities import Entity
from core.rules.tree import (
    N_FOLDS,
    Branch,
    FloatArray,
    IntArray,
    Interval,
    TreeLimits,
    fold_numbers,
    grow_tree,
    joined,
    leaves_of,
)

UNASSIGNED = -1


@dataclass(frozen=True)
class SegmentRule:
    """One leaf of the tree, as a sentence.

    Attributes
    ----------
    conditions : tuple of Interval
        All of them have to hold; none means every entity.
    segment : int
        What an entity is called that meets them.
    n_entities : int
        Entities of the training data that meet them.
    purity : float
        Share of those that are in that segment, 0 to 1.
    """

    conditions: tuple[Interval, ...]
    segment: int
    n_entities: int
    purity: float

    def text(
        self, names: Mapping[int, str], has_unknown: Mapping[str, bool], entity: Entity
    ) -> str:
        """Return the rule as a sentence.

        Parameters
        ----------
        names : mapping of segment to its name
        has_unknown : mapping of feature to bool
            Whether there are entities for which it is unknown; only then the sentence
            says where they belong.
        entity : Entity
            Its words.
        """
        parts = []
        for asked in self.conditions:
            is_open = asked.takes_unknown and has_unknown[asked.feature]
            is_open &= asked.is_bounded
            parts.append(asked.text() + (" (or unknown)" if is_open else ""))
        premise = " and ".join(parts) or f"every {entity.noun}"
        return (
            f"{premise} -> {names[self.segment]}, {self.n_entities:,} {entity.plural}, "
            f"{self.purity:.0%} of them"
        )


@dataclass(frozen=True)
class Surrogate:
    """Rules that imitate a segmentation.

    Attributes
    ----------
    rules : tuple of SegmentRule
        At most 10; every entity meets exactly one. Largest segment first.
    accuracy, balanced_accuracy : float or None
        Share of entities for which rules learnt from four fifths of the others say the
        published segment; the balanced one is the mean of the segments' own shares.
        None where there are too few entities to hold some out.
    largest_share : float
        Share of the largest segment: the accuracy of saying always that.
    chance : float
        1 / number of segments: the balanced accuracy of the same.
    n_entities : int
        Entities with a segment; the others are left out of all figures.
    n_unassigned : int
        Entities without one.
    """

    rules: tuple[SegmentRule, ...]
    accuracy: float | None
    balanced_accuracy: float | None
    largest_share: float
    chance: float
    n_entities: int
    n_unassigned: int

    def facts(self) -> dict[str, Any]:
        """Return the figures without the rules, ready for JSON and for the report."""
        names = ("accuracy", "balanced_accuracy", "largest_share", "chance")
        counts = ("n_entities", "n_unassigned")
        facts = {name: getattr(self, name) for name in (*names, *counts)}
        return facts | {"n_rules": len(self.rules)}


def fit_surrogate(
    table: pl.DataFrame, segments: IntArray, features: Sequence[str], seed: int
) -> Surrogate | None:
    """Learn at most ten rules that imitate segments.

    Parameters
    ----------
    table : DataFrame
        One row per entity with the `features`, in their own units; null is unknown.
    segments : ndarray of int, shape (n_entities,)
        Published segment of each; entities with -1 (in none) are left out.
    features : sequence of str
    seed : int
        Of the folds, and of ties between equally good splits.

    Returns
    -------
    Surrogate or None
        None where no entity has a segment.

    Notes
    -----
    A decision tree (Breiman and others, 1984) grown best-first to ten leaves of at
    least five entities; neighbouring leaves that say the same are joined.
    """
    is_in = segments != UNASSIGNED
    if not is_in.any():
        return None
    X = table.select(pl.col(features).cast(pl.Float64)).to_numpy()[is_in]
    y = segments[is_in]
    tree = grow_tree(X, y, TreeLimits(), seed)
    leaves = joined(leaves_of(tree, X, features))
    rules = [_counted(leaf, X, y, features) for leaf in leaves]
    shares = np.unique(y, return_counts=True)[1] / len(y)
    accuracy, balanced = _fidelity(X, y, seed)
    order = {int(s): i for i, s in enumerate(np.unique(y)[np.argsort(-shares)])}
    rules.sort(key=lambda rule: (order[rule.segment], -rule.n_entities))
    return Surrogate(
        rules=tuple(rules),
        accuracy=accuracy,
        balanced_accuracy=balanced,
        largest_share=float(shares.max()),
        chance=1 / len(shares),
        n_entities=len(y),
        n_unassigned=int((~is_in).sum()),
    )


def rule_table(surrogate: Surrogate, names: Mapping[int, str]) -> pl.DataFrame:
    """Return the conditions of all rules with their exact bounds.

    Returns
    -------
    DataFrame
        One row per rule (numbered from 1) and feature: ``rule, segment, segment_name,
        n_entities, purity, feature, above, up_to`` (null: no bound), ``takes_unknown``;
        a rule without a condition has null there.
    """
    rows = []
    for number, rule in enumerate(surrogate.rules, start=1):
        head = (number, rule.segment, names[rule.segment], rule.n_entities, rule.purity)
        for c in rule.conditions:
            bounds = [b if math.isfinite(b) else None for b in (c.low, c.high)]
            rows.append((*head, c.feature, *bounds, c.takes_unknown))
        if not rule.conditions:
            rows.append((*head, None, None, None, None))
    return pl.DataFrame(rows, schema=_RULE_SCHEMA, orient="row")


_RULE_SCHEMA: dict[str, Any] = {
    "rule": pl.Int64,
    "segment": pl.Int64,
    "segment_name": pl.String,
    "n_entities": pl.Int64,
    "purity": pl.Float64,
    "feature": pl.String,
    "above": pl.Float64,
    "up_to": pl.Float64,
    "takes_unknown": pl.Boolean,
}


def _fidelity(
    X: FloatArray, y: IntArray, seed: int
) -> tuple[float | None, float | None]:
    """Return accuracy and balanced accuracy on entities held out, fold by fold."""
    if len(y) < 2 * N_FOLDS:
        return None, None
    fold = fold_numbers(len(y), seed)
    said = np.empty_like(y)
    for number in range(N_FOLDS):
        is_out = fold == number
        tree = grow_tree(X[~is_out], y[~is_out], TreeLimits(), seed)
        said[is_out] = tree.predict(X[is_out])
    is_right = said == y
    own = [float(is_right[y == segment].mean()) for segment in np.unique(y)]
    return float(is_right.mean()), float(np.mean(own))


def _counted(
    leaf: Branch, X: FloatArray, y: IntArray, features: Sequence[str]
) -> SegmentRule:
    meets = leaf.holds(X, features)
    n, segment = int(meets.sum()), int(leaf.value)
    purity = float((y[meets] == segment).mean()) if n else 0.0
    return SegmentRule(leaf.conditions, segment, n, purity)
