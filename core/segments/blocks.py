"""What a block of the movement ledger looks like, and what does not fit one."""

from __future__ import annotations

import re
from typing import Final, Literal

import polars as pl

from core.errors import SchemaError, listed
from core.segments.published import UNASSIGNED

Role = Literal["serving", "published"]

LEDGER_SCHEMA: Final = pl.Schema(
    {
        "month": pl.String,
        "entity": pl.String,
        "segment": pl.Int32,
        "strength": pl.Float64,
        "version": pl.Int32,
        "role": pl.String,
        "settled": pl.Int32,
        "settled_since": pl.String,
        "candidate": pl.Int32,
        "candidate_months": pl.Int32,
    }
)
"""Columns of a block, sorted by ``entity``.

``month``
    YYYY-MM.
``segment``, ``strength``
    What the model says: permanent id, -1 for none; 0 to 1.
``version``, ``role``
    Number of the model; ``serving`` or ``published``.
``settled``, ``settled_since``
    Confirmed segment, -1 while none ever held the entity, and the month of its
    confirmation (null with -1).
``candidate``, ``candidate_months``
    Another segment that is not confirmed yet, and its months running; -1 and 0 if none.
"""

_ASSIGNED: Final = ("entity", "segment", "strength")
_ROLES: Final = ("serving", "published")
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


def is_month(text: str) -> bool:
    """Return whether a text is a month as the ledger writes it, YYYY-MM."""
    return _MONTH.fullmatch(text) is not None


def require_block(block: pl.DataFrame) -> pl.DataFrame:
    """Return a block with its columns in order, or say why it is none.

    Raises
    ------
    SchemaError
        If columns are missing, unknown or of another type, the block is empty or of
        several months, versions or roles, or an entity is in it twice.
    """
    wrong = [
        name for name, dtype in LEDGER_SCHEMA.items() if block.schema.get(name) != dtype
    ] + [name for name in block.columns if name not in LEDGER_SCHEMA]
    if wrong:
        raise SchemaError(
            "a ledger block has missing, unknown or differently typed columns: "
            f"{listed(wrong)}. Expected those of "
            "`core.segments.blocks.LEDGER_SCHEMA`, as `serving_block` writes them."
        )
    heads = block.select("month", "version", "role").unique()
    if heads.height != 1:
        raise SchemaError(
            f"a ledger block holds {heads.height:,} combinations of month, version and "
            "role; expected one. Give the blocks one by one."
        )
    head = heads.row(0, named=True)
    if not is_month(head["month"] or "") or head["role"] not in _ROLES:
        raise SchemaError(
            f"a ledger block is of the month `{head['month']}` and has the role "
            f"`{head['role']}`; expected YYYY-MM, and `serving` or `published`."
        )
    where = f"the rows of {head['month']}, version {head['version']},"
    _require_entities(block, where)
    return block.select(list(LEDGER_SCHEMA))


def assigned_rows(assigned: pl.DataFrame, month: str) -> pl.DataFrame:
    """Return ``entity``, ``segment`` and ``strength`` in the ledger's types.

    Raises
    ------
    SchemaError
        If one is missing, of an unfit type or null, there are no rows, an entity is in
        them twice, a segment is below -1 or a strength is not within 0 to 1.
    """
    missing = [name for name in _ASSIGNED if name not in assigned.columns]
    if missing:
        raise SchemaError(
            f"the assignments of {month} have no {listed(missing)}; expected the "
            f"columns {listed(_ASSIGNED)}. Rename the columns."
        )
    table = assigned.select(_ASSIGNED)
    found = table.schema
    is_fit = (
        found["entity"] == pl.String
        and found["segment"].is_integer()
        and found["strength"].is_numeric()
    )
    if not is_fit:
        types = ", ".join(f"`{name}`: {dtype}" for name, dtype in found.items())
        raise SchemaError(
            f"the assignments of {month} have the types {types}; expected text, whole "
            "numbers and numbers. Cast the columns."
        )
    _require_entities(table, f"the assignments of {month}")
    rows = table.cast({name: LEDGER_SCHEMA[name] for name in _ASSIGNED})
    strange = rows.filter(~pl.col("strength").is_between(0.0, 1.0))["strength"]
    if len(strange):
        raise SchemaError(
            f"the assignments of {month} have the strength {strange[0]} in "
            f"{len(strange):,} rows; expected 0 to 1. Give the model's own strengths."
        )
    return rows


def _require_entities(table: pl.DataFrame, where: str) -> None:
    """Raise unless every row is one entity's, with a segment and a strength."""
    if table.is_empty():
        raise SchemaError(f"{where} hold no entities; expected at least one.")
    for name in _ASSIGNED:
        n_null = table[name].null_count()
        if n_null:
            raise SchemaError(
                f"{where} have no `{name}` in {n_null:,} of {table.height:,} rows. "
                "Leave such rows out; the segment of the unassigned is -1."
            )
    twice = table.filter(pl.col("entity").is_duplicated())["entity"].unique().sort()
    if len(twice):
        raise SchemaError(
            f"{where} hold {len(twice):,} entities more than once: "
            f"{listed(twice.head(9).to_list(), limit=8)}. Keep one row of each."
        )
    strange = table.filter(pl.col("segment") < UNASSIGNED)["segment"]
    if len(strange):
        raise SchemaError(
            f"{where} have the segment {strange[0]} in {len(strange):,} rows; expected "
            "ids from 0, and -1 for the unassigned."
        )


def require_same_entities(one: pl.DataFrame, other: pl.DataFrame, month: str) -> None:
    """Raise unless two tables of one month are of the same entities.

    Raises
    ------
    SchemaError
        Naming entities that are in one of them only.
    """
    apart = set(one["entity"]) ^ set(other["entity"])
    if apart:
        raise SchemaError(
            f"{len(apart):,} entities are in one of two blocks of {month} only: "
            f"{listed(sorted(apart))}. Both models must label the same rows."
        )
