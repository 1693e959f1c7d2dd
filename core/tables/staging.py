"""Tables in stages, for more rows than memory holds: read, flagged, accounted for.

Every stage is a Parquet file that is passed through in a stream. What holds rows
against each other keeps their hashes in memory, and whole rows of the few that repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from core.config import DataConfig
from core.tables.cells import HASH, ParsedRows, parse_rows
from core.tables.columns import FLAGS, ROW, TableSpec, flagged
from core.tables.faults import (
    FaultCount,
    Validation,
    fault_lines,
    rejected_scan,
    repair_lines,
    repeated_hashes,
)
from core.tables.files import counted
from core.tables.readers import ReceivedTable, readable
from core.tables.settle import settle

SCIENTIFIC = "scientific_id"


@dataclass(frozen=True)
class Part:
    """One table as it was read and checked.

    Attributes
    ----------
    rows : polars.LazyFrame
        The rows kept.
    account : dict
        Rows read, kept and set aside, by reason; JSON-able.
    rejected : polars.LazyFrame
        Those set aside, as they were received.
    """

    rows: pl.LazyFrame
    account: dict[str, Any]
    rejected: pl.LazyFrame


def staged_rows(
    table: ReceivedTable,
    wanted: Mapping[str, str],
    spec: TableSpec,
    data: DataConfig,
    path: Path,
) -> ParsedRows:
    """Parse a table into a Parquet file, and settle its decimal marks.

    Raises
    ------
    ConfigError, SchemaError
        As `core.tables.cells.parse_rows` and `core.tables.settle.settle`.
    """
    with readable(table.name):
        parsed = parse_rows(table, wanted, spec, data)
        rows = parsed.rows
        if data.policies.scientific_id == "keep" and SCIENTIFIC in spec.meanings:
            # What is to be kept is no fault.
            rows = rows.with_columns(
                pl.col(FLAGS) & ~pl.lit(spec.bits[SCIENTIFIC], pl.UInt64)
            )
        rows.sink_parquet(path, compression="lz4", statistics=False)
        parsed = replace(parsed, rows=pl.scan_parquet(path, glob=False))
        return settle(parsed, data.decimal, table.usual_decimal)


def has_fault(spec: TableSpec) -> pl.Expr:
    """Return whether a row has any fault."""
    return spec.has_any(spec.meanings)


def repeated_rows(rows: pl.LazyFrame, key: Sequence[str]) -> pl.DataFrame:
    """Return the rows that share their key with another one, in no order.

    They are found by hashes, so that memory holds eight bytes of every row and whole
    rows of the repeated ones only.
    """
    hashed = rows.with_columns(pl.struct(key).hash(seed=0).alias(HASH))
    repeated, n_repeats = repeated_hashes(hashed.select(HASH))
    if not n_repeats:
        return rows.head(0).collect()
    wanted = pl.LazyFrame({HASH: repeated})
    found = hashed.join(wanted, on=HASH, how="semi").drop(HASH)
    return found.collect(engine="streaming").filter(pl.struct(key).is_duplicated())


def later_rows(repeated: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Return all but the first of the rows of each key, ordered by all their cells."""
    cells = [name for name in repeated.columns if name not in (ROW, FLAGS, *key)]
    in_order = repeated.sort(*key, *cells, ROW, nulls_last=True)
    return in_order.filter(~pl.struct(key).is_first_distinct()).select(ROW)


def marked(
    rows: pl.LazyFrame, found: Mapping[str, pl.DataFrame], spec: TableSpec
) -> pl.LazyFrame:
    """Flag the rows whose numbers are listed."""
    for fault, numbers in found.items():
        if numbers.is_empty():
            continue
        listed = numbers.lazy().with_columns(is_listed=pl.lit(value=True))
        rows = rows.join(listed, on=ROW, how="left").with_columns(
            flagged(spec, {fault: pl.col("is_listed")})
        )
        rows = rows.drop("is_listed")
    return rows


def with_one_meaning(
    rows: pl.LazyFrame, key: Sequence[str], meaning: Sequence[str], spec: TableSpec
) -> pl.LazyFrame:
    """Flag rows that say the same as another one, and all of a key that say more."""
    repeated = repeated_rows(rows.filter(~has_fault(spec)), key)
    n_meanings = pl.struct(meaning).n_unique().over(key)
    is_ambiguous = repeated.select(n_meanings > 1).to_series()
    found = {
        "ambiguous": repeated.filter(is_ambiguous).select(ROW),
        "repeated_row": later_rows(repeated.filter(~is_ambiguous), key),
    }
    return marked(rows, found, spec)


def checked_part(
    parsed: ParsedRows,
    rows: pl.LazyFrame,
    data: DataConfig,
    *,
    is_needed: bool = False,
    **where: str | None,
) -> Part:
    """Account for the rows of a table.

    Parameters
    ----------
    parsed : ParsedRows
        How they were read.
    rows : polars.LazyFrame
        All rows, with all their flags; on disk.
    data : DataConfig
        Policies.
    is_needed : bool
        Whether the run stops without a row; a part of rows may have none.
    **where
        Columns with one value for all rows set aside, beside `table`.
    """
    policies = {}
    if SCIENTIFIC in parsed.spec.meanings and data.policies.scientific_id == "error":
        policies[SCIENTIFIC] = "error"
    checked = Validation(parsed, rows, policies, "data.policies")
    checked.stop_at_errors(policies)
    if is_needed and parsed.settled is None:
        checked.stop_without_rows()
    rejected = rejected_scan(parsed, checked.reasons, **where, table=parsed.spec.name)
    account = {
        "source": parsed.name,
        "rows_read": checked.n_read,
        "rows_kept": checked.n_read - len(checked.reasons),
        "rows_set_aside": len(checked.reasons),
        "faults": {name: count.set_aside for name, count in checked.faults.items()},
        "repairs": checked.repairs,
        "hints": checked.fixes,
        "notes": parsed.notes,
    }
    return Part(rows.filter(~has_fault(parsed.spec)), account, rejected)


def account_of(
    spec: TableSpec, account: Mapping[str, Any], where: str = ""
) -> list[str]:
    """Return the account of one table in sentences, most important first."""
    n_read = account["rows_read"]
    faults = {name: FaultCount(n, "drop", n) for name, n in account["faults"].items()}
    first = (
        f"Kept {account['rows_kept']:,} of {counted(n_read, spec.noun)} "
        f"({account['source']})."
    )
    lines = [
        first,
        *fault_lines(spec, n_read, account["rows_set_aside"], faults),
        *repair_lines(spec, n_read, account["repairs"]),
        *account["hints"],
        *account["notes"],
    ]
    return [f"{where}: {line}" if where else line for line in lines]
