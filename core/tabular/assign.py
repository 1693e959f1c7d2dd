"""The one assigner of a table's segments: batch, single row and request."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from core.artifacts.arrays import Arrays, Meta
from core.models.centroids import Assignment
from core.segments.axes import AxesModel, FittedAxis
from core.segments.memberships import CustomerAssigner
from core.tabular.columns import TableEncoding
from core.tabular.files import AXIS, FILES

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True, repr=False)
class TableAssigner(CustomerAssigner):
    """Fitted segments of a table, with what turning its columns into numbers takes.

    Attributes
    ----------
    model, reference_date, version, lineage
        See `core.segments.memberships.CustomerAssigner`.
    encoding : TableEncoding
    options : dict
        What it was learnt with, JSON-able.
    """

    files = FILES
    figures = ()

    encoding: TableEncoding
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def axis(self) -> FittedAxis:
        """The one way of dividing the rows."""
        return self.model.axes[AXIS]

    def assign(self, table: pl.DataFrame) -> Assignment:
        """Return where rows of a table belong, under permanent ids.

        Raises
        ------
        FeatureMismatchError
            If a column is missing that the segments were learnt from.
        """
        return self.model.assign(self.encoding.encode(table))[AXIS]

    def own_state(self) -> Meta:
        """Return whose model it is, and what turning columns into numbers takes."""
        own = {"encoding": self.encoding.as_dict(), "options": self.options}
        return {"system": self.files.stage, **own}

    @classmethod
    def restored(
        cls, arrays: Arrays, meta: Meta, reference_date: datetime, **known: Any
    ) -> Self:
        """Return the assigner of a state; see `CustomerAssigner.restored`."""
        return cls(
            model=AxesModel.from_state(arrays, meta["model"]),
            encoding=TableEncoding.from_dict(meta["encoding"]),
            options=dict(meta["options"]),
            reference_date=reference_date,
            **known,
        )
