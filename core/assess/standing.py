"""The standing model: what it has learnt from, what it says, how to learn it anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from core.artifacts import Artifacts, StageWriter
from core.config import Config
from core.errors import ArtifactError
from core.evaluation.partition_choice import partition_recipe
from core.evaluation.stability import Recipe, whole_pipeline
from core.inference import Model, feature_matrix
from core.manifest import Manifest
from core.pipelines.lineage import clusters_of
from core.segments.published import PublishedSegments

Kind = Literal["density", "partition"]


@dataclass(frozen=True)
class Standing:
    """A complete published model.

    Attributes
    ----------
    manifest : Manifest
        Of its set.
    X : ndarray of float64, shape (n_shops, n_features)
        The features it was trained on, unscaled; NaN where unknown.
    labels : dict of kind to ndarray of int64, shape (n_shops,)
        Its latent clusters (-1 is noise) and its partition.
    published : PublishedSegments
        One of them, with the ids of its clusters.
    """

    manifest: Manifest
    X: np.ndarray
    labels: dict[Kind, np.ndarray]
    published: PublishedSegments

    @property
    def kind(self) -> Kind:
        """Which of the labels are published."""
        return self.published.kind

    @property
    def config(self) -> Config:
        """The configuration it was trained with."""
        return self.manifest.config

    @property
    def partition(self) -> dict[str, Any]:
        """How the partition was chosen, and its stability in the run."""
        facts: dict[str, Any] = self.manifest.facts("clustering")["partition"]
        return facts

    def recipe(self, kind: Kind) -> Recipe:
        """Return what learns the segments of a kind anew."""
        if kind == "density":
            return whole_pipeline(self.config)
        chosen = self.partition
        return partition_recipe(self.config, chosen["method"], chosen["n_segments"])


def standing_model(artifacts: str | Path) -> Standing:
    """Read the published model of an artifacts folder, and label its training data.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    """
    published = Artifacts(artifacts).serving()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{artifacts}` holds no complete run. Run the four pipelines first."
        )
    model = Model.from_set(published)
    table = pl.read_parquet(published.path("features.parquet"), memory_map=False)
    X = feature_matrix(table, model.features)
    kinds: tuple[Kind, ...] = ("density", "partition")
    labels = {kind: clusters_of(model, kind, table) for kind in kinds}
    return Standing(published.manifest, X, labels, model.segments.published)


def under_ids(table: pl.DataFrame, ids: Mapping[int, int]) -> pl.DataFrame:
    """Return a table of clusters with ``segment``, their ids, before ``cluster``.

    Parameters
    ----------
    table : DataFrame
        With ``cluster``.
    ids : mapping of int to int
        By cluster. One without an id was never published and has null.

    Returns
    -------
    DataFrame
        By ``segment``, then by ``cluster``.
    """
    segment = pl.col("cluster").replace_strict(
        dict(ids), default=None, return_dtype=pl.Int64
    )
    return table.select(segment.alias("segment"), pl.all()).sort("segment", "cluster")


def refuse_another(out: StageWriter, standing: Standing) -> None:
    """Raise if the published model is no longer the one that was judged."""
    assert out.base is not None  # a complete run was published before
    if out.base.manifest.model_id != standing.manifest.model_id:
        raise ArtifactError(
            "another model was published while this one was judged; nothing was "
            "written. Run the command again."
        )
