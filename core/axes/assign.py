"""The one assigner: a batch of customers, a single one and a request go through it.

A customer's profile is the segment on every axis with its strength and its runner-up,
beside a few figures of the customer. What is computed of one customer alone equals, to
the last digit that features have, what is computed of the same one among a million.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from core.artifacts.arrays import (
    Arrays,
    Meta,
    State,
    pack_arrays,
    save_arrays,
    unpack_arrays,
)
from core.artifacts.folder import Artifacts
from core.artifacts.reading import ArtifactSet, fitting, read_published
from core.axes.features.catalog import PROFILE
from core.axes.features.compute import customer_features
from core.axes.files import CUSTOMER_AXES, META, PROFILES, STATE
from core.axes.model import AxesModel
from core.errors import (
    PROGRAM,
    ArtifactError,
    FeatureMismatchError,
    SegmentsError,
    listed,
)
from core.models.centroids import NOWHERE, Assignment

if TYPE_CHECKING:
    from core.tables.orders import Purchases
    from core.tables.reconcile import Negative


TEXTS = ("preferred_time", "primary_channel", "lifecycle_stage")


@dataclass(frozen=True, slots=True)
class CustomerProfile:
    """One customer on all axes.

    Attributes
    ----------
    customer_id : str
    segment_memberships : dict of axis to str
        Segment by name; ``not_enough_orders`` where the axis does not place the
        customer, who lacks one of its features.
    dominant_segments : dict of axis to str
        The same: the axes are hard partitions.
    membership_strengths : dict of axis to float
        0 (on the border to the runner-up) to 1 (at the own centre or beyond it), see
        `core.models.centroids`; 0 where not placed, 1 on an axis with one segment.
    runner_up_segments : dict of axis to str or None
        The second nearest segment; None where there is none.
    confidence : float
        Mean strength over the axes with two segments or more, 0 where the customer is
        not placed; 0 if there are none.
    figures : dict of str to float or None
        `core.axes.features.compute.PROFILE`, in its units.
    """

    customer_id: str
    segment_memberships: dict[str, str]
    dominant_segments: dict[str, str]
    membership_strengths: dict[str, float]
    runner_up_segments: dict[str, str | None]
    confidence: float
    figures: dict[str, float | None]


def customer_profiles(
    features: pl.DataFrame,
    placed: Mapping[str, Assignment],
    names: Mapping[str, Mapping[int, str]],
) -> pl.DataFrame:
    """Return the profiles of customers.

    Parameters
    ----------
    features : DataFrame
        Of `core.axes.features.compute.customer_features`.
    placed : mapping of axis to Assignment
        Where a model has the same rows.
    names : mapping of axis to mapping of id to name
        Of its segments, -1 among them.

    Returns
    -------
    DataFrame
        ``customer_id``; the structs ``segment_memberships``,
        ``membership_strengths``, ``runner_up_segments`` and ``segment_ids`` with a
        field for each axis (id -1: not placed); ``confidence``; `PROFILE`; and
        those of `TEXTS` that the features have. Row by row as `features`.
    """
    structs = {
        "segment_memberships": [
            _named(axis, names[axis], own.labels, names[axis][NOWHERE])
            for axis, own in placed.items()
        ],
        "membership_strengths": [
            pl.Series(axis, own.strength) for axis, own in placed.items()
        ],
        "runner_up_segments": [
            _named(axis, names[axis], own.runner_up, None)
            for axis, own in placed.items()
        ],
        "segment_ids": [
            pl.Series(axis, own.labels, dtype=pl.Int32) for axis, own in placed.items()
        ],
    }
    columns = [pl.DataFrame(own).to_struct(name) for name, own in structs.items()]
    kept = [name for name in (*PROFILE, *TEXTS) if name in features.columns]
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
    few axes, however well. Axes with one segment, where the strength is 1 and says
    nothing, do not count; a customer with no others has 0.
    """
    total, n_axes = np.zeros(n_customers), np.zeros(n_customers)
    for own in placed.values():
        counts = (own.runner_up >= 0) | (own.labels < 0)
        total += np.where(counts, own.strength, 0.0)
        n_axes += counts
    return np.asarray(total / np.maximum(n_axes, 1), dtype=np.float64)


def _named(
    axis: str,
    names: Mapping[int, str],
    ids: npt.NDArray[np.int64],
    missing: str | None,
) -> pl.Series:
    """Return segments by name; `missing` for -1."""
    n = max(names, default=-1) + 1
    table = pl.Series(axis, [*map(names.get, range(n)), missing], dtype=pl.String)
    return table.gather(np.where(ids < 0, n, ids))


def profile_of(row: Mapping[str, Any]) -> CustomerProfile:
    """Return one row of the table as a record."""
    return CustomerProfile(
        customer_id=row["customer_id"],
        segment_memberships=row["segment_memberships"],
        dominant_segments=dict(row["segment_memberships"]),
        membership_strengths=row["membership_strengths"],
        runner_up_segments=row["runner_up_segments"],
        confidence=row["confidence"],
        figures={name: row[name] for name in PROFILE},
    )


FORMAT = 1


@dataclass(frozen=True)
class AxesAssigner:
    """A fitted model of the axes, with all that turning orders into features takes.

    Attributes
    ----------
    model : AxesModel
    absent : tuple of str
        Optional columns that the model knows nothing of; see
        `core.tables.orders.OPTIONAL`.
    channels : tuple of str
        The channels that it tells apart.
    reference_date : datetime
        "Now" of the orders that it was last given in a run, naive UTC.
    negative_orders : str
        What that run made of orders and lines below 0; see ``axes.negative_orders``.
    version : int
        Number of the model in its lineage, from 1.
    lineage : str
        What the versions of one store's model share.
    """

    model: AxesModel
    absent: tuple[str, ...]
    channels: tuple[str, ...]
    reference_date: datetime
    negative_orders: Negative = "refund"
    version: int = 1
    lineage: str = ""

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that have a model, in the reference's order."""
        return tuple(self.model.names)

    def features(self, purchases: Purchases) -> pl.DataFrame:
        """Return the features of customers, as the model knows them.

        Raises
        ------
        FeatureMismatchError
            If the purchases lack a column that the model was learnt with.
        """
        lacking = [name for name in purchases.absent if name not in self.absent]
        if lacking:
            raise FeatureMismatchError(
                f"the purchases have no {listed(lacking)}, which version "
                f"{self.version} of the axes was learnt with. Hand it in, or learn the "
                f"axes anew with `{PROGRAM} axes --retrain always`."
            )
        return customer_features(
            purchases.orders,
            purchases.items,
            reference_date=purchases.reference_date,
            absent=self.absent,
            channels=self.channels,
        )

    def assign(self, purchases: Purchases) -> list[CustomerProfile]:
        """Return the profiles of the customers, by ``customer_id``.

        Raises
        ------
        FeatureMismatchError
            If the purchases lack a column that the model was learnt with.
        """
        table = self.profiles(self.features(purchases))
        return [profile_of(row) for row in table.iter_rows(named=True)]

    def profiles(
        self,
        features: pl.DataFrame,
        placed: Mapping[str, Assignment] | None = None,
    ) -> pl.DataFrame:
        """Return profiles as a table; see `core.axes.assign.customer_profiles`.

        Parameters
        ----------
        features : DataFrame
            Of `core.axes.features.compute.customer_features`.
        placed : mapping of axis to Assignment, optional
            Where the model places the same rows, if that is known.
        """
        if placed is None:
            placed = self.model.assign(features)
        return customer_profiles(features, placed, self.model.names)

    def get_state(self) -> State:
        """Return everything as named arrays and JSON-able values."""
        arrays, model = self.model.get_state()
        return arrays, {
            "format": FORMAT,
            "model": model,
            "absent": list(self.absent),
            "channels": list(self.channels),
            "reference_date": self.reference_date.isoformat(),
            "negative_orders": self.negative_orders,
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
        if meta.get("format") != FORMAT:
            raise _unusable(f"its format is {meta.get('format')!r}, expected {FORMAT}")
        try:
            return cls(
                model=AxesModel.from_state(arrays, meta["model"]),
                absent=tuple(map(str, meta["absent"])),
                channels=tuple(map(str, meta["channels"])),
                reference_date=datetime.fromisoformat(meta["reference_date"]),
                negative_orders=meta["negative_orders"],
                version=int(meta["version"]),
                lineage=str(meta["lineage"]),
            )
        except SegmentsError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable(f"{type(error).__name__}: {error}") from None

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
        """Write the numbers as ``axes.safetensors``, the rest as ``axes.json``.

        Names can so be changed without making another model.
        """
        arrays, meta = self.get_state()
        save_arrays(folder / STATE, arrays, {"format": FORMAT})
        write_meta(folder / META, meta)

    @classmethod
    def load(cls, folder: str | Path) -> AxesAssigner:
        """Return the published assigner of a folder such as ``artifacts/axes``.

        Raises
        ------
        ArtifactError
            If there is none, or a file has changed.
        """

        def read(published: ArtifactSet | None) -> AxesAssigner:
            if published is None or "axes" not in published.manifest.stages:
                raise ArtifactError(
                    f"`{folder}` holds no customer axes. Learn them with `{PROGRAM} "
                    "axes`."
                )
            return cls.of_set(published)

        return read_published(Path(folder), read, CUSTOMER_AXES)

    @classmethod
    def of_set(cls, base: ArtifactSet) -> Self:
        """Return the assigner of a set.

        Raises
        ------
        ArtifactError
            If its files have changed, or are not those of an assigner.
        """
        arrays, _ = base.arrays(STATE)
        with fitting(f"the axes in `{base.folder}`", CUSTOMER_AXES):
            found = cls.from_state(arrays, read_meta(base))
            # Parts that do not fit each other show with the first customer.
            found.model.assign(pl.DataFrame({n: [0.0] for n in found.model.features}))
        return found


def write_meta(path: Path, meta: Mapping[str, Any]) -> None:
    """Write JSON that a person can read; what is no JSON (NaN) is refused."""
    text = json.dumps(meta, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_meta(base: ArtifactSet) -> dict[str, Any]:
    """Read what `write_meta` wrote of a set.

    Raises
    ------
    ArtifactError
        If the file has changed, or is not JSON.
    """
    try:
        meta: dict[str, Any] = json.loads(base.read(META))
    except ValueError as error:
        raise _unusable(f"`{base.folder / META}`: {error}") from None
    return meta


def _unusable(finding: str) -> ArtifactError:
    return ArtifactError(
        f"the saved axes are unusable: {finding}. Learn them again with `{PROGRAM} "
        "axes --retrain always`."
    )


# Of the smaller population, the share that another one must hold to be the same one.
SAME_CUSTOMERS = 0.5


@dataclass(frozen=True)
class PreviousRun:
    """The published set that a run goes on from.

    Attributes
    ----------
    base : ArtifactSet
    assigner : AxesAssigner
        Its model; its ids and its version are below those that are free.
    labels : DataFrame
        Where its run had everyone, see `core.axes.changes.label_table`.
    """

    base: ArtifactSet
    assigner: AxesAssigner
    labels: pl.DataFrame

    @classmethod
    def of(cls, base: ArtifactSet, artifacts: Artifacts) -> PreviousRun:
        """Read a verified set; `artifacts` knows the versions kept beside it.

        Raises
        ------
        ArtifactError
            If its files are unusable.
        """
        profiles = base.table(PROFILES)
        labels = profiles.select("customer_id", pl.col("segment_ids").struct.unnest())
        return cls(base, _above_kept(AxesAssigner.of_set(base), artifacts), labels)

    @property
    def version(self) -> int:
        """Number of the model, which is below `assigner.version` after going back."""
        return self.base.manifest.version

    def is_followed_by(self, orders: pl.DataFrame) -> bool:
        """Whether half of the smaller of two populations is in both."""
        now = orders.select("customer_id").unique()
        n_shared = now.join(self.labels, on="customer_id", how="semi").height
        return n_shared >= SAME_CUSTOMERS * min(now.height, self.labels.height)


def _above_kept(assigner: AxesAssigner, artifacts: Artifacts) -> AxesAssigner:
    """Raise version and next ids above those of all versions that are kept.

    After going back, later ones are there, and what they gave out stays given.
    """
    axes = dict(assigner.model.axes)
    version = assigner.version
    for name, manifest in artifacts.versions().items():
        if manifest.lineage == assigner.lineage:
            version = max(version, manifest.version)
            meta = read_meta(ArtifactSet(artifacts.versions_folder / name, manifest))
            for kept in meta["model"]["axes"]:
                own = axes.get(kept["axis"])
                if own is not None and own.next_id < kept["next_id"]:
                    axes[own.axis] = replace(own, next_id=kept["next_id"])
    model = AxesModel(tuple(axes.values()), assigner.model.context)
    return replace(assigner, model=model, version=version)
