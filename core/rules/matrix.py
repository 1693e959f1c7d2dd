"""Features of customers as a matrix that a tree can be grown on, and back as rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from core.rules.conditions import And, IsMissing, Node, Not, OneOf, Or, Range
from core.rules.syntax import NUMERIC, Feature
from core.rules.tree import Branch, FloatArray, Interval

MAX_LEVELS = 20
"""A text with more different values is an id or a comment."""
# scikit-learn's trees compare in single precision.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Columns:
    """What a tree can ask of customers, as columns of numbers.

    Attributes
    ----------
    columns : tuple of (Feature, str or None)
        A number, a flag as 0 and 1, or whether a text is this level.
    left_out : dict of str to str
        Columns of the table that are no features, with the reason.
    """

    columns: tuple[tuple[Feature, str | None], ...]
    left_out: dict[str, str]

    @property
    def features(self) -> dict[str, Feature]:
        """The features by name."""
        return {feature.name: feature for feature, _ in self.columns}

    def matrix(self, rows: pl.DataFrame) -> FloatArray:
        """Return customers as a matrix, shape (n_customers, n_columns).

        NaN is a missing number or flag; a missing text is none of the levels.
        """
        found = [
            without_nan(rows[feature.name]).cast(pl.Float64).fill_null(math.nan)
            if level is None
            else (rows[feature.name].cast(pl.String) == level)
            .fill_null(False)
            .cast(pl.Float64)
            for feature, level in self.columns
        ]
        return np.column_stack([column.to_numpy() for column in found])

    def condition(self, branch: Branch) -> Node:
        """Return what leads to a leaf as a condition over the features."""
        asked: list[Node] = []
        without: dict[str, list[str]] = {}
        for interval in branch.conditions:
            feature, level = self.columns[int(interval.feature)]
            if level is None:
                asked.append(_asked_of(feature, interval))
            elif math.isfinite(interval.low):
                asked.append(OneOf(feature.name, (level,)))
            else:
                without.setdefault(feature.name, []).append(level)
        asked += [Not(OneOf(name, tuple(own))) for name, own in without.items()]
        return asked[0] if len(asked) == 1 else And(tuple(asked))


def names_of(X: FloatArray) -> list[str]:
    """Return what branches call the columns of a matrix: their numbers."""
    return [str(column) for column in range(X.shape[1])]


def _asked_of(feature: Feature, interval: Interval) -> Node:
    """Return an interval of a number or flag as a condition."""
    is_missing = IsMissing(feature.name)
    if not interval.is_bounded:
        return is_missing if interval.takes_unknown else Not(is_missing)
    asked: Node = Range(feature.name, interval.low, interval.high)
    if feature.type == "flag":
        asked = OneOf(feature.name, (math.isfinite(interval.low),))
    takes_missing = interval.takes_unknown and feature.missing is not None
    return Or((asked, is_missing)) if takes_missing else asked


def columns_of(table: pl.DataFrame) -> Columns:
    """Return what a tree can ask of the customers of a table.

    Parameters
    ----------
    table : DataFrame
        A row per customer. Numbers, flags (also 0 and 1), and texts of at most
        `MAX_LEVELS` values are taken.
    """
    columns: list[tuple[Feature, str | None]] = []
    left_out: dict[str, str] = {}
    for received in table.iter_columns():
        column = without_nan(received)
        reason = _unfit(column)
        if reason is not None:
            left_out[column.name] = reason
            continue
        feature, levels = _feature(column), [None]
        if feature.type == "text":
            levels = sorted(column.cast(pl.String).drop_nulls().unique())
        columns += [(feature, level) for level in levels]
    return Columns(tuple(columns), left_out)


def _unfit(column: pl.Series) -> str | None:
    """Return why a column can be no feature."""
    n_values = column.drop_nulls().n_unique()
    is_number = column.dtype.is_numeric()
    if "`" in column.name:
        return "a name with a backtick"
    if n_values + (column.null_count() > 0) < 2:
        return "one value only"
    if is_text(column.dtype) and n_values > MAX_LEVELS:
        return f"{n_values:,} different texts, more than {MAX_LEVELS}"
    if not is_text(column.dtype) and not is_number and column.dtype != pl.Boolean:
        return f"{column.dtype.base_type()} is no number, flag or text"
    if is_number and (column.cast(pl.Float64).abs() > _LARGEST).any():
        return "numbers that are too large"
    return None


def _feature(column: pl.Series) -> Feature:
    known, n_missing = column.drop_nulls(), column.null_count()
    kind = _type_of(known)
    return Feature(
        column.name,
        kind,
        low=0.0 if kind in NUMERIC and (known >= 0).all() else -math.inf,
        missing=f"not known of {n_missing:,} of {len(column):,}" if n_missing else None,
    )


def _type_of(known: pl.Series) -> Literal["integer", "number", "flag", "text"]:
    if is_text(known.dtype):
        return "text"
    if known.dtype == pl.Boolean or ((known == 0) | (known == 1)).all():
        return "flag"
    return "integer" if known.dtype.is_integer() else "number"


def without_nan(column: pl.Series) -> pl.Series:
    """Return a column with null for NaN."""
    return column.fill_nan(None) if column.dtype.is_float() else column


def is_text(dtype: pl.DataType) -> bool:
    """Whether a column holds texts or categories."""
    return dtype in {pl.String, pl.Categorical, pl.Enum}
