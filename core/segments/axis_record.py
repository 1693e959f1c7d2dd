"""One axis of a run: its model, and its segments under permanent ids and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from core.segments.axis_criterion import Kind
from core.segments.axis_model import NOWHERE, AxisModel, IntArray, refused
from core.segments.identity import IdentityEvent


class AxisSegment(BaseModel):
    """One segment of an axis.

    Attributes
    ----------
    id : int
        Permanent, from 0, never given out twice on its axis; -1 are the customers who
        lack a feature of the axis.
    name : str
        In words; no two segments of an axis share one.
    cluster : int
        Its number within the model, from 0 by size; -1 for id -1.
    size : int
        Customers at fit.
    share : float
        `size` over all customers at fit, 0 to 1.
    kind : {'natural', 'cut', 'single'}
        Parted from the others by a valley; a tier the user asked for; the only one.
    is_edited : bool
        Whether a user gave the name, which then stays as long as the segment.
    rule_name : str
        What the naming rules call it now; another than `name` where the name was given
        by a user or comes from an earlier model.
    why : str
        The findings that the rule's name rests on, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: int = Field(ge=NOWHERE)
    name: str = Field(min_length=1)
    cluster: int = Field(ge=NOWHERE)
    size: int = Field(ge=0)
    share: float = Field(ge=0.0, le=1.0)
    kind: Kind
    is_edited: bool = False
    rule_name: str
    why: str


@dataclass(frozen=True)
class FittedAxis:
    """One axis of a run.

    Attributes
    ----------
    axis : str
    features : tuple of str
        Columns that it was learnt from; empty if the axis was skipped.
    skipped : dict of str to str
        Features left out, and why.
    model : AxisModel or None
        None if the axis was skipped.
    segments : tuple of AxisSegment
        By id, ascending, -1 last (there always, with its size, unless skipped).
    next_id : int
        The first id that was never given out on this axis.
    events : tuple of IdentityEvent
        What this fit did to the segments of the one before; empty in a first one.
    report : dict
        Figures of the choice, JSON-able: `kind`, `n_segments`, `n_customers`,
        `n_unplaced`, `smallest_share` and `largest_share` of those placed, `verdict`,
        and of the candidate `n_considered` (the one taken, else the one with the
        deepest valley) `silhouette`, `valley`, `stability`; `null_silhouette`; all
        `candidates`. See `core.segments.axis_criterion`.
    """

    axis: str
    features: tuple[str, ...]
    skipped: dict[str, str]
    model: AxisModel | None
    segments: tuple[AxisSegment, ...]
    next_id: int
    events: tuple[IdentityEvent, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> dict[int, str]:
        """Names by id, -1 included."""
        return {segment.id: segment.name for segment in self.segments}

    def ids_of(self, clusters: IntArray) -> IntArray:
        """Return the permanent ids of clusters; -1 stays -1."""
        ids = {segment.cluster: segment.id for segment in self.segments}
        # The last one is what -1 reaches.
        table = [ids[cluster] for cluster in range(len(ids) - 1)]
        return np.asarray(np.array([*table, NOWHERE], dtype=np.int64)[clusters])


_SEGMENTS = TypeAdapter(tuple[AxisSegment, ...])
_EVENTS = TypeAdapter(tuple[IdentityEvent, ...])


def restored_axis(
    arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
) -> FittedAxis:
    """Return an axis that `AxesModel.get_state` took apart, checked."""
    name = meta["axis"]
    own = {
        key.removeprefix(f"{name}/"): array
        for key, array in arrays.items()
        if key.startswith(f"{name}/")
    }
    model = None if meta["model"] is None else AxisModel.from_state(own, meta["model"])
    try:
        segments = _SEGMENTS.validate_python(meta["segments"])
        events = _EVENTS.validate_python(meta["events"])
    except ValidationError as error:
        raise refused(f"axis `{name}`: {error.errors()[0]['msg']}") from None
    clusters = sorted(segment.cluster for segment in segments)
    n_segments = 0 if model is None else model.n_segments
    if model is not None and (
        clusters != list(range(NOWHERE, n_segments))
        or model.n_features != len(meta["features"])
    ):
        raise refused(f"axis `{name}`: its segments or features do not fit its centres")
    return FittedAxis(
        name,
        tuple(meta["features"]),
        dict(meta["skipped"]),
        model,
        segments,
        int(meta["next_id"]),
        events,
        dict(meta["report"]),
    )
