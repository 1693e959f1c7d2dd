"""Shops that are changing: what a refresh says of them, and where it writes it."""

from __future__ import annotations

import polars as pl

from core.months import month_label_column
from core.segments.changing import Months, find_changing

CHANGING = "segment_changing.csv"
COLUMNS = (
    *("entity", "segment", "changing", "candidate", "since"),
    *("against_past", "evidence", "has_moved"),
)


def weigh_changes(months: Months, known: pl.DataFrame) -> pl.DataFrame | None:
    """Return what the recent months of shops say, row by row.

    Parameters
    ----------
    months : Months
        What the shops of a month sold.
    known : DataFrame
        ``entity`` and ``segment`` of these shops, see `core.segments.ledger.known_by`.

    Returns
    -------
    DataFrame or None
        `known`; ``changing``, ``changing_to``, ``changing_since``, ``evidence`` and
        ``is_clear`` as `core.segments.ledger.serving_block` takes them; and
        ``against_past``. None where nothing can be told, see
        `core.segments.changing.find_changing`.
    """
    found = find_changing(months, known["segment"].to_numpy().astype("int64"))
    if found["evidence"].is_null().all():
        return None
    told = found.select(
        "changing",
        pl.col("candidate").cast(pl.Int32).alias("changing_to"),
        month_label_column("since_t").alias("changing_since"),
        *("evidence", "is_clear", "against_past"),
    )
    return pl.concat([known, told], how="horizontal")


def changing_shops(
    changes: pl.DataFrame | None, block: pl.DataFrame
) -> pl.DataFrame | None:
    """Return the shops that are changing.

    Parameters
    ----------
    changes : DataFrame or None
        Of `weigh_changes`.
    block : DataFrame
        Of the ledger, of that month.

    Returns
    -------
    DataFrame or None
        `COLUMNS`, the strongest evidence first: the shop, the segment that it is known
        by, what changes (``segment``, ``up`` or ``down``), the segment that it goes to
        (null with ``up`` and ``down``), the month since which (YYYY-MM), what it sold
        since then over what its own past foretells, the natural logarithm of the odds,
        and whether it is settled in the segment that it goes to. None where `changes`
        is.
    """
    if changes is None:
        return None
    settled = block.select("entity", "settled")
    return (
        changes.filter(pl.col("changing").is_not_null())
        .join(settled, on="entity", how="left")
        .with_columns(
            candidate="changing_to",
            since="changing_since",
            has_moved=pl.col("settled").eq_missing(pl.col("changing_to")),
        )
        .sort("evidence", "entity", descending=[True, False])
        .select(COLUMNS)
    )
