"""From places in the scaled and the latent space to the published segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from core.arrays import load_arrays
from core.artifacts import ArtifactSet
from core.errors import ArtifactError
from core.inference.states import State, join_states, state_part
from core.manifest import SCRIPTS
from core.segments.exemplars import Exemplars
from core.segments.partition import Partition
from core.segments.published import (
    PublishedSegments,
    SegmentKind,
    SegmentTable,
    restored_table,
)

SEGMENT_STATE = "segment-state.safetensors"
SEGMENTS = "segments.json"


@dataclass(frozen=True)
class SegmentAssigner:
    """Both kinds of segments, and which of them is published.

    Attributes
    ----------
    partition : Partition
        On the scaled features.
    exemplars : Exemplars
        What stands for the density segments in the latent space.
    tables : mapping of kind to SegmentTable
        Names and sizes of both kinds by the model alone: ids are clusters.
    published : PublishedSegments
        One of the two, under its verdict, with permanent ids.
    """

    partition: Partition
    exemplars: Exemplars
    tables: Mapping[SegmentKind, SegmentTable]
    published: PublishedSegments

    @classmethod
    def from_set(cls, artifact_set: ArtifactSet) -> Self:
        """Read the segments of a verified set.

        Raises
        ------
        ArtifactError
            If the set was made before segments were saved, or its files are unusable.
        """
        for name in (SEGMENT_STATE, SEGMENTS):
            if name not in artifact_set.manifest.files:
                raise ArtifactError(
                    f"`{artifact_set.folder}` holds no `{name}`: its clusters were "
                    "trained by an earlier version, which published no segments. Run "
                    f"`python {SCRIPTS['clustering']}` and then "
                    f"`python {SCRIPTS['inference']}`."
                )
        arrays, meta = load_arrays(artifact_set.path(SEGMENT_STATE))
        point_arrays, _ = state_part(arrays, meta, "exemplars")
        _, tables = state_part(arrays, meta, "tables")
        kinds: tuple[SegmentKind, ...] = ("density", "partition")
        published = PublishedSegments.read(artifact_set.path(SEGMENTS))
        if not published.lineage:
            lineage = artifact_set.manifest.lineage
            published = published.model_copy(update={"lineage": lineage})
        return cls(
            partition=Partition.from_state(*state_part(arrays, meta, "partition")),
            exemplars=Exemplars.from_state(point_arrays),
            tables={kind: restored_table(tables.get(kind)) for kind in kinds},
            published=published,
        )

    def get_state(self) -> State:
        """Return all but what is published as arrays and JSON-able values."""
        tables: dict[str, Any] = {
            kind: table.model_dump(mode="json") for kind, table in self.tables.items()
        }
        return join_states(
            partition=self.partition.get_state(),
            exemplars=self.exemplars.get_state(),
            tables=({}, tables),
        )

    def place(
        self, scaled: np.ndarray, latent: np.ndarray, clusters: np.ndarray
    ) -> pl.DataFrame:
        """Return the published segment of rows, and the nearest other one.

        Here clusters become ids, for every output.

        Parameters
        ----------
        scaled, latent : ndarray of shape (n_rows, n_dimensions), float64
            The rows in both spaces.
        clusters : ndarray of shape (n_rows,), int64
            Their latent clusters, -1 for none.

        Returns
        -------
        DataFrame
            ``segment`` (int32; -1 is unassigned), ``segment_name``, ``segment_kind``,
            ``nearest_segment`` (int32; null where there is no other) and ``distance``
            to it (null likewise).
        """
        if self.published.kind == "partition":
            found = self.partition.assign(scaled)
            labels, nearest = found.labels, found.nearest
            distance = found.nearest_distances
        else:
            labels = clusters
            nearest, distance = self.exemplars.nearest(latent, labels)
        names, ids_of = self.published.names, self.published.ids_of
        segment = pl.Series(ids_of(labels), dtype=pl.Int32)
        return pl.DataFrame(
            {
                "segment": segment,
                "segment_name": segment.replace_strict(names, return_dtype=pl.String),
                "segment_kind": pl.repeat(
                    self.published.kind, len(labels), dtype=pl.String, eager=True
                ),
                "nearest_segment": pl.Series(ids_of(nearest), dtype=pl.Int32),
                "distance": pl.Series(distance).fill_nan(None),
            }
        ).with_columns(
            pl.when(pl.col("nearest_segment") >= 0).then(pl.col("nearest_segment"))
        )
