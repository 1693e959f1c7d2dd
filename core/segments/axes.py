"""Segments on several axes: who is in which segment on each, under permanent ids.

An axis is one way of dividing the same customers. Behavioural axes, a set of rules and
micro-segments within some of its segments are axes alike: every one has segments with
permanent ids and names, and what became of those of the model before.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from core.artifacts.arrays import Arrays, Meta, State
from core.errors import ConfigError, FeatureMismatchError, did_you_mean, listed
from core.models.centroids import (
    NOWHERE,
    Assignment,
    CentroidModel,
    FloatArray,
    IntArray,
    Placed,
    refused,
)
from core.models.criterion import Kind
from core.segments.identity import Identity, IdentityEvent, match_segments
from core.segments.naming import ids_of, names_of, rename, with_given_names

OUTSIDE: Final = -2
"""Label of a customer whom an axis does not look at, as it divides others only."""
# Segment ids by axis, one per customer, and names by axis and id.
Labels = Mapping[str, npt.NDArray[np.int64]]
Names = Mapping[str, Mapping[int, str]]


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
    kind : {'natural', 'cut', 'single', 'rule'}
        Parted from the others by a valley; a tier the user asked for; the only one; a
        condition that the user wrote.
    is_edited : bool
        Whether a user gave the name, which then stays as long as the segment.
    rule_name : str
        What the naming rules, or the rule itself, call it now; another than `name`
        where the name was given by a user or comes from an earlier model.
    why : str
        The findings that the rule's name rests on, or the rule, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: int = Field(ge=NOWHERE)
    name: str = Field(min_length=1)
    cluster: int = Field(ge=NOWHERE)
    size: int = Field(ge=0)
    share: float = Field(ge=0.0, le=1.0)
    kind: Kind | Literal["rule"]
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
        Columns that it divides by; empty if the axis was skipped.
    skipped : dict of str to str
        Features left out, and why.
    model : CentroidModel or None
        None if the axis was skipped, or divides by rules.
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
        `candidates`. See `core.models.criterion`.
    """

    axis: str
    features: tuple[str, ...]
    skipped: dict[str, str]
    model: CentroidModel | None
    segments: tuple[AxisSegment, ...]
    next_id: int
    events: tuple[IdentityEvent, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> dict[int, str]:
        """Names by id, -1 included."""
        return names_of(self.segments)

    def ids_of(self, clusters: IntArray) -> IntArray:
        """Return the permanent ids of clusters; -1 stays -1."""
        return ids_of(self.segments, clusters)

    def id_of(self, cluster: int) -> int:
        """Return the permanent id of a cluster; -1 stays -1."""
        return next(own.id for own in self.segments if own.cluster == cluster)


class Told(NamedTuple):
    """What a segment is called by the rules, and what that rests on."""

    name: str
    why: str


def axis_identity(
    before: FittedAxis | None,
    old: IntArray | None,
    new: IntArray,
    n_segments: int,
    next_id: int,
) -> Identity:
    """Return the ids of clusters, and what became of the segments before.

    Parameters
    ----------
    before : FittedAxis, optional
        The same axis of the model before.
    old : ndarray of int, shape (n_customers,), optional
        Ids that it gives the customers; None where it cannot.
    new : ndarray of int, shape (n_customers,)
        Clusters of the same customers.
    n_segments, next_id : int
        Clusters there are, and the first id that was never given out.
    """
    if before is None or old is None:
        ids = {cluster: next_id + cluster for cluster in range(n_segments)}
        return Identity(ids, (), next_id + len(ids))
    trained = {segment.id: segment.size for segment in before.segments}
    known = [segment.id for segment in before.segments if segment.id != NOWHERE]
    return match_segments(old, new, next_id=next_id, known=known, trained=trained)


def kept_segments(
    identity: Identity, before: FittedAxis | None, n_segments: int
) -> dict[int, AxisSegment]:
    """Return, by cluster, the segments before whose name lives on.

    That is a name that a user gave, and any where the axis had several segments before
    and has several now: `everyone` cannot be the name of a part.
    """
    if before is None:
        return {}
    old = {segment.id: segment for segment in before.segments}
    n_old = len(old) - 1
    is_like_before = (n_old > 1) == (n_segments > 1)
    return {
        cluster: old[id_]
        for cluster, id_ in identity.ids.items()
        if id_ in old and (old[id_].is_edited or is_like_before)
    }


def axis_segments(
    identity: Identity,
    names: Mapping[int, str],
    kept: Mapping[int, AxisSegment],
    told: Mapping[int, Told],
    labels: IntArray,
    kind: Kind | Literal["rule"],
) -> tuple[AxisSegment, ...]:
    """Return the records of an axis's segments, by id, -1 last.

    Parameters
    ----------
    identity : Identity
    names : mapping of int to str
        By cluster; those of `kept` segments do not count.
    kept : mapping of int to AxisSegment
        By cluster, see `kept_segments`.
    told : mapping of int to Told
        By cluster, -1 included: who is in no segment.
    labels : ndarray of int, shape (n_customers,)
        Clusters of the customers whom the axis looks at; -1 is none.
    kind : str
        Of all of them, see `AxisSegment`.
    """
    sizes = np.bincount(labels + 1, minlength=len(identity.ids) + 1)
    ids = {**identity.ids, NOWHERE: NOWHERE}
    found = []
    for cluster in sorted(ids, key=lambda c: (c == NOWHERE, ids[c])):
        old = kept.get(cluster)
        found.append(
            AxisSegment(
                id=ids[cluster],
                name=names[cluster] if old is None else old.name,
                cluster=cluster,
                size=int(sizes[cluster + 1]),
                share=float(sizes[cluster + 1] / max(sizes.sum(), 1)),
                kind=kind,
                is_edited=old is not None and old.is_edited,
                rule_name=told[cluster].name,
                why=told[cluster].why,
            )
        )
    return tuple(found)


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
    model = (
        None if meta["model"] is None else CentroidModel.from_state(own, meta["model"])
    )
    try:
        segments = _SEGMENTS.validate_python(meta["segments"])
        events = _EVENTS.validate_python(meta["events"])
    except ValidationError as error:
        raise refused(f"axis `{name}`: {error.errors()[0]['msg']}") from None
    if model is None and any(segment.kind != "rule" for segment in segments):
        raise refused(f"axis `{name}`: it has segments, but neither centres nor rules")
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


FORMAT = 1


class AxesModel:
    """The segments of all axes.

    Parameters
    ----------
    axes : sequence of FittedAxis
        In the order they are reported in.
    context : mapping
        What the user of this model has to know of its data, JSON-able, kept as it is:
        `channels`, `absent`, `reference_date`.

    Attributes
    ----------
    axes, fitted : dict of str to FittedAxis
        All of them by name, and those that were not skipped.
    names : dict of axis to dict of int to str
        Segment names by axis and id, those of -1 included.
    features : tuple of str
        What `assign` needs.
    """

    def __init__(
        self, axes: tuple[FittedAxis, ...], context: Mapping[str, Any] | None = None
    ) -> None:
        self.axes = {axis.axis: axis for axis in axes}
        self.context = dict(context or {})
        self.fitted = {axis.axis: axis for axis in axes if axis.segments}
        self.names = {name: axis.names for name, axis in self.fitted.items()}
        self.features = tuple(
            dict.fromkeys(f for axis in self.fitted.values() for f in axis.features)
        )
        self._places = {
            name: [self.features.index(feature) for feature in axis.features]
            for name, axis in self.fitted.items()
        }

    @property
    def events(self) -> dict[str, tuple[IdentityEvent, ...]]:
        """What the last fit did to the segments before it, by axis."""
        return {name: axis.events for name, axis in self.axes.items()}

    @property
    def segments(self) -> pl.DataFrame:
        """All segments: ``axis`` and the fields of `AxisSegment`."""
        rows = [
            {"axis": name, **segment.model_dump()}
            for name, axis in self.fitted.items()
            for segment in axis.segments
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    @property
    def report(self) -> list[dict[str, Any]]:
        """One row per axis: figures of the choice, features used and skipped."""
        return [
            {
                "axis": name,
                **axis.report,
                "features": list(axis.features),
                "skipped": dict(axis.skipped),
            }
            for name, axis in self.axes.items()
        ]

    def assign(self, features: pl.DataFrame) -> dict[str, Assignment]:
        """Assign customers to a segment of every axis.

        Parameters
        ----------
        features : DataFrame
            A row per customer; other columns than `self.features` are not looked at.

        Returns
        -------
        dict of str to Assignment
            By axis, without skipped ones; segments are permanent ids.

        Raises
        ------
        FeatureMismatchError
            If a feature is missing.
        """
        self._check(features.columns)
        if not self.features:
            return self.place(np.empty((features.height, 0)))
        floats = features.select(pl.col(self.features).cast(pl.Float64))
        return self.place(floats.fill_null(np.nan).to_numpy())

    def assign_one(self, features: Mapping[str, float]) -> dict[str, Placed]:
        """Assign one customer, whose unknown features are NaN, like a table of one row.

        Raises
        ------
        FeatureMismatchError
            If a feature is missing.
        """
        self._check(features)
        found = {}
        for name, axis in self.fitted.items():
            assert axis.model is not None
            own = axis.model.assign_one([features[name] for name in axis.features])
            found[name] = own._replace(
                label=axis.id_of(own.label), runner_up=axis.id_of(own.runner_up)
            )
        return found

    def place(self, table: FloatArray) -> dict[str, Assignment]:
        """Assign rows of `features`, in their order; see `assign`."""
        return {name: self._assign(axis, table) for name, axis in self.fitted.items()}

    def empty_row(self) -> pl.DataFrame:
        """Return a row of zeros, with every column that `assign` needs."""
        return pl.DataFrame({name: [0.0] for name in self.features})

    def renamed(self, axis: str, segment_id: int, name: str) -> Self:
        """Return the same model with a segment called otherwise.

        Raises
        ------
        ConfigError
            For an unknown axis or segment, an empty name, or one that another segment
            of the axis has.
        """
        found = self.fitted.get(axis)
        if found is None:
            hint = did_you_mean(axis, self.fitted)
            raise ConfigError(
                f"unknown axis `{axis}`; expected one of "
                f"{listed(list(self.fitted), 13)}.{hint}"
            )
        return self.with_segments({axis: rename(found.segments, segment_id, name)})

    def restored_after(self, later: AxesModel) -> Self:
        """Return the model under the names that users have given a later one."""
        return self.with_segments(
            {
                axis: with_given_names(own.segments, later.axes[axis].segments)
                for axis, own in self.fitted.items()
                if axis in later.fitted
            }
        )

    def with_segments(self, changed: Mapping[str, tuple[AxisSegment, ...]]) -> Self:
        """Return the same model with other segments on some axes."""
        return self.with_axes(
            replace(axis, segments=changed.get(name, axis.segments))
            for name, axis in self.axes.items()
        )

    def with_axes(self, axes: Iterable[FittedAxis]) -> Self:
        """Return the same model with these records of its axes."""
        return type(self)(tuple(axes), self.context)

    def get_state(self) -> State:
        """Return named arrays and JSON-able values, all that `from_state` needs."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        axes = []
        for name, axis in self.axes.items():
            meta: dict[str, Any] | None = None
            if axis.model is not None:
                own, meta = axis.model.get_state()
                arrays |= {f"{name}/{key}": array for key, array in own.items()}
            axes.append(
                {
                    "axis": name,
                    "model": meta,
                    "features": list(axis.features),
                    "skipped": dict(axis.skipped),
                    "segments": [segment.model_dump() for segment in axis.segments],
                    "next_id": axis.next_id,
                    "events": [e.model_dump(mode="json") for e in axis.events],
                    "report": axis.report,
                }
            )
        return arrays, {"format": FORMAT, "context": self.context, "axes": axes}

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> Self:
        """Return a model that places exactly as the one `get_state` was asked of.

        Raises
        ------
        ArtifactError
            For a state that is not whole, or not one that fitting leaves.
        """
        if meta.get("format") != FORMAT:
            raise refused(f"the format is {meta.get('format')!r}, expected {FORMAT}")
        try:
            axes = tuple(restored_axis(arrays, axis) for axis in meta["axes"])
            return cls(axes, meta["context"])
        except (KeyError, TypeError, AttributeError) as error:
            raise refused(f"{type(error).__name__}: {error}") from None

    def _check(self, names: Container[str]) -> None:
        """Refuse features that lack one."""
        missing = [name for name in self.features if name not in names]
        if missing:
            raise FeatureMismatchError(
                f"the axes were learnt from {len(self.features)} features; the table "
                f"lacks {listed(missing)}. Compute the features as the model's own run "
                "did."
            )

    def _assign(self, axis: FittedAxis, table: FloatArray) -> Assignment:
        """Assign customers on one axis, under permanent ids."""
        assert axis.model is not None
        found = axis.model.assign(table[:, self._places[axis.axis]])
        return found._replace(
            labels=axis.ids_of(found.labels), runner_up=axis.ids_of(found.runner_up)
        )
