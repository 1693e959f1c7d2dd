"""Rows that an address means to Spark: Parquet, CSV as text, or a table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from core.config import DataConfig
from core.errors import ConfigError, SegmentsError, SourceError
from core.redaction import redacted_address
from core.spark.tables import is_folder
from core.tables.files import KIND_SUFFIXES, is_remote
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
        kind = _kind(spark, path, name)
        if kind == "parquet":
            return SparkSource(spark.read.parquet(path), name)
        return _read_csv(spark, path, name, data)


def orders_and_items(
    spark: SparkSession,
    frames: tuple[DataFrame | None, DataFrame | None],
    addresses: tuple[str, str | None],
    data: DataConfig,
) -> tuple[SparkSource, SparkSource | None]:
    """Return orders and items: those handed in, or else those at two addresses.

    Parameters
    ----------
    spark : SparkSession
    frames : (Spark DataFrame or None, Spark DataFrame or None)
        Without orders, the addresses are read.
    addresses : (str, str or None)
        As for `read_source`; without the second there are no items beside the orders.
    data : DataConfig
        As for `read_source`.

    Raises
    ------
    SourceError, ConfigError
        As `read_source`.
    """
    orders, items = frames
    if orders is not None:
        beside = None if items is None else SparkSource(items, "the frame of items")
        return SparkSource(orders, "the frame of orders"), beside
    first, second = addresses
    found = read_source(spark, first, data)
    return found, None if second is None else read_source(spark, second, data)


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


def _path(address: str) -> str:
    """Return an address as Spark takes it; a local one is of this machine."""
    if is_remote(address):
        return address
    path = Path(address).expanduser().absolute()
    text = path.as_posix()
    if path.exists():
        # What is there is meant as it is called, brackets and all.
        text = re.sub(r"([*?\[\]{}\\])", r"\\\1", text)
    return f"file:///{text.lstrip('/')}"


def _kind(spark: SparkSession, path: str, name: str) -> str:
    """Return `parquet` or `csv`, as the first file's name says."""
    options = {"pathGlobFilter": "[!._]*", "recursiveFileLookup": "true"}
    files = spark.read.format("binaryFile").options(**options).load(path)
    found = files.select("path").head(1)
    if not found:
        raise SourceError(f"`{name}`: Spark finds no file there.")
    suffixes = [part.lower() for part in Path(found[0]["path"]).suffixes]
    last = [s for s in suffixes if s not in (".gz", ".snappy", ".zstd")][-1:]
    for kind in ("parquet", "csv"):
        if "".join(last) in KIND_SUFFIXES[kind]:
            return kind
    raise SourceError(
        f"`{name}`: Spark reads Parquet, CSV (.csv, .csv.gz, .tsv, .txt) and tables; "
        f"found `{Path(found[0]['path']).name}`. Convert it, or leave `--engine spark` "
        "out."
    )


def _read_csv(
    spark: SparkSession, path: str, name: str, data: DataConfig
) -> SparkSource:
    """Return CSV files with one header each, all cells as text."""
    for option in ("header_row", "fill_down", "sheet"):
        if getattr(data, option):
            raise ConfigError(
                f"`data.{option}` is read on one machine only. Leave it out, or leave "
                "`--engine spark` out."
            )
    encoding = data.encoding or "utf-8"
    head = spark.read.option("encoding", encoding).text(path).limit(HEAD_LINES)
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
    return SparkSource(reader.csv(path), name, separator)


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
