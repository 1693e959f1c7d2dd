"""Sheets of Excel workbooks, read in a process of their own.

A damaged workbook can make the library that parses it panic, abort its process, or fill
the memory (one cell at the far corner of a sheet is enough). Here all of that ends a
child process, and one sentence tells of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import polars as pl
import psutil  # type: ignore[import-untyped]  # its types are a package apart

from core.errors import SourceError, did_you_mean, listed
from core.tables.files import SourceFile, counted, describe
from core.tables.layout import HEAD_ROWS, find_header, passed_over, unique_names

# A sheet of a million rows and 30 columns takes some 2 GB.
MOST_BYTES = 6 << 30
MOST_SHARE = 0.8
MOST_SECONDS = 600
LOOK_SECONDS = 0.02
ANSWER = "sheets.json"
UNNAMED = "__UNNAMED__"
# Whole numbers beyond this are not all exact as 64-bit floats.
EXACT = 2.0**53


@dataclass(frozen=True)
class Sheet:
    """One sheet of a workbook, its rows saved as Parquet.

    Attributes
    ----------
    name : str
        As in the workbook.
    is_visible : bool
        Whether Excel shows it.
    columns : tuple of str
        Names in the header; none if the sheet holds nothing.
    titles : str
        A sentence on the rows passed over above the header; ``""``: none.
    fault : str
        Why it could not be read; ``""``: it was.
    path : str
        The Parquet file.
    """

    name: str
    is_visible: bool
    columns: tuple[str, ...] = ()
    titles: str = ""
    fault: str = ""
    path: str = ""


def read_workbook(
    file: SourceFile,
    wanted: Sequence[str] | None,
    header_row: int | None,
    work: Path,
) -> tuple[list[tuple[str, pl.LazyFrame]], list[str]]:
    """Return the sheets to read with their names in messages, and notes.

    Parameters
    ----------
    file : SourceFile
        The workbook.
    wanted : sequence of str or None
        Sheets asked for; None: all visible ones, if they have the same columns.
    header_row : int or None
        The row of the column names, from 1; None: found.
    work : Path
        Folder for the sheets as Parquet.

    Raises
    ------
    SourceError
        If it cannot be read within limits of time and memory, has no such sheet, or
        sheets with different columns and none is asked for.
    """
    folder = Path(tempfile.mkdtemp(prefix="workbook-", dir=work))
    options = {"header_row": header_row, "wanted": wanted}
    ended = _run([str(file.path), str(folder), json.dumps(options)])
    try:
        answer = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        answer = {"fault": ended}
    if "fault" in answer:
        raise SourceError(
            f"{file.name} is no Excel workbook that can be read ({answer['fault']}). "
            "It is damaged or protected; save it again, or as CSV."
        )
    found = [Sheet(**each) for each in answer["sheets"]]
    sheets, notes = _choose(found, wanted, file.name)
    notes += [sheet.titles for sheet in sheets if sheet.titles]
    several = len([sheet for sheet in found if sheet.columns]) > 1
    return [
        (
            f"{file.name}, sheet `{sheet.name}`" if several else file.name,
            pl.scan_parquet(sheet.path, glob=False),
        )
        for sheet in sheets
    ], notes


def _run(arguments: list[str]) -> str:
    """Run the reading process to its end or its limits; return how it ended."""
    command = [sys.executable, "-P", "-m", "core.tables.workbooks", *arguments]
    # It finds the same packages, wherever this process has its own from.
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    most = min(MOST_BYTES, int(MOST_SHARE * psutil.virtual_memory().available))
    process = subprocess.Popen(
        command,
        env=os.environ | paths,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    start = monotonic()
    try:
        while process.poll() is None:
            if _memory_of(process.pid) > most:
                return f"its sheets need more than {most / 2**30:.1f} GB of memory"
            if monotonic() - start > MOST_SECONDS:
                return f"reading it takes longer than {MOST_SECONDS} seconds"
            sleep(LOOK_SECONDS)
    finally:
        process.kill()
        process.wait()
    return "reading it ended in a crash"


def _memory_of(pid: int) -> int:
    """Return the bytes that a process and its children hold; 0 if it is gone."""
    try:
        process = psutil.Process(pid)
        # In a virtual environment of Windows, the interpreter is a child. Elsewhere it
        # has none, and looking for them reads the state of all processes there are.
        family = [process, *(process.children() if os.name == "nt" else ())]
        return sum(int(each.memory_info().rss) for each in family)
    except psutil.Error:
        return 0


def _choose(
    sheets: Sequence[Sheet], wanted: Sequence[str] | None, name: str
) -> tuple[list[Sheet], list[str]]:
    """Return the sheets to read, and notes on the others."""
    if wanted is not None:
        return _named(sheets, wanted, name), []
    full = [sheet for sheet in sheets if sheet.columns or sheet.fault]
    if not full:
        raise SourceError(f"{name} holds no cell in any sheet.")
    hidden = [sheet for sheet in full if not sheet.is_visible]
    shown = [sheet for sheet in full if sheet.is_visible] or full
    _check_readable(shown, name)
    first, *others = shown
    alike = [s for s in others if set(s.columns) == set(first.columns)]
    if len(alike) < len(others):
        columns = "; ".join(f"`{s.name}` has {listed(s.columns, 5)}" for s in shown[:4])
        raise SourceError(
            f"{name} has {counted(len(shown), 'sheet')} with different columns: "
            f"{columns}. Name those to read: `--set data.sheet={first.name}`, or "
            f'several: `--set "data.sheet=[{first.name}, {others[0].name}]"`.'
        )
    notes = []
    if others:
        names = listed([sheet.name for sheet in shown])
        notes.append(
            f"{name}: {len(shown)} sheets with the same columns read: {names}."
        )
    if hidden and hidden != shown:
        names = listed([sheet.name for sheet in hidden])
        notes.append(
            f"{name}: hidden sheets were not read: {names}. Name what is to be read "
            "by `data.sheet`."
        )
    return shown, notes


def _named(sheets: Sequence[Sheet], wanted: Sequence[str], name: str) -> list[Sheet]:
    """Return the sheets of some names."""
    by_name = {sheet.name: sheet for sheet in sheets}
    for each in wanted:
        if each not in by_name:
            raise SourceError(
                f"{name} has no sheet `{each}`.{did_you_mean(each, by_name)} "
                f"It has {listed(list(by_name))}."
            )
    chosen = [by_name[each] for each in dict.fromkeys(wanted)]
    _check_readable(chosen, name)
    if empty := [sheet.name for sheet in chosen if not sheet.columns]:
        raise SourceError(f"{name}: there is no cell in sheet {listed(empty)}.")
    return chosen


def _check_readable(sheets: Sequence[Sheet], name: str) -> None:
    """Refuse a workbook with a sheet to read that cannot be."""
    for sheet in sheets:
        if sheet.fault:
            raise SourceError(
                f"{name}: sheet `{sheet.name}` cannot be read ({sheet.fault}). Save "
                "the workbook again, or name other sheets by `data.sheet`."
            )


def _serve(path: str, folder: str, options: dict[str, Any]) -> None:
    """Save every sheet of a workbook, and what is known of it; in the child process."""
    import fastexcel

    try:
        reader = fastexcel.read_excel(path)
        wanted = options["wanted"]
        sheets = [
            _save_sheet(reader, name, Path(folder) / f"{i}.parquet", options)
            if wanted is None or name in wanted
            else Sheet(name, is_visible=True)
            for i, name in enumerate(reader.sheet_names)
        ]
        answer: dict[str, Any] = {"sheets": [vars(sheet) for sheet in sheets]}
    except BaseException as error:  # PyO3's panics are no Exception
        answer = {"fault": describe(error)}
    Path(folder, ANSWER).write_text(json.dumps(answer), encoding="utf-8")


def _save_sheet(reader: Any, name: str, target: Path, options: dict[str, Any]) -> Sheet:
    """Save one sheet."""
    is_visible, header_row, titles = True, options["header_row"], ""
    try:
        sheet = _load(reader, name, (header_row or 1) - 1)
        is_visible = sheet.visible == "visible"
        frame = pl.DataFrame(sheet)
        if header_row is None and _is_odd(frame):
            frame, titles = _below_titles(reader, name, frame)
        _with_whole_types(frame).write_parquet(target, compression="lz4")
    except BaseException as error:  # PyO3's panics are no Exception
        return Sheet(name, is_visible, fault=describe(error))
    return Sheet(name, is_visible, tuple(frame.columns), titles, path=str(target))


def _load(reader: Any, name: str, header_row: int) -> Any:
    """Return a sheet from a row of column names on, counted from 0."""
    return reader.load_sheet(name, header_row=header_row, schema_sample_rows=None)


def _is_odd(frame: pl.DataFrame) -> bool:
    """Return whether the names may be a title, or were made different by a number."""
    if not frame.width:
        return False
    names = ["" if name.startswith(UNNAMED) else name for name in frame.columns]
    head = frame.head(HEAD_ROWS - 1).cast(pl.String).rows()
    may_repeat = any(name.rpartition("_")[2].isdigit() for name in names)
    return may_repeat or find_header([names, *head]) > 0


def _below_titles(
    reader: Any, name: str, frame: pl.DataFrame
) -> tuple[pl.DataFrame, str]:
    """Return a sheet from its header on, and a sentence on what is above.

    Parsed again for this alone, since it takes as long as reading the whole sheet.
    """
    raw = reader.load_sheet(
        name, header_row=None, skip_rows=0, n_rows=HEAD_ROWS, dtypes="string"
    )
    rows = raw.to_polars().fill_null("").rows()
    top = find_header(rows)
    titles = [cell for row in rows[:top] for cell in row if cell]
    if titles:
        frame = pl.DataFrame(_load(reader, name, top))
    if len(rows[top]) == frame.width:
        named = zip(rows[top], frame.columns, strict=True)
        frame.columns = unique_names([cell or name for cell, name in named])
    return frame, passed_over(f"sheet `{name}`", top, titles[0]) if titles else ""


def _with_whole_types(frame: pl.DataFrame) -> pl.DataFrame:
    """Return numbers that are all whole as Int64, and moments all at 0:00 as Date."""
    plain: dict[str, tuple[pl.Expr, type[pl.DataType]]] = {}
    for name, dtype in frame.schema.items():
        cells = pl.col(name)
        if dtype.is_float():
            is_whole = (cells == cells.floor()) & (cells.abs() < EXACT)
            plain[name] = (is_whole.all(), pl.Int64)
        elif isinstance(dtype, pl.Datetime):
            plain[name] = ((cells.dt.time() == time(0)).all(), pl.Date)
    if not plain or frame.is_empty():
        return frame
    is_plain = frame.select(found.alias(name) for name, (found, _) in plain.items())
    whole = [name for name, found in is_plain.row(0, named=True).items() if found]
    return frame.with_columns(pl.col(name).cast(plain[name][1]) for name in whole)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
