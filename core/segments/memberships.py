"""Who is in which segment of every axis: the assigner, and its tables.

A customer's profile is the segment on every axis with its strength and its runner-up,
beside a few figures of the customer. A batch of customers and a single one go through
the same assigner, so what is computed of one customer alone equals what is computed of
the same one among a million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs

from core.artifacts.arrays import (
    Arrays,
    Meta,
    State,
    pack_arrays,
    save_arrays,
    unpack_arrays,
)
from core.artifacts.reading import ArtifactSet, fitting, read_published
from core.artifacts.runs import RunFiles, read_meta, unusable, write_meta
from core.display import Displayed, Shown
from core.errors import (
    PROGRAM,
    ArtifactError,
    ConfigError,
    SegmentsError,
    did_you_mean,
    listed,
)
from core.models.centroids import NOWHERE, Assignment, IntArray, Placed
from core.segments.axes import OUTSIDE, AxesModel, Labels, Names

FORMAT = 1
# Of profiles: what is said of memberships, and by whom it is asked for.
_NO_FIGURES = cs.struct() | cs.by_name("customer_id", "confidence")


@dataclass(frozen=True, kw_only=True, repr=False)
class CustomerAssigner(Displayed):
    """A versioned model of axes, as a folder and the store keep it.

    A system adds what turning its rows into features takes.

    Attributes
    ----------
    model : AxesModel
    reference_date : datetime
        "Now" of the rows that it was last given in a run, naive UTC.
    version : int
        Number of the model in its lineage, from 1.
    lineage : str
        What the versions of one store's model share.
    """

    files: ClassVar[RunFiles]
    figures: ClassVar[tuple[str, ...]]
    """Columns of the features that stand in profiles, where the features have them."""

    model: AxesModel
    reference_date: datetime
    version: int = 1
    lineage: str = ""

    def _shown(self) -> Shown:
        rows = [
            {"axis": axis, "segments": ", ".join(names[i] for i in names if i >= 0)}
            for axis, names in self.model.names.items()
        ]
        return Shown({"n_axes": len(rows), "version": self.version}, rows)

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that have a model, in their order."""
        return tuple(self.model.names)

    def profiles(
        self,
        features: pl.DataFrame,
        placed: Mapping[str, Assignment] | None = None,
    ) -> pl.DataFrame:
        """Return profiles as a table; see `customer_profiles`.

        Parameters
        ----------
        features : DataFrame
            A row per customer.
        placed : mapping of axis to Assignment, optional
            Where the model places the same rows, if that is known.
        """
        if placed is None:
            placed = self.model.assign(features)
        return customer_profiles(features, placed, self.model.names, self.figures)

    def own_state(self) -> Meta:
        """Return what the system adds, JSON-able."""
        raise NotImplementedError

    @classmethod
    def restored(
        cls, arrays: Arrays, meta: Meta, reference_date: datetime, **known: Any
    ) -> Self:
        """Return the assigner of a state; `known` are version and lineage.

        Raises
        ------
        KeyError, TypeError, ValueError
            If something is missing or does not fit together.
        """
        raise NotImplementedError

    def get_state(self) -> State:
        """Return everything as named arrays and JSON-able values."""
        arrays, model = self.model.get_state()
        return arrays, {
            "format": FORMAT,
            "model": model,
            **self.own_state(),
            "reference_date": self.reference_date.isoformat(),
            "version": self.version,
            "lineage": self.lineage,
        }

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> Self:
        """Return the assigner that `get_state` took apart.

        Raises
        ------
        ArtifactError
            If something is missing or does not fit together.
        """
        system = cls.files.system
        if meta.get("format") != FORMAT:
            found = meta.get("format")
            raise unusable(system, f"its format is {found!r}, expected {FORMAT}")
        try:
            return cls.restored(
                arrays,
                meta,
                datetime.fromisoformat(meta["reference_date"]),
                version=int(meta["version"]),
                lineage=str(meta["lineage"]),
            )
        except SegmentsError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise unusable(system, f"{type(error).__name__}: {error}") from None

    def to_bytes(self) -> bytes:
        """Return everything as one blob, which the store keeps."""
        return pack_arrays(*self.get_state())

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        """Return the assigner of `to_bytes`.

        Raises
        ------
        ArtifactError
            If the bytes are something else.
        """
        return cls.from_state(*unpack_arrays(packed))

    def save(self, folder: Path) -> None:
        """Write the numbers as safetensors, the rest as JSON.

        Names can so be changed without making another model.
        """
        arrays, meta = self.get_state()
        save_arrays(folder / self.files.state, arrays, {"format": FORMAT})
        write_meta(folder / self.files.meta, meta)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the published assigner of a folder such as ``artifacts/axes``.

        Raises
        ------
        ArtifactError
            If there is none, or a file has changed.
        """

        def read(published: ArtifactSet | None) -> CustomerAssigner:
            if published is None or cls.files.stage not in published.manifest.stages:
                raise nothing_published(cls.files, folder)
            return cls.of_set(published)

        found = read_published(Path(folder), read, cls.files.system)
        assert isinstance(found, cls)  # what `of_set` makes
        return found

    @classmethod
    def of_set(cls, base: ArtifactSet) -> Self:
        """Return the assigner of a set.

        Raises
        ------
        ArtifactError
            If its files have changed, or are not those of an assigner.
        """
        files = cls.files
        arrays, _ = base.arrays(files.state)
        with fitting(f"the {files.stage} in `{base.folder}`", files.system):
            found = cls.from_state(arrays, read_meta(base))
            # Parts that do not fit each other show with the first customer.
            found.model.assign(found.model.empty_row())
        return found

    def above(self, version: int, next_ids: Mapping[str, int]) -> Self:
        """Return the same, no version and no id of an axis free that others have."""
        axes = [
            replace(axis, next_id=max(axis.next_id, next_ids.get(name, 0)))
            for name, axis in self.model.axes.items()
        ]
        model = self.model.with_axes(axes)
        return replace(self, model=model, version=max(self.version, version))


def nothing_published(files: RunFiles, folder: str | Path) -> ArtifactError:
    """Return the error for a folder without a model."""
    return ArtifactError(
        f"`{folder}` holds no {files.system.name}. Learn them with `{PROGRAM} "
        f"{files.system.command}`."
    )


def customer_profiles(
    features: pl.DataFrame,
    placed: Mapping[str, Assignment],
    names: Names,
    figures: tuple[str, ...],
) -> pl.DataFrame:
    """Return the profiles of customers.

    Parameters
    ----------
    features : DataFrame
        ``customer_id`` and what the axes divide by.
    placed : mapping of axis to Assignment
        Where a model has the same rows.
    names : mapping of axis to mapping of id to name
        Of its segments, -1 among them.
    figures : tuple of str
        Columns that are kept, where the features have them.

    Returns
    -------
    DataFrame
        ``customer_id``; the structs ``segment_memberships``,
        ``membership_strengths``, ``runner_up_segments`` and ``segment_ids`` with a
        field for each axis (id -1: not placed; all four null: the axis does not look at
        the customer); ``confidence``; and `figures`. Row by row as `features`.
    """
    structs = {
        "segment_memberships": [
            _named(axis, names[axis], own.labels, names[axis].get(NOWHERE))
            for axis, own in placed.items()
        ],
        "membership_strengths": [
            _null_outside(pl.Series(axis, own.strength), own.labels)
            for axis, own in placed.items()
        ],
        "runner_up_segments": [
            _named(axis, names[axis], own.runner_up, None)
            for axis, own in placed.items()
        ],
        "segment_ids": [
            _null_outside(pl.Series(axis, own.labels, dtype=pl.Int32), own.labels)
            for axis, own in placed.items()
        ],
    }
    columns = [pl.DataFrame(own).to_struct(name) for name, own in structs.items()]
    kept = [name for name in figures if name in features.columns]
    return pl.DataFrame(
        [
            features["customer_id"],
            *columns,
            pl.Series("confidence", confidence(placed, features.height)),
            *(features[name] for name in kept),
        ]
    )


def confidence(
    placed: Mapping[str, Assignment], n_customers: int
) -> npt.NDArray[np.float64]:
    """Return the mean strength of each customer.

    An axis that does not place the customer counts as 0: who has one order is known on
    few axes, however well. Where a rule decides (no distances), it is certain: 1. Axes
    that do not look at the customer, and axes with one segment, where the strength is 1
    and says nothing, do not count; a customer with no others has 0.
    """
    total, n_axes = np.zeros(n_customers), np.zeros(n_customers)
    for own in placed.values():
        is_certain = (own.labels >= 0) & np.isnan(own.distances)
        counts = (own.runner_up >= 0) | (own.labels == NOWHERE) | is_certain
        total += np.where(counts, own.strength, 0.0)
        n_axes += counts
    return np.asarray(total / np.maximum(n_axes, 1), dtype=np.float64)


def confidence_of_one(placed: Mapping[str, Placed]) -> float:
    """Return the `confidence` of a customer whom no rule places."""
    total, n_axes = 0.0, 0
    for own in placed.values():
        if own.runner_up >= 0 or own.label == NOWHERE:
            total += own.strength
            n_axes += 1
    return total / max(n_axes, 1)


def _named(
    axis: str, names: Mapping[int, str], ids: IntArray, missing: str | None
) -> pl.Series:
    """Return segments by name; `missing` for -1, null for those not looked at."""
    n = max(names, default=-1) + 1
    table = pl.Series(axis, [*map(names.get, range(n)), missing, None], dtype=pl.String)
    return table.gather(np.where(ids < 0, n - 1 - ids, ids))


def _null_outside(values: pl.Series, ids: IntArray) -> pl.Series:
    """Return values, null for customers whom the axis does not look at."""
    is_outside = ids == OUTSIDE
    if not is_outside.any():
        return values
    return values.to_frame().select(
        pl.when(~pl.Series(is_outside)).then(pl.col(values.name)).alias(values.name)
    )[values.name]


def labels_of(profiles: pl.DataFrame) -> dict[str, IntArray]:
    """Return the segment ids of profiles by axis."""
    ids = profiles["segment_ids"].struct
    return {
        axis: ids.field(axis).fill_null(OUTSIDE).to_numpy().astype(np.int64)
        for axis in ids.fields
    }


def value_shares(
    profiles: pl.DataFrame, value: str = "lifetime_value"
) -> dict[str, dict[int, float]]:
    """Return the share of the value that each segment of every axis holds.

    Parameters
    ----------
    profiles : DataFrame
        Of `customer_profiles`.
    value : str
        Column that is added up; unknown values count as nothing.

    Returns
    -------
    dict of axis to dict of int to float
        By segment id, -1 included, of the customers whom the axis looks at. Empty where
        the profiles have no such column, or it adds up to nothing.
    """
    if value not in profiles.columns:
        return {}
    ids, values = profiles["segment_ids"].struct, profiles[value].cast(pl.Float64)
    found = {}
    for axis in ids.fields:
        known = pl.DataFrame({"id": ids.field(axis), "value": values}).drop_nulls("id")
        sums = dict(known.group_by("id").agg(pl.col("value").sum()).iter_rows())
        total = sum(sums.values())
        if total > 0:
            found[axis] = {id_: own / total for id_, own in sums.items()}
    return found


def labelled_customers(
    profiles: pl.DataFrame, axis: str | None, features: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return what is known of customers beside their segment on one axis.

    Parameters
    ----------
    profiles : DataFrame
        Of `customer_profiles`.
    axis : str or None
        None: the only one.
    features : DataFrame, optional
        ``customer_id`` and what is known of customers, instead of the figures.

    Returns
    -------
    DataFrame
        ``segment``, its name (null: not placed), and the figures or features.

    Raises
    ------
    ConfigError
        If there is no such axis, or none is named and there are several.
    """
    memberships = profiles["segment_memberships"].struct
    axes = memberships.fields
    chosen = axes[0] if axis is None and len(axes) == 1 else axis
    if chosen not in axes:
        asked = "no axis is named" if axis is None else f"there is no axis `{axis}`"
        meant = did_you_mean(axis or "", axes)
        raise ConfigError(f"{asked}; expected one of {listed(axes, 20)}.{meant}")
    is_placed = labels_of(profiles)[chosen] >= 0
    named = pl.when(pl.Series(is_placed)).then(memberships.field(chosen))
    if features is None:
        return profiles.select(named.alias("segment"), ~_NO_FIGURES)
    labels = profiles.select("customer_id", named.alias("segment"))
    joined = labels.join(features, on="customer_id", maintain_order="left")
    return joined.drop("customer_id")


def renamed_profiles(profiles: pl.DataFrame, old: Names, new: Names) -> pl.DataFrame:
    """Return profiles in which segments are called otherwise.

    Parameters
    ----------
    profiles : DataFrame
        Of `customer_profiles`.
    old, new : mapping of axis to mapping of id to name
        Before and after, of the same segments.
    """
    changed = {}
    for column in ("segment_memberships", "runner_up_segments"):
        fields = [
            profiles[column]
            .struct.field(axis)
            .replace({old[axis][i]: name for i, name in new[axis].items()})
            .alias(axis)
            for axis in profiles[column].struct.fields
        ]
        changed[column] = pl.DataFrame(fields).to_struct(column)
    return profiles.with_columns(**changed)


def long_table(profiles: pl.DataFrame) -> pl.DataFrame:
    """Return a row per customer and axis that looks at the customer.

    Parameters
    ----------
    profiles : DataFrame
        Of `customer_profiles`.

    Returns
    -------
    DataFrame
        ``customer_id``, ``axis``, ``segment_id`` (-1: not placed), ``segment``,
        ``strength``, ``runner_up`` (null: none); by axis, then as `profiles`.
    """
    fields = {
        "segment_id": "segment_ids",
        "segment": "segment_memberships",
        "strength": "membership_strengths",
        "runner_up": "runner_up_segments",
    }
    axes = profiles["segment_ids"].struct.fields
    parts = [
        profiles.select(
            "customer_id",
            pl.lit(axis).alias("axis"),
            *(pl.col(s).struct.field(axis).alias(name) for name, s in fields.items()),
        ).filter(pl.col("segment_id").is_not_null())
        for axis in axes
    ]
    return pl.concat(parts)


def exported_customers(profiles: pl.DataFrame) -> pl.DataFrame:
    """Return profiles as `core.segments.export` takes them."""
    return long_table(profiles).select(
        *("customer_id", "axis"),
        pl.col("segment_id").alias("segment"),
        pl.col("segment").alias("segment_name"),
        pl.lit(None, pl.String).alias("sub_segment"),
        pl.lit(None, pl.String).alias("sub_segment_name"),
        "strength",
    )


SIZES_SCHEMA: Final = pl.Schema(
    {
        "axis": pl.String,
        "segment_id": pl.Int64,
        "segment": pl.String,
        "n_customers": pl.Int64,
        "share": pl.Float64,
        "share_when_learnt": pl.Float64,
        "kind": pl.String,
        "is_edited": pl.Boolean,
        "rule_name": pl.String,
        "why": pl.String,
    }
)
"""Columns of `sizes_table`.

Id -1 are the customers whom the axis does not place; shares are of those whom it looks
at.
"""


def sizes_table(model: AxesModel, found: Labels) -> pl.DataFrame:
    """Return a row per segment with its customers in this run, `SIZES_SCHEMA`.

    By axis, then by size, the customers not placed last; none of these, no row.
    """
    rows = []
    for axis, fitted in model.fitted.items():
        labels = found[axis]
        n_all = max(int(np.count_nonzero(labels != OUTSIDE)), 1)
        for segment in fitted.segments:
            n = int(np.count_nonzero(labels == segment.id))
            if n or segment.id != NOWHERE:
                row = {
                    "axis": axis,
                    "segment_id": segment.id,
                    "segment": segment.name,
                    "n_customers": n,
                    "share": n / n_all,
                    "share_when_learnt": segment.share,
                }
                rows.append({**segment.model_dump(), **row})
    table = pl.DataFrame(
        [{name: row[name] for name in SIZES_SCHEMA} for row in rows],
        schema=SIZES_SCHEMA,
    )
    order = {axis: place for place, axis in enumerate(model.fitted)}
    return table.sort(
        pl.col("axis").replace_strict(order, return_dtype=pl.Int64),
        pl.col("segment_id") == NOWHERE,
        -pl.col("n_customers"),
        "segment_id",
    )
