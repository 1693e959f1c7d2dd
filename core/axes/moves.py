"""Who moved from segment to segment, and whether they or the model did.

Two runs differ for two reasons, which are never added up unseen:

- ``behaviour``: the model of the run before places a customer elsewhere on the new data
  than it did on the old;
- ``model``: the new model places a customer, on the same data, elsewhere than the one
  before. Ids live on between the two, so a renumbered segment moves nobody.

A run adds one block of rows to the ledger; blocks are never rewritten. A customer who
is new, or gone, has not moved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from core.artifacts.folder import ArtifactSet, link
from core.axes.files import LEDGER

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

# Segment ids by axis, one per customer, in the order of `customers`.
Labels = Mapping[str, npt.NDArray[np.int64]]
_BLOCK = re.compile(rf"{LEDGER}([0-9]{{4,}})\.parquet")


def label_table(customers: pl.Series, labels: Labels) -> pl.DataFrame:
    """Return ``customer_id`` and a column of segment ids for each axis."""
    columns = [pl.Series(axis, ids, dtype=pl.Int32) for axis, ids in labels.items()]
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
    both = after.join(before, on="customer_id", suffix=" before", maintain_order="left")
    rows = [
        both.filter(pl.col(axis) != pl.col(f"{axis} before")).select(
            "customer_id",
            pl.lit(axis).alias("axis"),
            pl.col(f"{axis} before").alias("old"),
            pl.col(axis).alias("new"),
            pl.lit(cause).alias("cause"),
        )
        for axis in axes
    ]
    keys = ("customer_id", "axis", "old", "new", "cause")
    empty = pl.DataFrame(schema={name: MOVES_SCHEMA[name] for name in keys})
    return pl.concat([empty, *(row.cast(empty.schema) for row in rows)])


def ledger_block(
    moves: pl.DataFrame,
    names: Mapping[str, Mapping[int, str]],
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


def block_name(run: int) -> str:
    """Return the file name of a run's block."""
    return f"{LEDGER}{run:04d}.parquet"


def blocks_of(base: ArtifactSet) -> dict[int, str]:
    """Return the file names of the ledger's blocks by run, ascending."""
    found = {name: _BLOCK.fullmatch(name) for name in base.manifest.files}
    runs = {int(match[1]): name for name, match in found.items() if match is not None}
    return dict(sorted(runs.items()))


def next_run(base: ArtifactSet | None) -> int:
    """Return the number of the run after a set; 1 where there is none.

    After going back, the ledger knows later runs than the set does.
    """
    if base is None:
        return 1
    return max(int(base.manifest.facts("axes")["run"]), *blocks_of(base), 0) + 1


def carry_ledger(base: ArtifactSet, folder: Path) -> None:
    """Give a new set the blocks of the one before."""
    for name in blocks_of(base).values():
        link(base.path(name), folder / name)


def move_counts(block: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how many customers moved by cause, for each axis with any."""
    counts = block.group_by("axis", "cause").len().sort("axis", "cause")
    found: dict[str, dict[str, Any]] = {}
    for axis, cause, n in counts.iter_rows():
        found.setdefault(axis, {})[cause] = n
    return found
