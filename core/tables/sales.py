"""Sales rows per shop, product and month: read, validated, written as Parquet.

Columns and faults are listed in ``sales.yaml``.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from core.config import Config, DataConfig, SampleConfig
from core.errors import ConfigError, SourceError
from core.months import month_label
from core.scratch import temporary_folder
from core.tables.cells import DAY, ParsedRows, parse_rows
from core.tables.columns import ROW, read_specs
from core.tables.faults import FaultCount, Validation, fault_lines, repair_lines
from core.tables.files import SourceFile, counted, fetch_kaggle, find_files
from core.tables.frames import table_from_frame
from core.tables.ids import alike_ids, id_sums, outsized_ids, total_ids
from core.tables.parts import split_by
from core.tables.readers import (
    READING_OPTIONS,
    ReceivedTable,
    files_digest,
    fingerprint,
    read_files,
    readable,
    scratch_folder,
)
from core.tables.settle import settle

# A month whose dates end earlier than this many days before it does is incomplete.
PARTIAL_DAYS = 3
SALES = read_specs("sales.yaml")["sales"]


@dataclass(frozen=True)
class ValidationReport:
    """The account of one reading.

    Attributes
    ----------
    rows_read, rows_kept : int
        Rows; lines without any value are not counted as rows.
    faults : dict of str to FaultCount
        Per fault, in the order in which reasons are given.
    repairs : dict of str to int
        Cells mended on the way, such as ids stored as floats.
    notes : list of str
        What the user should know, in sentences.
    n_shops, n_products : int
        Distinct ids among the rows kept; no products (None) if there is no such column.
    oldest_month, newest_month : str
        YYYY-MM, among the rows kept.
    partial_last_month : str or None
        The newest month, if its dates end more than 3 days before the month does.
    """

    rows_read: int
    rows_kept: int
    faults: dict[str, FaultCount]
    repairs: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    n_shops: int = 0
    n_products: int | None = 0
    oldest_month: str | None = None
    newest_month: str | None = None
    partial_last_month: str | None = None

    @property
    def rows_set_aside(self) -> int:
        """Rows read but not kept."""
        return self.rows_read - self.rows_kept

    def to_dict(self) -> dict[str, Any]:
        """Return the account as plain JSON-able values."""
        faults = {name: vars(count).copy() for name, count in self.faults.items()}
        return {**vars(self), "rows_set_aside": self.rows_set_aside, "faults": faults}

    def summary(self) -> list[str]:
        """Return the account in sentences, the most important first."""
        ids = [counted(self.n_shops, "shop")]
        if self.n_products is not None:
            ids.append(counted(self.n_products, "product"))
        first = (
            f"Kept {self.rows_kept:,} of {counted(self.rows_read)}: {', '.join(ids)}, "
            f"{self.oldest_month} to {self.newest_month}."
        )
        found = fault_lines(SALES, self.rows_read, self.rows_set_aside, self.faults)
        return [first, *found, *self.notes]


@dataclass(frozen=True)
class Sales:
    """Sales rows that passed the checks, and what became of the others.

    Attributes
    ----------
    frame : polars.LazyFrame
        Scan of `path`: `shop_id`, `product_id` (String), `year`, `month` (Int32),
        `sales_qty` (Float64, finite) and, if the source has it, `sales_value`
        (Float64, null where unknown). Nothing else is null, but every `product_id`
        where there are none. Several rows may share one shop, product and month: they
        add up.
    path : Path
        The Parquet file; of many rows, a folder of parts (`core.tables.parts`).
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

    @property
    def has_products(self) -> bool:
        """Whether the rows name products."""
        return self.intake.n_products is not None

    @property
    def has_unique_keys(self) -> bool:
        """Whether no two rows share shop, product and month."""
        return self.has_products and not self.intake.faults["repeated_key"].found


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
        return _validated(table, config.data, work, scratch)


def source_fingerprint(config: Config) -> str:
    """Return the `Sales.fingerprint` that reading now would give, without validating.

    Raises
    ------
    SourceError
        If the data cannot be found or fetched.
    """
    if is_sample(config.data):
        return _fingerprint(_sample_digest(config), _sample_options(config.data))
    with temporary_folder() as folder:
        files, _ = _source_files(config.data, folder)
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
        table = table_from_frame(native, scratch)
        return _validated(table, config.data, work, scratch)


def _source_files(data: DataConfig, scratch: Path) -> tuple[list[SourceFile], str]:
    """Return the local files of a source, fetched if need be, and its name."""
    if data.input is not None:
        return find_files(data.input, scratch)
    if data.source == "input":
        raise ConfigError(
            "`data.source` is `input`, but `data.input` names no file. Pass `--input "
            "PATH`."
        )
    files = fetch_kaggle(data.kaggle_handle, data.kaggle_file)
    return files, f"kaggle:{data.kaggle_handle}"


def _read_sample(
    config: Config, work: Path, scratch: Path, generate: SalesGenerator | None
) -> Sales:
    """Generate the sample and validate it like any other source."""
    if generate is None:
        raise SourceError(
            "`data.source` is `sample`, but no generator was handed in. Name the data "
            "with `data.input`."
        )
    made = generate(config.sample, config.seed)
    table = ReceivedTable("sample", made.rows.lazy(), _sample_digest(config))
    sales = _validated(table, _sample_options(config.data), work, scratch)
    return replace(sales, truth=made.truth)


def _sample_digest(config: Config) -> str:
    """Return what tells one sample from another."""
    return fingerprint({"sample": config.sample.model_dump(), "seed": config.seed})


def _sample_options(data: DataConfig) -> DataConfig:
    """Return options for the sample: its columns are ours, whatever the user's are."""
    return data.model_copy(update={"columns": {}})


def _fingerprint(digest: str, data: DataConfig) -> str:
    """Return the fingerprint of a content read with some options."""
    options = data.model_dump(include={*READING_OPTIONS, "columns", "policies"})
    return fingerprint({"content": digest, "options": options})


def _validated(
    table: ReceivedTable, data: DataConfig, work: Path, scratch: Path
) -> Sales:
    """Validate the rows of a table, and put the result together."""
    path = work / "sales.parquet"
    with readable(table.name):
        rejected, report = validate_sales(table, data, path, scratch)
    frame = pl.scan_parquet(path, glob=False)
    return Sales(frame, path, rejected, report, _fingerprint(table.digest, data))


def validate_sales(
    table: ReceivedTable, data: DataConfig, target: Path, work: Path
) -> tuple[pl.DataFrame, ValidationReport]:
    """Check every row, write the kept ones to `target`, and account for the others.

    Parameters
    ----------
    table : ReceivedTable
        Rows as received.
    data : DataConfig
        Column names, formats and policies.
    target : Path
        Parquet to write, a file or a folder of parts; our columns.
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
    parsed = parse_rows(table, data.columns, SALES, data, has_hash=True)
    path = work / "parsed.parquet"
    # Incompressible hashes make up most of it: speed counts, not size.
    parsed.rows.sink_parquet(path, compression="lz4", statistics=False)
    parsed = replace(parsed, rows=pl.scan_parquet(path, glob=False))
    parsed = settle(parsed, data.decimal, table.usual_decimal)
    checked = validation_of(parsed, data)
    parts = split_by(parsed.rows, "shop_id", checked.n_read, work / "parts")
    scans = [pl.scan_parquet(part, glob=False) for part in parts]
    kept = checked.drop_duplicates(scans or [parsed.rows], work)
    kept, sums = _without_totals(checked, kept)
    checked.stop_without_rows()
    _write_kept(kept, parsed, target)
    return checked.rejected, _report(checked, pl.concat(kept), sums)


def _write_kept(kept: Sequence[pl.LazyFrame], parsed: ParsedRows, target: Path) -> None:
    """Write the rows kept: parts as files of a folder, one part as a file."""
    columns = [*SALES.key, "sales_qty"]
    if "sales_value" in parsed.columns:
        columns.append("sales_value")
    if len(kept) > 1:
        target.mkdir()
    unknown = [pl.lit(None, pl.String).alias("product_id")]
    for number, rows in enumerate(kept):
        path = target / f"{number:06d}.parquet" if len(kept) > 1 else target
        named = rows.with_columns(unknown if "product_id" in parsed.lacking else [])
        named.select(columns).sink_parquet(path, compression="lz4")


def validation_of(
    parsed: ParsedRows, data: DataConfig, groups: pl.DataFrame | None = None
) -> Validation:
    """Return sales rows held against their faults, by policy.

    `groups` are of all rows, where `parsed` has examples of them only.
    """
    policies = data.policies.model_dump()
    if "product_id" in parsed.lacking and policies["exact_duplicate"] == "drop":
        parsed.notes.append("Equal rows are kept: their products may have differed.")
        policies["exact_duplicate"] = "keep"
    cure = _month_cure(data.date_format, is_dated="date" in parsed.columns)
    terms = {"months": cure}
    return Validation(parsed, parsed.rows, policies, "data.policies", terms, groups)


def _without_totals(
    checked: Validation, kept: list[pl.LazyFrame]
) -> tuple[list[pl.LazyFrame], dict[str, pl.DataFrame]]:
    """Set rows of totals aside; also return the rows and sums of each id kept."""
    rows, sums = pl.concat(kept), _sums_of_ids(kept)
    totals = {
        column: total_ids(rows, sums[column], column, "sales_qty", SALES.key)
        for column in sums
    }
    if not any(totals.values()):
        return kept, sums
    is_total = pl.any_horizontal(pl.col(c).is_in(found) for c, found in totals.items())
    checked.set_aside("total_row", rows.filter(is_total).select(ROW))
    if checked.policies["total_row"] == "drop":
        kept = [part.filter(~is_total) for part in kept]
        sums = _sums_of_ids(kept)
    return kept, sums


def _sums_of_ids(kept: Sequence[pl.LazyFrame]) -> dict[str, pl.DataFrame]:
    """Return the rows and the quantity of each shop, and of each product."""
    shops = [id_sums(part, "shop_id", "sales_qty") for part in kept]
    return {
        "shop_id": pl.concat(shops),
        "product_id": id_sums(pl.concat(kept), "product_id", "sales_qty"),
    }


def _month_cure(date_format: str | None, *, is_dated: bool) -> str:
    """Return what is expected of dates, or of years and months."""
    if not is_dated:
        return "Expected years of four digits, and months from 1 to 12."
    dates = (
        f"the format `{date_format}`" if date_format else "ISO dates such as 2024-01-31"
    )
    return (
        f"Expected {dates}; set `data.date_format`, such as `%d.%m.%Y` or "
        "`%m/%d/%Y %H:%M`."
    )


def _report(
    checked: Validation, kept: pl.LazyFrame, sums: Mapping[str, pl.DataFrame]
) -> ValidationReport:
    """Return the account of a validated table."""
    told = [
        *alike_ids(sums["shop_id"]["id"], "shop"),
        *alike_ids(sums["product_id"]["id"], "product"),
        *outsized_ids(sums["shop_id"], "shop_id", "row"),
    ]
    counts = len(sums["shop_id"]), len(sums["product_id"])
    return report_of(checked, kept, *counts, told)


def report_of(
    checked: Validation,
    kept: pl.LazyFrame,
    n_shops: int,
    n_products: int,
    told_of_ids: Sequence[str],
) -> ValidationReport:
    """Return the account of a validated table.

    Parameters
    ----------
    checked : Validation
    kept : LazyFrame
        ``year, month`` and, where dates are known, `core.tables.cells.DAY` of the rows
        kept; how often each occurs does not matter.
    n_shops, n_products : int
        Different ids in them.
    told_of_ids : sequence of str
        What is odd about these.
    """
    notes = list(checked.parsed.notes)
    if checked.n_empty:
        notes.append(f"{counted(checked.n_empty, 'empty line')} passed over.")
    notes += checked.fixes
    notes += repair_lines(SALES, checked.n_read, checked.repairs)
    is_dated = "date" in checked.parsed.columns
    if is_dated and checked.faults["exact_duplicate"].set_aside:
        notes.append(
            "If equal lines are separate sales, keep them: "
            "`--set data.policies.exact_duplicate=keep`."
        )
    oldest, newest, partial, warnings = _month_span(kept, is_dated=is_dated)
    return ValidationReport(
        rows_read=checked.n_read,
        rows_kept=checked.n_read - checked.n_aside,
        faults=checked.faults,
        repairs=checked.repairs,
        notes=[*notes, *told_of_ids, *warnings],
        n_shops=n_shops,
        n_products=None if "product_id" in checked.parsed.lacking else n_products,
        oldest_month=oldest,
        newest_month=newest,
        partial_last_month=partial,
    )


def _month_span(
    kept: pl.LazyFrame, *, is_dated: bool
) -> tuple[str, str, str | None, list[str]]:
    """Return the oldest, the newest, and the incomplete month, if any; and warnings."""
    month = pl.col("year") * 12 + pl.col("month") - 1
    day = pl.col(DAY) if is_dated else pl.lit(None, pl.Int32)
    facts = kept.select(
        month.min().alias("oldest"),
        month.max().alias("newest"),
        day.max().alias("last"),
        (day % 100).min().alias("lowest"),
        (day % 100).max().alias("highest"),
    )
    oldest, newest, last, lowest, highest = facts.collect(engine="streaming").row(0)
    first, final = month_label(oldest), month_label(newest)
    if last is None:
        return first, final, None, []
    if lowest == highest and oldest != newest:
        note = f"All dates fall on day {lowest}: they are taken to mean whole months."
        return first, final, None, [note]
    n_days = calendar.monthrange(newest // 12, newest % 12 + 1)[1]
    last_day = last % 100 if last // 100 == newest // 12 * 100 + newest % 12 + 1 else 0
    if last_day == 0 or n_days - last_day <= PARTIAL_DAYS:
        return first, final, None, []
    note = f"The newest month, {final}, ends on day {last_day} of {n_days}: incomplete."
    return first, final, final, [note]
