"""Formulas over columns, written once: for queries, and for one customer in NumPy.

An `Expression` is a function of columns. Handed columns of Narwhals or Polars it is a
part of a query over the rows of millions of customers. Handed arrays it is computed at
once: of one customer's rows, in a twentieth of the time that the query takes. What is
null in a query is NaN in an array.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from core.tables.exact import MILLIONTHS

Columns = Mapping[str, Any]


def _applied(function: Callable[..., Any], *values: Any) -> Expression:
    """Return the expression of a function of values, those of columns among them."""
    steps = [v.compute if isinstance(v, Expression) else _constant(v) for v in values]

    def compute(columns: Columns) -> Any:
        return function(*[step(columns) for step in steps])

    return Expression(compute)


def _constant(value: Any) -> Callable[[Columns], Any]:
    return lambda columns: value


class Expression:
    """A value for each row, computed of the row's columns.

    Parameters
    ----------
    compute : callable
        Returns the values of given columns.
    """

    def __init__(self, compute: Callable[[Columns], Any]) -> None:
        self.compute = compute

    def __call__(self, columns: Columns) -> Any:
        """Return the values: an expression of the columns' library, or an array."""
        return self.compute(columns)

    def __add__(self, other: Any) -> Expression:
        return _applied(operator.add, self, other)

    def __radd__(self, other: Any) -> Expression:
        return _applied(operator.add, other, self)

    def __sub__(self, other: Any) -> Expression:
        return _applied(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Expression:
        return _applied(operator.sub, other, self)

    def __mul__(self, other: Any) -> Expression:
        return _applied(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Expression:
        return _applied(operator.mul, other, self)

    def __truediv__(self, other: Any) -> Expression:
        # As Polars divides by a constant; others and NumPy would differ in a last bit.
        if isinstance(other, int | float):
            return self * (1 / other)
        return _applied(operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return _applied(operator.truediv, other, self)

    def __floordiv__(self, other: Any) -> Expression:
        return _applied(operator.floordiv, self, other)

    def __lt__(self, other: Any) -> Expression:
        return _applied(operator.lt, self, other)

    def __le__(self, other: Any) -> Expression:
        return _applied(operator.le, self, other)

    def __gt__(self, other: Any) -> Expression:
        return _applied(operator.gt, self, other)

    def __ge__(self, other: Any) -> Expression:
        return _applied(operator.ge, self, other)

    def __and__(self, other: Any) -> Expression:
        return _applied(operator.and_, self, other)

    def __or__(self, other: Any) -> Expression:
        return _applied(operator.or_, self, other)

    def __invert__(self) -> Expression:
        return _applied(operator.invert, self)


class FrameColumns(dict[str, nw.Expr]):
    """The columns of any frame, as expressions of Narwhals."""

    def __missing__(self, name: str) -> nw.Expr:
        """Return a column."""
        return nw.col(name)


class PolarsColumns(dict[str, pl.Expr]):
    """The columns of a Polars frame."""

    def __missing__(self, name: str) -> pl.Expr:
        """Return a column."""
        return pl.col(name)


FRAME = FrameColumns()
POLARS = PolarsColumns()


def col(name: str) -> Expression:
    """Return a column by its name."""
    return Expression(lambda columns: columns[name])


def when(condition: Expression, value: Any, otherwise: Any = None) -> Expression:
    """Return a value where a condition holds, else the other (None: null)."""
    return _applied(_when, condition, value, otherwise)


def equal(one: Expression, other: Any) -> Expression:
    """Return whether values are equal; null is equal to nothing."""
    return _applied(_equal, one, other)


def is_null(value: Expression) -> Expression:
    """Return whether a text is null."""
    return _applied(
        lambda v: v.is_null() if _library(v) else v == np.array(None), value
    )


def as_float(value: Expression) -> Expression:
    """Return whole numbers as Float64."""

    def cast(given: Any) -> Any:
        if library := _library(given):
            return given.cast(library.Float64)
        return np.asarray(given, np.float64)[()]

    return _applied(cast, value)


def log(value: Expression) -> Expression:
    """Return the natural logarithm."""
    # NumPy's own differs in the last bit from that of Polars and the C library.
    return _applied(lambda v: v.log() if _library(v) else _log(v), value)


def at_least(value: Expression, bound: float) -> Expression:
    """Return the value, raised to a bound; null stays null."""
    return _applied(
        lambda v: v.clip(lower_bound=bound) if _library(v) else np.maximum(v, bound),
        value,
    )


def at_most(value: Expression, bound: float) -> Expression:
    """Return the value, lowered to a bound; null stays null."""
    return _applied(
        lambda v: v.clip(upper_bound=bound) if _library(v) else np.minimum(v, bound),
        value,
    )


def largest(*values: Expression) -> Expression:
    """Return the largest of several values, null if all are."""

    def choose(*given: Any) -> Any:
        if library := _library(given[0]):
            return library.max_horizontal(*given)
        return np.fmax.reduce(given)

    return _applied(choose, *values)


def total(*values: Expression) -> Expression:
    """Return the sum of whole numbers, 0 without any."""

    def add(*given: Any) -> Any:
        if given and (library := _library(given[0])):
            return library.sum_horizontal(*given)
        return sum(given)

    return _applied(add, *values)


def count_of(condition: Expression) -> Expression:
    """Return 1 where a condition holds and 0 where it does not or is null."""

    def count(holds: Any) -> Any:
        if library := _library(holds):
            return _chosen(library, holds, 1, 0).cast(library.Int64)
        return np.asarray(holds, np.int64)[()]

    return _applied(count, condition)


def whole(value: Expression) -> Expression:
    """Return values rounded to whole numbers, ties to the even one."""

    def rounded(given: Any) -> Any:
        if library := _library(given):
            return given.round().cast(library.Int64)
        return np.rint(given).astype(np.int64)

    return _applied(rounded, value)


def millionths(value: Expression) -> Expression:
    """Return amounts in whole millionths, see `core.tables.exact`."""
    return whole(value * MILLIONTHS)


def _library(value: Any) -> Any:
    """Return what a part of a query is of, Narwhals or Polars; None of an array."""
    if isinstance(value, pl.Expr):
        return pl
    return nw if isinstance(value, nw.Expr) else None


def _when(condition: Any, value: Any, otherwise: Any) -> Any:
    if library := _library(condition):
        return _chosen(library, condition, value, otherwise)
    other = np.nan if otherwise is None else otherwise
    if isinstance(condition, np.bool_):
        return value if condition else other
    return np.where(condition, value, other)


def _chosen(library: Any, condition: Any, value: Any, otherwise: Any) -> Any:
    """Return one of two values in a query; None is null."""
    one, other = (v if _library(v) else library.lit(v) for v in (value, otherwise))
    chosen = library.when(condition).then(one)
    return chosen if otherwise is None else chosen.otherwise(other)


def _equal(one: Any, other: Any) -> Any:
    if isinstance(other, str) and (library := _library(one)):
        other = library.lit(other)
    return one == other


def _log(values: Any) -> Any:
    found = [math.log(v) if v > 0 else math.nan for v in np.ravel(values).tolist()]
    return np.array(found) if np.ndim(values) else np.float64(found[0])
