"""A CSV of unknown make as a lazy table of text.

Every cell is read as text, so that the checks see what the file says. Encoding and
separator are found out, or given by option; what had to be mended becomes a note.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from core.config import DataConfig
from core.data.files import CHUNK_BYTES, SourceFile, Survey, chunks, new_file
from core.data.intake import counted
from core.errors import ConfigError, SourceError

SEPARATORS = (",", ";", "\t", "|")
# Holds the first cell beyond the header's last column, where a line has one.
BEYOND = "__beyond_the_header__"
HEAD_CHARS = 1 << 18
# Byte order marks, longest first: UTF-32's begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class CsvTable:
    """A CSV ready to be scanned.

    Attributes
    ----------
    scan : polars.LazyFrame
        The columns of the header as text, and `BEYOND`.
    separator : str
        The character between cells.
    notes : tuple of str
        What had to be mended.
    """

    scan: pl.LazyFrame
    separator: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Head:
    """The header line: its column names, and the lines up to its end."""

    columns: list[str]
    separator: str
    n_lines: int


def open_csv(file: SourceFile, facts: Survey, data: DataConfig, work: Path) -> CsvTable:
    """Return a CSV as a lazy table of text.

    Raises
    ------
    ConfigError
        If `data.encoding` is not an encoding.
    SourceError
        If the file holds no header, or cannot be taken apart into lines and cells.
    """
    plain = _as_utf8(file, facts, data.encoding, work)
    head = _read_head(plain, data.separator)
    notes = list(plain.notes)
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
                "cells. If that is not meant, a quote lacks its pair and has swallowed "
                "rows."
            )
    return CsvTable(scan, head.separator, tuple(notes))


def _as_utf8(
    file: SourceFile, facts: Survey, encoding: str | None, work: Path
) -> SourceFile:
    """Return a UTF-8 file with line feeds, rewritten into `work` where needed."""
    with file.path.open("rb") as stream:
        start = stream.read(HEAD_CHARS)
    errors, note = "replace", None
    marked = next((name for mark, name in MARKS if start.startswith(mark)), None)
    if encoding is not None:
        _check_encoding(encoding)
    elif marked is not None and marked != "utf-8-sig":
        encoding = marked
    elif facts.is_utf8:
        encoding = "utf-8"
    else:
        encoding, note = _guess_encoding(file)
    is_utf8 = codecs.lookup(encoding).name == "utf-8" and facts.is_utf8
    has_old_breaks = b"\r" in start and b"\n" not in start
    if is_utf8 and not has_old_breaks:
        return file
    target = new_file(work, file.name)
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    with target.open("w", encoding="utf-8", newline="") as stream_out:
        for text in _decoded(file, decoder):
            stream_out.write(text.replace("\r", "\n") if has_old_breaks else text)
    notes = (*file.notes, note) if note else file.notes
    return replace(file, path=target, notes=notes)


def _decoded(file: SourceFile, decoder: codecs.IncrementalDecoder) -> Iterator[str]:
    """Yield the text of a file in chunks."""
    for chunk in chunks(file):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _check_encoding(encoding: str) -> None:
    """Refuse an encoding that Python does not know."""
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ConfigError(
            f"`data.encoding` is `{encoding}`, which is no known encoding. Expected a "
            "name such as `utf-8`, `cp1252`, `latin-1` or `utf-16`."
        ) from None


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


def _read_head(file: SourceFile, separator: str | None) -> _Head:
    """Find the header line, and the separator where none is given."""
    with file.path.open(encoding="utf-8-sig", newline="") as stream:
        text = stream.read(HEAD_CHARS)
    lines = text.splitlines(keepends=True)
    n_skipped = 0
    while lines and not lines[0].strip():
        lines.pop(0)
        n_skipped += 1
    if not lines:
        raise SourceError(f"{file.name} holds nothing but empty lines.")
    # Excel writes, and understands, a first line that names the separator.
    if lines[0].lower().startswith("sep=") and len(lines[0].strip()) <= 5:
        separator = separator or lines[0].rstrip("\r\n")[4:] or None
        lines.pop(0)
        n_skipped += 1
    separator = "\t" if separator == "tab" else separator or _sniff(lines)
    reader = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=separator)
    try:
        columns = next(reader)
    except (csv.Error, StopIteration):
        raise SourceError(
            f"{file.name}: the first line cannot be taken apart into column names."
        ) from None
    return _Head(_unique(columns), separator, n_skipped + reader.line_num)


def _sniff(lines: list[str]) -> str:
    """Return the separator that occurs most in the header, or in the lines below."""
    header = _outside_quotes(lines[0])
    counts = {mark: header.count(mark) for mark in SEPARATORS}
    if not any(counts.values()):
        below = [_outside_quotes(line) for line in lines[1:20]]
        counts = {mark: sum(line.count(mark) for line in below) for mark in SEPARATORS}
    return max(SEPARATORS, key=lambda mark: counts[mark])


def _outside_quotes(line: str) -> str:
    """Return a line without its quoted parts."""
    return "".join(line.split('"')[::2])


def _unique(columns: list[str]) -> list[str]:
    """Return the names with a mark on those that occur again, which must differ."""
    seen: dict[str, int] = {}
    names = []
    for column in columns:
        seen[column] = seen.get(column, 0) + 1
        # Spaces keep the repeated name recognisable as the same, and so ambiguous.
        names.append(column + " " * (seen[column] - 1))
    while len(set(names)) < len(names):
        names = [f"{name}{' ' * i}" for i, name in enumerate(names)]
    return names


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
        counted = scan.select(pl.all().null_count(), pl.len().alias("__rows__"))
        return int(counted.collect(engine="streaming")["__rows__"].item())
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
        writer.writerow(head.columns)
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
    header = _read_head(replace(file, path=target), head.separator)
    return _scan(target, replace(head, n_lines=header.n_lines)), reader.line_num, n_rows
