"""Rules learnt towards several quantities at once, with cuts at round numbers.

A small tree parts entities so that what they did later differs most between its leaves
(a regression tree of several outputs; De'ath, 2002). Values are seen on a grid of round
steps, some twenty to the spread of a feature, so that no cut has more digits than tell
anything, and none hangs on a single entity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from core.rules.grammar import RuleSegment, RuleSet
from core.rules.matrix import Columns, names_of
from core.rules.syntax import Feature
from core.rules.tree import FloatArray, TreeLimits, grow_tree, leaves_of

STEPS = 20
"""Steps of the grid to the distance of a feature's 10th and 90th percentiles."""
UNKNOWN = "not known"


def rules_towards(
    X: FloatArray,
    Y: FloatArray,
    features: Sequence[str],
    n_segments: int,
    min_leaf: int,
    seed: int,
) -> RuleSet | None:
    """Learn rules that part entities by what they did later.

    Parameters
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        Features, unscaled; NaN where unknown, which goes to the side where it fits
        better.
    Y : ndarray of float64, shape (n_entities, n_outcomes)
        Quantities of one spread, without NaN.
    features : sequence of str
        Names of the columns of `X`.
    n_segments : int
        Leaves of the tree, at least 2.
    min_leaf : int
        Entities in a leaf at least.
    seed : int
        Of ties between equally good cuts.

    Returns
    -------
    RuleSet or None
        A rule per leaf, which together hold everybody exactly once, also where values
        are unknown; None where no tree of so many leaves grows.
    """
    seen = _on_grid(X)
    tree = grow_tree(seen, Y, TreeLimits(n_segments, None, min_leaf), seed)
    branches = leaves_of(tree, seen, names_of(seen))
    if len(branches) < n_segments:
        return None
    asked = tuple(Feature(name, "number", missing=UNKNOWN) for name in features)
    columns = Columns(tuple((feature, None) for feature in asked), {})
    segments = tuple(
        RuleSegment(f"rule {number}", columns.condition(branch))
        for number, branch in enumerate(branches, start=1)
    )
    used = {leaf.feature for segment in segments for leaf in segment.when.leaves()}
    kept = tuple(feature for feature in asked if feature.name in used)
    return RuleSet("rules towards what came after", kept, segments)


def _on_grid(X: FloatArray) -> FloatArray:
    """Return values, each raised to the next multiple of its feature's round step."""
    columns = []
    for column in X.T:
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, (0.1, 0.9)) if len(known) else (0.0, 0.0)
        step = _round_step(float(high - low) / STEPS)
        columns.append(column if step == 0 else np.ceil(column / step - 1e-9) * step)
    return np.column_stack(columns)


def _round_step(width: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten up to a width; 0 for 0.

    >>> _round_step(0.037), _round_step(7.0)
    (0.02, 5.0)
    """
    if not width > 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(width))
    return max(k * power for k in (1.0, 2.0, 5.0) if k * power <= width * (1 + 1e-9))
