"""Who changed segment, and why: one row per customer, run and axis."""

from __future__ import annotations

from typing import Any

import polars as pl

from core.errors import StoreError, listed
from core.store.loading import copy_into
from core.store.objects import escaped

COLUMNS = ("customer_id", "run", "axis", "old", "new", "cause")


def load_moves(cursor: Any, store_id: str, moves: pl.DataFrame) -> int:
    """Add the moves of a run that are not known yet, and return how many.

    Parameters
    ----------
    cursor : psycopg.Cursor
        Inside a transaction.
    store_id : str
        Whose customers.
    moves : DataFrame
        `COLUMNS`, all text; `old` and `new` are segments, null for a customer who has
        come or gone.

    Raises
    ------
    StoreError
        If a column is missing.
    """
    missing = [name for name in COLUMNS if name not in moves.columns]
    if missing:
        raise StoreError(
            f"the moves have no {listed(missing)}; they have {listed(moves.columns)}."
        )
    names = ", ".join(COLUMNS)
    cursor.execute(
        "CREATE TEMPORARY TABLE staged_moves ON COMMIT DROP AS "
        f"SELECT {names} FROM axis_moves WITH NO DATA"
    )
    table = moves.select(escaped(pl.col(name).cast(pl.String)) for name in COLUMNS)
    copy_into(cursor, "staged_moves", table)
    cursor.execute(
        f"INSERT INTO axis_moves (store_id, {names}) "
        f"SELECT %s, {names} FROM staged_moves ON CONFLICT DO NOTHING",
        (store_id,),
    )
    return int(cursor.rowcount)
