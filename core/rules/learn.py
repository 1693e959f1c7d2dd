"""Rules learnt from a table: a small tree towards a target, as a rule set.

Whoever is in a leaf of the tree is in one segment, so the rules cover every customer
exactly once. What they are worth is told on customers that they were not learnt from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.errors import EligibilityError, SchemaError, did_you_mean, listed
from core.rules.check import require_proven
from core.rules.compile import assign_expr
from core.rules.conditions import Node, Or
from core.rules.fidelity import Score, scores, two_decimals
from core.rules.grammar import RuleSegment, RuleSet
from core.rules.matrix import Columns, columns_of, is_text, names_of, without_nan
from core.rules.tree import (
    Branch,
    FloatArray,
    TreeLimits,
    grow_tree,
    is_class,
    joined,
    leaves_of,
    smallest_size,
)

MAX_LEAVES = 10
"""Or twice the number of classes."""
MIN_LEAF = 5
"""Or 1% of the customers learnt from."""
MIN_ROWS = 100
MAX_ROWS = 100_000
"""More customers are sampled: a tree of ten leaves does not change with them."""
MAX_CLASSES = 50
_HELD_OUT = 0.25


@dataclass(frozen=True)
class LearnReport:
    """What rules were learnt from, and what they are worth.

    Attributes
    ----------
    target : str
    measure : {'R2', 'balanced accuracy'}
        Of a number (or flag), and of a text.
    n_learnt, n_held_out : int
        Customers whom the rules were learnt from, and whom they were judged on.
    n_without_target, n_not_drawn : int
        Customers left out: without a target, or beyond `MAX_ROWS`.
    scores : dict of str to Score, or None
        ``rules``; ``majority``: the mean, or the largest class, for everybody; and, if
        a column of sizes was named, ``size``: rules learnt from it alone. None where
        the target of all held out is the same.
    size : str or None
        That column.
    left_out : dict of str to str
        Columns that no rule can ask about, with the reason.
    unnamed : tuple of str
        Classes that no rule names: too few are in them, or they are too much like
        others.
    plural : str
        What those are called who were learnt from.
    """

    target: str
    measure: str
    n_learnt: int
    n_held_out: int
    n_without_target: int
    n_not_drawn: int
    scores: Mapping[str, Score] | None
    size: str | None
    left_out: Mapping[str, str]
    unnamed: tuple[str, ...]
    plural: str

    def lines(self) -> list[str]:
        """Return it as sentences; the first two say what the rules are worth."""
        said = [
            f"Learnt from {self.n_learnt:,} {self.plural}; {self.n_held_out:,} others "
            "were held out to judge the rules.",
            self._fidelity(),
        ]
        if self.n_without_target:
            said.append(
                f"{self.n_without_target:,} {self.plural} without `{self.target}` were "
                "left out."
            )
        if self.n_not_drawn:
            said.append(f"{self.n_not_drawn:,} more {self.plural} were not needed.")
        if self.unnamed:
            said.append(f"No rule leads to {listed(self.unnamed)}.")
        reasons = dict.fromkeys(self.left_out.values())
        for reason in reasons:
            names = [name for name, why in self.left_out.items() if why == reason]
            said.append(f"Left out: {listed(names)}; {reason}.")
        return said

    def _fidelity(self) -> str:
        """Return the sentence about what the rules are worth."""
        if self.scores is None:
            return f"All held out have the same `{self.target}`: nothing to judge."
        measure = self.measure[0].upper() + self.measure[1:]
        other = "the mean" if self.measure == "R2" else "the largest"
        parts = [
            f"{measure} on those held out: {self.scores['rules'].text()}",
            f"{other} for all of them {two_decimals(self.scores['majority'].value)}",
        ]
        if self.size is not None:
            parts.append(f"`{self.size}` alone {self.scores['size'].text()}")
        return "; ".join(parts) + "."


@dataclass(frozen=True)
class Learnt:
    """Rules, and the report on them."""

    rules: RuleSet
    report: LearnReport


def learn_rules(
    table: pl.DataFrame,
    target: str,
    features: Sequence[str] | None = None,
    *,
    size: str | None = None,
    plural: str = "customers",
    max_leaves: int | None = None,
    max_depth: int | None = None,
    min_leaf: int | None = None,
    seed: int = 42,
) -> Learnt:
    """Learn rules that say a target.

    Parameters
    ----------
    table : DataFrame
        A row per customer. Null and NaN are missing, which rules can ask about.
    target : str
        Column to say. Of a number or flag every leaf of the tree is a segment, named
        by the target and its rank (1 has the highest mean); of a text every text is
        one. Customers without it are left out.
    features : sequence of str, optional
        Columns that rules may ask about; by default all but the target.
    size : str, optional
        A column of numbers, to say what it is worth alone.
    plural : str
        What a row stands for, several of them, in the report.
    max_leaves, max_depth, min_leaf : int, optional
        Limits of the tree (see `core.rules.tree.TreeLimits`), which has as many leaves
        as hold on customers not learnt from, one standard error allowed. By default
        `MAX_LEAVES`, any depth, and `MIN_LEAF`.
    seed : int
        Of the customers held out (a quarter), the folds and the bootstrap.

    Returns
    -------
    Learnt

    Raises
    ------
    SchemaError
        If a column is absent, or cannot be a target or the `size`.
    EligibilityError
        If fewer than 100 customers have a target, it is the same for all of them, or no
        column is left to ask about.
    """
    wanted = [c for c in table.columns if c != target] if features is None else features
    kept = list(dict.fromkeys([*wanted, *([size] if size else [])]))
    _require_columns(table, [target, *kept])
    rows = table.select(target, *(name for name in kept if name != target))
    rows = rows.with_columns(_without_nothing(rows[target])).drop_nulls(target)
    n_target = rows.height
    # Sorted first: the order in which customers come must not count.
    rows = rows.sort(pl.all()).sample(min(n_target, MAX_ROWS), seed=seed, shuffle=True)
    y, classes = _target_of(rows[target])
    # Of all customers, those without a target too: the rules are for everybody.
    asked = columns_of(table.select(name for name in wanted if name != target))
    if not asked.columns:
        reasons = "; ".join(f"`{n}`: {why}" for n, why in asked.left_out.items())
        raise EligibilityError(f"no column is left to ask about. {reasons}")
    n_out = int(rows.height * _HELD_OUT)
    own, held_out = y[n_out:], y[:n_out]
    limits = TreeLimits(
        max_leaves or max(MAX_LEAVES, 2 * len(classes)),
        max_depth,
        min_leaf or max(MIN_LEAF, len(own) // 100),
    )
    X = asked.matrix(rows[n_out:])
    branches = _grown(X, own, limits, seed)
    rules, values = _rule_set(branches, asked, X, own, target, classes)
    named = rows[:n_out].select(assign_expr(rules, pl))
    said = {
        "rules": np.array([values[name] for name in named["segment"]], dtype=y.dtype),
        "majority": np.full(n_out, _majority(own)),
    }
    if size is not None:
        sizes = _size_column(rows[size])
        alone = _grown(sizes[n_out:], own, limits, seed)
        said["size"] = _said(alone, sizes[:n_out], y.dtype)
    report = LearnReport(
        target=target,
        measure="balanced accuracy" if classes else "R2",
        n_learnt=len(own),
        n_held_out=n_out,
        n_without_target=table.height - n_target,
        n_not_drawn=n_target - rows.height,
        scores=scores(said, held_out, seed),
        size=size,
        left_out=asked.left_out,
        unnamed=tuple(name for name in classes if name not in values),
        plural=plural,
    )
    return Learnt(replace(rules, description=" ".join(report.lines()[:2])), report)


def _size_column(column: pl.Series) -> FloatArray:
    """Return the sizes as a matrix of one column, NaN where missing."""
    if not column.dtype.is_numeric():
        raise SchemaError(f"`{column.name}` is {column.dtype}; a size is a number.")
    numbers = column.cast(pl.Float64).fill_null(math.nan)
    return numbers.to_numpy().reshape(-1, 1)


def _require_columns(table: pl.DataFrame, names: Iterable[str]) -> None:
    for name in names:
        if name not in table.columns:
            raise SchemaError(
                f"the table has no column `{name}`; expected one of "
                f"{listed(table.columns, 20)}.{did_you_mean(name, table.columns)}"
            )


def _without_nothing(column: pl.Series) -> pl.Series:
    """Return a target with null for NaN and for an empty text, which names nothing."""
    if not is_text(column.dtype):
        return without_nan(column)
    texts = column.cast(pl.String)
    return texts.set(texts.str.strip_chars() == "", None)


def _target_of(column: pl.Series) -> tuple[NDArray[Any], list[str]]:
    """Return a target as numbers, and its classes if it is a text."""
    name, n_values = f"`{column.name}`", column.n_unique()
    if len(column) < MIN_ROWS:
        raise EligibilityError(
            f"{len(column):,} customers have {name}; expected {MIN_ROWS} at least."
        )
    if n_values < 2:
        raise EligibilityError(f"{name} has one value only: nothing to learn.")
    if is_text(column.dtype):
        if n_values > MAX_CLASSES:
            raise SchemaError(
                f"{name} has {n_values:,} different texts; expected {MAX_CLASSES} at "
                "most, or a number."
            )
        classes = sorted(column.unique())
        codes = {text: code for code, text in enumerate(classes)}
        return column.replace_strict(codes, return_dtype=pl.Int64).to_numpy(), classes
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise SchemaError(f"{name} is {column.dtype}; expected numbers or texts.")
    numbers = column.cast(pl.Float64)
    if numbers.is_infinite().any():
        raise SchemaError(f"{name} holds infinite values; expected finite ones.")
    return numbers.to_numpy(), []


def _grown(
    X: FloatArray, y: NDArray[Any], limits: TreeLimits, seed: int
) -> list[Branch]:
    """Return the branches of the smallest tree that holds on customers held out."""
    n_leaves = smallest_size(X, y, limits, seed)
    if n_leaves == 1:
        return [Branch((), _majority(y))]
    tree = grow_tree(X, y, replace(limits, max_leaves=n_leaves), seed)
    branches = leaves_of(tree, X, names_of(X))
    return joined(branches) if is_class(y) else branches


def _said(branches: Sequence[Branch], X: FloatArray, dtype: Any) -> NDArray[Any]:
    """Return what a tree says of customers."""
    said = np.empty(len(X), dtype=dtype)
    for branch in branches:
        said[branch.holds(X, names_of(X))] = branch.value
    return said


def _majority(y: NDArray[Any]) -> float:
    """Return what says most without a rule: the largest class, or the mean."""
    return int(np.bincount(y).argmax()) if is_class(y) else float(y.mean())


def _either(conditions: Sequence[Node]) -> Node:
    """Return one condition for several, without an *or* in an *or*."""
    parts: list[Node] = []
    for condition in conditions:
        parts += condition.any if isinstance(condition, Or) else (condition,)
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def _rule_set(
    branches: Sequence[Branch],
    columns: Columns,
    X: FloatArray,
    y: NDArray[Any],
    target: str,
    classes: Sequence[str],
) -> tuple[RuleSet, dict[str, float]]:
    """Return the rules of a tree, and what each of their segments says."""
    if classes:
        by_value: dict[float, str] = dict(enumerate(classes))
    else:
        means = sorted({branch.value for branch in branches}, reverse=True)
        by_value = {mean: f"{target}_{i}" for i, mean in enumerate(means, start=1)}
    segments = []
    for value in sorted({b.value for b in branches}, reverse=not classes):
        own = [branch for branch in branches if branch.value == value]
        meets = np.any([b.holds(X, names_of(X)) for b in own], axis=0)
        asked = [columns.condition(branch) for branch in own]
        if classes:
            said = f"{(y[meets] == value).mean():.0%} of them are in it"
        else:
            said = f"mean `{target}` {value:.4g}"
        segments.append(
            RuleSegment(
                name=by_value[value],
                when=_either(asked),
                description=f"Learnt from {int(meets.sum()):,}: {said}",
            )
        )
    used = {leaf.feature for segment in segments for leaf in segment.when.leaves()}
    asked_about = [f for f in columns.features.values() if f.name in used]
    features = tuple(asked_about or columns.features.values())
    rules = RuleSet(f"rules for {target}", features, tuple(segments))
    return require_proven(rules), {by_value[b.value]: b.value for b in branches}
