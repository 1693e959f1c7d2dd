"""Who is in which segment, for other programs: tables and SQL, none of them small.

A segment with few entities says something about each of them. Below the floor that is
asked for, its entities are exported together with those of the next smallest, without
the segment's id and name; every entity stays in the table.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from core.rules.dialects import Database, Dialect, database

SMALL = "small segments"
"""Name instead of the segments below the floor."""
ROWS_PER_STATEMENT = 1000


def with_floor(table: pl.DataFrame, floor: int) -> tuple[pl.DataFrame, int]:
    """Return a table in which no group of entities is smaller than a floor.

    Parameters
    ----------
    table : DataFrame
        A row per entity and axis: ``axis``, ``segment`` (null: not segmented; -1:
        unassigned), ``segment_name``, ``sub_segment``, ``sub_segment_name`` and
        ``strength``.
    floor : int
        Fewest entities of a segment or sub-segment, per axis; 1: as they are.

    Returns
    -------
    table : DataFrame
        The same rows. Those of small segments have no ``segment``, the name `SMALL`
        and nothing of what is inside. The smallest segments are taken together until
        they hold as many as the floor, so that none can be told by the others. Small
        sub-segments are told by their segment alone, likewise.
    n : int
        Rows that say less than before.

    Notes
    -----
    k-anonymity (Sweeney, 2002) of each axis by itself; combinations of axes may be
    rarer. Export one axis where that matters.
    """
    small = _is_small(table, ["axis"], "segment", floor)
    less = small | _is_small(table, ["axis", "segment"], "sub_segment", floor)
    gone = {"segment": small, "strength": small}
    gone |= dict.fromkeys(("sub_segment", "sub_segment_name"), less)
    said = table.with_columns(
        pl.when(small)
        .then(pl.lit(SMALL))
        .otherwise("segment_name")
        .alias("segment_name"),
        *(pl.when(~rows).then(name).alias(name) for name, rows in gone.items()),
    )
    return said, int(less.sum())


def _is_small(
    table: pl.DataFrame, within: list[str], column: str, floor: int
) -> pl.Series:
    """Return which rows are in a part of `column` that is taken together with others.

    Parts are taken together among rows that are equal in `within`.
    """
    sizes = table.drop_nulls(column).group_by(*within, column).len("n")
    n, before = pl.col("n"), pl.col("n").cum_sum() - pl.col("n")
    # Where the smallest is too small, the next ones join it until they are enough.
    is_small = (n.min() < floor) & ((before < floor) | (n < floor))
    sizes = sizes.sort(*within, "n", column).with_columns(
        is_small.over(within).alias("is_small")
    )
    joined = table.join(
        sizes,
        on=[*within, column],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    return joined["is_small"].fill_null(False)


def to_statements(table: pl.DataFrame, dialect: Dialect, name: str) -> Iterator[str]:
    """Yield SQL that creates a table and fills it.

    Parameters
    ----------
    table : DataFrame
        Columns of text, whole numbers and floats.
    dialect : {'duckdb', 'postgres', 'bigquery', 'snowflake', 'spark'}
    name : str
        Of the table, with schema where needed; it must not be there yet.

    Yields
    ------
    str
        A statement with its semicolon and line break: `CREATE TABLE`, then an `INSERT`
        for every 1,000 rows.
    """
    own = database(dialect)
    columns = ",\n  ".join(
        f"{own.name(column)} {_type(dtype, own)}"
        for column, dtype in table.schema.items()
    )
    yield f"CREATE TABLE {own.table(name)} (\n  {columns}\n);\n"
    for part in table.iter_slices(ROWS_PER_STATEMENT):
        rows = ",\n".join(
            "(" + ", ".join(_literal(value, own) for value in row) + ")"
            for row in part.iter_rows()
        )
        yield f"INSERT INTO {own.table(name)} VALUES\n{rows};\n"


def _type(dtype: pl.DataType, own: Database) -> str:
    if dtype.is_integer():
        return own.integer
    return own.double if dtype.is_float() else own.text_type


def _literal(value: object, own: Database) -> str:
    if value is None or value != value:  # noqa: PLR0124  # NaN is unknown, too
        return "NULL"
    if isinstance(value, int | float):
        return own.number(float(value)) if isinstance(value, float) else str(value)
    return own.text(str(value))
