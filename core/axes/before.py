"""The published run that another one goes on from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from core.artifacts import Artifacts, ArtifactSet
from core.axes.assigner import AxesAssigner, read_meta
from core.axes.files import META, PROFILES
from core.segments.axis_set import AxesModel

# Of the smaller population, the share that another one must hold to be the same one.
SAME_CUSTOMERS = 0.5


@dataclass(frozen=True)
class Before:
    """The published set that a run goes on from.

    Attributes
    ----------
    base : ArtifactSet
    assigner : AxesAssigner
        Its model; its ids and its version are below those that are free.
    labels : DataFrame
        Where its run had everyone, see `core.axes.moves.label_table`.
    """

    base: ArtifactSet
    assigner: AxesAssigner
    labels: pl.DataFrame

    @classmethod
    def of(cls, base: ArtifactSet, artifacts: Artifacts) -> Before:
        """Read a verified set; `artifacts` knows the versions kept beside it.

        Raises
        ------
        ArtifactError
            If its files are unusable.
        """
        profiles = pl.read_parquet(base.path(PROFILES), memory_map=False)
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
            meta = read_meta(artifacts.versions_folder / name / META)
            for kept in meta["model"]["axes"]:
                own = axes.get(kept["axis"])
                if own is not None and own.next_id < kept["next_id"]:
                    axes[own.axis] = replace(own, next_id=kept["next_id"])
    model = AxesModel(tuple(axes.values()), assigner.model.context)
    return replace(assigner, model=model, version=version)
