"""Received cells of orders and items to values of ours, and each row's own faults.

One pass of expressions, the same for a file of a million rows and for the records of
one request. What cannot be read becomes null and a mark; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from core.data import cells
from core.data.csvfile import BEYOND
from core.data.purchases_columns import ORDERS, TableSpec
from core.data.purchases_marks import BITS, MARKS, ROW
from core.data.purchases_moments import read_moment

UNKNOWN = "unknown"
LARGEST = 1e9
FIRST_YEAR, LAST_YEAR = 1900, 2199


def read_cells(
    schema: pl.Schema,
    received: Mapping[str, str],
    spec: TableSpec,
    *,
    decimal_comma: bool = False,
    date_format: str | None = None,
) -> tuple[list[pl.Expr], list[pl.Expr]]:
    """Return the expressions that read a table, in two steps.

    Parameters
    ----------
    schema : polars.Schema
        Columns as received.
    received : mapping of str to str
        Our name: the name as received.
    spec : TableSpec
        Which table it is.
    decimal_comma : bool
        Whether a comma in a number typed as text is its decimal mark.
    date_format : str or None
        strptime format of dates typed as text; None: ISO 8601, or epoch numbers.

    Returns
    -------
    list of polars.Expr, list of polars.Expr
        To be selected one after the other; `ROW` must be there. The result has `ROW`,
        our columns (String, Datetime("us"), Float64) and `MARKS`, a UInt32 with a bit
        of `BITS` for each fault and repair.
    """
    first: list[pl.Expr] = [pl.col(ROW)]
    for ours, name in received.items():
        kind, dtype = spec[ours].kind, schema[name]
        if kind == "id":
            text = cells.id_text(name, dtype)
            first += [
                text.alias(ours),
                cells.is_float_text(text).alias(f"float_{ours}"),
            ]
        elif kind == "moment":
            moment, has_offset = read_moment(name, dtype, date_format)
            first += [moment.alias(ours), has_offset.alias("has_offset")]
        elif kind == "number":
            value = cells.as_float(name, dtype, decimal_comma=decimal_comma)
            first += [value.alias(ours), _is_given(name, dtype).alias(f"given_{ours}")]
        else:
            first.append(cells.plain_text(name, dtype).alias(ours))
    first.append(_is_ragged(schema))
    return first, _second_step(received, spec)


def _second_step(received: Mapping[str, str], spec: TableSpec) -> list[pl.Expr]:
    """Return our columns with unusable cells null, and the marks."""
    values = [_value(ours, spec) for ours in received if spec[ours].is_required]
    values += [_value(ours, spec) for ours in received if not spec[ours].is_required]
    marks = _order_marks(received) if spec is ORDERS else _item_marks(received)
    ids = [f"float_{ours}" for ours in received if spec[ours].kind == "id"]
    marks["float_id"] = pl.any_horizontal(ids)
    marks["ragged_line"] = pl.col("is_ragged")
    bits = [
        is_found.fill_null(value=False).cast(pl.UInt32) * BITS[spec.name][name]
        for name, is_found in marks.items()
    ]
    return [pl.col(ROW), *values, pl.sum_horizontal(bits).cast(pl.UInt32).alias(MARKS)]


def _value(ours: str, spec: TableSpec) -> pl.Expr:
    """Return one of our columns as it is kept."""
    column, kind = pl.col(ours), spec[ours].kind
    if kind == "id":
        return cells.mended_id(column, pl.col(f"float_{ours}")).alias(ours)
    if kind == "moment":
        return pl.when(_is_possible(column)).then(column).alias(ours)
    if kind == "text":
        known = pl.when(~_is_nothing(ours)).then(column).otherwise(pl.lit(UNKNOWN))
        # Channels are a vocabulary: `Web` and `web` are one. Categories are names.
        return (known.str.to_lowercase() if ours == "source" else known).alias(ours)
    if spec[ours].is_required:
        return pl.when(_is_usable(column)).then(cells.finite(column)).alias(ours)
    # An empty discount or refund is none; so is one that cannot be meant (counted).
    usable = _is_usable(column) & (column > 0)
    return pl.when(usable).then(column).otherwise(0.0).alias(ours)


def _order_marks(received: Mapping[str, str]) -> dict[str, pl.Expr]:
    """Return what an order row shows by itself."""
    marks = {
        "missing_customer": _is_nothing("customer_id"),
        "missing_order": _is_nothing("order_id"),
        "impossible_date": ~_is_possible(pl.col("order_date")),
        "invalid_total": ~_is_usable(pl.col("total_price")),
        "with_offset": pl.col("has_offset"),
    }
    if "discount_amount" in received:
        marks |= _deduction_marks("discount_amount", "discount")
    if "source" in received:
        marks["unknown_source"] = _is_nothing("source")
    return marks


def _item_marks(received: Mapping[str, str]) -> dict[str, pl.Expr]:
    """Return what an item row shows by itself."""
    quantity, price = pl.col("quantity"), pl.col("price")
    is_priced = _is_usable(price) & ~((price < 0) & (quantity < 0))
    marks = {
        "missing_order": _is_nothing("order_id"),
        "missing_product": _is_nothing("product_id"),
        "invalid_quantity": ~_is_usable(quantity),
        "invalid_price": ~is_priced,
    }
    if "refund_amount" in received:
        marks |= _deduction_marks("refund_amount", "refund")
    if "category" in received:
        marks["unknown_category"] = _is_nothing("category")
    return marks


def _deduction_marks(ours: str, word: str) -> dict[str, pl.Expr]:
    """Return what is odd about an amount that is at least 0, or empty."""
    column = pl.col(ours)
    is_usable = _is_usable(column)
    return {
        f"unusable_{word}": pl.col(f"given_{ours}") & ~is_usable,
        f"negative_{word}": is_usable & (column < 0),
        f"empty_{word}": ~pl.col(f"given_{ours}"),
    }


def _is_usable(column: pl.Expr) -> pl.Expr:
    """Return whether a number is finite and within +-1e9."""
    is_within = column.is_finite() & (column.abs() <= LARGEST)
    return is_within.fill_null(value=False)


def _is_possible(moment: pl.Expr) -> pl.Expr:
    """Return whether a date was read, and lies in the years 1900 to 2199."""
    year = moment.dt.year()
    return year.is_between(FIRST_YEAR, LAST_YEAR).fill_null(value=False)


def _is_nothing(ours: str) -> pl.Expr:
    """Return whether an id or a text is empty or stands for nothing."""
    return pl.col(ours).is_in(list(cells.MISSING_TEXTS)).fill_null(value=True)


def _is_given(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return whether a cell holds anything, be it a number or not."""
    if dtype.is_float():
        return pl.col(name).is_not_nan().fill_null(value=False)
    if dtype != pl.String:
        return pl.col(name).is_not_null()
    text = cells.plain_text(name, dtype)
    return ~text.is_in(list(cells.MISSING_TEXTS)).fill_null(value=True)


def _is_ragged(schema: pl.Schema) -> pl.Expr:
    """Return whether a line goes on beyond the header's last column."""
    if BEYOND not in schema:
        return pl.lit(value=False).alias("is_ragged")
    beyond = pl.col(BEYOND).str.strip_chars() != ""
    return beyond.fill_null(value=False).alias("is_ragged")
