"""The movement ledger of retailers as a table, beside its Parquet files.

The files are the ledger; the table is a copy to ask in SQL. Blocks are only ever added:
one that the table has is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from core.store.address import chosen_address
from core.store.loading import copy_into
from core.store.objects import escaped
from core.store.store import Store

_BLOCK = ("month", "version", "role")
_COLUMNS = (*_BLOCK, "entity", "segment", "strength", "settled")


def has_store(url: str | None, folder: Path) -> bool:
    """Whether there is a store to write to: one that was chosen, or the embedded one.

    Parameters
    ----------
    url : str, optional
        ``store.url``; without it the environment variable ``DATABASE_URL`` counts.
    folder : path
        Of the embedded server, which has to be there already.
    """
    return chosen_address(url) is not None or folder.is_dir()


def publish_ledger(
    url: str | None, folder: Path, lineage: str, blocks: Sequence[pl.DataFrame]
) -> int:
    """Add the blocks that the store does not have yet; return how many those are.

    Parameters
    ----------
    url, folder
        As for `Store.open`.
    lineage : str
        Of the models that the ledger belongs to.
    blocks : sequence of DataFrame
        With the columns of `core.segments.ledger.LEDGER_SCHEMA`, a month, version and
        role each.

    Raises
    ------
    StoreError
        If the store cannot be opened or written to; nothing is added then.
    """
    with Store.open(url, folder) as store, store.begin("add to the ledger") as opened:
        driver: Any = opened.connection.driver_connection
        with driver.cursor() as cursor:
            return sum(_add(cursor, lineage, block) for block in blocks)


def _add(cursor: Any, lineage: str, block: pl.DataFrame) -> int:
    """Add one block unless it is there; return 1 if it was added, else 0."""
    key = (lineage, *block.select(_BLOCK).row(0))
    same = " AND ".join(f"{name} = %s" for name in ("lineage", *_BLOCK))
    cursor.execute(f"SELECT 1 FROM segment_ledger WHERE {same} LIMIT 1", key)
    if cursor.fetchone() is not None:
        return 0
    text = escaped(pl.col(pl.String))
    table = block.select(pl.lit(lineage).alias("lineage"), *_COLUMNS).with_columns(text)
    copy_into(cursor, f"segment_ledger (lineage, {', '.join(_COLUMNS)})", table)
    return 1
