"""The one assigner: a batch of customers, a single one and a request go through it.

A customer's profile is the segment on every axis with its strength and its runner-up,
beside a few figures of the customer. What is computed of one customer alone equals, to
the last digit that features have, what is computed of the same one among a million.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt
import polars as pl

from core.arrays import load_arrays, pack_arrays, save_arrays, unpack_arrays
from core.artifacts import ArtifactSet
from core.axes.files import META, STATE
from core.axes.profile import CustomerProfile, profile_of, profile_table
from core.errors import ArtifactError, FeatureMismatchError, SegmentsError, listed
from core.features.customer import customer_features
from core.segments.axis_model import AxisPlacement
from core.segments.axis_set import AxesModel

if TYPE_CHECKING:
    from core.data.purchases import Purchases
    from core.data.purchases_settle import Negative

FORMAT = 1


@dataclass(frozen=True)
class AxesAssigner:
    """A fitted model of the axes, with all that turning orders into features takes.

    Attributes
    ----------
    model : AxesModel
    absent : tuple of str
        Optional columns that the model knows nothing of; see
        `core.data.purchases.OPTIONAL`.
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
                "axes anew with `segments axes --retrain always`."
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
        placed: Mapping[str, AxisPlacement] | None = None,
    ) -> pl.DataFrame:
        """Return profiles as a table; see `core.axes.profile.profile_table`.

        Parameters
        ----------
        features : DataFrame
            Of `core.features.customer.customer_features`.
        placed : mapping of axis to AxisPlacement, optional
            Where the model places the same rows, if that is known.
        """
        if placed is None:
            placed = self.model.place(features)
        return profile_table(features, placed, self.model.names)

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
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
    def from_state(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
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
    def load(cls, folder: str | Path) -> Self:
        """Return the published assigner of a folder such as ``artifacts/axes``.

        Raises
        ------
        ArtifactError
            If there is none, or a file has changed.
        """
        from core.artifacts import Artifacts

        published = Artifacts(folder).published()
        if published is None or "axes" not in published.manifest.stages:
            raise ArtifactError(
                f"`{folder}` holds no customer axes. Learn them with `segments axes`."
            )
        return cls.of_set(published)

    @classmethod
    def of_set(cls, base: ArtifactSet) -> Self:
        """Return the assigner of a verified set.

        Raises
        ------
        ArtifactError
            If its files are not those of an assigner.
        """
        arrays, _ = load_arrays(base.path(STATE))
        return cls.from_state(arrays, read_meta(base.path(META)))


def write_meta(path: Path, meta: Mapping[str, Any]) -> None:
    """Write JSON that a person can read; what is no JSON (NaN) is refused."""
    text = json.dumps(meta, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_meta(path: Path) -> dict[str, Any]:
    """Read what `write_meta` wrote.

    Raises
    ------
    ArtifactError
        If the file is not JSON.
    """
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unusable(f"`{path}`: {error}") from None
    return meta


def _unusable(finding: str) -> ArtifactError:
    return ArtifactError(
        f"the saved axes are unusable: {finding}. Learn them again with `segments "
        "axes --retrain always`."
    )
