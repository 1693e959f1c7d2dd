"""Dates and months as received to days and moments of ours.

Read are dates, ISO text, a format that is given, and what cannot mean anything else:
day numbers of Excel, ISO weeks, names of months.
"""

from __future__ import annotations

import re

import polars as pl

from core.errors import ConfigError

ISO_DATE = (
    r"^\d{4}[-/]\d{2}([-/]\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?"
    r" ?(Z|[+-]\d{2}:?\d{2})?)?)?$"
)
# What strptime tokens tell; padding marks as in `%-d` are left out before looking.
WHOLE_DATE_TOKENS = frozenset({"%D", "%F", "%x", "%c", "%s", "%+", "%v"})
DAY_TOKENS = WHOLE_DATE_TOKENS | {"%d", "%e", "%j"}
MONTH_TOKENS = WHOLE_DATE_TOKENS | {"%m", "%b", "%B", "%h", "%j"}
YEAR_TOKENS = WHOLE_DATE_TOKENS | {"%Y", "%y"}
ISO_MOMENT = (
    r"^\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?$"
)
OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"
# Days since 1899-12-30, as Excel counts: of the years 1990 to 2049. Below are days
# written as YYDDD, above are numbers that no spreadsheet has for a date.
FIRST_DAY_NUMBER, LAST_DAY_NUMBER = 32_874, 54_789
DAYS_TO_1970 = 25_569
ISO_WEEK = r"^(\d{4})[-/ ]?W(\d{1,2})(?:-?[1-7])?$"
# English, German, French, Spanish, Italian, Dutch and Portuguese.
MONTH_NAMES = (
    "january janv janvier januar jan enero ene gennaio gen januari janeiro",
    "february feb februar févr février febrero febbraio februari fevereiro fev",
    "march mar märz mär maerz mars marzo maart mrt março",
    "april apr avril avr abril abr aprile",
    "may mai mayo maggio mag mei maio",
    "june jun juni juin junio giugno giu junho",
    "july jul juli juil juillet julio luglio lug julho",
    "august aug août agosto ago augustus",
    "september sep sept septembre septiembre settembre set setembro",
    "october oct oktober okt octobre octubre ottobre ott outubro out",
    "november nov novembre noviembre novembro",
    "december dec dezember dez déc décembre diciembre dic dicembre dezembro",
)
MONTH_NUMBERS = {
    name: number
    for number, names in enumerate(MONTH_NAMES, 1)
    for name in names.split()
}
QUARTER = re.compile(
    r"(?i)(?<![^\W\d_])(Q[1-4]|[1-4]Q|quarters?|qtr|quartal|trimest\w*)(?![^\W\d_])"
)
NO_QUARTERS = (
    "A quarter is no month, and features are of months: bring sales by month or day."
)
# `Jan`, `March`, `01-Jan`, `Jan (1)`.
NAMED_MONTH = r"^(\d{1,2}\W*)?\p{L}{3,10}\.?(\W*\d{1,2}\W?)?$"
# Formats that are suggested, never taken.
DATE_FORMATS = (
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y",
    "%m/%d/%y", "%Y.%m.%d", "%Y.%m", "%Y%m", "%m/%Y", "%m.%Y", "%m-%Y", "%d %B %Y",
    "%d-%B-%Y", "%d-%b-%y", "%B %d, %Y", "%B %Y", "%B-%Y", "%b-%y", "%b %y",
)  # fmt: skip
CLOCK_FORMATS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")


def plain_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the cells as text without spaces around; unreadable bytes are null."""
    text = pl.col(name).cast(pl.String, strict=False)
    is_typed = dtype.is_numeric() or isinstance(dtype, pl.Boolean)
    return text if is_typed else text.str.strip_chars()


def day_number(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return cells that can only be Excel's numbers of days, as Float64, else null."""
    if isinstance(dtype, pl.Boolean) or not (dtype.is_numeric() or dtype == pl.String):
        return pl.lit(None, pl.Float64)
    return _as_day_number(pl.col(name))


def _as_day_number(cells: pl.Expr) -> pl.Expr:
    """Return numbers within the range of days, as Float64, else null."""
    number = cells.cast(pl.Float64, strict=False)
    is_day = number.is_between(FIRST_DAY_NUMBER, LAST_DAY_NUMBER, closed="left")
    return pl.when(is_day).then(number)


def month_number(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return months by their names; a number beside must be the same."""
    if dtype != pl.String:
        return pl.lit(None, pl.Float64)
    # Numbers are most of what there is, and need no regular expression.
    long = pl.when(pl.col(name).str.len_bytes() > 2).then(pl.col(name))
    text = long.str.strip_chars().str.to_lowercase()
    text = pl.when(text.str.contains(NAMED_MONTH)).then(text)
    # Not `replace_strict`, which holds all rows in memory. The longest name goes first;
    # two names in one word become `1.2.`, no number.
    names = sorted(MONTH_NUMBERS, key=len, reverse=True)
    numbers = [f"{MONTH_NUMBERS[name]}." for name in names]
    letters = text.str.extract(r"(\p{L}+)")
    replaced = letters.str.replace_many(names, numbers, leftmost=True)
    month = replaced.cast(pl.Float64, strict=False)
    beside = text.str.extract(r"(\d+)").cast(pl.Float64)
    return pl.when(beside.is_null() | (beside == month)).then(month)


def calendar_day(
    name: str, dtype: pl.DataType, date_format: str | None
) -> tuple[pl.Expr, ...]:
    """Return dates, null where unreadable, and what is told of each.

    Times and offsets are passed over: the date is taken as written.

    Returns
    -------
    tuple of polars.Expr
        Dates, and Booleans: ``has_day`` (a cell or the format has a day),
        ``is_number`` (Excel's number of a day), ``is_week`` (an ISO week, which is put
        to its Thursday), ``is_iso`` (ISO text, where a format was given).
    """
    none = pl.lit(value=False)
    if isinstance(dtype, pl.Date | pl.Datetime):
        told = {"has_day": ~none, "is_number": none, "is_week": none, "is_iso": none}
        date = pl.col(name).dt.date()
        return date, *(found.alias(key) for key, found in told.items())
    text = _whole_text(name, dtype)
    # Each is looked for only where a look at the length or a letter allows for it: an
    # expression that is used twice is evaluated twice.
    number = _as_day_number(_short(text))
    numbered = (number.floor().cast(pl.Int32) - DAYS_TO_1970).cast(pl.Date)
    week = _thursday(pl.when(text.str.contains("W", literal=True)).then(text))
    is_number, is_week, is_iso = number.is_not_null(), week.is_not_null(), none
    if date_format is None:
        read, has_day = _iso_day(text), text.str.len_bytes() != 7
    else:
        read, has_day = _in_format(text, date_format)
        iso = _year_first(text, date_format)
        is_iso = iso.str.contains(ISO_DATE).fill_null(value=False)
        has_day = pl.when(is_iso).then(text.str.len_bytes() != 7).otherwise(has_day)
        read = pl.coalesce(read, _iso_day(iso))
    told = {
        "has_day": (has_day | is_number) & ~is_week,
        "is_number": is_number,
        "is_week": is_week,
        "is_iso": is_iso,
    }
    date = pl.coalesce(read, numbered, week)
    return date, *(found.alias(key) for key, found in told.items())


def _short(text: pl.Expr) -> pl.Expr:
    """Return what has five characters, before a point if there is one, else null."""
    is_short = (text.str.len_bytes() == 5) | (text.str.slice(5, 1) == ".")
    return pl.when(is_short).then(text)


def _year_first(text: pl.Expr, date_format: str) -> pl.Expr:
    """Return what may begin with a year of four digits, unless the format does.

    A date with the year in front leaves nothing to be guessed, whatever the format.
    """
    if date_format.startswith(("%Y-", "%Y/")):
        return pl.lit(None, pl.String)
    mark = text.str.slice(4, 1)
    return pl.when((mark == "-") | (mark == "/")).then(text)


def _whole_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return cells as text, whole numbers in floats without their `.0`."""
    if not dtype.is_float():
        return plain_text(name, dtype)
    whole = pl.col(name).cast(pl.Int64, strict=False)
    return (
        pl.when(whole == pl.col(name))
        .then(whole.cast(pl.String))
        .otherwise(plain_text(name, dtype))
    )


def _in_format(text: pl.Expr, date_format: str) -> tuple[pl.Expr, pl.Expr]:
    """Return dates in a format, and whether it has a day."""
    _check_date_format(date_format)
    has_day = bool(_tokens(date_format) & DAY_TOKENS)
    if not has_day:
        text, date_format = pl.lit("01 ") + text, f"%d {date_format}"
    return text.str.strptime(pl.Date, date_format, strict=False), pl.lit(has_day)


def _iso_day(text: pl.Expr) -> pl.Expr:
    """Return dates of ISO text, and of eight digits."""
    iso = pl.when(text.str.contains(ISO_DATE)).then(text.str.slice(0, 10))
    padded = iso.str.replace_all("/", "-", literal=True).str.pad_end(8, "-")
    # A year and a month become `2024-03-`.
    full = pl.when(padded.str.ends_with("-")).then(padded + "01").otherwise(padded)
    digits = pl.when(text.str.len_bytes() == 8).then(text)
    return pl.coalesce(
        full.str.to_date("%Y-%m-%d", strict=False),
        digits.str.to_date("%Y%m%d", strict=False),
    )


def _thursday(text: pl.Expr) -> pl.Expr:
    """Return the day of an ISO week that decides its year: the month's as well."""
    parts = text.str.extract_groups(ISO_WEEK)
    year, week = parts.struct.field("1"), parts.struct.field("2")
    thursday = pl.concat_str(year, pl.lit("-W"), week.str.zfill(2), pl.lit("-4"))
    return thursday.str.strptime(pl.Date, "%G-W%V-%u", strict=False)


def fitting_formats(cells: pl.Series) -> list[str]:
    """Return the formats that the most of some cells fit, if that is half of them."""
    text = cells.str.strip_chars()
    n_read = {}
    for date_format in (f"{d}{c}" for c in CLOCK_FORMATS for d in DATE_FORMATS):
        read, _ = _in_format(pl.lit(text), date_format)
        years = pl.select(read.alias("day"))["day"].dt.year()
        n_read[date_format] = int(years.is_between(1900, 2199).sum())
    most = max(n_read.values())
    return [f for f, n in n_read.items() if n == most] if 2 * most > len(text) else []


def _tokens(date_format: str) -> set[str]:
    """Return the strptime tokens of a format, without padding marks."""
    return {f"%{letter}" for letter in re.findall(r"%[-_0]?(.)", date_format)}


def _check_date_format(date_format: str) -> None:
    """Refuse a format that names no year or no month."""
    tokens = _tokens(date_format)
    if not (tokens & YEAR_TOKENS and tokens & MONTH_TOKENS):
        raise ConfigError(
            f"`data.date_format` is `{date_format}`, which names no year and month. "
            "Expected strptime tokens, such as `%d.%m.%Y` or `%m/%d/%Y %H:%M`."
        )


def timestamp(
    name: str, dtype: pl.DataType, date_format: str | None
) -> tuple[pl.Expr, ...]:
    """Return moments, and what is told of each.

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
    tuple of polars.Expr
        Datetime("us") without a zone, in UTC where one was given, null where
        unreadable; and Booleans: a zone or an offset was given and taken off, a day
        number of Excel, ISO text where a format was given.
    """
    column, has_offset, is_iso = pl.col(name), pl.lit(value=False), pl.lit(value=False)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            has_offset = column.is_not_null()
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        moment = column.dt.cast_time_unit("us")
    elif isinstance(dtype, pl.Date):
        moment = column.cast(pl.Datetime("us"))
    elif dtype.is_numeric():
        moment = _epoch(column.cast(pl.Float64, strict=False))
    else:
        text = plain_text(name, dtype)
        if date_format is None:
            moment, has_offset = _iso_moment(text)
        else:
            _check_date_format(date_format)
            read = text.str.strptime(pl.Datetime("us"), date_format, strict=False)
            # A format without a time of day is one of a date.
            day = text.str.strptime(pl.Date, date_format, strict=False)
            iso = _year_first(text, date_format)
            other, has_offset = _iso_moment(pl.coalesce(iso, _short(text)))
            is_iso = iso.is_not_null() & other.is_not_null()
            moment = pl.coalesce(read, day.cast(pl.Datetime("us")), other)
    return moment, has_offset, day_number(name, dtype).is_not_null(), is_iso


def _iso_moment(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return moments of ISO text and numbers, and whether an offset was taken off."""
    plain = text.str.replace("T", " ", literal=True)
    plain = plain.str.replace_all("/", "-", literal=True)
    plain = plain.str.replace(",", ".", literal=True)
    iso = pl.when(plain.str.contains(ISO_MOMENT)).then(plain)
    has_offset = (iso.str.len_bytes() > 16) & iso.str.contains(OFFSET)
    naive_text = iso.str.replace(OFFSET, "").str.strip_chars_end()
    local = pl.when(has_offset).then(naive_text).otherwise(iso)
    n = local.str.len_bytes()
    tail = pl.when(n == 10).then(pl.lit(" 00:00:00")).when(n == 16).then(pl.lit(":00"))
    full = local + tail.otherwise(pl.lit(""))
    read = full.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    shift = pl.when(has_offset).then(_offset_minutes(iso)).otherwise(0)
    number = text.str.contains(r"^(\d{8,19}|[345]\d{4}(\.\d+)?)$")
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
    """Return moments from numbers: YYYYMMDD, time since 1970, or days of Excel.

    The size tells the unit: below 1e11 seconds (until the year 5138), below 1e14
    milliseconds, below 1e17 microseconds, else nanoseconds. Numbers of 8 digits are
    calendar days; as seconds they would be of 1970.
    """
    whole = pl.when(value.is_finite() & (value.abs() < 1e19)).then(value)
    is_day = whole.is_between(19_000_101, 21_991_231)
    day = pl.when(is_day).then(whole).cast(pl.Int64, strict=False).cast(pl.String)
    day = day.str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us"))
    size = whole.abs()
    small = pl.when(size < 1e11).then(whole * 1e6).when(size < 1e14).then(whole * 1e3)
    micros = small.when(size < 1e17).then(whole).otherwise(whole / 1e3)
    since_1970 = micros.round().cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    is_excel = value.is_between(FIRST_DAY_NUMBER, LAST_DAY_NUMBER, closed="left")
    # To the second: a time of day as a fraction is not exact.
    seconds = ((value - DAYS_TO_1970) * 86_400).round()
    excel = (seconds * 1e6).cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    since = pl.when(size >= 1e8).then(since_1970).when(is_excel).then(excel)
    return pl.when(is_day).then(day).otherwise(since)
