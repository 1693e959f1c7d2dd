"""What months of refreshes have recorded: the ledger's blocks, drift, and the trigger.

Everything is part of the artifacts' stage ``refresh`` and belongs to a lineage of
models: ``refresh.json`` (this module), one Parquet file per block of the ledger, and
``drift.parquet``. Blocks are only ever added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.artifacts import ArtifactSet, StageWriter
from core.errors import ArtifactError
from core.evaluation.triggers import TriggerState

RECORD = "refresh.json"
DRIFT = "drift.parquet"


class MonthRecord(BaseModel):
    """What happened in one month.

    Attributes
    ----------
    month : str
        YYYY-MM.
    version : int
        Of the model that served when the month came.
    published : int or None
        Version published in it, if any.
    decision, reason : str
        See `core.reporting.decision.RefreshFacts`.
    shares : dict of int to float
        Share of every segment, by the model that served; -1: unassigned.
    """

    model_config = ConfigDict(extra="forbid")
    month: str
    version: int
    published: int | None = None
    decision: str
    reason: str = ""
    shares: dict[int, float]


class Record(BaseModel):
    """The content of ``refresh.json``.

    Attributes
    ----------
    format : int
    trigger : TriggerState
        Of the drift.
    months : list of MonthRecord
        Ascending.
    blocks : list of str
        Files of the ledger, in the order in which they were written.
    """

    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    trigger: TriggerState = Field(default_factory=TriggerState)
    months: list[MonthRecord] = Field(default_factory=list)
    blocks: list[str] = Field(default_factory=list)

    @classmethod
    def of(cls, base: ArtifactSet) -> Record:
        """Read the record of a set; an empty one where nothing was recorded yet.

        Raises
        ------
        ArtifactError
            If the file is not such a record.
        """
        if RECORD not in base.manifest.files:
            return cls()
        path = base.path(RECORD)
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise ArtifactError(
                f"`{path}` does not hold the record of refreshes ({error}). Restore "
                "it, or go back with `segments rollback`."
            ) from None

    def write(self, out: StageWriter) -> None:
        """Write ``refresh.json``."""
        text = self.model_dump_json(indent=2) + "\n"
        out.path(RECORD).write_text(text, encoding="utf-8")


class Ledger:
    """The blocks of a set, and those that a refresh adds.

    Parameters
    ----------
    base : ArtifactSet
        Holds the blocks written so far.
    out : StageWriter
        Takes new ones.
    record : Record
        Lists both.
    """

    def __init__(self, base: ArtifactSet, out: StageWriter, record: Record) -> None:
        self._base, self._out, self._record = base, out, record
        self._new: dict[str, Path] = {}

    def add(self, block: pl.DataFrame) -> None:
        """Write one more block."""
        month, version = block["month"][0], block["version"][0]
        name = f"ledger-{month}-v{version:03d}.parquet"
        # A model may serve, be replaced and come back within one month.
        repeat = sum(known.startswith(name[:-8]) for known in self._record.blocks)
        if repeat:
            name = f"{name[:-8]}-{repeat + 1}.parquet"
        self._new[name] = self._out.path(name)
        block.write_parquet(self._new[name], compression="zstd")
        self._record.blocks.append(name)

    def blocks(self, last_months: int | None = None) -> list[pl.DataFrame]:
        """Return the blocks in order; those of the last months where asked for."""
        names = self._record.blocks
        if last_months is not None:
            wanted = sorted({_month_of(name) for name in names})[-last_months:]
            names = [name for name in names if _month_of(name) in wanted]
        return [pl.read_parquet(self._path(name), memory_map=False) for name in names]

    def _path(self, name: str) -> Path:
        return self._new[name] if name in self._new else self._base.path(name)


def _month_of(name: str) -> str:
    """Return the month of a block's file name."""
    return name.removeprefix("ledger-")[:7]


def read_drift(base: ArtifactSet) -> pl.DataFrame | None:
    """Return the drift of the months recorded, if any."""
    if DRIFT not in base.manifest.files:
        return None
    return pl.read_parquet(base.path(DRIFT), memory_map=False)


def ledger_blocks(base: ArtifactSet) -> list[pl.DataFrame]:
    """Return all blocks of a published set, in the order in which they were written."""
    names = Record.of(base).blocks
    return [pl.read_parquet(base.path(name), memory_map=False) for name in names]
