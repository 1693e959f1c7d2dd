"""A run on Spark: learnt from a sample on the driver, everyone assigned on executors.

The sample are the customers with the smallest hash of their id, with all their rows;
the ordinary run learns from them, and publishes its files. Then each part of the
customers goes the way of a run that only assigns, and nobody is collected.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from core.config import Config
from core.errors import SourceError
from core.lifecycle.run import RunResult
from core.logging import get_logger
from core.reporting.text import plural
from core.spark.parts import (
    ACCOUNT,
    Tables,
    map_parts,
    merged_account,
    of_kind,
    sample_of,
    with_parsed,
)
from core.spark.rows import SparkRows
from core.spark.sources import told_of
from core.spark.tables import output_of, write
from core.tables.files import counted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Rows of the sample that show which columns a part gives.
SHOWN = 200

Learn = Callable[[Config, Tables, list[str]], RunResult]
"""Learns from the rows of a sample, with a settled configuration, and notes to tell."""


class SparkSystem(ABC):
    """What a system does on Spark.

    Attributes
    ----------
    name : str
        Of the system, which what it writes begins with.
    tables : dict of str to Spark DataFrame
        With `core.spark.parts.CUSTOMER`, `NUMBER`, and columns as received.
    """

    name: ClassVar[str]
    tables: dict[str, DataFrame]

    def __init__(self) -> None:
        self._held: list[DataFrame] = []
        self._n_rows: dict[str, int] = {}

    def numbered(
        self, table: str, rows: SparkRows, values: Mapping[str, str]
    ) -> DataFrame:
        """Return `core.spark.parts.with_parsed` of a table, kept until `release`."""
        self._n_rows[table] = int(rows.groups["len"].sum())
        self._held.append(with_parsed(rows, values).persist())
        return self._held[-1]

    def release(self) -> None:
        """Give back what executors keep."""
        for df in self._held:
            df.unpersist()

    @property
    def n_rows(self) -> int:
        """Rows of all tables."""
        return sum(self._n_rows.values())

    def require_all(self, account: Mapping[str, Any]) -> None:
        """Refuse an account of other rows than were read at first.

        Raises
        ------
        SourceError
        """
        for table, n in self._n_rows.items():
            scope, _, name = table.rpartition("/")
            own = account[scope][name] if scope else account[name]
            if own["rows_read"] != n:
                raise SourceError(
                    f"the {name} had {n:,} rows at first, and {own['rows_read']:,} "
                    "when everyone was assigned: they have changed in between. Run "
                    "again when nobody writes to them."
                )

    @abstractmethod
    def learn(self, sample: Tables, notes: list[str]) -> RunResult:
        """Learn from the rows of a sample, as ever, and publish."""

    @abstractmethod
    def model(self) -> Any:
        """Return the argument of `assign`, with the model that was published."""

    @staticmethod
    @abstractmethod
    def assign(tables: Tables, argument: Any) -> Tables:
        """Assign a part of the customers; see `core.spark.parts.map_parts`."""

    @abstractmethod
    def account(self, account: dict[str, Any]) -> list[str]:
        """Say what became of the rows of everyone."""


def run_on_spark(system: SparkSystem, config: Config) -> RunResult:
    """Learn from a sample, assign everyone, and write them to ``spark.output``.

    Parameters
    ----------
    system : SparkSystem
    config : Config
        Options of ``spark``.

    Returns
    -------
    RunResult
        Of the sample's run; its lines also say what became of everyone's rows.

    Raises
    ------
    SourceError, SchemaError
        If the rows cannot be had or used.
    """
    try:
        with told_of(f"the rows of {system.name}"):
            return _run(system, config)
    finally:
        system.release()


def _run(system: SparkSystem, config: Config) -> RunResult:
    output = output_of(config)
    log = get_logger()
    log.info("Reading the rows of %s on Spark", system.name)
    sample, n_learnt, n = sample_of(system.tables, config.spark.fit_customers)
    notes = [
        f"Spark: learnt from {n_learnt:,} of {counted(n, 'customer')}"
        + (", those with the smallest hash of their id" if n_learnt < n else "")
        + f"; this page tells of them. Everyone's segments are in `{output}`."
    ]
    done = system.learn(sample, notes)
    log.info("Assigning %s on Spark", plural(n, "customer"))
    few = {name: table.head(SHOWN) for name, table in sample.items()}
    argument = system.model()
    parts = map_parts(
        system.tables,
        system.assign,
        argument,
        system.assign(few, argument),
        n_rows=system.n_rows,
    ).persist()
    try:
        account = merged_account(parts)
        system.require_all(account)
        kinds = [name for name in parts.columns[1:] if name != ACCOUNT]
        places = [
            write(of_kind(parts, kind), output, f"{system.name}_{kind}")
            for kind in kinds
        ]
    finally:
        parts.unpersist()
    told = [f"Everyone: {line}" for line in system.account(account)]
    return replace(done, lines=[*done.lines, *notes, *told, *places])
