"""Maps of the channels: customers to central ids, items to categories, store details.

A map is read like any table. An id with several meanings maps to nothing, whichever row
comes first, and is told of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from core.channels.schema import SPECS, Categories, spec_of
from core.config import Config, DataConfig
from core.errors import SchemaError, listed
from core.tables.cells import HASH, UNKNOWN, ParsedRows, parse_rows
from core.tables.columns import FLAGS, ROW, TableSpec, fault_flags
from core.tables.faults import (
    FaultCount,
    Validation,
    fault_lines,
    rejected_scan,
    repair_lines,
    repeated_hashes,
)
from core.tables.files import counted
from core.tables.readers import BEYOND, ReceivedTable, readable
from core.tables.settle import settle

EXCLUDE = "exclude"
SCIENTIFIC = "scientific_id"
MOST_CATEGORIES = 1000


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


def flagged(spec: TableSpec, found: Mapping[str, pl.Expr]) -> pl.Expr:
    """Return the flags of rows with what was found added."""
    return (pl.col(FLAGS) | fault_flags(spec, found)).alias(FLAGS)


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


def checked_part(
    parsed: ParsedRows,
    rows: pl.LazyFrame,
    data: DataConfig,
    channel: str | None = None,
    *,
    is_needed: bool = False,
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
    channel : str or None
        Whose table it is.
    is_needed : bool
        Whether the run stops without a row.
    """
    policies = {}
    if SCIENTIFIC in parsed.spec.meanings and data.policies.scientific_id == "error":
        policies[SCIENTIFIC] = "error"
    checked = Validation(parsed, rows, policies, "data.policies")
    checked.stop_at_errors(policies)
    if is_needed:
        checked.stop_without_rows()
    where = {"channel": channel, "table": parsed.spec.name}
    rejected = rejected_scan(parsed, checked.reasons, **where)
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


def read_customers(
    table: ReceivedTable, channel: str, config: Config, work: Path
) -> tuple[Part, str]:
    """Return the map of a channel's customers, and the id that it goes by.

    Returns
    -------
    Part, str
        `central_id` by `customer_id` or `order_id`, each once; and which of these.

    Raises
    ------
    SchemaError
        If it has neither id, or what `staged_rows` raises.
    """
    spec = spec_of("customers", channel)
    wanted = config.channels.sources[channel].customer_columns
    parsed = staged_rows(
        table, wanted, spec, config.data, work / f"{channel}_customers.parquet"
    )
    key = next((k for k in ("customer_id", "order_id") if k in parsed.columns), None)
    if key is None:
        found = listed(table.scan.collect_schema().names(), 30)
        raise SchemaError(
            f"{table.name}: no column `customer_id` or `order_id` in the map of "
            f"customers, so it cannot be told whose `central_id` a row has; found "
            f"{found}. Map one of them: `{spec.mapping('customer_id=NAME')}`."
        )
    rows = parsed.rows.select(ROW, FLAGS, key, "central_id").with_columns(
        flagged(spec, {"missing_key": pl.col(key).is_null()})
    )
    rows = _with_one_meaning(rows, [key], ["central_id"], spec)
    return checked_part(parsed, rows, config.data, channel), key


def _with_one_meaning(
    rows: pl.LazyFrame, key: list[str], meaning: list[str], spec: TableSpec
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


def read_catalog(
    table: ReceivedTable, config: Config, work: Path
) -> tuple[Part, Categories]:
    """Return the item map, and the categories in it.

    Returns
    -------
    Part, Categories
        Rows of `item_id`, `driver_category` and `base_category` as `Categories` spells
        them, `is_veg` if the map has it, and `is_excluded`.

    Raises
    ------
    SchemaError
        If there are too many categories, or what `staged_rows` raises.
    """
    spec = spec_of("catalog")
    parsed = staged_rows(
        table,
        config.channels.catalog_columns,
        spec,
        config.data,
        work / "catalog.parquet",
    )
    names = ("driver_category", "base_category")
    is_excluded = pl.any_horizontal(pl.col(name) == EXCLUDE for name in names)
    lacks_one = pl.any_horizontal(pl.col(name).is_null() for name in names)
    rows = (
        parsed.rows.with_columns(_as_name(name) for name in names)
        .with_columns(is_excluded=is_excluded.fill_null(value=False))
        .with_columns(
            flagged(spec, {"no_category": lacks_one & ~pl.col("is_excluded")})
        )
    )
    meaning = [name for name in (*names, "is_veg") if name in parsed.columns]
    rows = _with_one_meaning(rows, ["item_id"], meaning, spec)
    part = checked_part(parsed, rows, config.data)
    known = part.rows.filter(~pl.col("is_excluded")).select(names).collect()
    driver, base = (tuple(known[name].unique().sort()) for name in names)
    if (n := len(driver) + len(base)) > MOST_CATEGORIES:
        raise SchemaError(
            f"{table.name}: {n:,} categories, each of which becomes a column of every "
            f"order; expected at most {MOST_CATEGORIES:,}. Are `driver_category` and "
            "`base_category` mapped to names of items?"
        )
    return part, Categories(driver, base)


def _as_name(column: str) -> pl.Expr:
    """Return categories as parts of column names; null where nothing is left."""
    # An empty word was read as `unknown`, which is no category either.
    text = pl.col(column).str.replace_all(r"\W+", "_").str.strip_chars("_")
    return pl.when(~text.is_in(["", UNKNOWN])).then(text).alias(column)


def read_stores(table: ReceivedTable, config: Config, work: Path) -> Part:
    """Return details of stores: `store_id`, and the other columns as text.

    A detail is called `store_NAME`, whatever begins so already as it is.
    """
    spec = spec_of("stores")
    wanted = config.channels.store_columns
    parsed = staged_rows(table, wanted, spec, config.data, work / "stores.parquet")
    details: dict[str, str] = {}
    for name in table.scan.collect_schema().names():
        detail = name if name.startswith("store_") else f"store_{name}"
        while detail in ("store_id", *details.values()):
            detail = f"store_{detail}"
        if name not in (parsed.columns["store_id"], BEYOND):
            details[name] = detail
    received = parsed.received.select(
        ROW,
        *(pl.col(n).cast(pl.String, strict=False).alias(d) for n, d in details.items()),
    )
    rows = parsed.rows.join(received, on=ROW, how="left")
    rows = _with_one_meaning(rows, ["store_id"], [*details.values()] or [ROW], spec)
    part = checked_part(parsed, rows, config.data)
    return replace(part, rows=part.rows.drop(ROW, FLAGS))


def account_of(table: str, account: Mapping[str, Any], where: str = "") -> list[str]:
    """Return the account of one table in sentences, most important first."""
    spec = SPECS[table]
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
