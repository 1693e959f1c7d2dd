"""Amounts in whole millionths: their sums are the same in any order of the rows."""

from __future__ import annotations

from collections.abc import Iterable

import narwhals as nw
import polars as pl

MILLIONTHS = 1_000_000


def millionths(name: str) -> nw.Expr:
    """Return an amount or quantity in whole millionths, for frames of any engine.

    A sum may reach 9.2e12 units, far above what intake lets through. Ties go to the
    even number, which rounding does in Polars and not in DuckDB or Spark.
    """
    amount = nw.col(name) * MILLIONTHS
    below = amount.floor()
    rest = amount - below
    is_up = (rest > 0.5) | ((rest == 0.5) & (below % 2 != 0))
    return below.cast(nw.Int64) + is_up.cast(nw.Int64)


def polars_millionths(name: str) -> pl.Expr:
    """Return the same for frames of Polars."""
    return (pl.col(name) * MILLIONTHS).round().cast(pl.Int64)


def compensated_sum(values: Iterable[float]) -> float:
    """Return the sum of floats, the error of each step made good, as Polars adds.

    Kahan's method (1965, Comm. ACM 8(1), p. 40).
    """
    total = error = 0.0
    for value in values:
        step = value - error
        reached = total + step
        total, error = reached, (reached - total) - step
    return total
