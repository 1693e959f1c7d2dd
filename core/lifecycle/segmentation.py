"""What a system does in its runs, of which the order is the same for all."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.reading import ArtifactSet
from core.artifacts.runs import RunFiles
from core.config import Config
from core.models.centroids import Assignment
from core.reporting.board import Board
from core.segments.axes import Labels
from core.segments.memberships import CustomerAssigner

Placed = dict[str, Assignment]


class RunData(Protocol):
    """What a system has read for a run."""

    @property
    def reference_date(self) -> datetime:
        """The moment that stands for now, naive UTC."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rows, and of how they were read."""

    @property
    def customers(self) -> pl.DataFrame:
        """``customer_id``, each customer once."""


class StoreLoad(NamedTuple):
    """What became of loading a published set into a store.

    Attributes
    ----------
    line : str
        In words.
    facts : dict
        JSON-able; counts of rows, or the error.
    exit_code : int
        0, or that of the error.
    """

    line: str
    facts: dict[str, Any]
    exit_code: int = 0


StoreLoader = Callable[[Config, ArtifactSet], StoreLoad]
"""Loads a published set into the store of a configuration: `core.store.publish`."""

D = TypeVar("D", bound=RunData)
A = TypeVar("A", bound=CustomerAssigner)


@dataclass(frozen=True)
class Tables:
    """What a run's own files are written from.

    Attributes
    ----------
    assigner : CustomerAssigner
    profiles : DataFrame
        See `core.segments.memberships.customer_profiles`.
    sizes : DataFrame
        See `core.segments.memberships.sizes_table`.
    labels : mapping of axis to ndarray
        Segments of the customers of `profiles`.
    drift : DataFrame
        Columns `core.evaluation.axes_drift.AXES_DRIFT_ROWS`.
    """

    assigner: CustomerAssigner
    profiles: pl.DataFrame
    sizes: pl.DataFrame
    labels: Labels
    drift: pl.DataFrame


class Segmentation(ABC, Generic[D, A]):
    """What a system does in its runs, and in what becomes of their segments.

    Parameters
    ----------
    config : Config
        As it is saved; `asked` is what holds while rows are read.

    Attributes
    ----------
    notes : list of str
        What the run is to tell of how its rows were come by.
    """

    files: ClassVar[RunFiles]
    assigner: ClassVar[type[CustomerAssigner]]

    def __init__(self, config: Config) -> None:
        self.config = self.asked = config
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}

    @property
    @abstractmethod
    def store(self) -> str:
        """Name of the store whose customers these are."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where its runs lie."""

    @abstractmethod
    def read(self, work: Path) -> D:
        """Return what is to be segmented; `work` is a folder for the time of the run.

        Raises
        ------
        SourceError, SchemaError
            If the rows cannot be had or used.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the options that decide what is learnt, JSON-able."""

    @abstractmethod
    def features(self, assigner: A, data: D) -> pl.DataFrame:
        """Return the features of the customers, as an assigner knows them.

        Raises
        ------
        FeatureMismatchError
            If the data lack what it was learnt with.
        """

    @abstractmethod
    def learn(
        self, data: D, before: A | None, view: pl.DataFrame | None
    ) -> tuple[A, pl.DataFrame]:
        """Return a new assigner, and the features that it was learnt from.

        Parameters
        ----------
        data : RunData
        before : CustomerAssigner, optional
            The one whose ids and names live on.
        view : DataFrame, optional
            The features as `before` knows them.
        """

    def applied(self, assigner: A, data: D) -> A:
        """Return the assigner that has been given these data."""
        return replace(assigner, reference_date=data.reference_date)

    @abstractmethod
    def facts(self, data: D, assigner: A) -> dict[str, Any]:
        """Return what the manifest and the page tell of the data."""

    @abstractmethod
    def write_data(
        self,
        out: StageWriter,
        data: D,
        features: pl.DataFrame,
        placed: Placed,
        assigner: A,
    ) -> None:
        """Write the rows set aside, and what else the system keeps of its steps."""

    @abstractmethod
    def write_report(
        self, out: StageWriter, tables: Tables, facts: dict[str, Any]
    ) -> None:
        """Write the system's own tables and its page; may add to the facts."""

    @abstractmethod
    def board(self, out: StageWriter, tables: Tables, facts: dict[str, Any]) -> Board:
        """Return what the dashboard is told beside sizes over time, flows and drift.

        Called after `write_report`, with the same.
        """

    @abstractmethod
    def lines(self, facts: dict[str, Any]) -> list[str]:
        """Say what a run did, or that nothing changed."""

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of a step to those of the run."""
        started = time.perf_counter()
        yield
        seconds = self.seconds.get(step, 0.0) + time.perf_counter() - started
        self.seconds[step] = round(seconds, 2)
