"""Sales rows: read, validated, and written as Parquet with our columns.

The result is a file in which each row has its number, our columns, a bit for each fault
of its own, and a hash of all its received cells.

Whatever the source, the rows take one way: read, judged, written as Parquet with our
columns (`core.tables.sales`).
"""

from __future__ import annotations

import calendar
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from core.config import Config, DataConfig, SampleConfig
from core.errors import SchemaError, SegmentsError, SourceError, listed
from core.tables import cells
from core.tables.columns import KEY_COLUMNS, SALES_SCHEMA, ColumnMap, match_columns
from core.tables.duplicates import (
    HASH,
    ROW,
    comparable,
    later_duplicates,
    repeated_hashes,
)
from core.tables.faults import (
    FAULTS,
    KEPT_AS,
    MEANINGS,
    ROW_FAULTS,
    FaultCount,
    ValidationReport,
    counted,
    policies_in_order,
    share,
)
from core.tables.files import (
    SourceFile,
    describe,
    fetch,
    fetch_kaggle,
    is_remote,
    locate,
)
from core.tables.frames import table_from_frame
from core.tables.readers import BEYOND, Table, files_digest, read_files

MARKS = "__marks__"
DAY = "__day__"
FIRST_YEAR, LAST_YEAR = 1900, 2199
LARGEST_QUANTITY = 1e9
REPAIRS = ("float_shop_id", "float_product_id", "unreadable_sales_value")
BITS = {name: 1 << i for i, name in enumerate((*ROW_FAULTS, *REPAIRS))}


@dataclass(frozen=True)
class Staged:
    """Rows with their marks, on disk.

    Attributes
    ----------
    received : polars.LazyFrame
        All received columns, and `ROW`, numbered from 1.
    compared : list of polars.Expr
        The received cells that make two rows equal.
    hashed : polars.Expr
        `HASH` of these cells.
    columns : ColumnMap
        Which received column is which of ours.
    path : Path
        Parquet of `ROW`, our columns, `DAY` (year, month and day as one number, null
        where unknown), `MARKS` and `HASH`, in the order of the rows.
    notes : list of str
        What the user should know.
    """

    received: pl.LazyFrame
    compared: list[pl.Expr]
    hashed: pl.Expr
    columns: ColumnMap
    path: Path
    notes: list[str]

    @property
    def rows(self) -> pl.LazyFrame:
        """The staged rows."""
        return pl.scan_parquet(self.path, glob=False)


def stage(table: Table, data: DataConfig, work: Path) -> Staged:
    """Read every row once, and write its values and marks to `work`.

    Raises
    ------
    ConfigError, SchemaError
        If columns are missing, ambiguous or of a type that cannot be used.
    """
    schema = table.scan.collect_schema()
    found = [name for name in schema if name != BEYOND]
    columns = match_columns(found, data.columns, table.name)
    _check_parts(table, columns)
    for ours, theirs in columns.received.items():
        cells.check_type(schema[theirs], theirs, ours, table.name)
    is_plain = {c: not d.is_nested() and d != pl.Object for c, d in schema.items()}
    plain = [c for c in schema if is_plain[c]]
    notes = []
    if nested := [c for c in schema if not is_plain[c]]:
        notes.append(f"Not compared when looking for equal rows: {listed(nested)}.")
    received = table.scan.with_row_index(ROW, offset=1)
    if table.has_empty_rows:
        received = received.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))
    compared = [comparable(column, schema[column]) for column in plain]
    hashed = pl.struct(compared).hash(seed=0).alias(HASH)
    # In steps, since an expression that is used twice would be evaluated twice.
    cells_read = received.select(
        ROW,
        *_values(schema, columns, data, decimal_comma=table.decimal_comma),
        _is_ragged(schema),
        hashed,
    )
    staged = cells_read.with_columns(_mended(columns)).select(
        ROW, *_checked(columns), _marks(columns), HASH
    )
    path = work / "staged.parquet"
    # Incompressible hashes make up most of it: speed counts, not size.
    staged.sink_parquet(path, compression="lz4", statistics=False)
    return Staged(received, compared, hashed, columns, path, notes)


def _check_parts(table: Table, columns: ColumnMap) -> None:
    """Refuse a table with a file that lacks a column that the others have."""
    for name, found in table.parts:
        needed = [c for ours, c in columns.received.items() if ours != "sales_value"]
        if lacking := [column for column in needed if column not in found]:
            raise SchemaError(
                f"{table.name}: {name} has no column {listed(lacking)}, which other "
                f"files have; it has {listed([c for c in found if c != BEYOND], 30)}. "
                "Name files of one make only, or rename its columns."
            )


def _values(
    schema: pl.Schema, columns: ColumnMap, data: DataConfig, *, decimal_comma: bool
) -> list[pl.Expr]:
    """Return our columns as read: ids as text, dates taken apart, numbers as floats."""
    theirs = columns.received
    values = [
        cells.id_text(theirs[ours], schema[theirs[ours]]).alias(ours)
        for ours in ("shop_id", "product_id")
    ]
    if name := theirs.get("date", ""):
        day = cells.calendar_day(name, schema[name], data.date_format)
        values.append(day.alias("date"))
    for ours in ("year", "month", "sales_qty", "sales_value"):
        if name := theirs.get(ours, ""):
            comma = decimal_comma and ours.startswith("sales")
            value = cells.as_float(name, schema[name], decimal_comma=comma)
            values.append(value.alias(ours))
    if name := theirs.get("sales_value", ""):
        text = cells.plain_text(name, schema[name])
        is_given = text.is_not_null() & ~text.is_in(list(cells.MISSING_TEXTS))
        values.append(is_given.alias("is_value_given"))
    return values


def _mended(columns: ColumnMap) -> list[pl.Expr]:
    """Return our columns with unusable cells null, and which ids were floats."""
    mended = [
        cells.is_float_text(pl.col(ours)).alias(f"float_{ours}")
        for ours in ("shop_id", "product_id")
    ]
    for ours in columns.received:
        if ours in ("year", "month"):
            mended.append(cells.whole(pl.col(ours)).alias(ours))
        elif ours in ("sales_qty", "sales_value"):
            mended.append(cells.finite(pl.col(ours)).alias(ours))
    return mended


def _is_ragged(schema: pl.Schema) -> pl.Expr:
    """Return whether a line goes on beyond the header's last column."""
    if BEYOND not in schema:
        return pl.lit(value=False).alias("is_ragged")
    beyond = pl.col(BEYOND).str.strip_chars() != ""
    return beyond.fill_null(value=False).alias("is_ragged")


def _month_parts(columns: ColumnMap) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Return year, month, and whether both are possible."""
    if columns.is_dated:
        date = pl.col("date").struct
        year, month = date.field("year"), date.field("month")
    else:
        year, month = pl.col("year"), pl.col("month")
    is_possible = year.is_between(FIRST_YEAR, LAST_YEAR) & month.is_between(1, 12)
    return year, month, is_possible.fill_null(value=False)


def _checked(columns: ColumnMap) -> list[pl.Expr]:
    """Return our columns in their types; what is impossible becomes null."""
    year, month, is_possible = _month_parts(columns)
    checked = [
        *(
            cells.mended_id(pl.col(ours), pl.col(f"float_{ours}"))
            for ours in ("shop_id", "product_id")
        ),
        pl.when(is_possible).then(year).cast(pl.Int32).alias("year"),
        pl.when(is_possible).then(month).cast(pl.Int32).alias("month"),
        pl.col("sales_qty"),
    ]
    if "sales_value" in columns.received:
        checked.append(pl.col("sales_value"))
    day: pl.Expr = pl.lit(None)
    if columns.is_dated:
        of_month = pl.col("date").struct.field("day")
        number = year * 10_000 + month * 100 + of_month
        day = pl.when(is_possible & (of_month > 0)).then(number)
    return [*checked, day.cast(pl.Int32).alias(DAY)]


def _marks(columns: ColumnMap) -> pl.Expr:
    """Return the faults and repairs of each row as the bits of one number."""
    quantity = pl.col("sales_qty")
    is_valid = (quantity.abs() <= LARGEST_QUANTITY).fill_null(value=False)
    found = {
        "ragged_line": pl.col("is_ragged"),
        "missing_id": _is_missing("shop_id") | _is_missing("product_id"),
        "impossible_month": ~_month_parts(columns)[2],
        "invalid_quantity": ~is_valid,
        "negative_quantity": is_valid & (quantity < 0),
        "zero_quantity": is_valid & (quantity == 0),
        "float_shop_id": pl.col("float_shop_id"),
        "float_product_id": pl.col("float_product_id"),
    }
    if "sales_value" in columns.received:
        is_unreadable = pl.col("is_value_given") & pl.col("sales_value").is_null()
        found["unreadable_sales_value"] = is_unreadable
    bits = [is_found.cast(pl.UInt16) * BITS[name] for name, is_found in found.items()]
    return pl.sum_horizontal(bits).cast(pl.UInt16).alias(MARKS)


def _is_missing(ours: str) -> pl.Expr:
    """Return whether an id, as read, stands for nothing."""
    return pl.col(ours).is_in(list(cells.MISSING_TEXTS)).fill_null(value=True)


def sales_columns(columns: ColumnMap) -> list[str]:
    """Return our columns of a sales table, in their order."""
    optional = [] if "sales_value" in columns.received else ["sales_value"]
    return [name for name in SALES_SCHEMA if name not in optional]


EXAMPLES = 3
LOOKED_AT = 1000
THOUSANDS = r"^[+-]?[0-9]{1,3}([,. '\u00a0\u202f][0-9]{3})+([.,][0-9]+)?$"
DECIMAL_COMMA = r"^[+-]?[0-9]*,[0-9]+$"
SHORT_YEAR = r"^[0-9]{2} "


def suggest_fixes(
    rejected: pl.DataFrame, columns: ColumnMap, date_format: str | None
) -> list[str]:
    """Return a sentence for each reason that examples can explain.

    Parameters
    ----------
    rejected : polars.DataFrame
        `source_row`, `reason` and the mapped columns as received, as text.
    columns : ColumnMap
        Which received column is which of ours.
    date_format : str or None
        The option `data.date_format`.
    """
    theirs = columns.received
    hints = []
    quantities = _examples(rejected, "invalid_quantity", theirs["sales_qty"])
    if not quantities.is_empty():
        advice = ""
        if quantities["text"].str.contains(THOUSANDS).any():
            advice = (
                " Thousands separators are not guessed: take them out, and set "
                "`data.decimal` if the comma is the decimal mark."
            )
        elif quantities["text"].str.contains(DECIMAL_COMMA).any():
            advice = " If the comma is the decimal mark: `--set data.decimal=,`."
        hints.append(f"Unusable quantities are {_shown(quantities)}.{advice}")
    if columns.is_dated:
        dates = _examples(rejected, "impossible_month", theirs["date"])
        if not dates.is_empty():
            expected = (
                f"Expected the format `{date_format}`"
                if date_format
                else "Expected ISO dates such as 2024-01-31"
            )
            hints.append(
                f"Unreadable dates are {_shown(dates)}. {expected}; set "
                "`data.date_format`, such as `%d.%m.%Y` or `%m/%d/%Y %H:%M`."
            )
        return hints
    months = _examples(rejected, "impossible_month", theirs["year"], theirs["month"])
    if not months.is_empty():
        is_short = months["text"].str.contains(SHORT_YEAR).any()
        advice = " Years need four digits." if is_short else ""
        hints.append(f"Impossible years and months are {_shown(months)}.{advice}")
    return hints


def _examples(rejected: pl.DataFrame, reason: str, *columns: str) -> pl.DataFrame:
    """Return the first different cells of rows set aside for a reason, as `text`."""
    rows = rejected.filter(pl.col("reason") == reason).head(LOOKED_AT)
    names = [c if c in rejected.columns else f"{c}_received" for c in columns]
    text = pl.concat_str(pl.col(names).fill_null(""), separator=" / ")
    cells = rows.select("source_row", text.alias("text"))
    return cells.unique("text", keep="first", maintain_order=True)


def _shown(cells: pl.DataFrame) -> str:
    """Return examples with the rows that hold them."""
    shown = [
        f"`{text[:40]}` (row {row:,})" if text else f"empty (row {row:,})"
        for row, text in cells.head(EXAMPLES).iter_rows()
    ]
    return ", ".join(shown)


# A month whose dates end earlier than this many days before it does is incomplete.
PARTIAL_DAYS = 3
REPAIR_NOTES = {
    "float_shop_id": "{:,} shop ids were stored as decimal numbers; `17850.0` was read "
    "as `17850`.",
    "float_product_id": "{:,} product ids were stored as decimal numbers; `17850.0` "
    "was read as `17850`.",
    "unreadable_sales_value": "{:,} values of `sales_value` are no finite numbers; "
    "they are taken as unknown (null).",
}


def distinct(kept: pl.LazyFrame, column: str) -> pl.Series:
    """Return the distinct values of an id column."""
    return kept.select(column).unique().collect(engine="streaming")[column]


def id_notes(column: str, ids: pl.Series) -> list[str]:
    """Return what is odd about ids, none of which is changed."""
    name = column.removesuffix("_id")
    notes = []
    n_digits = int(ids.str.contains(r"^[0-9]+$").sum())
    if 0 < n_digits < len(ids):
        notes.append(
            f"{n_digits:,} of {len(ids):,} {name} ids are numbers, the others hold "
            "other characters; all are taken as text."
        )
    n_case = len(ids) - ids.str.to_lowercase().n_unique()
    if n_case:
        notes.append(
            f"{n_case:,} {name} ids differ from another one only by upper and lower "
            "case; they are taken as different."
        )
    digits = ids.filter(ids.str.contains(r"^[0-9]+$"))
    n_zeros = len(digits) - digits.str.strip_chars_start("0").n_unique()
    if n_zeros:
        notes.append(
            f"{n_zeros:,} {name} ids differ from another one only by leading zeros; "
            "they are taken as different (`007` is not `7`)."
        )
    return notes


@dataclass(frozen=True)
class Span:
    """The months of the rows kept, as YYYY-MM; `partial` is the newest, or None."""

    oldest: str
    newest: str
    partial: str | None
    notes: tuple[str, ...]


def month_span(kept: pl.LazyFrame) -> Span:
    """Return the oldest and the newest month, and whether the newest is incomplete.

    Parameters
    ----------
    kept : polars.LazyFrame
        At least one row, with `year`, `month` and `DAY`.
    """
    month = pl.col("year") * 12 + pl.col("month") - 1
    day = pl.col(DAY)
    facts = kept.select(
        month.min().alias("oldest"),
        month.max().alias("newest"),
        day.max().alias("last"),
        (day % 100).min().alias("lowest"),
        (day % 100).max().alias("highest"),
    )
    oldest, newest, last, lowest, highest = facts.collect(engine="streaming").row(0)
    first, final = (f"{m // 12:04d}-{m % 12 + 1:02d}" for m in (oldest, newest))
    if last is None:
        return Span(first, final, None, ())
    if lowest == highest and oldest != newest:
        note = f"All dates fall on day {lowest}: they are taken to mean whole months."
        return Span(first, final, None, (note,))
    n_days = calendar.monthrange(newest // 12, newest % 12 + 1)[1]
    last_day = last % 100 if last // 100 == newest // 12 * 100 + newest % 12 + 1 else 0
    if last_day == 0 or n_days - last_day <= PARTIAL_DAYS:
        return Span(first, final, None, ())
    note = f"The newest month, {final}, ends on day {last_day} of {n_days}: incomplete."
    return Span(first, final, final, (note,))


NOTHING = pl.DataFrame(schema={ROW: pl.UInt32})


def judge(
    table: Table, data: DataConfig, target: Path, work: Path
) -> tuple[pl.DataFrame, ValidationReport]:
    """Judge every row, write the kept ones to `target`, and account for the others.

    Parameters
    ----------
    table : Table
        Rows as received.
    data : DataConfig
        Column names, formats and policies.
    target : Path
        Parquet to write; canonical columns.
    work : Path
        Folder for intermediate files.

    Returns
    -------
    polars.DataFrame, ValidationReport
        The rows set aside: `source_row`, `reason`, and the mapped columns as received,
        as text; and the account.

    Raises
    ------
    SchemaError
        If columns cannot be used, a fault's policy is `error`, or no row is left.
    """
    judgement = _Judgement(table, data, stage(table, data, work), work)
    return judgement.pass_sentence(target)


class _Judgement:
    """The steps of `judge`, which share the staged rows and the counts so far."""

    def __init__(
        self, table: Table, data: DataConfig, staged: Staged, work: Path
    ) -> None:
        self.table = table
        self.staged = staged
        self.work = work
        self.date_format = data.date_format
        self.policies = policies_in_order(data.policies)
        self.groups = (
            staged.rows.group_by(MARKS)
            .agg(pl.len().alias("n"), pl.col(ROW).max().alias("last"))
            .collect(engine="streaming")
        )
        self.n_read = int(self.groups["n"].sum())
        self.found = {name: self._n_marked(BITS[name]) for name in ROW_FAULTS}
        dropped = [n for n in ROW_FAULTS if self.policies[n] == "drop"]
        self.drop_bits = sum(BITS[name] for name in dropped)

    def pass_sentence(self, target: Path) -> tuple[pl.DataFrame, ValidationReport]:
        """Do all steps in order."""
        if self.n_read == 0:
            raise SchemaError(
                f"{self.table.name} holds column names, but no rows under them."
            )
        self._stop_at(ROW_FAULTS)
        duplicates = self._exact_duplicates()
        unique = self._survivors(duplicates)
        repeats = self._repeated_keys(unique)
        kept = unique if repeats.is_empty() else _without(unique, repeats)
        reasons = self._reasons(duplicates, repeats)
        rejected = self._received(reasons.lazy())
        counts = self._counts(reasons)
        if len(rejected) == self.n_read:
            raise SchemaError(self._explain_nothing_left(counts, rejected))
        columns = sales_columns(self.staged.columns)
        kept.select(columns).sink_parquet(target, compression="lz4")
        return rejected, self._intake(kept, counts, rejected)

    def _n_marked(self, bits: int) -> int:
        """Return the number of rows with any of some marks."""
        return int(self.groups.filter(pl.col(MARKS) & bits != 0)["n"].sum())

    def _exact_duplicates(self) -> pl.DataFrame:
        """Return the rows to set aside as equal to an earlier one; count them all."""
        policy = self.policies["exact_duplicate"]
        repeated, n_repeats = repeated_hashes(self.staged.rows.select(HASH))
        self.found["exact_duplicate"] = n_repeats
        if policy == "keep" or n_repeats == 0:
            return NOTHING
        # Hashed again from the source: keeping its columns would double the disk used.
        rows = self.staged.received.with_columns(self.staged.hashed)
        found = later_duplicates(rows, self.staged.compared, repeated, self.work)
        self.found["exact_duplicate"] = len(found)
        self._stop_at(["exact_duplicate"], found)
        return found

    def _survivors(self, duplicates: pl.DataFrame) -> pl.LazyFrame:
        """Return the staged rows that neither a mark nor a twin has set aside."""
        rows = self.staged.rows.filter(pl.col(MARKS) & self.drop_bits == 0)
        return rows if duplicates.is_empty() else _without(rows, duplicates)

    def _repeated_keys(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Return the rows to set aside as repeating a key; count them all."""
        policy = self.policies["repeated_key"]
        keyed = rows.with_columns(pl.struct(KEY_COLUMNS).hash(seed=0).alias(HASH))
        repeated, n_repeats = repeated_hashes(keyed.select(HASH))
        self.found["repeated_key"] = n_repeats
        if policy == "keep" or n_repeats == 0:
            return NOTHING
        keys = [pl.col(column) for column in KEY_COLUMNS]
        found = later_duplicates(keyed, keys, repeated, self.work)
        self.found["repeated_key"] = len(found)
        self._stop_at(["repeated_key"], found)
        return found

    def _reasons(self, duplicates: pl.DataFrame, repeats: pl.DataFrame) -> pl.DataFrame:
        """Return the rows set aside, each with the first reason that applies."""
        reason: pl.Expr = pl.lit(None, pl.String)
        for name in reversed(ROW_FAULTS):
            if self.policies[name] == "drop":
                has_fault = pl.col(MARKS) & BITS[name] != 0
                reason = pl.when(has_fault).then(pl.lit(name)).otherwise(reason)
        marked = self.staged.rows.filter(pl.col(MARKS) & self.drop_bits != 0)
        own = marked.select(ROW, reason.alias("reason")).collect(engine="streaming")
        only_twins = duplicates.join(own, on=ROW, how="anti")
        parts = [
            own,
            only_twins.with_columns(reason=pl.lit("exact_duplicate")),
            repeats.with_columns(reason=pl.lit("repeated_key")),
        ]
        return pl.concat(parts).sort(ROW)

    def _received(self, reasons: pl.LazyFrame) -> pl.DataFrame:
        """Return rows as received, as text, with their numbers and reasons."""
        names = self.staged.columns.received.values()
        taken = {"source_row", "reason"}
        cells = [
            pl.col(n)
            .cast(pl.String, strict=False)
            .alias(f"{n}_received" if n in taken else n)
            for n in names
        ]
        # In the order of the source: sorting afterwards would need a second copy.
        joined = self.staged.received.join(
            reasons, on=ROW, how="inner", maintain_order="left"
        )
        rows = joined.select(pl.col(ROW).alias("source_row"), "reason", *cells)
        return rows.collect(engine="streaming")

    def _counts(self, reasons: pl.DataFrame) -> dict[str, FaultCount]:
        """Return found and set aside per fault, in order."""
        aside = dict(reasons.group_by("reason").len().iter_rows())
        return {
            name: FaultCount(self.found[name], self.policies[name], aside.get(name, 0))
            for name in FAULTS
        }

    def _stop_at(self, names: Sequence[str], found: pl.DataFrame | None = None) -> None:
        """Raise for faults that were found and whose policy is `error`."""
        faulty = [n for n in names if self.policies[n] == "error" and self.found[n]]
        if not faulty:
            return
        lines = []
        for name in faulty:
            if found is None:
                is_marked = pl.col(MARKS) & BITS[name] != 0
                rows = self.staged.rows.filter(is_marked).select(ROW).head(3).collect()
            else:
                rows = found.head(3)
            numbers = ", ".join(f"{row:,}" for row in rows[ROW].sort())
            n = self.found[name]
            other = "`keep` or `drop`" if name in KEPT_AS else "`drop`"
            lines.append(
                f"{self.table.name}: {n:,} of {counted(self.n_read)} "
                f"({share(n, self.n_read)}): {MEANINGS[name]}; first: row {numbers}. "
                f"The policy of `{name}` is `error`; to go on without stopping, choose "
                f"{other}: `--set data.policies.{name}=drop`."
            )
            example = self._received(rows.lazy().with_columns(reason=pl.lit(name)))
            lines += suggest_fixes(example, self.staged.columns, self.date_format)
        raise SchemaError("\n".join(lines))

    def _explain_nothing_left(
        self, counts: dict[str, FaultCount], rejected: pl.DataFrame
    ) -> str:
        """Return why no row is left."""
        reasons = ", ".join(
            f"{count.set_aside:,} with `{name}` ({MEANINGS[name]})"
            for name, count in counts.items()
            if count.set_aside
        )
        first = f"{self.table.name}: none of {counted(self.n_read)} can be used: "
        hints = suggest_fixes(rejected, self.staged.columns, self.date_format)
        return "\n".join([f"{first}{reasons}.", *hints, *self.table.notes])

    def _intake(
        self,
        kept: pl.LazyFrame,
        counts: dict[str, FaultCount],
        rejected: pl.DataFrame,
    ) -> ValidationReport:
        """Return the account of the whole."""
        repairs = {name: self._n_marked(BITS[name]) for name in REPAIRS}
        notes = [*self.table.notes, *self.staged.notes]
        n_empty = int(self.groups.select(pl.col("last").max()).item()) - self.n_read
        if n_empty:
            notes.append(f"{counted(n_empty, 'empty line')} passed over.")
        notes += suggest_fixes(rejected, self.staged.columns, self.date_format)
        notes += [REPAIR_NOTES[name].format(n) for name, n in repairs.items() if n]
        if self.staged.columns.is_dated and counts["exact_duplicate"].set_aside:
            notes.append(
                "If equal lines are separate sales, keep them: "
                "`--set data.policies.exact_duplicate=keep`."
            )
        ids = {c: distinct(kept, c) for c in ("shop_id", "product_id")}
        for column, values in ids.items():
            notes += id_notes(column, values)
        span = month_span(kept)
        return ValidationReport(
            rows_read=self.n_read,
            rows_kept=self.n_read - len(rejected),
            faults=counts,
            repairs=repairs,
            notes=[*notes, *span.notes],
            n_shops=len(ids["shop_id"]),
            n_products=len(ids["product_id"]),
            oldest_month=span.oldest,
            newest_month=span.newest,
            partial_last_month=span.partial,
        )


def _without(rows: pl.LazyFrame, others: pl.DataFrame) -> pl.LazyFrame:
    """Return rows whose number is not among others, in their order."""
    return rows.join(others.lazy(), on=ROW, how="anti", maintain_order="left")


# What decides the rows beside their source.
READING_OPTIONS = {
    "columns", "date_format", "sheet", "separator", "decimal", "encoding", "policies",
}  # fmt: skip


@dataclass(frozen=True)
class Sales:
    """Sales rows that passed the checks, and what became of the others.

    Attributes
    ----------
    frame : polars.LazyFrame
        Scan of `path`: `shop_id`, `product_id` (String), `year`, `month` (Int32),
        `sales_qty` (Float64, finite) and, if the source has it, `sales_value`
        (Float64, null where unknown). Nothing else is null. Several rows may share
        one shop, product and month: they add up.
    path : Path
        The Parquet file.
    rejected : polars.DataFrame
        The rows set aside: `source_row` (1 is the first row of the input, over all its
        files), `reason`, and the mapped columns as received, as text.
    intake : ValidationReport
        The account of the reading.
    fingerprint : str
        SHA-256 that is equal when the same input is read with the same options.
    truth : polars.DataFrame or None
        What the generator planted; only for the sample.
    """

    frame: pl.LazyFrame
    path: Path
    rejected: pl.DataFrame
    intake: ValidationReport
    fingerprint: str
    truth: pl.DataFrame | None = None


SalesGenerator = Callable[[SampleConfig, int], Any]
"""Makes the built-in sample: an object with `rows` (our columns) and `truth`."""


def read_sales(
    config: Config, work: Path, generate: SalesGenerator | None = None
) -> Sales:
    """Read the sales rows that a configuration names.

    Parameters
    ----------
    config : Config
        `data.input` wins over `data.source`.
    work : Path
        Folder for the resulting Parquet and, while reading, intermediate files;
        created if it is not there.
    generate : callable, optional
        Makes the sample, for a configuration that asks for it.

    Raises
    ------
    SourceError
        If the data cannot be found, fetched or opened, or the sample is asked for
        without `generate`.
    SchemaError
        If its columns or rows cannot be used.
    ConfigError
        If an option about the data cannot be meant.
    """
    with scratch_folder(work) as scratch:
        if is_sample(config.data):
            return _read_sample(config, work, scratch, generate)
        files, name = _source_files(config.data, scratch)
        table = read_files(files, name, config.data, scratch)
        return _finish(table, config.data, work, scratch)


def source_fingerprint(config: Config) -> str:
    """Return the `Sales.fingerprint` that reading now would give, without judging rows.

    Raises
    ------
    SourceError
        If the data cannot be found or fetched.
    """
    if is_sample(config.data):
        return _fingerprint(_sample_digest(config), _sample_options(config.data))
    with tempfile.TemporaryDirectory() as folder:
        files, _ = _source_files(config.data, Path(folder))
        return _fingerprint(files_digest(files), config.data)


def is_sample(data: DataConfig) -> bool:
    """Return whether the rows are generated: no input is named, nor Kaggle."""
    return data.input is None and data.source == "sample"


def sales_from_frame(native: Any, config: Config, work: Path) -> Sales:
    """Take sales rows from a frame in memory, with the same checks as for a file.

    Parameters
    ----------
    native : pandas, Polars (eager or lazy) or Arrow table, or DuckDB relation
        Column names are mapped by `config.data.columns`.
    config : Config
        Options of `data`; `data.source` and `data.input` play no part.
    work : Path
        As for `read_sales`.

    Raises
    ------
    SourceError
        If `native` is no frame.
    SchemaError, ConfigError
        As for `read_sales`.
    """
    with scratch_folder(work) as scratch:
        with readable("the frame"):
            has_comma = config.data.decimal == ","
            table = table_from_frame(native, scratch, decimal_comma=has_comma)
        return _finish(table, config.data, work, scratch)


def _source_files(data: DataConfig, scratch: Path) -> tuple[list[SourceFile], str]:
    """Return the local files of a source, fetched if need be, and its name."""
    if data.input is None:
        files = fetch_kaggle(data.kaggle_handle, data.kaggle_file)
        return files, f"kaggle:{data.kaggle_handle}"
    remote = is_remote(data.input)
    files = fetch(data.input, scratch) if remote else locate(data.input)
    return files, files[0].name if len(files) == 1 else data.input


def _read_sample(
    config: Config, work: Path, scratch: Path, generate: SalesGenerator | None
) -> Sales:
    """Generate the sample and judge it like any other source."""
    if generate is None:
        raise SourceError(
            "`data.source` is `sample`, but no generator was handed in. Name the data "
            "with `data.input`."
        )
    made = generate(config.sample, config.seed)
    table = Table("sample", made.rows.lazy(), _sample_digest(config))
    return _finish(table, _sample_options(config.data), work, scratch, made.truth)


def _sample_digest(config: Config) -> str:
    """Return what tells one sample from another."""
    return _digest({"sample": config.sample.model_dump(), "seed": config.seed})


def _sample_options(data: DataConfig) -> DataConfig:
    """Return options for the sample: its columns are ours, whatever the user's are."""
    return data.model_copy(update={"columns": {}})


def _finish(
    table: Table,
    data: DataConfig,
    work: Path,
    scratch: Path,
    truth: pl.DataFrame | None = None,
) -> Sales:
    """Judge the rows of a table and put the result together."""
    path = work / "sales.parquet"
    with readable(table.name):
        rejected, intake = judge(table, data, path, scratch)
    fingerprint = _fingerprint(table.digest, data)
    frame = pl.scan_parquet(path, glob=False)
    return Sales(frame, path, rejected, intake, fingerprint, truth)


def _fingerprint(digest: str, data: DataConfig) -> str:
    """Return the fingerprint of a content read with some options."""
    options = data.model_dump(include=READING_OPTIONS)
    return _digest({"content": digest, "options": options})


def _digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def scratch_folder(work: Path) -> Iterator[Path]:
    """Give a fresh folder inside `work`, and remove it afterwards."""
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="reading-", dir=work))
    try:
        yield folder
    finally:
        # Windows may still hold a file that was mapped; it is not worth an error.
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what a library raises over damaged content into an error of ours."""
    try:
        yield
    except SegmentsError:
        raise
    except (pl.exceptions.ComputeError, pl.exceptions.PanicException, OSError) as error:
        raise SourceError(
            f"{name} could not be read to its end ({describe(error)}). The file may be "
            "damaged or cut off, or the disk of the working folder full."
        ) from None
