"""How spreadsheets lay tables out: titles, merged cells, months as columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import mode

import polars as pl

from core.tables.dates import MONTH_NUMBERS
from core.tables.files import counted

# Rows in which a header is looked for.
HEAD_ROWS = 20
NUMBER = re.compile(r"[\d\s.,:/+-]+")
# From so many columns of months on, a table is taken to have one for each.
FEWEST_MONTHS = 3
# What may stand before the months, the same for all: `qty_2024_01`, `Sales Jan 24`.
BEFORE_MONTHS = r"(?P<before>[^\W\d_].*?[-/._: ]+)?"
# Of weeks or days, whose numbers may look like months.
BEFORE_OTHERS = re.compile(r"(?i)\b(w|wk|weeks?|kw|d|days?)[-/._: ]+$")
MONTH_HEADERS = tuple(
    re.compile(BEFORE_MONTHS + pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<year>\d{4})[-/._ ]?M?(?P<month>\d{1,2})([-/.]0?1( 00:00:00)?)?",
        r"(?P<month>\d{1,2})[-/._ ](?P<year>\d{4})",
        r"(?P<month>[^\W\d_]{3,10})\.?[-/._ ']*(?P<year>\d{4}|\d\d)",
        r"(?P<year>\d{4})[-/._ ]*(?P<month>[^\W\d_]{3,10})",
        r"(?P<month>[^\W\d_]{3,10})",
    )
)


def find_header(rows: Sequence[Sequence[str | None]]) -> int:
    """Return the index of the row of column names among the first rows of a table.

    That is the first row with a cell, unless it is a title: it fills at most half of
    the columns, and below is a row of distinct names that fills them all.
    """
    lines = [_cells(row) for row in rows]
    first = next((i for i, line in enumerate(lines) if line), 0)
    widths = [len(line) for line in lines if line]
    if not widths:
        return 0
    # Of two that are as common, the wider one.
    width = mode(sorted(widths, reverse=True))
    n_filled = sum(bool(cell) for cell in lines[first])
    if width < 2 or n_filled > width / 2:
        return first
    below = (i for i, line in enumerate(lines) if i > first and _is_names(line, width))
    return next(below, first)


def _cells(row: Sequence[str | None]) -> list[str]:
    """Return the cells of a row up to its last one that is not empty."""
    cells = [(cell or "").strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _is_names(line: Sequence[str], width: int) -> bool:
    """Return whether a row can be column names: all filled, distinct, not numbers."""
    words = [cell for cell in line if cell and not NUMBER.fullmatch(cell)]
    return (
        len(line) >= width
        and len(set(line)) == len(line)
        and all(line)
        and len(words) >= 2
        and line[0] in words
    )


def passed_over(name: str, n_rows: int, first: str) -> str:
    """Return the sentence on titles above a header."""
    title = " ".join(first.split())[:40]
    return (
        f"{name}: the column names were found in row {n_rows + 1:,}; what is above "
        f"(`{title}`) was passed over. If that is wrong, set `data.header_row`."
    )


def unique_names(columns: Sequence[str]) -> list[str]:
    """Return the names with a mark on those that occur again, which must differ."""
    seen: dict[str, int] = {}
    names = []
    for column in columns:
        seen[column] = seen.get(column, 0) + 1
        # Spaces keep the repeated name recognisable as the same, and so ambiguous.
        names.append(column + " " * (seen[column] - 1))
    while len(set(names)) < len(names):
        names = [f"{name}{' ' * i}" for i, name in enumerate(names)]
    return names


def filled_down(
    scan: pl.LazyFrame, columns: Sequence[str], name: str
) -> tuple[pl.LazyFrame, list[str]]:
    """Give empty cells of some columns the value above, and say how many there were.

    Rows without any value stay so.
    """
    present = scan.collect_schema().names()
    found = [column for column in columns if column in present]
    lacking = [
        f"{name} has no column `{column}`, which `data.fill_down` names."
        for column in columns
        if column not in present
    ]
    if not found:
        return scan, lacking
    is_row = ~pl.all_horizontal(pl.all().is_null())
    is_gap = [(pl.col(c).is_null() & is_row).sum().alias(c) for c in found]
    gaps = scan.select(is_gap).collect(engine="streaming").row(0, named=True)
    filled = scan.with_columns(
        pl.when(is_row).then(pl.col(column).forward_fill()).alias(column)
        for column in found
    )
    told = [
        f"{name}: {counted(n, 'empty cell')} of `{column}` took the value above."
        for column, n in gaps.items()
    ]
    return filled, [*told, *lacking]


def month_columns(columns: Sequence[str]) -> dict[str, tuple[int | None, int]]:
    """Return the columns named by a month, each with its year, if it has one.

    None are taken unless there are several, all different, and all of one kind. All may
    begin alike (`qty_2024_01`); of several such beginnings, none is taken.
    """
    begun: dict[str, dict[str, tuple[int | None, int]]] = {}
    for name in columns:
        matches = (pattern.fullmatch(name.strip()) for pattern in MONTH_HEADERS)
        parts = next((match.groupdict() for match in matches if match), {})
        text, year = parts.get("month", ""), parts.get("year")
        month = int(text) if text.isdigit() else MONTH_NUMBERS.get(text.lower())
        years = None if year is None else int(year) + 2000 * (len(year) == 2)
        if month is not None and (years is None or 1900 <= years <= 2199):
            before = (parts["before"] or "").casefold()
            begun.setdefault(before, {})[name] = (years, month)
    clear = {
        before: found
        for before, found in begun.items()
        if _are_months(list(found.values())) and not BEFORE_OTHERS.search(before)
    }
    return clear.get("") or (clear.popitem()[1] if len(clear) == 1 else {})


def _are_months(found: Sequence[tuple[int | None, int]]) -> bool:
    """Return whether these are several months, all different, with years or without."""
    return (
        len(set(found)) == len(found) >= FEWEST_MONTHS
        and len({year is None for year, _ in found}) == 1
        and all(1 <= month <= 12 for _, month in found)
    )


def unpivoted(
    scan: pl.LazyFrame, months: Mapping[str, tuple[int | None, int]], value: str
) -> tuple[pl.LazyFrame, str]:
    """Return a row for each filled cell under a month, and a sentence on it.

    Parameters
    ----------
    scan : polars.LazyFrame
        A column for each month.
    months : mapping of str to (int or None, int)
        As `month_columns` gives them.
    value : str
        What the cells are called: a column beside `month` and, if told, `year`.
    """
    schema = scan.collect_schema()
    cells = pl.col(list(months))
    if len({schema[column] for column in months}) > 1:
        scan = scan.with_columns(cells.cast(pl.String))
    n_rows, n_filled = (
        scan.select(pl.len(), pl.sum_horizontal(cells.count()))
        .collect(engine="streaming")
        .row(0)
    )
    rest = [column for column in schema if column not in months]
    parts = []
    for column, (year, month) in months.items():
        told = [] if year is None else [pl.lit(year, pl.Int32).alias("year")]
        told += [pl.lit(month, pl.Int32).alias("month"), pl.col(column).alias(value)]
        parts.append(scan.filter(pl.col(column).is_not_null()).select(*rest, *told))
    names = list(months)
    return pl.concat(parts), (
        f"{counted(len(names), 'column')}, `{names[0]}` to `{names[-1]}`, are months: "
        f"{counted(n_filled, 'filled cell')} read as a row of `{value}` each, month by "
        f"month, and {counted(n_rows * len(names) - n_filled, 'empty cell')} as none."
    )
