"""Local files of any readable kind as one lazy table of columns as received."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from core.config import DataConfig
from core.data.csvfile import BEYOND, open_csv
from core.data.files import (
    KIND_NAMES,
    SourceFile,
    Survey,
    describe,
    kind_of,
    survey,
    unpack,
)
from core.errors import SourceError, did_you_mean, listed


@dataclass(frozen=True)
class Table:
    """Rows as received, with nothing judged yet.

    Attributes
    ----------
    name : str
        What the table is called in messages.
    scan : polars.LazyFrame
        The columns as received; for a CSV also `core.data.csvfile.BEYOND`.
    digest : str
        Identifies the content; equal content in files of equal names has an equal one.
    notes : tuple of str
        What the user should know about how it was read.
    has_empty_rows : bool
        Whether rows without any value are lines left empty (CSV, Excel), not data.
    decimal_comma : bool
        Whether a comma in a number typed as text is its decimal mark.
    parts : tuple of (str, tuple of str)
        The files it was put together from, each with its own columns.
    """

    name: str
    scan: pl.LazyFrame
    digest: str
    notes: tuple[str, ...] = ()
    has_empty_rows: bool = False
    decimal_comma: bool = False
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()


def read_files(
    files: Sequence[SourceFile], name: str, data: DataConfig, work: Path
) -> Table:
    """Return the rows of some local files, one after the other, as one table.

    Parameters
    ----------
    files : sequence of SourceFile
        Files of one kind, in the order in which their rows are numbered.
    name : str
        What the whole is called in messages.
    data : DataConfig
        Options for CSV and Excel.
    work : Path
        Folder for what has to be unpacked or mended.

    Raises
    ------
    SourceError
        If a file is empty, damaged, or not what can be read, or the kinds are mixed.
    """
    plain = [inner for file in files for inner in unpack(file, work)]
    if len(plain) > 1:
        plain, notes = _without_empty(plain)
    else:
        notes = []
    kinds = [kind_of(file, data.encoding) for file in plain]
    _check_one_kind(plain, [kind for kind, _ in kinds], name)
    facts = {file.path: survey(file) for file in plain}
    tables, commas = [], []
    for file, (kind, note) in zip(plain, kinds, strict=True):
        notes += [note] if note else []
        if kind == "csv":
            opened = open_csv(file, facts[file.path], data, work)
            notes += opened.notes
            scan, comma = opened.scan, opened.separator == ";"
        else:
            notes += file.notes
            scan, comma = _open_typed(file, kind, data), False
        tables.append((file.name, _with_partitions(_strip_names(scan), file)))
        commas.append(comma)
    scan, more_notes = _union(tables)
    has_comma = data.decimal == "," or (data.decimal is None and all(commas))
    return Table(
        name=name,
        scan=scan,
        digest=files_digest(files, facts),
        notes=(*notes, *more_notes),
        has_empty_rows=kinds[0][0] != "parquet",
        decimal_comma=has_comma,
        parts=tuple((name, tuple(s.collect_schema().names())) for name, s in tables),
    )


def files_digest(
    files: Sequence[SourceFile], facts: Mapping[Path, Survey] | None = None
) -> str:
    """Return the SHA-256 of the names, sizes and contents of files as they came.

    `facts` may hold what is already known of some of them.
    """
    known = facts or {}
    digest = hashlib.sha256()
    for file in files:
        seen = known.get(file.path) or survey(file)
        digest.update(f"{file.name}\0{seen.n_bytes}\0{seen.sha256}\n".encode())
    return digest.hexdigest()


def _without_empty(files: list[SourceFile]) -> tuple[list[SourceFile], list[str]]:
    """Leave out files of 0 bytes, as some exports write them, unless all are."""
    full = [file for file in files if file.path.stat().st_size > 0]
    if not full or len(full) == len(files):
        return files, []
    names = [file.name for file in files if file not in full]
    return full, [f"Left out, being empty (0 bytes): {listed(names, 3)}."]


def _check_one_kind(files: list[SourceFile], kinds: list[str], name: str) -> None:
    """Refuse files of more than one kind, naming an example of each."""
    counts = Counter(kinds)
    if len(counts) <= 1:
        return
    examples = {kind: file.name for file, kind in zip(files, kinds, strict=True)}
    found = "; ".join(
        f"{n:,} x {KIND_NAMES[kind]} such as `{examples[kind]}`"
        for kind, n in counts.most_common()
    )
    raise SourceError(
        f"`{name}` mixes kinds of files: {found}. The same rows may be there twice. "
        "Name the ones to read by a glob, such as `--input FOLDER/*.csv`."
    )


def _open_typed(file: SourceFile, kind: str, data: DataConfig) -> pl.LazyFrame:
    """Return the columns of a Parquet or Excel file."""
    try:
        if kind == "excel":
            return _open_workbook(file, data.sheet)
        scan = pl.scan_parquet(file.path, glob=False, hive_partitioning=False)
        scan.collect_schema()
        return scan
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise SourceError(
            f"{file.name} begins like {KIND_NAMES[kind]}, but cannot be read "
            f"({describe(error)}). It is damaged or cut off; fetch it again."
        ) from None


def _open_workbook(file: SourceFile, sheet: str | None) -> pl.LazyFrame:
    """Return one sheet of an Excel workbook, types as its cells have them."""
    import fastexcel

    try:
        sheets = fastexcel.read_excel(file.path).sheet_names
    except fastexcel.FastExcelError as error:
        raise SourceError(
            f"{file.name} is no Excel workbook that can be read ({describe(error)}). "
            "It is damaged or protected; save it again, or as CSV."
        ) from None
    if sheet is not None and sheet not in sheets:
        raise SourceError(
            f"{file.name} has no sheet `{sheet}`.{did_you_mean(sheet, sheets)} "
            f"It has {listed(sheets)}."
        )
    frame = pl.read_excel(
        file.path,
        sheet_name=sheet or sheets[0],
        infer_schema_length=None,
        drop_empty_rows=False,
        drop_empty_cols=False,
        raise_if_empty=False,
    )
    return frame.lazy()


def _strip_names(scan: pl.LazyFrame) -> pl.LazyFrame:
    """Take the spaces off column names, unless two would become the same."""
    names = scan.collect_schema().names()
    stripped = Counter(name.strip() for name in names)
    return scan.rename({n: n.strip() for n in names if stripped[n.strip()] == 1})


def _with_partitions(scan: pl.LazyFrame, file: SourceFile) -> pl.LazyFrame:
    """Add columns told by folder names, where the file does not have them."""
    names = scan.collect_schema().names()
    absent = {k: v for k, v in file.partitions.items() if k not in names}
    return scan.with_columns(
        pl.lit(value, pl.String).alias(key) for key, value in absent.items()
    )


def _union(tables: list[tuple[str, pl.LazyFrame]]) -> tuple[pl.LazyFrame, list[str]]:
    """Put tables one below the other; columns that one lacks are null there."""
    if len(tables) == 1:
        return tables[0][1], []
    schemas = [scan.collect_schema() for _, scan in tables]
    types: dict[str, set[pl.DataType]] = {}
    for schema in schemas:
        for column, dtype in schema.items():
            types.setdefault(column, set()).add(dtype)
    text = [column for column, seen in types.items() if _needs_text(seen)]
    scans = []
    for (_, scan), schema in zip(tables, schemas, strict=True):
        as_text = [c for c in text if c in schema]
        scans.append(scan.with_columns(pl.col(as_text).cast(pl.String, strict=False)))
    notes = []
    for (name, _), schema in zip(tables[1:], schemas[1:], strict=True):
        if lacking := [c for c in schemas[0] if c not in schema and c != BEYOND]:
            notes.append(f"{name} lacks {listed(lacking)}, which {tables[0][0]} has.")
        if extra := [c for c in schema if c not in schemas[0] and c != BEYOND]:
            notes.append(f"{name} has {listed(extra)}, which {tables[0][0]} lacks.")
    return pl.concat(scans, how="diagonal_relaxed"), notes


def _needs_text(types: set[pl.DataType]) -> bool:
    """Return whether types of one column in several files have only text in common."""
    if len(types) == 1 or all(dtype.is_numeric() for dtype in types):
        return False
    return not all(isinstance(dtype, pl.Date | pl.Datetime) for dtype in types)
