"""Small decision trees: grown, cut down to what holds, read as intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

N_FOLDS = 5
_NO_CHILD = -1


@dataclass(frozen=True)
class TreeLimits:
    """How large a tree may grow.

    Attributes
    ----------
    max_leaves : int
        At least 2.
    max_depth : int or None
        Questions on the way to a leaf; None: as many as there are leaves for.
    min_leaf : int
        Entities in a leaf at least; a rule that fits fewer is an anecdote.
    """

    max_leaves: int = 10
    max_depth: int | None = None
    min_leaf: int = 5


@dataclass(frozen=True)
class Interval:
    """What the way to a leaf asks of one feature: low < value <= high.

    Attributes
    ----------
    feature : str
    low, high : float
        In the feature's own unit; infinite where there is no bound, both of them inf
        where no known value meets it.
    takes_unknown : bool
        Whether an entity whose value is unknown meets it.
    """

    feature: str
    low: float = -math.inf
    high: float = math.inf
    takes_unknown: bool = True

    def holds(self, values: FloatArray) -> NDArray[np.bool_]:
        """Return which of a feature's values meet the condition; NaN is unknown."""
        known = (values > self.low) & (values <= self.high)
        return np.where(np.isnan(values), self.takes_unknown, known)

    @property
    def is_bounded(self) -> bool:
        """Whether it asks for more than that the value is known, or is not."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    @property
    def is_any(self) -> bool:
        """Whether every value meets it, an unknown one too."""
        return self.takes_unknown and (self.low, self.high) == (-math.inf, math.inf)

    def text(self) -> str:
        """Return the condition as part of a sentence."""
        parts = []
        if math.isfinite(self.low):
            parts.append(f"{self.feature} > {self.low:.4g}")
        if math.isfinite(self.high):
            parts.append(f"{self.feature} <= {self.high:.4g}")
        if not parts:
            parts.append(f"{self.feature} is {'un' * self.takes_unknown}known")
        return " and ".join(parts)


@dataclass(frozen=True)
class Branch:
    """The way to one leaf of a tree.

    Attributes
    ----------
    conditions : tuple of Interval
        All of them have to hold; none means every entity.
    value : int or float
        The class of most entities in it, or their mean.
    """

    conditions: tuple[Interval, ...]
    value: float

    def holds(self, X: FloatArray, features: Sequence[str]) -> NDArray[np.bool_]:
        """Return which rows of a table, shape (n_entities, n_features), are in it."""
        meets = np.ones(len(X), dtype=bool)
        for condition in self.conditions:
            meets &= condition.holds(X[:, features.index(condition.feature)])
        return meets


def grow_tree(X: FloatArray, y: NDArray[Any], limits: TreeLimits, seed: int) -> Any:
    """Grow a tree, the split that gains most first (Breiman and others, 1984).

    Parameters
    ----------
    X : ndarray of float, shape (n_entities, n_features)
        NaN is unknown; a split sends it to the side where it fits better.
    y : ndarray, shape (n_entities,)
        Integers are classes, floats a quantity.
    limits : TreeLimits
    seed : int
        Of ties between equally good splits.

    Returns
    -------
    DecisionTreeClassifier or DecisionTreeRegressor
        Fitted. Its first ``2 k - 1`` nodes are the tree with k leaves.
    """
    # Here, because who only reads rules must not wait for it.
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    kind = DecisionTreeClassifier if is_class(y) else DecisionTreeRegressor
    return kind(
        max_leaf_nodes=limits.max_leaves,
        max_depth=limits.max_depth,
        min_samples_leaf=limits.min_leaf,
        random_state=seed,
    ).fit(X, y)


def is_class(y: NDArray[Any]) -> bool:
    """Whether a target is classes, and not a quantity."""
    return bool(np.issubdtype(y.dtype, np.integer))


def fold_numbers(n_entities: int, seed: int) -> IntArray:
    """Return a fold of each entity, 0 to `N_FOLDS` - 1, drawn at random."""
    return np.random.default_rng(seed).permutation(n_entities) % N_FOLDS


def smallest_size(X: FloatArray, y: NDArray[Any], limits: TreeLimits, seed: int) -> int:
    """Return the fewest leaves whose error is within one standard error of the least.

    Errors are those on entities held out, fold by fold: squared ones of a quantity;
    wrong ones of classes, where every class has the same weight.

    Parameters
    ----------
    X, y, limits, seed
        As `grow_tree` takes them.

    Returns
    -------
    int
        1 where no split helps, or with too few entities to hold some out.
    """
    n_entities = len(y)
    if n_entities < 2 * N_FOLDS:
        return 1
    fold = fold_numbers(n_entities, seed)
    loss = np.empty((limits.max_leaves, n_entities))
    for number in range(N_FOLDS):
        is_out = fold == number
        tree = grow_tree(X[~is_out], y[~is_out], limits, seed)
        said = np.array(_said_by_size(tree, X[is_out], limits.max_leaves))
        loss[:, is_out] = said != y[is_out] if is_class(y) else (said - y[is_out]) ** 2
    if is_class(y):
        _, place, counts = np.unique(y, return_inverse=True, return_counts=True)
        loss *= n_entities / len(counts) / counts[place]
    mean = loss.mean(axis=1)
    best = int(mean.argmin())
    allowed = mean[best] + loss[best].std() / math.sqrt(n_entities)
    return int((mean <= allowed).argmax()) + 1


def _said_by_size(tree: Any, X: FloatArray, max_leaves: int) -> list[NDArray[Any]]:
    """Return what the trees of 1 to `max_leaves` leaves say of entities."""
    state = tree.tree_
    parent = np.zeros(state.node_count, dtype=np.int64)
    for children in (state.children_left, state.children_right):
        is_split = children != _NO_CHILD
        parent[children[is_split]] = np.flatnonzero(is_split)
    values = _values(tree)
    node, said = tree.apply(X), []
    for n_leaves in range(max_leaves, 0, -1):
        node = np.where(node >= 2 * n_leaves - 1, parent[node], node)
        said.append(values[node])
    return said[::-1]


def _values(tree: Any) -> NDArray[Any]:
    """Return what each node says: the class of most, or the mean."""
    value = tree.tree_.value[:, 0]
    if hasattr(tree, "classes_"):
        return np.asarray(tree.classes_[value.argmax(axis=1)])
    return np.asarray(value[:, 0])


def leaves_of(tree: Any, X: FloatArray, features: Sequence[str]) -> list[Branch]:
    """Return the leaves from left to right, with cuts in few digits.

    Parameters
    ----------
    tree
        Of `grow_tree`.
    X : ndarray of float, shape (n_entities, n_features)
        What it was fitted on: no cut moves any of these to another leaf, and where
        all values of a feature are whole numbers, so are its cuts.
    features : sequence of str
    """
    state, values = tree.tree_, _values(tree)
    is_whole = ((X % 1 == 0) | np.isnan(X)).all(axis=0)
    leaves: list[Branch] = []

    def descend(node: int, rows: IntArray, conditions: dict[str, Interval]) -> None:
        left, right = state.children_left[node], state.children_right[node]
        if left == right:
            leaves.append(Branch(tuple(conditions.values()), values[node].item()))
            return
        column = state.feature[node]
        name, own = features[column], X[rows, column]
        known, unknown_left = ~np.isnan(own), bool(state.missing_go_to_left[node])
        # The tree compares in single precision, which keeps the order of values.
        is_left = known & (own.astype(np.float32) <= state.threshold[node])
        cut = plain_cut(
            float(own[is_left].max(initial=-math.inf)),
            float(own[known & ~is_left].min(initial=math.inf)),
            is_whole=bool(is_whole[column]),
        )
        is_left |= ~known & unknown_left
        below, above = _halves(conditions.get(name, Interval(name)), cut, unknown_left)
        descend(left, rows[is_left], conditions | {name: below})
        descend(right, rows[~is_left], conditions | {name: above})

    descend(0, np.arange(len(X)), {})
    return leaves


def _halves(
    before: Interval, cut: float, unknown_left: bool
) -> tuple[Interval, Interval]:
    """Return what a split leaves of an interval on its left and on its right.

    An infinite cut parts the known values from the unknown ones.
    """
    takes = before.takes_unknown
    below = replace(before, high=cut, takes_unknown=takes and unknown_left)
    above = replace(before, low=cut, takes_unknown=takes and not unknown_left)
    unknown = Interval(before.feature, math.inf, math.inf)
    known = replace(before, takes_unknown=False)
    if math.isinf(cut):
        return (unknown, known) if unknown_left else (known, unknown)
    return below, above


def plain_cut(low: float, high: float, *, is_whole: bool = False) -> float:
    """Return the number with the fewest digits that is at least `low` and below `high`.

    With one of them infinite (nothing known lies on that side), that one.

    >>> plain_cut(0.1187, 0.1243), plain_cut(2, 3, is_whole=True), plain_cut(1240, 1810)
    (0.12, 2.0, 1500.0)
    """
    if math.isinf(high) or math.isinf(low):
        return high if math.isinf(high) else low
    middle = low + (high - low) / 2
    for digits in range(17):
        cut = float(f"{middle:.{digits}e}")
        cut = math.floor(cut) if is_whole else cut
        if low <= cut < high:
            return float(cut)
    return low


def joined(branches: Sequence[Branch]) -> list[Branch]:
    """Join branches that say the same but for one shared cut, until there are none."""
    done: list[Branch] = []
    for branch in branches:
        current, place = branch, 0
        while place < len(done):
            union = _union(done[place], current)
            if union is None:
                place += 1
            else:
                done.pop(place)
                current, place = union, 0
        done.append(current)
    return done


def _union(one: Branch, other: Branch) -> Branch | None:
    """Return one branch for two that differ in one shared cut, else None."""
    ours = {c.feature: c for c in one.conditions}
    theirs = {c.feature: c for c in other.conditions}
    if one.value != other.value or set(ours) != set(theirs):
        return None
    differing = [name for name in ours if ours[name] != theirs[name]]
    if len(differing) != 1:
        return None
    a, b = ours[differing[0]], theirs[differing[0]]
    if a.high != b.low and b.high != a.low:
        return None
    ours[a.feature] = Interval(
        a.feature,
        min(a.low, b.low),
        max(a.high, b.high),
        a.takes_unknown or b.takes_unknown,
    )
    return Branch(tuple(c for c in ours.values() if not c.is_any), one.value)
