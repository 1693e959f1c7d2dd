"""The rows of a feature table: one per customer, read, checked and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import polars as pl

from core.config import Config
from core.errors import ConfigError, SchemaError, SourceError, did_you_mean, listed
from core.tables.cells import mended_ids
from core.tables.files import counted
from core.tables.frames import table_from_frame
from core.tables.orders import Purchases, intake_lines
from core.tables.plain import read_rows

ID: Final = "customer_id"
NO_ID: Final = "no id"
TWICE: Final = "its id has several rows, which differ"
AGAIN: Final = "the same row again"
RAGGED: Final = "more cells than the header"
RFM_WORDS: Final = MappingProxyType(
    {
        "recency_days": ("long away", "recent"),
        "frequency": ("many orders", "few orders"),
        "monetary": ("high spend", "low spend"),
    }
)
"""What segments of customers are called by their high and low values."""
MOST_REPEATED: Final = 0.5
"""Share of the rows with a repeated id from which the column is no id."""
MOST_RAGGED: Final = 0.5
"""Share of the rows with more cells than the header from which it lacks a name."""


@dataclass(frozen=True)
class TableRows:
    """A feature table that can be segmented, and what became of its other rows.

    Attributes
    ----------
    table : DataFrame
        ``customer_id`` (text, each once), then the columns as they came, typed.
    id_column : str
        What the ids are called in the table that was handed in.
    source : str
        Where the rows come from.
    rejected : DataFrame
        Rows set aside: ``source_row`` (from 1), ``reason``, and their cells as text.
    account : list of str
        What became of the rows, in words.
    fingerprint : str
        SHA-256 of the rows.
    reference_date : datetime
        The moment that stands for now, naive UTC.
    words : mapping of str to (str, str)
        What high and low values of a column are called, where that is known.
    """

    table: pl.DataFrame
    id_column: str
    source: str
    rejected: pl.DataFrame
    account: list[str]
    fingerprint: str
    reference_date: datetime
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def customers(self) -> pl.DataFrame:
        """``customer_id``, each customer once."""
        return self.table.select(ID)


def rows_of_table(config: Config, work: Path, frame: Any = None) -> TableRows:
    """Return the rows of the table that is configured, or of a frame.

    Parameters
    ----------
    config : Config
        ``fit.table`` and ``fit.id``; of ``data``, how CSV and Excel files are read.
    work : Path
        Folder for the time of the run.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        Instead of ``fit.table``.

    Raises
    ------
    ConfigError
        If no table, or no column of ids is named.
    SourceError
        If the table cannot be had.
    SchemaError
        If it has no such column, the column is no id, or no row is left.
    """
    given, id_column = config.fit.table, config.fit.id
    if frame is None and given is None:
        raise ConfigError(
            "no table is named. Pass `--table FILE --id COLUMN`: a row per customer, "
            "CSV, Parquet or Excel."
        )
    source = "a frame in memory" if frame is not None else str(given)
    notes: tuple[str, ...] = ()
    if frame is not None:
        received = table_from_frame(frame, work)
        table = received.scan.collect()
        is_ragged = pl.repeat(False, table.height, eager=True)
    else:
        text = [] if id_column is None else [id_column]
        rows = read_rows(str(given), text, config.data)
        table, notes, is_ragged = rows.table, rows.notes, rows.beyond.is_not_null()
        if is_ragged.sum() > MOST_RAGGED * table.height:
            raise rows.refused()
        received = table_from_frame(table, work)
    chosen = _id_column(id_column, table.columns)
    kept, rejected = _checked(table, chosen, is_ragged)
    account = [_told(table.height, rejected), *notes]
    today = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    print_ = f"{received.digest}:{chosen}"
    return TableRows(kept, chosen, source, rejected, account, print_, today)


def rows_of_orders(purchases: Purchases, source: str) -> TableRows:
    """Return recency, frequency and monetary value of the customers of orders.

    ``recency_days`` (from the last order to the newest one of all), ``frequency``
    (orders) and ``monetary`` (what was paid in them).

    Raises
    ------
    SourceError
        If there is no order.
    """
    orders, now = purchases.orders, purchases.reference_date
    if not orders.height:
        raise SourceError(f"`{source}` has no order that can be used.")
    last = pl.lit(now) - pl.col("order_date").max()
    table = (
        orders.group_by(ID)
        .agg(
            recency_days=last.dt.total_seconds() / 86_400,
            frequency=pl.len().cast(pl.Int64),
            monetary=pl.col("total_price").sort().sum(),
        )
        .sort(ID)
    )
    account = intake_lines(purchases.intake)
    marks = purchases.fingerprint, now
    rejected = purchases.rejected
    return TableRows(table, ID, source, rejected, account, *marks, RFM_WORDS)


def _id_column(name: str | None, columns: list[str]) -> str:
    if name is None:
        likely = [c for c in columns if c.lower() == "id" or c.lower().endswith("id")]
        hint = f" Perhaps `--id {likely[0]}`." if likely else ""
        raise ConfigError(
            f"no column of ids is named. Pass `--id COLUMN`; the table has "
            f"{listed(columns, 12)}.{hint}"
        )
    if name not in columns:
        raise SchemaError(
            f"the table has no column `{name}`; it has {listed(columns, 12)}."
            f"{did_you_mean(name, columns)}"
        )
    if ID in columns and name != ID:
        raise SchemaError(
            f"the table has a column `{ID}` beside the ids in `{name}`; rename it or "
            f"take it for the ids: `--id {ID}`."
        )
    return name


def _checked(
    table: pl.DataFrame, name: str, is_ragged: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return rows with an id of their own, and the others with the reason."""
    rows = table.drop(name).insert_column(0, mended_ids(table[name]).alias(ID))
    plain = [c for c, dtype in rows.schema.items() if not dtype.is_nested()]
    no_id = pl.when(pl.col(ID).is_null()).then(pl.lit(NO_ID))
    reason = rows.select(no_id.alias("reason"))["reason"]
    repeated = (rows[ID].is_duplicated() & rows[ID].is_not_null()).arg_true()
    if len(repeated):
        several = pl.struct(pl.all()).n_unique().over(ID) > 1
        is_first = pl.struct(pl.all()).is_first_distinct()
        why = pl.when(several).then(pl.lit(TWICE)).when(~is_first).then(pl.lit(AGAIN))
        found = rows[repeated].select(plain).select(why.alias("why"))["why"]
        reason = reason.scatter(repeated, found)
    reason = reason.set(is_ragged, RAGGED)
    n_repeated = int(reason.is_in([TWICE, AGAIN]).sum())
    if n_repeated > MOST_REPEATED * rows.height:
        n_ids = rows[ID].n_unique()
        raise SchemaError(
            f"`{name}` is no id: {counted(rows.height)} have {n_ids:,} different "
            "values. Expected a row per customer. For order rows use the verb `rfm` "
            "or `axes`."
        )
    if not rows.height:
        raise SchemaError("the table has no rows; expected a row per customer.")
    kept = rows.filter(reason.is_null())
    if not kept.height:
        raise SchemaError(
            f"none of {counted(rows.height)} has an id in `{name}`; expected a row per "
            "customer."
        )
    aside = rows.select(pl.col(plain).cast(pl.String, strict=False))
    own = {c: f"{c} (received)" for c in plain if c in ("source_row", "reason")}
    aside = aside.rename(own).insert_column(0, reason)
    aside = aside.with_row_index("source_row", offset=1).filter(
        pl.col("reason").is_not_null()
    )
    return kept, aside


def _told(n_rows: int, rejected: pl.DataFrame) -> str:
    """Return what became of the rows, in a sentence."""
    if not rejected.height:
        return f"{counted(n_rows)} read, all used."
    reasons = rejected["reason"].value_counts(sort=True).iter_rows()
    said = "; ".join(f"{n:,} {reason}" for reason, n in reasons)
    n_kept = n_rows - rejected.height
    return (
        f"{counted(n_rows)} read, {n_kept:,} used; {rejected.height:,} set aside "
        f"({said})."
    )
