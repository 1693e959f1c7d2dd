"""Who moved between two runs, and whether they or the model did.

Two runs differ for two reasons, which are never added up unseen:

- ``behaviour``: the model of the run before places a customer elsewhere on the new data
  than it did on the old;
- ``model``: the new model places a customer, on the same data, elsewhere than the one
  before. Ids live on between the two, so a renumbered segment moves nobody.

A run adds one block of rows to the ledger; blocks are never rewritten. A customer who
is new, or gone, has not moved; nor has one whom an axis did not look at before, or does
not now.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import polars as pl

from core.segments.axes import OUTSIDE, Labels, Names
from core.segments.transitions import moved

Cause = Literal["behaviour", "model"]
MOVES_SCHEMA: Final = pl.Schema(
    {
        "run": pl.Int32,
        "reference_date": pl.String,
        "version": pl.Int32,
        "customer_id": pl.String,
        "axis": pl.String,
        "old": pl.Int32,
        "new": pl.Int32,
        "old_name": pl.String,
        "new_name": pl.String,
        "cause": pl.String,
    }
)
"""Columns of a block of the ledger.

``run``
    Number of the run, from 1.
``reference_date``
    Its "now", ISO 8601.
``version``
    Of the model that placed the customer in ``new``.
``old``, ``new``, ``old_name``, ``new_name``
    Segments by id and by name; -1 where the axis did not place the customer.
``cause``
    ``behaviour`` or ``model``.
"""


def label_table(customers: pl.Series, labels: Labels) -> pl.DataFrame:
    """Return ``customer_id`` and a column of segment ids for each axis.

    Null are the customers whom an axis does not look at.
    """
    columns = [
        pl.Series(axis, ids, dtype=pl.Int32).replace(OUTSIDE, None)
        for axis, ids in labels.items()
    ]
    return pl.DataFrame([customers.alias("customer_id"), *columns])


def moves_between(
    before: pl.DataFrame, after: pl.DataFrame, cause: Cause
) -> pl.DataFrame:
    """Return the customers whose segment differs, axis by axis.

    Parameters
    ----------
    before, after : DataFrame
        From `label_table`. Customers and axes of only one of them are left out.
    cause : {'behaviour', 'model'}
        What differs between the two.

    Returns
    -------
    DataFrame
        ``customer_id``, ``axis``, ``old``, ``new``, ``cause``; by axis, then customer.
    """
    axes = [name for name in after.columns[1:] if name in before.columns]
    keys = ("customer_id", "axis", "old", "new", "cause")
    empty = pl.DataFrame(schema={name: MOVES_SCHEMA[name] for name in keys})
    rows = [
        moved(before, after, "customer_id", axis).with_columns(
            axis=pl.lit(axis), cause=pl.lit(cause)
        )
        for axis in axes
    ]
    return pl.concat([empty, *(row.select(keys).cast(empty.schema) for row in rows)])


def ledger_block(
    moves: pl.DataFrame,
    names: Names,
    *,
    run: int,
    reference_date: str,
    version: int,
) -> pl.DataFrame:
    """Return moves with their names, ready for the ledger.

    Parameters
    ----------
    moves : DataFrame
        Of `moves_between`, one or more.
    names : mapping of axis to mapping of id to name
        Of all segments before and after.
    run, reference_date, version
        See `MOVES_SCHEMA`.
    """
    said = pl.DataFrame(
        [(axis, i, name) for axis, known in names.items() for i, name in known.items()],
        schema={"axis": pl.String, "id": pl.Int32, "name": pl.String},
        orient="row",
    )
    named = moves
    for side in ("old", "new"):
        own = said.rename({"id": side, "name": f"{side}_name"})
        named = named.join(own, on=["axis", side], how="left", maintain_order="left")
    heads = {"run": run, "reference_date": reference_date, "version": version}
    return named.with_columns(
        pl.lit(value).alias(key) for key, value in heads.items()
    ).select(pl.col(name).cast(dtype) for name, dtype in MOVES_SCHEMA.items())


def move_counts(block: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how many customers moved by cause, for each axis with any."""
    counts = block.group_by("axis", "cause").len().sort("axis", "cause")
    found: dict[str, dict[str, Any]] = {}
    for axis, cause, n in counts.iter_rows():
        found.setdefault(axis, {})[cause] = n
    return found
