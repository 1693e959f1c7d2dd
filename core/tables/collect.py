"""Orders, items and lines read into memory, with what all their rows together tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from core.config import DataConfig
from core.tables.cells import ParsedRows, parse_rows
from core.tables.columns import FLAGS, TableSpec, flagged
from core.tables.ids import TOTAL, id_sums, total_ids
from core.tables.readers import ReceivedTable, readable
from core.tables.reconcile import PAIR
from core.tables.settle import settle

# Those of `data.policies` that hold for these tables, too.
OWN_POLICIES = ("scientific_id", "total_row")
# Of each table: ids that may be totals, of which value, and what tells rows apart.
TOTALS = {
    "orders": (("customer_id", "total_price", ()), ("order_id", "total_price", PAIR)),
    "items": (("product_id", "quantity", (*PAIR, "product_id")),),
    "lines": (("product_id", "quantity", (*PAIR, "order_date", "product_id")),),
}


def own_policies(data: DataConfig) -> dict[str, str]:
    """Return the policies that hold here, too; whatever else is faulty is dropped."""
    return data.policies.model_dump(include=set(OWN_POLICIES))


def collected_rows(
    table: ReceivedTable, wanted: Mapping[str, str], spec: TableSpec, data: DataConfig
) -> ParsedRows:
    """Parse the rows of a table into memory, settle them, and flag totals.

    Raises
    ------
    SchemaError
        As `core.tables.cells.parse_rows` and `core.tables.settle.settle`.
    """
    with readable(table.name):
        parsed = parse_rows(table, wanted, spec, data)
        rows = parsed.rows.collect(engine="streaming").lazy()
        parsed = settle(replace(parsed, rows=rows), data.decimal, table.usual_decimal)
        marked = _with_totals(parsed.rows.collect(), spec)
    # What is to be kept is no fault.
    kept = [name for name, policy in own_policies(data).items() if policy == "keep"]
    flags = pl.col(FLAGS) & ~pl.lit(spec.mask(kept), pl.UInt64)
    return replace(parsed, rows=marked.with_columns(flags).lazy())


def _with_totals(rows: pl.DataFrame, spec: TableSpec) -> pl.DataFrame:
    """Flag the rows that are totals of others."""
    sound = rows.lazy().filter(~spec.has_any(spec.own_faults))
    is_total = []
    for column, value, keys in TOTALS.get(spec.name, ()):
        key = [name for name in keys if name in rows.columns]
        # There are too many orders to sum the rows of each.
        named = pl.col(column).str.contains(TOTAL) if column == "order_id" else True
        sums = id_sums(sound.filter(named), column, value)
        if ids := total_ids(sound, sums, column, value, key):
            is_total.append(pl.col(column).is_in(ids))
    if not is_total:
        return rows
    found = {"total_row": pl.any_horizontal(is_total)}
    return rows.with_columns(flagged(spec, found))
