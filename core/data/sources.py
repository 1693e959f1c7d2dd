"""Where sales rows come from: the sample, files, Kaggle, or a frame in memory.

Whatever the source, the rows take one way: read, judged, written as Parquet with our
columns (`core.data.judging`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from core.config import Config, DataConfig
from core.data.files import SourceFile, describe, locate
from core.data.frames import table_from_frame
from core.data.intake import Intake
from core.data.judging import judge
from core.data.kaggle import fetch_kaggle
from core.data.readers import Table, files_digest, read_files
from core.data.remote import fetch, is_remote
from core.errors import SegmentsError, SourceError

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
    intake : Intake
        The account of the reading.
    fingerprint : str
        SHA-256 that is equal when the same input is read with the same options.
    truth : polars.DataFrame or None
        What the generator planted; only for the sample.
    """

    frame: pl.LazyFrame
    path: Path
    rejected: pl.DataFrame
    intake: Intake
    fingerprint: str
    truth: pl.DataFrame | None = None


def read_sales(config: Config, work: Path) -> Sales:
    """Read the sales rows that a configuration names.

    Parameters
    ----------
    config : Config
        `data.input` wins over `data.source`.
    work : Path
        Folder for the resulting Parquet and, while reading, intermediate files;
        created if it is not there.

    Raises
    ------
    SourceError
        If the data cannot be found, fetched or opened.
    SchemaError
        If its columns or rows cannot be used.
    ConfigError
        If an option about the data cannot be meant.
    """
    with scratch_folder(work) as scratch:
        if is_sample(config.data):
            return _read_sample(config, work, scratch)
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


def _read_sample(config: Config, work: Path, scratch: Path) -> Sales:
    """Generate the sample and judge it like any other source."""
    from core.retailers.sample import generate_sales

    made = generate_sales(config.sample, seed=config.seed)
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
