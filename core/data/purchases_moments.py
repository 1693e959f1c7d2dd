"""Moments of orders, typed as dates, as text or as numbers, to one kind."""

from __future__ import annotations

import polars as pl

from core.data import cells

_ISO_TEXT = (
    r"^\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?$"
)
_OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"


def read_moment(
    name: str, dtype: pl.DataType, date_format: str | None
) -> tuple[pl.Expr, pl.Expr]:
    """Return moments, and whether a zone or an offset was given and taken off.

    Parameters
    ----------
    name : str
        Column as received.
    dtype : polars.DataType
        Its type.
    date_format : str or None
        strptime format of text; None: ISO 8601, or the numbers of `_epoch`.

    Returns
    -------
    polars.Expr, polars.Expr
        Datetime("us") without a zone, in UTC where one was given, null where
        unreadable; and a Boolean.
    """
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
    return moment, has_offset


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
