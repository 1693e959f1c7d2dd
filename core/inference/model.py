"""One assigner for everyone: training rows, a new file, one shop in a request.

A `Model` is read from saved arrays and JSON only; it needs neither TensorFlow nor
hdbscan, and nothing is unpickled.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.arrays import load_arrays
from core.artifacts import Artifacts, ArtifactSet
from core.clustering.density import DensityClusterer
from core.clustering.extension import Extension, filled
from core.clustering.prediction import Assignment
from core.config import Config
from core.errors import ArtifactError
from core.features.preparation import Prepared, prepare
from core.features.retailer import check_features
from core.features.scaling import FeatureScaler
from core.inference.segments import SegmentAssigner
from core.inference.states import (
    CLUSTER_STATE,
    feature_matrix,
    load_encoder,
    restored_extensions,
    state_part,
)
from core.representation.autoencoder import Autoencoder

PREDICTION_SCHEMA = {
    "shop_id": pl.String,
    "latent_cluster": pl.Int32,
    "latent_cluster_strength": pl.Float64,
    "raw_cluster": pl.Int32,
    "raw_cluster_strength": pl.Float64,
    "segment": pl.Int32,
    "segment_name": pl.String,
    "segment_kind": pl.String,
    "nearest_segment": pl.Int32,
    "distance": pl.Float64,
    "reason": pl.String,
}


@dataclass(frozen=True)
class Model:
    """Everything that turns the features of a shop into its clusters.

    Attributes
    ----------
    config : Config
        The configuration it was trained with.
    features : list of str
        The features it expects, in order.
    as_of : str
        The month that its training looked up to, ``YYYY-MM``.
    scaler, encoder : FeatureScaler, Autoencoder
        From features to the scaled and to the latent space.
    latent, raw : DensityClusterer
        The clusters of both spaces.
    segments : SegmentAssigner
        The segments, and which of them are published.
    extensions : tuple of Extension
        New groups found later among the shops that the latent clusters leave
        unassigned, in the order in which they were; their numbers go on after them.
    """

    config: Config
    features: list[str]
    as_of: str
    scaler: FeatureScaler
    encoder: Autoencoder
    latent: DensityClusterer
    raw: DensityClusterer
    segments: SegmentAssigner
    extensions: tuple[Extension, ...] = ()

    @classmethod
    def load(cls, artifacts: str | Path) -> Model:
        """Read the published model of an artifacts folder.

        Raises
        ------
        ArtifactError
            If there is none, it is not finished, or any of its files has changed.
        """
        published = Artifacts(artifacts).published()
        if published is None:
            raise ArtifactError(
                f"`{artifacts}` holds no model. Run the training pipelines first "
                "(`./run.sh`, or `run.bat` on Windows)."
            )
        return cls.from_set(published)

    @classmethod
    def from_set(cls, artifact_set: ArtifactSet) -> Model:
        """Read the model of a verified set."""
        manifest = artifact_set.manifest
        manifest.facts("clustering")
        prepared = manifest.facts("prepare")
        scaler, encoder = load_encoder(artifact_set)
        arrays, meta = load_arrays(artifact_set.path(CLUSTER_STATE))
        return cls(
            config=manifest.config,
            features=list(prepared["features"]),
            as_of=prepared["as_of"],
            scaler=scaler,
            encoder=encoder,
            latent=DensityClusterer.from_state(*state_part(arrays, meta, "latent")),
            raw=DensityClusterer.from_state(*state_part(arrays, meta, "raw")),
            segments=SegmentAssigner.from_set(artifact_set),
            extensions=restored_extensions(arrays, meta),
        )

    def assign(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return the clusters and the segment of shops whose features are known.

        Parameters
        ----------
        features : DataFrame
            ``shop_id`` and the model's features, in its order; further columns such as
            sales volume may follow.

        Returns
        -------
        DataFrame
            The columns of `PREDICTION_SCHEMA`, row order as given:

            ``latent_cluster, latent_cluster_strength, raw_cluster,
            raw_cluster_strength``
                What HDBSCAN says in both spaces; label -1 and strength 0 mean noise.
            ``segment, segment_name, segment_kind``
                What is published. Kind ``density``: the latent clusters, -1 with the
                name "unassigned" for shops in none. Kind ``partition``: everyone has
                a segment from 0.
            ``nearest_segment, distance``
                The nearest segment other than the shop's own, and how far it is:
                to the nearest of its exemplars in the latent space, or to its centre
                among the scaled features. Null where there is no other segment.
            ``reason``
                Null.

        Raises
        ------
        FeatureMismatchError
            If a feature is missing, or the features come in another order.
        """
        found = [name for name in features.columns if name != "shop_id"]
        check_features(found[: len(self.features)], self.features)
        scaled = self.scaler.transform(feature_matrix(features, self.features))
        vectors = self.encoder.transform(scaled)
        latent, raw = self.cluster(vectors), self.raw.assign(scaled)
        table = pl.DataFrame(
            {
                "shop_id": features["shop_id"],
                "latent_cluster": latent.labels,
                "latent_cluster_strength": latent.strengths,
                "raw_cluster": raw.labels,
                "raw_cluster_strength": raw.strengths,
            }
        )
        placed = self.segments.place(scaled, vectors, latent.labels)
        return table.hstack(placed).with_columns(reason=None).cast(PREDICTION_SCHEMA)  # type: ignore[arg-type]  # a dict of dtypes is one

    def latent_labels(self, X: np.ndarray) -> np.ndarray:
        """Return the latent cluster of shops, given as their unscaled features.

        Parameters
        ----------
        X : ndarray of float64, shape (n_shops, n_features)
            The model's features, in its order; NaN where unknown.

        Returns
        -------
        ndarray of shape (n_shops,), int64
            -1 for none.
        """
        return self.cluster(self.encoder.transform(self.scaler.transform(X))).labels

    def cluster(self, vectors: np.ndarray) -> Assignment:
        """Return latent cluster and strength of shops, given as their latent vectors.

        The clusters come first; each extension labels shops that were left over, with
        the next numbers.

        Parameters
        ----------
        vectors : ndarray of float64, shape (n_shops, n_dimensions)
        """
        found, n_clusters = self.latent.assign(vectors), self.latent.n_clusters_
        for extension in self.extensions:
            found = filled(found, extension, vectors, n_clusters)
            n_clusters += extension.n_groups
        return found

    @property
    def n_clusters(self) -> int:
        """Latent clusters, those of the extensions included."""
        return self.latent.n_clusters_ + sum(e.n_groups for e in self.extensions)

    def assign_sales(self, rows: Any, as_of: str | None = None) -> pl.DataFrame:
        """Return the clusters and segments of the shops in a table of sales rows.

        One shop or a million: the same code runs. Shops that are not eligible have null
        labels and a reason.

        Parameters
        ----------
        rows : pandas, Polars, DuckDB or Arrow table
            Sales rows with the columns that the model's configuration maps.
        as_of : str, optional
            Last month looked at, ``YYYY-MM``; default: the newest complete month of the
            rows, or the model's own `as_of` where that is later: a shop that stopped
            buying has not moved time back.
        """
        with tempfile.TemporaryDirectory() as work:
            prepared = self._prepared(rows, Path(work) / "first", as_of)
            if as_of is None and prepared.as_of < self.as_of:
                prepared = self._prepared(rows, Path(work) / "second", self.as_of)
            parts = [labels for _, labels in self.score(prepared)]
        return pl.concat([*parts, excluded_rows(prepared.exclusions)]).sort("shop_id")

    def _prepared(self, rows: Any, work: Path, as_of: str | None) -> Prepared:
        """Return a table of sales rows, prepared as the model was, up to `as_of`."""
        features = self.config.features.model_copy(update={"as_of": as_of})
        config = self.config.model_copy(update={"features": features})
        return prepare(config, work, rows)

    def score(self, prepared: Prepared) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Yield features and predictions of the eligible shops, batch by batch."""
        for batch in prepared.batches(self.config.clustering.batch_size):
            yield batch, self.assign(batch)


def excluded_rows(exclusions: pl.DataFrame) -> pl.DataFrame:
    """Return prediction rows for a table of exclusions (``shop_id, reason``, ...)."""
    return exclusions.select(
        pl.col(name).cast(dtype)
        if name in {"shop_id", "reason"}
        else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in PREDICTION_SCHEMA.items()
    )
