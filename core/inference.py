"""One assigner for everyone: training rows, a new file, one shop in a request.

A `Model` is read from saved arrays and JSON only; it needs neither TensorFlow nor
hdbscan, and nothing is unpickled.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.artifacts import Artifacts, ArtifactSet, load_arrays
from core.clustering.density import DensityClusterer
from core.config import Config
from core.errors import ArtifactError
from core.features.preparation import Prepared, prepare
from core.features.retailer import VOLUME, check_features
from core.features.scaling import FeatureScaler
from core.representation.autoencoder import Autoencoder
from core.segments.profiles import cluster_insights

PREDICTION_SCHEMA = {
    "shop_id": pl.String,
    "latent_cluster": pl.Int32,
    "latent_cluster_strength": pl.Float64,
    "raw_cluster": pl.Int32,
    "raw_cluster_strength": pl.Float64,
    "reason": pl.String,
}
ENCODER_STATE = "encoder-state.safetensors"
CLUSTER_STATE = "cluster-state.safetensors"


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
    """

    config: Config
    features: list[str]
    as_of: str
    scaler: FeatureScaler
    encoder: Autoencoder
    latent: DensityClusterer
    raw: DensityClusterer

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
            latent=DensityClusterer.from_state(*_part(arrays, meta, "latent")),
            raw=DensityClusterer.from_state(*_part(arrays, meta, "raw")),
        )

    def assign(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return the clusters and strengths of shops whose features are known.

        Parameters
        ----------
        features : DataFrame
            ``shop_id`` and the model's features, in its order; further columns such as
            sales volume may follow.

        Returns
        -------
        DataFrame
            ``shop_id, latent_cluster, latent_cluster_strength, raw_cluster,
            raw_cluster_strength, reason``: label -1 and strength 0 mean noise; `reason`
            is null. Row order as given.

        Raises
        ------
        FeatureMismatchError
            If a feature is missing, or the features come in another order.
        """
        found = [name for name in features.columns if name != "shop_id"]
        check_features(found[: len(self.features)], self.features)
        scaled = self.scaler.transform(feature_matrix(features, self.features))
        latent = self.latent.assign(self.encoder.transform(scaled))
        raw = self.raw.assign(scaled)
        return pl.DataFrame(
            {
                "shop_id": features["shop_id"],
                "latent_cluster": latent.labels,
                "latent_cluster_strength": latent.strengths,
                "raw_cluster": raw.labels,
                "raw_cluster_strength": raw.strengths,
                "reason": None,
            }
        ).cast(PREDICTION_SCHEMA)  # type: ignore[arg-type]  # a dict of dtypes is one

    def assign_sales(self, rows: Any, as_of: str | None = None) -> pl.DataFrame:
        """Return the clusters of the shops in a table of sales rows.

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
        return pl.concat([*parts, excluded(prepared)]).sort("shop_id")

    def _prepared(self, rows: Any, work: Path, as_of: str | None) -> Prepared:
        """Return a table of sales rows, prepared as the model was, up to `as_of`."""
        features = self.config.features.model_copy(update={"as_of": as_of})
        config = self.config.model_copy(update={"features": features})
        return prepare(config, work, rows)

    def score(self, prepared: Prepared) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Yield features and predictions of the eligible shops, batch by batch."""
        for batch in prepared.batches(self.config.clustering.batch_size):
            yield batch, self.assign(batch)


def load_encoder(artifact_set: ArtifactSet) -> tuple[FeatureScaler, Autoencoder]:
    """Return the scaler and the encoder of a verified set."""
    artifact_set.manifest.facts("autoencoder")
    arrays, meta = load_arrays(artifact_set.path(ENCODER_STATE))
    return (
        FeatureScaler.from_state(*_part(arrays, meta, "scaler")),
        Autoencoder.from_state(*_part(arrays, meta, "encoder")),
    )


def feature_matrix(features: pl.DataFrame, names: list[str]) -> np.ndarray:
    """Return named columns as float64, shape (n_shops, n_features); null is NaN."""
    return features.select(pl.col(names).cast(pl.Float64)).to_numpy()


def excluded(prepared: Prepared) -> pl.DataFrame:
    """Return prediction rows for shops that are not eligible: a reason, no label."""
    return excluded_rows(prepared.exclusions)


def excluded_rows(exclusions: pl.DataFrame) -> pl.DataFrame:
    """Return prediction rows for a table of exclusions (``shop_id, reason``, ...)."""
    return exclusions.select(
        pl.col(name).cast(dtype)
        if name in {"shop_id", "reason"}
        else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in PREDICTION_SCHEMA.items()
    )


def write_batches(batches: Iterator[pl.DataFrame], path: Path) -> None:
    """Write batches as row groups of one Parquet file."""
    import pyarrow.parquet as pq

    writer = None
    for batch in batches:
        table = batch.to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()


def score_training(
    base: ArtifactSet, model: Model
) -> tuple[Iterator[tuple[pl.DataFrame, pl.DataFrame]], pl.DataFrame]:
    """Return batches of the saved features with their labels, and the exclusions."""
    path = base.path("features.parquet")
    size = model.config.clustering.batch_size
    n_rows = pl.scan_parquet(path).select(pl.len()).collect().item()

    def batches() -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        for offset in range(0, n_rows, size):
            batch = pl.scan_parquet(path).slice(offset, size).collect()
            yield batch, model.assign(batch)

    schema = {"shop_id": pl.String, "reason": pl.String}
    exclusions = pl.read_csv(
        base.path("exclusions.csv"), columns=list(schema), schema_overrides=schema
    )
    return batches(), exclusions


def write_predictions(
    scored: Iterator[tuple[pl.DataFrame, pl.DataFrame]],
    exclusions: pl.DataFrame,
    predictions: Path,
    table: Path,
) -> dict[str, int]:
    """Write labelled shops, then those with a reason; keep features beside labels."""
    n_labelled = 0

    def joined() -> Iterator[pl.DataFrame]:
        nonlocal n_labelled
        for features, labels in scored:
            labels.write_csv(stream, include_header=n_labelled == 0)
            n_labelled += labels.height
            yield features.hstack(labels.drop("shop_id"))

    with predictions.open("wb") as stream:
        write_batches(joined(), table)
        rest = excluded_rows(exclusions)
        rest.write_csv(stream, include_header=n_labelled == 0)
    return {"labelled": n_labelled, "not_eligible": exclusions.height}


def insights_of(table: Path, model: Model, spaces: Mapping[str, str]) -> pl.DataFrame:
    """Return size and averages of every cluster of every space.

    Parameters
    ----------
    table : Path
        Features beside labels, as `write_predictions` leaves them; not there if no
        shop was labelled.
    model : Model
        Names the features; sales volume is described with them.
    spaces : mapping of space to label column
    """
    columns = [*model.features, *(feature.name for feature in VOLUME)]
    if table.exists():
        return cluster_insights(pl.scan_parquet(table), spaces, columns)
    empty = pl.LazyFrame(
        [pl.Series(name, [], dtype=pl.Float64) for name in columns]
        + [pl.Series(name, [], dtype=pl.Int32) for name in spaces.values()]
    )
    return cluster_insights(empty, spaces, columns)


def join_states(
    **parts: tuple[dict[str, np.ndarray], dict[str, Any]],
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Put several states into one, each under its name."""
    arrays = {
        f"{part}/{name}": array
        for part, (state, _) in parts.items()
        for name, array in state.items()
    }
    return arrays, {part: meta for part, (_, meta) in parts.items()}


def _part(
    arrays: dict[str, np.ndarray], meta: dict[str, Any], part: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Take one state out of what `join_states` put together."""
    if part not in meta:
        raise ArtifactError(f"the saved model state has no part `{part}`.")
    prefix = f"{part}/"
    return (
        {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)},
        meta[part],
    )
