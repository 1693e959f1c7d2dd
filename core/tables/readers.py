"""CSV, Parquet and Excel files as one lazy table of columns as received.

Every cell is read as text, so that the checks see what the file says. Encoding and
separator are found out, or given by option; what had to be mended becomes a note.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from core.config import DataConfig
from core.errors import SegmentsError, SourceError, listed
from core.tables.files import (
    CHUNK_BYTES,
    KIND_NAMES,
    FileStats,
    SourceFile,
    chunks,
    counted,
    describe,
    kind_of,
    new_file,
    scan_file,
    unpack,
)
from core.tables.layout import (
    HEAD_ROWS,
    filled_down,
    find_header,
    passed_over,
    unique_names,
)
from core.tables.workbooks import read_workbook

# Of `core.config.DataConfig`, beside the mapping of columns: how files are read.
READING_OPTIONS = {
    "date_format", "sheet", "header_row", "fill_down", "separator", "decimal",
    "encoding", "exclude_ids",
}  # fmt: skip
SEPARATORS = (",", ";", "\t", "|")
# Holds the first cell beyond the header's last column, where a line has one.
BEYOND = "__beyond_the_header__"
# Holds the path of the file that a row is from.
FILE = "__file__"
HEAD_CHARS = 1 << 18
# Byte order marks, longest first: UTF-32's begins with UTF-16's.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class _Head:
    """The header line: its column names, and the lines up to its end."""

    columns: list[str]
    separator: str
    n_lines: int


def _open_csv(
    file: SourceFile, facts: FileStats, data: DataConfig, work: Path
) -> tuple[pl.LazyFrame, str, list[str]]:
    """Return a CSV as a lazy table of text, its separator, and notes on mending."""
    plain = _as_utf8(file, facts, data.encoding, work)
    head, titles = _read_head(plain, data)
    notes = [*plain.notes, *titles]
    scan = _scan(plain.path, head)
    if facts.has_quotes:
        # Line breaks were counted in the file as it came, not in a rewritten one.
        n_lines = facts.n_line_breaks - head.n_lines if plain.path == file.path else 0
        n_rows = _count_rows(scan)
        if n_rows is None:
            scan, n_lines, n_rows = _read_by_line(plain, head, work)
            notes.append(
                f"{file.name} holds quotes inside cells or without their pair; it was "
                "read line by line, heeding quotes only where a cell begins with one."
            )
        if n_lines > n_rows:
            notes.append(
                f"{file.name}: {counted(n_lines - n_rows, 'line break')} inside quoted "
                "cells. If that is not intended, a closing quote is missing, and rows "
                "were read as one cell."
            )
    return scan, head.separator, notes


def _as_utf8(
    file: SourceFile, facts: FileStats, encoding: str | None, work: Path
) -> SourceFile:
    """Return a UTF-8 file with line feeds, rewritten into `work` where needed."""
    with file.path.open("rb") as stream:
        start = stream.read(HEAD_CHARS)
    note = None
    marked = [name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)]
    if encoding is None:
        if marked and marked[0] != "utf-8-sig":
            encoding = marked[0]
        elif facts.is_utf8:
            encoding = "utf-8"
        else:
            encoding, note = _guess_encoding(file)
    is_utf8 = codecs.lookup(encoding).name == "utf-8" and facts.is_utf8
    if is_utf8 and not facts.n_lone_returns:
        return file
    target = new_file(work, file.name)
    try:
        decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder(encoding)("replace"),
            translate=facts.n_lone_returns > 0,
        )
        with target.open("w", encoding="utf-8", newline="") as stream_out:
            for text in _decoded(file, decoder):
                stream_out.write(text)
    except UnicodeError as error:
        raise SourceError(
            f"{file.name} is not in `{encoding}`, which `data.encoding` names "
            f"({describe(error)}). Leave it out to have the encoding found out."
        ) from None
    notes = [*file.notes, note] if note else [*file.notes]
    if isinstance(decoder.newlines, tuple) and "\r" in decoder.newlines:
        notes.append(
            f"{file.name} mixes line breaks of several kinds; a carriage return alone "
            "was taken for one, too."
        )
    return replace(file, path=target, notes=tuple(notes))


def _decoded(
    file: SourceFile, decoder: codecs.IncrementalDecoder | io.IncrementalNewlineDecoder
) -> Iterator[str]:
    """Yield the text of a file in chunks."""
    for chunk in chunks(file):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _guess_encoding(file: SourceFile) -> tuple[str, str]:
    """Return the encoding of a file that is not valid UTF-8, and the note on it.

    Where most characters beyond ASCII are valid UTF-8 it is UTF-8 with broken places;
    text in Windows-1252 or Latin-1 hardly ever is.
    """
    n_broken = n_good = 0
    for text in _decoded(file, codecs.getincrementaldecoder("utf-8")("replace")):
        broken = text.count("\ufffd")
        n_broken += broken
        n_good += len(text) - len(text.encode("ascii", "ignore")) - broken
    advice = "If that is wrong, set `data.encoding`."
    if n_good > n_broken:
        return "utf-8", (
            f"{file.name} is UTF-8 with {n_broken:,} broken places, which were read as "
            f"\ufffd. {advice}"
        )
    return "cp1252", f"{file.name} is not UTF-8; it was read as Windows-1252. {advice}"


def _read_head(file: SourceFile, data: DataConfig) -> tuple[_Head, list[str]]:
    """Find the header line, and the separator where none is given; with notes."""
    with file.path.open(encoding="utf-8-sig", newline="") as stream:
        text = stream.read(HEAD_CHARS)
    lines = text.splitlines(keepends=True)
    n_skipped = 0 if data.header_row is None else data.header_row - 1
    del lines[:n_skipped]
    while lines and not lines[0].strip():
        lines.pop(0)
        n_skipped += 1
    if not lines:
        raise SourceError(
            f"{file.name} holds nothing but empty lines."
            if data.header_row is None
            else f"{file.name} has no line {data.header_row:,} (`data.header_row`)."
        )
    separator = data.separator
    # Excel writes, and understands, a first line that names the separator.
    if lines[0].lower().startswith("sep=") and len(lines[0].strip()) <= 5:
        separator = separator or lines[0].rstrip("\r\n")[4:] or None
        lines.pop(0)
        n_skipped += 1
    separator = "\t" if separator == "tab" else separator or sniff(lines)
    rows, ends = _first_rows(lines, separator)
    if not rows:
        raise SourceError(
            f"{file.name}: the first line cannot be taken apart into column names."
        )
    top = 0 if data.header_row else find_header(rows)
    titles = [cell for row in rows[:top] for cell in row if cell.strip()]
    n_lines = n_skipped + ends[top]
    notes = [passed_over(file.name, n_lines - 1, titles[0])] if titles else []
    return _Head(unique_names(rows[top]), separator, n_lines), notes


def _first_rows(lines: list[str], separator: str) -> tuple[list[list[str]], list[int]]:
    """Return the cells of the first rows, and the number of lines up to their ends."""
    reader = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=separator)
    rows, ends = [], []
    # What cannot be taken apart further down is seen when it is read.
    with suppress(csv.Error):
        for row in islice(reader, HEAD_ROWS):
            rows.append(row)
            ends.append(reader.line_num)
    return rows, ends


def sniff(lines: list[str]) -> str:
    """Return the separator that occurs most in the header, or in the lines below."""
    header = _outside_quotes(lines[0])
    counts = {mark: header.count(mark) for mark in SEPARATORS}
    found = max(SEPARATORS, key=lambda mark: counts[mark])
    below = [_outside_quotes(line) for line in lines[1:HEAD_ROWS] if line.strip()]
    # A title above the header may hold a comma, or no mark at all.
    if not counts[found] or (below and not any(found in line for line in below)):
        counts = {mark: sum(line.count(mark) for line in below) for mark in SEPARATORS}
    return max(SEPARATORS, key=lambda mark: counts[mark])


def _outside_quotes(line: str) -> str:
    """Return a line without its quoted parts."""
    return "".join(line.split('"')[::2])


def _scan(path: Path, head: _Head) -> pl.LazyFrame:
    """Return the cells below the header as text."""
    schema = dict.fromkeys([*head.columns, BEYOND], pl.String())
    return pl.scan_csv(
        path,
        has_header=False,
        skip_lines=head.n_lines,
        schema=schema,
        separator=head.separator,
        truncate_ragged_lines=True,
        missing_columns="insert",
        extra_columns="ignore",
        glob=False,
    )


def _count_rows(scan: pl.LazyFrame) -> int | None:
    """Return the number of rows, or None if the quotes in them make no sense."""
    try:
        # Null counts make Polars take every cell apart; a bare length would not.
        counts = scan.select(pl.all().null_count(), pl.len().alias("__rows__"))
        return int(counts.collect(engine="streaming")["__rows__"].item())
    except pl.exceptions.ComputeError:
        return None


def _read_by_line(
    file: SourceFile, head: _Head, work: Path
) -> tuple[pl.LazyFrame, int, int]:
    """Scan a copy with every quote in its place, as the csv module reads the file.

    Also returns the numbers of lines and of rows below the header.
    """
    target = new_file(work, file.name)
    n_rows = 0
    with (
        file.path.open(encoding="utf-8-sig", newline="") as stream_in,
        target.open("w", encoding="utf-8", newline="", buffering=CHUNK_BYTES) as out,
    ):
        for _ in range(head.n_lines):
            stream_in.readline()
        writer = csv.writer(out, delimiter=head.separator, lineterminator="\n")
        reader = csv.reader(stream_in, delimiter=head.separator)
        try:
            for row in reader:
                writer.writerow(row)
                n_rows += 1
        except csv.Error as error:
            line = head.n_lines + reader.line_num
            raise SourceError(
                f"{file.name}, line {line:,}: {error}. A quote probably lacks its pair."
            ) from None
    return _scan(target, replace(head, n_lines=0)), reader.line_num, n_rows


class Settled(NamedTuple):
    """What all rows of a table decide about the reading of each.

    Attributes
    ----------
    marks : mapping of str to str
        Decimal marks, see `core.tables.settle.settled_marks`.
    has_times : bool
        Whether orders have a time of day.
    """

    marks: Mapping[str, str]
    has_times: bool = True


@dataclass(frozen=True)
class ReceivedTable:
    """Rows as received, with nothing checked yet.

    Attributes
    ----------
    name : str
        What the table is called in messages.
    scan : polars.LazyFrame
        The columns as received; for a CSV also `core.tables.readers.BEYOND`.
    digest : str
        Identifies the content; equal content in files of equal names has an equal one.
    notes : tuple of str
        What the user should know about how it was read.
    has_empty_rows : bool
        Whether rows without any value are lines left empty (CSV, Excel), not data.
    usual_decimal : str
        The decimal mark that numbers typed as text have in such a source.
    is_plain : bool
        Whether no text can be in a formula, `="0001"`, or have NUL in it.
    parts : tuple of (str, tuple of str)
        The files it was put together from, each with its own columns.
    settled : Settled, optional
        What all rows have settled of which these are a part; None: these are all.
    """

    name: str
    scan: pl.LazyFrame
    digest: str
    notes: tuple[str, ...] = ()
    has_empty_rows: bool = False
    usual_decimal: str = "."
    is_plain: bool = False
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    settled: Settled | None = None

    @property
    def columns(self) -> list[str]:
        """The columns as received, without what lay beyond the header."""
        return [n for n in self.scan.collect_schema().names() if n != BEYOND]


def read_files(
    files: Sequence[SourceFile], name: str, data: DataConfig, work: Path
) -> ReceivedTable:
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
    plain, notes = _without_empty([f for file in files for f in unpack(file, work)])
    kinds = [kind_of(file, data.encoding) for file in plain]
    _check_one_kind(plain, [kind for kind, _ in kinds], name)
    facts = {file.path: scan_file(file) for file in plain}
    tables: list[tuple[str, pl.LazyFrame]] = []
    stored: list[SourceFile | None] = []
    commas = []
    for file, (kind, note) in zip(plain, kinds, strict=True):
        notes += [note] if note else []
        separator = None
        if kind == "csv":
            scan, separator, mended = _open_csv(file, facts[file.path], data, work)
            found = [(file.name, scan)]
        elif kind == "excel":
            found, mended = read_workbook(file, data.sheet, data.header_row, work)
            mended = [*file.notes, *mended]
        else:
            found, mended = [(file.name, _open_parquet(file))], list(file.notes)
        notes += mended
        commas.append(separator == ";")
        for part, scan in found:
            filled, told = filled_down(_strip_names(scan), data.fill_down, part)
            tables.append((part, _with_partitions(filled, file)))
            is_as_stored = kind == "parquet" and not told and not data.fill_down
            stored.append(file if is_as_stored else None)
            notes += told
    scan, more_notes = _union(tables, stored)
    return ReceivedTable(
        name=name,
        scan=scan,
        digest=files_digest(files, facts),
        notes=(*notes, *more_notes),
        has_empty_rows=kinds[0][0] != "parquet",
        usual_decimal="," if all(commas) else ".",
        is_plain=all(
            kind == "csv"
            and not (facts[file.path].has_quotes or facts[file.path].has_nul)
            for file, (kind, _) in zip(plain, kinds, strict=True)
        ),
        parts=tuple((name, tuple(s.collect_schema().names())) for name, s in tables),
    )


def files_digest(
    files: Sequence[SourceFile], facts: Mapping[Path, FileStats] | None = None
) -> str:
    """Return the SHA-256 of the names, sizes and contents of files as they came.

    `facts` may hold what is already known of some of them.
    """
    known = facts or {}
    digest = hashlib.sha256()
    for file in files:
        seen = known.get(file.path) or scan_file(file)
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


def _open_parquet(file: SourceFile) -> pl.LazyFrame:
    """Return the columns of a Parquet file."""
    try:
        scan = pl.scan_parquet(file.path, glob=False, hive_partitioning=False)
        scan.collect_schema()
        return scan
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise SourceError(
            f"{file.name} begins like {KIND_NAMES['parquet']}, but cannot be read "
            f"({describe(error)}). It is damaged or cut off; fetch it again."
        ) from None


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


def _union(
    tables: Sequence[tuple[str, pl.LazyFrame]], stored: Sequence[SourceFile | None]
) -> tuple[pl.LazyFrame, list[str]]:
    """Put tables one below the other; columns that one lacks are null there.

    `stored` are their Parquet files, where nothing but partitions was added to them.
    """
    if len(tables) == 1:
        return tables[0][1], []
    schemas = [scan.collect_schema() for _, scan in tables]
    types: dict[str, set[pl.DataType]] = {}
    for schema in schemas:
        for column, dtype in schema.items():
            types.setdefault(column, set()).add(dtype)
    text = [column for column, seen in types.items() if _needs_text(seen)]
    scans = []
    # Thousands of scans take a minute to plan and to pass through; of one make is one.
    runs = groupby(
        zip(tables, schemas, stored, strict=True),
        key=lambda one: (one[1], one[2] is not None),
    )
    for (schema, is_stored), run in runs:
        as_text = [pl.col(c).cast(pl.String, strict=False) for c in text if c in schema]
        alike = list(run)
        whole = [_one_scan([file for *_, file in alike if file])] if is_stored else []
        found = whole or [scan for (_, scan), *_ in alike]
        scans += [scan.with_columns(as_text) for scan in found]
    notes = []
    for (name, _), schema in zip(tables[1:], schemas[1:], strict=True):
        if lacking := [c for c in schemas[0] if c not in schema and c != BEYOND]:
            notes.append(f"{name} lacks {listed(lacking)}, which {tables[0][0]} has.")
        if extra := [c for c in schema if c not in schemas[0] and c != BEYOND]:
            notes.append(f"{name} has {listed(extra)}, which {tables[0][0]} lacks.")
    return pl.concat(scans, how="diagonal_relaxed"), notes


def _one_scan(files: Sequence[SourceFile]) -> pl.LazyFrame:
    """Return the rows of Parquet files with equal columns, with their partitions."""
    paths = [file.path for file in files]
    known = _open_parquet(files[0]).collect_schema()
    keys = [key for key in files[0].partitions if key not in known]
    scan = pl.scan_parquet(
        paths,
        glob=False,
        hive_partitioning=False,
        include_file_paths=FILE if keys else None,
    )
    if not keys:
        return scan
    told = {file.path: file.partitions for file in files}
    # As Polars spells them, which may be with other slashes.
    spelt = scan.select(pl.col(FILE).unique()).collect(engine="streaming")[FILE]
    values = {key: [told[Path(path)][key] for path in spelt] for key in keys}
    table = pl.LazyFrame(
        [spelt, *(pl.Series(k, v, pl.String) for k, v in values.items())]
    )
    return scan.join(table, on=FILE, how="left", maintain_order="left").drop(FILE)


def _needs_text(types: set[pl.DataType]) -> bool:
    """Return whether types of one column in several files have only text in common."""
    if len(types) == 1 or all(dtype.is_numeric() for dtype in types):
        return False
    return not all(isinstance(dtype, pl.Date | pl.Datetime) for dtype in types)


def fingerprint(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values: equal content and options, equal digest."""
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
