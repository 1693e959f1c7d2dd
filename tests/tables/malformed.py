"""Malformed inputs by the hundred, each of which must end in a sentence or be counted.

``python tests/tables/malformed.py 500`` generates and reads 500 of them, seeded; a
slice of them is read in the test run. A traceback, an abort or a hang ends it with a
message that names the seed of the input.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openpyxl
import polars as pl
import yaml

from core.errors import SegmentsError
from core.resolve import build_config
from core.tables.sales import read_sales

COLUMNS = ("shop_id", "product_id", "year", "month", "sales_qty")
ODD_CELLS = (
    "", " ", "NaN", "null", "-", "1e400", "0x1F", "1,5", "1.234,5", "\ufeff", "\0",
    "=1+1", "#REF!", "\u2212 3", "\u0663", "2024-13-45", "44587", "W05", "x" * 70_000,
    "\u202e", "{}", "true", "-0", "9" * 40, "'", '"', '""', "\r", "\\", "\t", ";", "%s",
)  # fmt: skip
SECONDS = 120


@dataclass(frozen=True)
class Malformed:
    """One input: its content, its name, and the rows it holds where that is known."""

    content: bytes
    name: str
    n_rows: int | None = None


def _rows(rng: np.random.Generator) -> list[list[str]]:
    """Return rows of text, some cells of which are odd."""
    n = int(rng.integers(1, 40))
    rows = [
        [f"S{i % 3}", f"P{i}", "2024", str(1 + i % 12), str(int(rng.integers(1, 99)))]
        for i in range(n)
    ]
    for _ in range(int(rng.integers(0, 6))):
        cell = str(rng.choice(ODD_CELLS))
        rows[int(rng.integers(n))][int(rng.integers(len(COLUMNS)))] = cell
    return rows


def _broken(content: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes cut off, overwritten, doubled, or with zeros in between."""
    data = bytearray(content)
    at, n = sorted(int(i) for i in rng.integers(0, len(data) + 1, 2))
    match int(rng.integers(6)):
        case 0:
            del data[at:]
        case 1:
            for i in rng.integers(0, len(data), 1 + len(data) // 100):
                data[i] = int(rng.integers(256))
        case 2:
            data[at:n] = bytes(n - at)
        case 3:
            del data[at : at + int(rng.integers(1, 40))]
        case 4:
            data[at:at] = data[:n]
        case _:
            data[at:at] = rng.bytes(int(rng.integers(1, 60)))
    return bytes(data)


def csv_file(rng: np.random.Generator) -> Malformed:
    """Return a CSV with odd cells, odd lines, another encoding, or broken bytes."""
    rows = _rows(rng)
    mark, end = str(rng.choice([",", ";", "\t", "|"])), str(rng.choice(["\n", "\r\n"]))
    lines = [mark.join(row) for row in rows]
    for _ in range(int(rng.integers(0, 3))):
        odd = str(rng.choice(["", mark * 9, "Total" + mark, "a" + mark * 3, "\x1a"]))
        lines.insert(int(rng.integers(len(lines) + 1)), odd)
    titles = ["Sales report", mark * 4, ""][: int(rng.choice([0, 0, 1, 3]))]
    text = end.join([*titles, mark.join(COLUMNS), *lines, ""])
    encoding = str(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    content = text.encode(encoding, "replace")
    if rng.random() < 0.4:
        return Malformed(_broken(content, rng), "sales.csv")
    is_plain = not re.search('["\r\0\x1a]', text.replace("\r\n", "\n"))
    seen = [line for line in lines if line.replace(mark, "").strip(" ")]
    return Malformed(content, "sales.csv", len(seen) if is_plain else None)


def parquet_file(rng: np.random.Generator) -> Malformed:
    """Return a Parquet file with broken bytes inside its seal, or none."""
    rows = _rows(rng)
    frame = pl.DataFrame(rows, schema=list(COLUMNS), orient="row")
    buffer = io.BytesIO()
    kind = str(rng.choice(["zstd", "snappy", "uncompressed"]))
    frame.write_parquet(buffer, compression=kind)
    content = buffer.getvalue()
    if rng.random() < 0.2:
        return Malformed(content, "sales.parquet", len(rows))
    # Both seals whole: the rest is what a reader trusts.
    inner = _broken(content[4:-8], rng) if rng.random() < 0.7 else content[4:-8]
    tail = content[-8:] if rng.random() < 0.7 else rng.bytes(4) + b"PAR1"
    return Malformed(b"PAR1" + inner + tail, "sales.parquet")


def workbook_bytes(rows: list[list[str]]) -> bytes:
    """Return an Excel workbook with rows under the columns."""
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for row in [list(COLUMNS), *rows]:
        cells = [re.sub(r"[\0-\x1f]", "", cell)[:32_000] for cell in row]
        book.active.append(
            [float(c) if re.fullmatch(r"\d{1,9}", c) else c for c in cells]
        )
    book.save(buffer)
    return buffer.getvalue()


XML_FAULTS: tuple[tuple[str, str, str], ...] = (
    ("sheet1", r'r="A3"', 'r="XFD1048576"'),
    ("sheet1", r'r="A3"', 'r="ZZZZZZ99999999999"'),
    ("sheet1", r'r="A3"', 'r=""'),
    ("sheet1", r'r="A3"', 'r="3A"'),
    ("sheet1", r'ref="[^"]*"', 'ref="A1:XFD1048576"'),
    ("sheet1", r't="n"', 't="s"'),
    ("sheet1", r"<v>\d+", "<v>99999999999999999999"),
    ("sheet1", r"<v>", "<v>&undefined;"),
    ("sheet1", r"</sheetData>", ""),
    ("sheet1", r"<row ", "<row r='-1' "),
    ("workbook", r"<sheets>.*</sheets>", "<sheets/>"),
    ("workbook", r'r:id="[^"]*"', 'r:id="nowhere"'),
    ("workbook", r'name="Sheet"', 'name=""'),
    ("styles", r"<cellXfs.*</cellXfs>", ""),
    ("styles", r'numFmtId="0"', 'numFmtId="14"'),
    ("sharedStrings", r"<si>", "<si><r>"),
    ("workbook.xml.rels", r'Target="[^"]*"', 'Target="../../../etc/passwd"'),
)


def excel_file(rng: np.random.Generator) -> Malformed:
    """Return a workbook with broken bytes, broken XML inside, or a part missing."""
    rows = _rows(rng)
    content = workbook_bytes(rows)
    if rng.random() < 0.3:
        return Malformed(_broken(content, rng), "sales.xlsx")
    part, pattern, instead = XML_FAULTS[int(rng.integers(len(XML_FAULTS)))]
    count, fate = int(rng.integers(0, 2)), rng.random()

    def mend(text: str) -> str | None:
        text = re.sub(pattern, lambda _: instead, text, count=count, flags=re.S)
        broken = _broken(text.encode(), rng).decode("utf-8", "replace")
        return None if fate < 0.2 else broken if fate < 0.4 else text

    content = with_part(content, part, mend)
    return Malformed(content, str(rng.choice(["sales.xlsx", "sales.xls"])))


def with_part(content: bytes, part: str, change: Callable[[str], str | None]) -> bytes:
    """Return a workbook with a part changed, or left out where that gives None."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            text = old.read(name).decode("utf-8")
            changed = change(text) if part in name else text
            if changed is not None:
                new.writestr(name, changed)
    return buffer.getvalue()


def gzip_file(rng: np.random.Generator) -> Malformed:
    """Return a packed CSV or Parquet file: broken outside, inside, or trailed."""
    inner = csv_file(rng) if rng.random() < 0.7 else parquet_file(rng)
    content = gzip.compress(inner.content, mtime=0)
    match int(rng.integers(4)):
        case 0:
            return Malformed(_broken(content, rng), "sales.csv.gz")
        case 1:
            return Malformed(content + rng.bytes(20), "sales.csv.gz")
        case 2:
            return Malformed(
                gzip.compress(content, mtime=0), "sales.gz.gz", inner.n_rows
            )
        case _:
            return Malformed(content, "sales.csv.gz", inner.n_rows)


def zip_file(rng: np.random.Generator) -> Malformed:
    """Return a zip with broken bytes, odd names, a table in a zip, or no table."""
    inner = csv_file(rng) if rng.random() < 0.7 else excel_file(rng)
    names = [
        "sales.csv",
        "../../sales.csv",
        "a/b/sales.csv",
        "C:\\sales.csv",
        "read.me",
    ]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(str(rng.choice(names)), inner.content)
        if rng.random() < 0.3:
            archive.writestr("more.csv", csv_file(rng).content)
    content = buffer.getvalue()
    return Malformed(
        _broken(content, rng) if rng.random() < 0.6 else content, "sales.zip"
    )


def json_file(rng: np.random.Generator) -> Malformed:
    """Return rows as JSON, as lines of JSON, or broken."""
    records = [dict(zip(COLUMNS, row, strict=True)) for row in _rows(rng)]
    forms = [
        json.dumps(records),
        "\n".join(map(json.dumps, records)),
        json.dumps({"rows": records}, indent=2),
        json.dumps("text"),
        "[" * 5000,
    ]
    content = str(rng.choice(forms)).encode()
    name = str(rng.choice(["sales.json", "sales.csv", "sales.jsonl"]))
    return Malformed(_broken(content, rng) if rng.random() < 0.5 else content, name)


def yaml_file(rng: np.random.Generator) -> Malformed:
    """Return rows as YAML, or broken."""
    records = [dict(zip(COLUMNS, row, strict=True)) for row in _rows(rng)]
    content = yaml.safe_dump(records, allow_unicode=True).encode()
    return Malformed(
        _broken(content, rng) if rng.random() < 0.5 else content, "sales.yaml"
    )


KINDS: dict[str, Callable[[np.random.Generator], Malformed]] = {
    "csv": csv_file,
    "parquet": parquet_file,
    "excel": excel_file,
    "gzip": gzip_file,
    "zip": zip_file,
    "json": json_file,
    "yaml": yaml_file,
}


def make(kind: str, seed: int) -> Malformed:
    """Return the input of a kind and a seed."""
    return KINDS[kind](np.random.default_rng([seed, *kind.encode()]))


def read(case: Malformed, folder: Path) -> str:
    """Read one input; return what came of it, and assert that no row is lost.

    Anything but an error of ours, told in words, goes through.
    """
    path = folder / case.name
    path.write_bytes(case.content)
    config = build_config({"data": {"input": str(path)}})
    try:
        sales = read_sales(config, folder / "work")
    except SegmentsError as error:
        message = str(error)
        assert message, "an error without a word"
        assert "Traceback" not in message
        return "refused"
    intake = sales.intake
    assert intake.rows_read == intake.rows_kept + intake.rows_set_aside
    assert sales.frame.collect().height == intake.rows_kept
    assert sales.rejected.height == intake.rows_set_aside
    if case.n_rows is not None:
        assert intake.rows_read == case.n_rows, (intake.rows_read, case.n_rows)
    return "read"


def main(n_cases: int) -> None:
    """Read that many inputs, the kinds in turn."""
    counts: dict[tuple[str, str], int] = {}
    for i in range(n_cases):
        kind = list(KINDS)[i % len(KINDS)]
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = read(make(kind, i), Path(folder))
            except BaseException:
                print(f"FAILED: {kind}, seed {i}", file=sys.stderr)
                raise
        faulthandler.cancel_dump_traceback_later()
        counts[kind, outcome] = counts.get((kind, outcome), 0) + 1
    for (kind, outcome), n in sorted(counts.items()):
        print(f"{kind:8} {outcome:8} {n:4}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
