"""What is done to a feature table's segments; in `core.lifecycle`'s order."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.runs import REJECTED
from core.config import Config
from core.lifecycle.run import RunResult, run_segmentation
from core.lifecycle.segmentation import Placed, Segmentation, StoreLoader, Tables
from core.logging import get_logger
from core.reporting.board import Board
from core.segments.axes import AxesModel
from core.tables.orders import (
    PurchasesGenerator,
    purchases_from_frames,
    read_purchases,
)
from core.tabular import report
from core.tabular.assign import TableAssigner
from core.tabular.columns import TableEncoding
from core.tabular.files import (
    AXIS,
    DEFAULT_STORE,
    FILES,
    RFM_STORE,
    ROWS,
    fit_folder,
)
from core.tabular.learn import FitOptions, learn_segments
from core.tabular.rows import ID, TableRows, rows_of_orders, rows_of_table


class TableSegments(Segmentation[TableRows, TableAssigner]):
    """The part of a feature table in `core.lifecycle`.

    Parameters
    ----------
    config : Config
    frame : frame, optional
        Rows instead of a file, see `run_fit`.
    """

    files = FILES
    assigner = TableAssigner
    again = "fit --table FILE --id {id_column}"
    """The verb that takes in the next rows."""
    default_store = DEFAULT_STORE

    def __init__(self, config: Config, frame: Any = None) -> None:
        super().__init__(config)
        self.frame = frame

    @property
    def store(self) -> str:
        """See `Segmentation`."""
        return self.config.fit.store

    @property
    def folder(self) -> Path:
        """See `Segmentation`."""
        return fit_folder(self.config.artifacts, self.store)

    def read(self, work: Path) -> TableRows:
        """Return the rows to be segmented."""
        get_logger().info("Reading the table")
        return rows_of_table(self.config, work, self.frame)

    def options(self) -> dict[str, Any]:
        """Return what decides the segments, beside the rows."""
        fit = self.config.fit
        return {
            "n_segments": fit.segments,
            "max_segments": fit.max_segments,
            "categories": list(fit.categories),
            "drop": list(fit.drop),
            "seed": self.config.seed,
        }

    def features(self, assigner: TableAssigner, data: TableRows) -> pl.DataFrame:
        """Return the encoded columns as an assigner knows them."""
        encoded = assigner.encoding.encode(data.table)
        return encoded.insert_column(0, data.table[ID])

    def learn(
        self, data: TableRows, before: TableAssigner | None, view: pl.DataFrame | None
    ) -> tuple[TableAssigner, pl.DataFrame]:
        """Return a new model of the rows, and their encoded columns."""
        get_logger().info(
            "Learning the segments of %s customers", f"{data.table.height:,}"
        )
        fit = self.config.fit
        columns = data.table.drop(ID)
        with self.timed("learning"):
            encoding = TableEncoding.learn(
                columns, categories=fit.categories, drop=fit.drop, words=data.words
            )
            encoded = encoding.encode(columns)
            old = None
            if before is not None and view is not None:
                old = before.model.assign(view)[AXIS].labels
            axis = learn_segments(
                encoding,
                encoding.matrix(encoded),
                FitOptions(fit.segments, fit.max_segments, self.config.seed),
                None if before is None else before.axis,
                old,
            )
        made = TableAssigner(
            model=AxesModel((axis,)),
            encoding=encoding,
            options={
                **self.options(),
                "n_features_in": columns.width,
                "feature_names_in": columns.columns,
            },
            reference_date=data.reference_date,
        )
        return made, encoded.insert_column(0, data.table[ID])

    def facts(self, data: TableRows, assigner: TableAssigner) -> dict[str, Any]:
        """Return the counts of rows and columns, and the verdict."""
        return {
            "source": data.source,
            "again": self.again.format(id_column=_argument(data.id_column))
            + ("" if self.store == self.default_store else f" --store {self.store}"),
            "id_column": data.id_column,
            "n_rows": data.table.height + data.rejected.height,
            "n_rejected": data.rejected.height,
            "account": data.account,
            "n_columns": len(assigner.encoding.columns),
            "skipped": dict(assigner.encoding.skipped),
            "verdict": assigner.axis.report["judged"],
            "refits": assigner.axis.report["refits"],
        }

    def write_data(
        self,
        out: StageWriter,
        data: TableRows,
        features: pl.DataFrame,
        placed: Placed,
        assigner: TableAssigner,
    ) -> None:
        """Write the rows set aside, and the columns that count of the others."""
        data.rejected.write_parquet(out.path(REJECTED), compression="zstd")
        own = data.table.select(ID, *(plan.name for plan in assigner.encoding.columns))
        own.write_parquet(out.path(ROWS), compression="zstd")

    def write_report(
        self, out: StageWriter, tables: Tables, facts: dict[str, Any]
    ) -> None:
        """Write the segment of every row, what became of the columns, and the page."""
        report.write_report(out, tables, facts)

    def board(self, out: StageWriter, tables: Tables, facts: dict[str, Any]) -> Board:
        """Return what the dashboard is told."""
        assert isinstance(tables.assigner, TableAssigner)  # what this system makes
        found = report.found_of(facts, tables)
        return Board(
            system=FILES.stage,
            title="Table segments",
            entity="customer",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            as_of=facts["reference_date"][:10],
            headline=found.title,
            axes=report.told_axes(tables.assigner, tables.profiles),
            verdict=found.verdict,
            tiles=[("Columns that count", str(facts["n_columns"]))],
            notes=[*facts["notes"], *facts["account"]],
        )

    def lines(self, facts: dict[str, Any]) -> list[str]:
        """Say what a run did."""
        return report.run_lines(facts, self.folder)


class RfmSegments(TableSegments):
    """Segments by recency, frequency and monetary value, from orders.

    Parameters
    ----------
    config : Config
        ``axes`` says how orders are read, ``fit`` how they are segmented.
    orders, lines : frame, optional
        Rows instead of files, see `run_rfm`.
    generate : callable, optional
        Makes the built-in sample.
    """

    again = "rfm --orders FILE"
    default_store = RFM_STORE

    def __init__(
        self,
        config: Config,
        orders: Any = None,
        lines: Any = None,
        generate: PurchasesGenerator | None = None,
    ) -> None:
        if config.fit.store == Config().fit.store:
            fit = config.fit.model_copy(update={"store": RFM_STORE})
            config = config.model_copy(update={"fit": fit})
        super().__init__(config)
        self.rows, self.generate = (orders, lines), generate

    def read(self, work: Path) -> TableRows:
        """Return recency, frequency and monetary value of every customer."""
        get_logger().info("Reading orders")
        orders, lines = self.rows
        axes = self.config.axes
        source = axes.orders or axes.lines or "the built-in sample"
        if orders is not None or lines is not None:
            found = purchases_from_frames(orders, None, self.config, work, lines=lines)
            source = "a frame in memory"
        else:
            found = read_purchases(self.config, work, self.generate)
        return rows_of_orders(found, source)


def _argument(text: str) -> str:
    """Return a word of a command, in quotes where it has spaces."""
    return f'"{text}"' if " " in text else text


def run_fit(
    config: Config,
    frame: Any = None,
    *,
    refit: bool = True,
    into_store: StoreLoader | None = None,
) -> RunResult:
    """Segment the rows of any feature table, and publish who is where.

    Parameters
    ----------
    config : Config
        Options of ``fit`` and ``store``.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        Rows instead of ``fit.table``; ``fit.id`` names their ids.
    refit, into_store
        See `core.lifecycle.run.run_segmentation`, for errors as well.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> spend = [20 + i % 7 for i in range(40)] + [90 + i % 7 for i in range(30)]
    >>> table = pl.DataFrame({"id": [f"C{i}" for i in range(70)], "spend": spend})
    >>> with TemporaryDirectory() as folder:
    ...     config = Config(artifacts=folder, fit={"id": "id", "max_segments": 2})
    ...     print(run_fit(config, table).lines[0])
    70 customers by 1 column: the segments were learnt (version 1).
    """
    segments = TableSegments(config, frame)
    return run_segmentation(segments, refit=refit, into_store=into_store)


def run_rfm(
    config: Config,
    orders: Any = None,
    *,
    lines: Any = None,
    generate: PurchasesGenerator | None = None,
    refit: bool = True,
    into_store: StoreLoader | None = None,
) -> RunResult:
    """Segment customers by recency, frequency and monetary value of their orders.

    Parameters
    ----------
    config : Config
        Options of ``axes`` about orders and order lines, of ``fit`` and ``store``.
    orders, lines : pandas, Polars, DuckDB or Arrow table, optional
        Rows instead of files.
    generate : callable, optional
        Makes the built-in sample, for a configuration that names no rows.
    refit, into_store
        See `core.lifecycle.run.run_segmentation`, for errors as well.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> customer = [i % 20 for i in range(60)] + list(range(0, 20, 2))
    >>> orders = pl.DataFrame(
    ...     {
    ...         "order_id": range(70),
    ...         "customer_id": [f"C{i}" for i in customer],
    ...         "order_date": [f"2024-03-{1 + i % 28:02d}" for i in range(70)],
    ...         "total_price": [20.0 + 7 * i for i in customer],
    ...     }
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     config = Config(artifacts=folder, fit={"max_segments": 2})
    ...     print(run_rfm(config, orders).lines[0])
    20 customers by 3 columns: the segments were learnt (version 1).
    """
    segments = RfmSegments(config, orders, lines, generate)
    return run_segmentation(segments, refit=refit, into_store=into_store)
