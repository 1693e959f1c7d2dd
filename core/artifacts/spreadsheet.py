"""CSV files that a spreadsheet opens without running what is in them.

Excel and its like take a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a
formula. An apostrophe before it makes it text. Names of segments, which people read,
get one by default; ids stay as they came, for they are what other systems join by.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import polars as pl

Safety = Literal["names", "all", "off"]
NAMES = frozenset(
    {
        *("segment_name", "segment", "sub_segment_name", "nearest_segment_name"),
        *("changing_to_name", "runner_up", "rule_name"),
    }
)
"""Columns that hold names of segments, where they hold text."""
# Also the full-width forms, and what is skipped before them.
_BEGINS = "[=+\\-@\\t\\r\\n\u00a0\uff1d\uff0b\uff0d\uff20]"


def defused(text: pl.Expr) -> pl.Expr:
    """Return text with an apostrophe before what would be a formula.

    >>> pl.select(defused(pl.lit("=1+1"))).item()
    "'=1+1"
    """
    return text.str.replace(f"^({_BEGINS})", "'$1")


def restored(text: pl.Expr) -> pl.Expr:
    """Return what `defused` was asked of."""
    return text.str.replace(f"^'({_BEGINS})", "$1")


Table = TypeVar("Table", pl.DataFrame, pl.LazyFrame)


def safe_table(table: Table, safety: Safety) -> Table:
    """Return a table as its CSV file is to hold it.

    Parameters
    ----------
    table : DataFrame or LazyFrame
    safety : {'names', 'all', 'off'}
        ``csv_safety`` of the configuration: which text is defused.
    """
    schema = table.collect_schema()
    texts = [name for name, dtype in schema.items() if dtype == pl.String]
    wanted = {"names": NAMES, "all": frozenset(texts), "off": frozenset()}[safety]
    return table.with_columns(defused(pl.col(n)) for n in texts if n in wanted)
