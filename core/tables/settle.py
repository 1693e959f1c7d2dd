"""What single cells leave open, settled by their whole column, or else refused.

`4.700` is 4700 or 4.7: the other cells of the column decide, or `data.decimal`. If
neither does, the reading stops, since a guess would be wrong by a factor of 1000. So it
does at `2022.1`, which is January, or October that lost its zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from core.errors import SchemaError
from core.tables.cells import ParsedRows
from core.tables.columns import FLAGS, ROW, Column, TableSpec
from core.tables.files import counted

# Where fewer cells look like months after a point, they are dates with a fault.
FEW = 0.1


def settle(parsed: ParsedRows, stated: str | None, usual: str) -> ParsedRows:
    """Settle what single cells leave open, by their whole column.

    Parameters
    ----------
    parsed : ParsedRows
        Rows that can be read again cheaply: in memory, or in a file of ours.
    stated : str or None
        The decimal mark that the user named.
    usual : str
        The one that is usual in such a source.

    Returns
    -------
    ParsedRows
        With the values meant, and notes on what was settled.

    Raises
    ------
    SchemaError
        If cells have two readings, and nothing decides between them.
    """
    if parsed.settled is not None:
        rows = with_marks(parsed.rows, parsed.spec, parsed.settled.marks)
        return replace(parsed, rows=rows)
    groups = flag_counts(parsed.rows)
    marks, notes = settled_marks(parsed, groups, stated, usual)
    rows = with_marks(parsed.rows, parsed.spec, marks)
    return replace(parsed, rows=rows, notes=[*parsed.notes, *notes])


def flag_counts(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return `FLAGS` and ``len``, how many rows have them; sums over parts of rows."""
    return rows.group_by(FLAGS).agg(pl.len()).collect(engine="streaming")


def settled_marks(
    parsed: ParsedRows, groups: pl.DataFrame, stated: str | None, usual: str
) -> tuple[dict[str, str], list[str]]:
    """Return which decimal mark columns have that leave it open, and notes on it.

    Parameters
    ----------
    parsed : ParsedRows
        The rows, or examples of each of their flags.
    groups : DataFrame
        `flag_counts` of all rows.
    stated, usual : str or None, str
        As for `settle`, which tells of errors, too.
    """
    marks: dict[str, str] = {}
    notes: list[str] = []
    n_of = _n_rows(parsed.spec, groups)
    for column in parsed.spec.columns:
        n = {clue: n_of[clue] for clue in column.clues}
        if not any(n.values()):
            continue
        if column.kind == "day":
            if sum(n.values()) > FEW * int(groups["len"].sum()):
                _check_months(parsed, column, *n.values())
            continue
        told_of = parsed.spec.has_any([*column.clues, *filter(None, column.flags)])
        has_whole = groups.filter(~told_of).height > 0
        mark = stated or _proven_mark(usual, has_whole, *n.values())
        if mark is None:
            raise SchemaError(_explain_open(parsed, column, *n.values()))
        if n[column.clues[".,".index(mark)]]:
            marks[column.name] = mark
        is_told = stated is None and mark != usual
        notes += _notes_on_marks(parsed, column, mark, is_told, *n.values())
    return marks, notes


def with_marks(
    rows: pl.LazyFrame, spec: TableSpec, marks: Mapping[str, str]
) -> pl.LazyFrame:
    """Return rows whose columns are read by their decimal marks."""
    values = []
    for name, mark in marks.items():
        is_open = spec.has_any([spec[name].clues[".,".index(mark)]])
        # As text: Polars may multiply by 0.001 where it is to divide by 1000, and
        # 3328 * 0.001 is not 3.328.
        value = pl.col(name)
        digits = pl.when(is_open).then(value).cast(pl.Int64).cast(pl.String)
        shifted = digits.str.head(-3) + "." + digits.str.tail(3)
        read = pl.coalesce(shifted.cast(pl.Float64, strict=False), value)
        values.append(read.alias(name))
    return rows.with_columns(values)


def _n_rows(spec: TableSpec, groups: pl.DataFrame) -> dict[str, int]:
    """Return the rows that give each clue."""
    has = {c: spec.has_any([c]) for column in spec.columns for c in column.clues}
    n = [pl.col("len").filter(is_so).sum().alias(clue) for clue, is_so in has.items()]
    return groups.select(n).row(0, named=True) if n else {}


def _proven_mark(
    usual: str,
    has_whole: bool,
    n_after_point: int,
    n_after_comma: int,
    n_points: int,
    n_commas: int,
) -> str | None:
    """Return the decimal mark of a column, or None if that is not known."""
    if n_points and n_commas:
        return usual if n_after_point == n_after_comma == 0 else None
    if n_points or n_commas:
        return "." if n_points else ","
    # `4.700` beside `40`, where a comma would be usual: thousands. Three decimals in
    # every cell are as likely as thousands in every cell.
    is_open = n_after_point if usual == "." else n_after_comma
    return usual if has_whole and not is_open else None


def _explain_open(
    parsed: ParsedRows, column: Column, n_point: int, n_comma: int, *proofs: int
) -> str:
    """Return which cells may be thousands or decimals, and what settles it."""
    clue = column.clues[0 if n_point else 1]
    why = (
        "other cells of the column show both marks as the decimal one"
        if all(proofs)
        else "no other cell of the column shows which mark is the decimal one"
    )
    thousands, decimals = (",", ".") if n_point else (".", ",")
    return (
        f"{parsed.name}: {counted(n_point + n_comma, 'cell')} of "
        f"`{parsed.columns[column.name]}`, such as {_example(parsed, column, clue)}, "
        f"may be thousands or have three decimals; {why}. Name the decimal mark: "
        f"`--set data.decimal={thousands}` reads thousands there, `--set "
        f"data.decimal={decimals}` three decimals."
    )


def _notes_on_marks(
    parsed: ParsedRows,
    column: Column,
    mark: str,
    is_unusual: bool,
    *found: int,
) -> list[str]:
    """Return how the marks of a column were read, where another reading is possible."""
    notes = []
    name = parsed.columns[column.name]
    for i, three_after in enumerate(".,"):
        is_decimal = three_after == mark
        if not found[i] or (is_decimal and not is_unusual):
            continue
        other = three_after if not is_decimal else ".,"[1 - i]
        notes.append(
            f"`{name}`: {'three decimals' if is_decimal else 'thousands'} read in "
            f"{counted(found[i], 'cell')}, such as "
            f"{_example(parsed, column, column.clues[i])}. If that is wrong: `--set "
            f"data.decimal={other}`."
        )
    if all(found[2:]):
        notes.append(
            f"`{name}` has cells with a decimal point, such as "
            f"{_example(parsed, column, column.clues[2])}, and with a decimal comma, "
            f"such as {_example(parsed, column, column.clues[3])}; each was read as it "
            "is written."
        )
    return notes


def _check_months(
    parsed: ParsedRows, column: Column, n_ones: int, n_others: int, n_padded: int
) -> None:
    """Refuse a column in which `2022.1` may be January or October."""
    if not n_ones or (n_others and not n_padded):
        return
    raise SchemaError(
        f"{parsed.name}: {counted(n_ones, 'cell')} of `{parsed.columns[column.name]}`, "
        f"such as {_example(parsed, column, column.clues[0])}, may be January, or "
        "October that lost its zero as a number. Write months as text with two digits, "
        "such as `2022-10`, or give year and month in two columns."
    )


def _example(parsed: ParsedRows, column: Column, clue: str) -> str:
    """Return the first cell that gives a clue, with its row."""
    rows = parsed.rows.filter(parsed.spec.has_any([clue])).select(pl.col(ROW).min())
    row = rows.collect(engine="streaming").item()
    name = pl.col(parsed.columns[column.name]).cast(pl.String)
    cells = parsed.received.filter(pl.col(ROW) == row).select(name.str.strip_chars())
    return f"`{cells.collect(engine='streaming').item()}`{parsed.at(row)}"
