"""Formulas over columns, written once: for queries, and for one customer in NumPy.

An `Expression` is a function of columns. Handed columns of Narwhals it becomes a part
of a query over the rows of millions of customers. Handed arrays it is computed at once:
of one customer's rows, in a twentieth of the time that the query takes. What is null in
a query is NaN in an array.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import narwhals as nw
import numpy as np

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
        """Return the values: an expression of Narwhals, or an array."""
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


FRAME = FrameColumns()


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

    def compare(given: Any) -> Any:
        return given.is_null() if _is_lazy(given) else given == np.array(None)

    return _applied(compare, value)


def as_float(value: Expression) -> Expression:
    """Return whole numbers as Float64."""
    return _applied(
        lambda v: v.cast(nw.Float64) if _is_lazy(v) else np.asarray(v, np.float64)[()],
        value,
    )


def log(value: Expression) -> Expression:
    """Return the natural logarithm."""
    # NumPy's own differs in the last bit from that of Polars and the C library.
    return _applied(lambda v: v.log() if _is_lazy(v) else _log(v), value)


def at_least(value: Expression, bound: float) -> Expression:
    """Return the value, raised to a bound; null stays null."""
    return _applied(
        lambda v: v.clip(lower_bound=bound) if _is_lazy(v) else np.maximum(v, bound),
        value,
    )


def at_most(value: Expression, bound: float) -> Expression:
    """Return the value, lowered to a bound; null stays null."""
    return _applied(
        lambda v: v.clip(upper_bound=bound) if _is_lazy(v) else np.minimum(v, bound),
        value,
    )


def largest(*values: Expression) -> Expression:
    """Return the largest of several values, null if all are."""

    def choose(*given: Any) -> Any:
        if _is_lazy(given[0]):
            return nw.max_horizontal(*given)
        return np.fmax.reduce(given)

    return _applied(choose, *values)


def total(*values: Expression) -> Expression:
    """Return the sum of whole numbers, 0 without any."""

    def add(*given: Any) -> Any:
        if given and _is_lazy(given[0]):
            return nw.sum_horizontal(*given)
        return sum(given)

    return _applied(add, *values)


def count_of(condition: Expression) -> Expression:
    """Return 1 where a condition holds and 0 where it does not or is null."""

    def count(holds: Any) -> Any:
        if _is_lazy(holds):
            return nw.when(holds).then(nw.lit(1)).otherwise(nw.lit(0)).cast(nw.Int64)
        return np.asarray(holds, np.int64)[()]

    return _applied(count, condition)


def whole(value: Expression) -> Expression:
    """Return values rounded to whole numbers, ties to the even one."""

    def rounded(given: Any) -> Any:
        if _is_lazy(given):
            return given.round().cast(nw.Int64)
        return np.rint(given).astype(np.int64)

    return _applied(rounded, value)


def millionths(value: Expression) -> Expression:
    """Return amounts in whole millionths, see `core.tables.exact`."""
    return whole(value * MILLIONTHS)


def _is_lazy(value: Any) -> bool:
    return isinstance(value, nw.Expr)


def _when(condition: Any, value: Any, otherwise: Any) -> Any:
    if not _is_lazy(condition):
        other = np.nan if otherwise is None else otherwise
        if isinstance(condition, np.bool_):
            return value if condition else other
        return np.where(condition, value, other)
    chosen = nw.when(condition).then(_literal(value))
    return chosen if otherwise is None else chosen.otherwise(_literal(otherwise))


def _literal(value: Any) -> nw.Expr:
    return value if _is_lazy(value) else nw.lit(value)


def _equal(one: Any, other: Any) -> Any:
    return one == (nw.lit(other) if isinstance(other, str) and _is_lazy(one) else other)


def _log(values: Any) -> Any:
    found = [math.log(v) if v > 0 else math.nan for v in np.ravel(values).tolist()]
    return np.array(found) if np.ndim(values) else np.float64(found[0])
