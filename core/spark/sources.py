"""Rows that an address means to Spark: Parquet, CSV as text, or a table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from core.config import DataConfig
from core.errors import ConfigError, SegmentsError, SourceError, listed
from core.redaction import redacted_address
from core.spark.tables import is_folder
from core.tables.files import KIND_SUFFIXES, is_remote, is_table_name
from core.tables.layout import unique_names
from core.tables.readers import BEYOND, sniff

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# A line of a CSV with more or fewer cells than the header, whole.
ODD_LINE = "__odd_line__"
# Lines looked at to find the separator.
HEAD_LINES = 20


@dataclass(frozen=True)
class SparkSource:
    """Rows as received.

    Attributes
    ----------
    df : Spark DataFrame
        Of a CSV all text, and `ODD_LINE`.
    name : str
        What it is called in messages.
    separator : str or None
        Of a CSV.
    """

    df: DataFrame
    name: str
    separator: str | None = None


def read_source(spark: SparkSession, address: str, data: DataConfig) -> SparkSource:
    """Return the rows at an address.

    Parameters
    ----------
    spark : SparkSession
    address : str
        File, folder, glob or address of Parquet or CSV (.gz), or the name of a table.
    data : DataConfig
        Separator and encoding of a CSV.

    Raises
    ------
    SourceError
        If nothing is there, or Spark cannot read it.
    ConfigError
        If an option asks for what only one machine does.
    """
    name = redacted_address(address)
    with told_of(name):
        if not is_folder(address) and spark.catalog.tableExists(address):
            return SparkSource(spark.table(address), name)
        path = _path(address)
        found = _files(spark, path).select("path").head(1)
        if not found:
            raise SourceError(f"`{name}`: Spark finds no file there.")
        return _read(spark, [path], _kind(found[0]["path"]), name, data)


def _read(
    spark: SparkSession, paths: list[str], kind: str, name: str, data: DataConfig
) -> SparkSource:
    if kind == "parquet":
        return SparkSource(spark.read.parquet(*paths), name)
    return _read_csv(spark, paths, name, data)


def files_under(spark: SparkSession, folder: str) -> dict[str, str]:
    """Return the tables in a folder and the folders inside it, as Spark sees them.

    Parameters
    ----------
    spark : SparkSession
    folder : str
        Path or address.

    Returns
    -------
    dict of str to str
        Names within the folder, in order, and addresses.
    """
    with told_of(redacted_address(folder)):
        rows = _files(spark, _path(folder)).select("path").collect()
    root = _path(folder, is_pattern=False).rstrip("/") + "/"
    found = {_within(row["path"], root): row["path"] for row in rows}
    return {name: found[name] for name in sorted(found) if is_table_name(name)}


def _within(path: str, root: str) -> str:
    """Return the name of a file in a folder, of which Spark counts no slashes."""
    bare, of = (re.sub(r"^([\w+.-]+):/+", r"\1:/", text) for text in (path, root))
    return bare.removeprefix(of)


def read_files(
    spark: SparkSession, files: Mapping[str, str], table: str, data: DataConfig
) -> SparkSource:
    """Return the rows of some of `files_under` as one table.

    Parameters
    ----------
    spark : SparkSession
    files : mapping of str to str
    table : str
        What is in them, for messages.
    data : DataConfig
        As for `read_source`.

    Raises
    ------
    SourceError, ConfigError
        As `read_source`, or if files are of different kinds.
    """
    name = next(iter(files)) if len(files) == 1 else f"{len(files)} files of {table}"
    kinds = {_kind(file): file for file in files}
    if len(kinds) > 1:
        raise SourceError(
            f"`{table}` mixes kinds of files: {listed([*kinds.values()])}. The same "
            "rows may be there twice; keep the files of one kind."
        )
    paths = [_escaped(path) for path in files.values()]
    with told_of(name):
        return _read(spark, paths, next(iter(kinds)), name, data)


@contextmanager
def told_of(name: str) -> Iterator[None]:
    """Turn what Spark raises over a source into an error of ours."""
    try:
        yield
    except SegmentsError:
        raise
    except Exception as error:
        # PySpark, Py4J, gRPC and Java each have errors of their own.
        text = str(error).strip()
        if "PATH_NOT_FOUND" in text:
            raise SourceError(
                f"`{name}`: Spark finds nothing there. Expected a path or an address "
                "that all executors see, or the name of a table."
            ) from None
        causes = re.findall(r"(?m)^(?:\w+\.)*\w*(?:Error|Exception): (.+)$", text)
        reason = causes[-1] if causes else next(iter(text.splitlines()), "no reason")
        advice = ""
        if "No module named" in reason:
            advice = (
                " Executors need this package's libraries: install them there, and "
                "set `PYSPARK_PYTHON` to the Python that has them."
            )
        raise SourceError(
            f"Spark cannot go through `{name}` ({type(error).__name__}: "
            f"{reason[:300].rstrip('.')}).{advice}"
        ) from None


def _path(address: str, *, is_pattern: bool = True) -> str:
    """Return an address as Spark takes it; a local one is of this machine."""
    if is_remote(address):
        return address
    path = Path(address).expanduser().absolute()
    text = path.as_posix()
    if is_pattern and path.exists():
        # What is there is meant as it is called, brackets and all.
        text = _escaped(text)
    return f"file:///{text.lstrip('/')}"


def _escaped(path: str) -> str:
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", path)


def _files(spark: SparkSession, path: str) -> DataFrame:
    """Return the files that a path means, with ``path``."""
    options = {"pathGlobFilter": "[!._]*", "recursiveFileLookup": "true"}
    return spark.read.format("binaryFile").options(**options).load(path)


def _kind(file: str) -> str:
    """Return `parquet` or `csv`, as a file's name says."""
    suffixes = [part.lower() for part in Path(file).suffixes]
    last = [s for s in suffixes if s not in (".gz", ".snappy", ".zstd")][-1:]
    for kind in ("parquet", "csv"):
        if "".join(last) in KIND_SUFFIXES[kind]:
            return kind
    raise SourceError(
        "Spark reads Parquet, CSV (.csv, .csv.gz, .tsv, .txt) and tables; found "
        f"`{Path(file).name}`. Convert it, or leave `--engine spark` out."
    )


def _read_csv(
    spark: SparkSession, paths: list[str], name: str, data: DataConfig
) -> SparkSource:
    """Return CSV files with one header each, all cells as text."""
    for option in ("header_row", "fill_down", "sheet"):
        if getattr(data, option):
            raise ConfigError(
                f"`data.{option}` is read on one machine only. Leave it out, or leave "
                "`--engine spark` out."
            )
    encoding = data.encoding or "utf-8"
    head = spark.read.option("encoding", encoding).text(paths).limit(HEAD_LINES)
    lines = [row["value"].lstrip("\ufeff") for row in head.collect()]
    if not lines or not lines[0].strip():
        raise SourceError(f"`{name}`: the first line is empty; expected column names.")
    separator = "\t" if data.separator == "tab" else data.separator or sniff(lines)
    names = unique_names(next(csv.reader(lines[:1], delimiter=separator)))
    columns = ", ".join(f"`{n.replace('`', '``')}` string" for n in [*names, ODD_LINE])
    reader = spark.read.schema(columns).options(
        header="true",
        sep=separator,
        encoding=encoding,
        escape='"',
        # Each file's header is held against the first one's.
        enforceSchema="false",
        columnNameOfCorruptRecord=ODD_LINE,
    )
    return SparkSource(reader.csv(paths), name, separator)


def with_beyond(table: pl.DataFrame, separator: str) -> pl.DataFrame:
    """Return rows of a CSV with the first cell beyond the header, as one machine has.

    Parameters
    ----------
    table : DataFrame
        Has `ODD_LINE` last, which becomes `core.tables.readers.BEYOND`.
    separator : str
        Between cells.
    """
    n_columns = table.width - 1

    def beyond(line: str) -> str | None:
        cells = next(csv.reader([line], delimiter=separator), [])
        return cells[n_columns] if len(cells) > n_columns else None

    cells = table[ODD_LINE].map_elements(beyond, return_dtype=pl.String)
    return table.drop(ODD_LINE).with_columns(cells.alias(BEYOND))
