"""Received cells of orders and items to values of ours, and each row's own faults.

One pass of expressions, the same for a file of a million rows and for the records of
one request. What cannot be read becomes null and a mark; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from core.data import cells
from core.data.csvfile import BEYOND
from core.data.purchases_schema import ORDERS, TableSpec

ROW = "__row__"
MARKS = "__marks__"
UNKNOWN = "unknown"
LARGEST = 1e9
FIRST_YEAR, LAST_YEAR = 1900, 2199

# Faults set a row aside, first those of the row itself, then those that other rows
# show; repairs are cells that were put right on the way. In the order of the reasons.
OWN_FAULTS = {
    "orders": (
        "ragged_line",
        "missing_customer",
        "missing_order",
        "impossible_date",
        "invalid_total",
    ),
    "items": (
        "ragged_line",
        "missing_order",
        "missing_product",
        "invalid_quantity",
        "invalid_price",
    ),
}
LATER_FAULTS = {
    "orders": ("refund", "negative", "repeated_order", "after_reference"),
    "items": (
        "refund",
        "negative",
        "ambiguous_order",
        "unknown_order",
        "order_set_aside",
    ),
}
REPAIRS = {
    "orders": (
        "float_id",
        "with_offset",
        "unusable_discount",
        "negative_discount",
        "empty_discount",
        "unknown_source",
    ),
    "items": (
        "float_id",
        "unusable_refund",
        "negative_refund",
        "empty_refund",
        "unknown_category",
    ),
}
BITS = {
    table: {
        name: 1 << i
        for i, name in enumerate(
            (*OWN_FAULTS[table], *LATER_FAULTS[table], *REPAIRS[table])
        )
    }
    for table in ("orders", "items")
}
OWN_BITS = {
    table: sum(BITS[table][name] for name in names)
    for table, names in OWN_FAULTS.items()
}

_ISO_TEXT = (
    r"^\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?$"
)
_OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"


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
            first.append(cells.id_text(name, dtype).alias(ours))
        elif kind == "moment":
            first += _moment(name, dtype, date_format)
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
    ids = [pl.col(o) for o in received if spec[o].kind == "id"]
    marks["float_id"] = pl.any_horizontal([cells.is_float_text(i) for i in ids])
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
        return cells.mended_id(column, cells.is_float_text(column)).alias(ours)
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


def _moment(name: str, dtype: pl.DataType, date_format: str | None) -> list[pl.Expr]:
    """Return `order_date` as naive Datetime("us"), in UTC where an offset is given."""
    column, has_offset = pl.col(name), pl.lit(value=False)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            has_offset = column.is_not_null()
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        moment = column.dt.cast_time_unit("us")
    elif isinstance(dtype, pl.Date):
        moment = column.cast(pl.Datetime("us"))
    elif dtype.is_numeric():
        moment = _epoch(column.cast(pl.Float64))
    else:
        moment, has_offset = _from_text(cells.plain_text(name, dtype), date_format)
    return [moment.alias("order_date"), has_offset.alias("has_offset")]


def _from_text(text: pl.Expr, date_format: str | None) -> tuple[pl.Expr, pl.Expr]:
    """Return moments typed as text, and whether an offset was given and taken off."""
    if date_format is not None:
        cells.check_date_format(date_format)
        read = text.str.strptime(pl.Datetime("us"), date_format, strict=False)
        # A format without a time of day is one of a date.
        day = text.str.strptime(pl.Date, date_format, strict=False)
        return pl.coalesce(read, day.cast(pl.Datetime("us"))), pl.lit(value=False)
    plain = text.str.replace("T", " ", literal=True).str.replace_all(
        "/", "-", literal=True
    )
    plain = plain.str.replace(",", ".", literal=True)
    iso = pl.when(plain.str.contains(_ISO_TEXT)).then(plain)
    has_offset = (iso.str.len_bytes() > 16) & iso.str.contains(_OFFSET)
    local = (
        pl.when(has_offset)
        .then(iso.str.replace(_OFFSET, "").str.strip_chars_end())
        .otherwise(iso)
    )
    n = local.str.len_bytes()
    tail = pl.when(n == 10).then(pl.lit(" 00:00:00")).when(n == 16).then(pl.lit(":00"))
    full = local + tail.otherwise(pl.lit(""))
    read = full.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    shift = pl.when(has_offset).then(_offset_minutes(iso)).otherwise(0)
    number = text.str.contains(r"^\d{8,19}$")
    epoch = _epoch(pl.when(number).then(text).cast(pl.Float64, strict=False))
    moment = pl.coalesce(read - pl.duration(minutes=shift), epoch)
    return moment, has_offset.fill_null(value=False)


def _offset_minutes(iso: pl.Expr) -> pl.Expr:
    """Return the minutes by which a local time is ahead of UTC; 0 for `Z`."""
    parts = iso.str.extract_groups(r"([+-])(\d{2}):?(\d{2})$")
    hours = parts.struct.field("2").cast(pl.Int32, strict=False)
    minutes = parts.struct.field("3").cast(pl.Int32, strict=False)
    sign = pl.when(parts.struct.field("1") == "-").then(-1).otherwise(1)
    return (sign * (hours * 60 + minutes)).fill_null(0)


def _epoch(value: pl.Expr) -> pl.Expr:
    """Return moments from numbers: YYYYMMDD, or time since 1970.

    The size tells the unit: below 1e11 seconds (until the year 5138), below 1e14
    milliseconds, below 1e17 microseconds, else nanoseconds. Numbers of 8 digits are
    calendar days; as seconds they would be of 1970.
    """
    whole = pl.when(value.is_finite() & (value.abs() < 1e19)).then(value)
    is_day = whole.is_between(19_000_101, 21_991_231)
    day = pl.when(is_day).then(whole).cast(pl.Int64, strict=False).cast(pl.String)
    day = day.str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us"))
    size = whole.abs()
    micros = (
        pl.when(size < 1e11)
        .then(whole * 1e6)
        .when(size < 1e14)
        .then(whole * 1e3)
        .when(size < 1e17)
        .then(whole)
        .otherwise(whole / 1e3)
    )
    since_1970 = micros.round().cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    return pl.when(is_day).then(day).when(size >= 1e8).then(since_1970)
