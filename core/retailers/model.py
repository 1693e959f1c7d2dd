"""The model of retailers: loaded from its artifacts, it assigns shops to segments.

A `Model` is read from saved arrays and JSON only; it needs neither TensorFlow nor
hdbscan, and nothing is unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from core.artifacts.arrays import Arrays, Meta, State, join_states, state_part
from core.artifacts.reading import ArtifactSet, fitting, read_published
from core.artifacts.spreadsheet import Table, restored
from core.config import Config
from core.display import Displayed, Shown
from core.errors import PROGRAM, ArtifactError, FeatureMismatchError, listed
from core.models.autoencoder.network import Codec
from core.models.centroids import CentroidModel
from core.models.density_assigner import Assigner, Exemplars
from core.models.scaling import FeatureScaling, feature_matrix
from core.retailers.features import MOMENTUM, UNCLUSTERED, check_features
from core.retailers.files import RETAILERS
from core.retailers.on_spark import prepared_on_spark
from core.retailers.prepare import Prepared, prepare
from core.scratch import temporary_folder
from core.segments.published import (
    UNASSIGNED,
    PublishedSegments,
    Segment,
    SegmentKind,
    SegmentTable,
    restored_table,
)
from core.segments.split import Split
from core.segments.states import LifeCycle
from core.spark.session import is_spark
from core.spark.tables import map_tables, on_disk

ENCODER_STATE = "encoder-state.safetensors"
CLUSTER_STATE = "cluster-state.safetensors"


def load_encoder(artifact_set: ArtifactSet) -> tuple[FeatureScaling, Codec]:
    """Return the scaler and the encoder of a verified set."""
    artifact_set.manifest.facts("autoencoder")
    arrays, meta = artifact_set.arrays(ENCODER_STATE)
    return (
        FeatureScaling.from_state(*state_part(arrays, meta, "scaler")),
        Codec.from_state(*state_part(arrays, meta, "encoder")),
    )


LIFE_CYCLE = "life-cycle.json"
SHOP_STATES = "shop_states.csv"


def load_life_cycle(artifact_set: ArtifactSet) -> LifeCycle:
    """Return what tells states in a set; of earlier versions, nothing does."""
    if LIFE_CYCLE not in artifact_set.manifest.files:
        return LifeCycle.unknown()
    return LifeCycle.from_json(artifact_set.read(LIFE_CYCLE))


SEGMENT_STATE = "segment-state.safetensors"
SEGMENTS = "segments.json"
RULES = "rules"


def published_segments(artifact_set: ArtifactSet) -> PublishedSegments:
    """Return what a set publishes."""
    where = str(artifact_set.folder / SEGMENTS)
    return PublishedSegments.parse(artifact_set.read(SEGMENTS), where)


Splits = Mapping[SegmentKind, Mapping[int, Split]]
KINDS: tuple[SegmentKind, ...] = ("density", "partition", "rules")


def saved_splits(arrays: Arrays, meta: Meta) -> Splits:
    """Return the splits of a state; none in one of before segments were divided."""
    found: dict[SegmentKind, dict[int, Split]] = {kind: {} for kind in KINDS}
    for name in meta:
        if (key := re.fullmatch(r"inside_([a-z]+)_(\d+)", name)) is not None:
            split = Split.from_state(*state_part(arrays, meta, name))
            found[key[1]][int(key[2])] = split  # type: ignore[index]  # one of the kinds
    return found


@dataclass(frozen=True, repr=False)
class SegmentAssigner(Displayed):
    """All kinds of segments, and which of them is published.

    Attributes
    ----------
    partition : CentroidModel
        On the scaled features.
    exemplars : Exemplars
        What stands for the density segments in the latent space.
    tables : mapping of kind to SegmentTable
        Names and sizes of every kind by the model alone: ids are clusters.
    published : PublishedSegments
        One of them, under its verdict, with permanent ids.
    splits : mapping of kind to mapping of int to Split
        What divides large segments, by cluster.
    rules : Split or None
        What divides everyone by rules; None where the partition tells as much.
    """

    partition: CentroidModel
    exemplars: Exemplars
    tables: Mapping[SegmentKind, SegmentTable]
    published: PublishedSegments
    splits: Splits = field(default_factory=dict)
    rules: Split | None = None

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
                    f"`{PROGRAM} {RETAILERS.stages['clustering']}` and then "
                    f"`{PROGRAM} {RETAILERS.stages['inference']}`."
                )
        arrays, meta = artifact_set.arrays(SEGMENT_STATE)
        point_arrays, _ = state_part(arrays, meta, "exemplars")
        _, tables = state_part(arrays, meta, "tables")
        kinds = KINDS if RULES in meta else KINDS[:2]
        published = published_segments(artifact_set)
        if not published.lineage:
            lineage = artifact_set.manifest.lineage
            published = published.model_copy(update={"lineage": lineage})
        return cls(
            partition=CentroidModel.from_state(
                *state_part(arrays, meta, "partition"), "Train the clusters again."
            ),
            exemplars=Exemplars.from_state(point_arrays),
            tables={kind: restored_table(tables.get(kind)) for kind in kinds},
            published=published,
            splits=saved_splits(arrays, meta),
            rules=Split.from_state(*state_part(arrays, meta, RULES))
            if RULES in meta
            else None,
        )

    def _shown(self) -> Shown:
        return self.published._shown()

    def get_state(self) -> State:
        """Return all but what is published as arrays and JSON-able values."""
        tables: dict[str, Any] = {
            kind: table.model_dump(mode="json") for kind, table in self.tables.items()
        }
        inside = {
            f"inside_{kind}_{cluster}": split.get_state()
            for kind, own in self.splits.items()
            for cluster, split in own.items()
        }
        if self.rules is not None:
            inside[RULES] = self.rules.get_state()
        return join_states(
            partition=self.partition.get_state(),
            exemplars=self.exemplars.get_state(),
            tables=({}, tables),
            **inside,
        )

    def by_rules(self, features: pl.DataFrame) -> np.ndarray:
        """Return the cluster of rows by the rules for everyone, shape (n_rows,).

        Raises
        ------
        ArtifactError
            If the saved model has no such rules.
        FeatureMismatchError
            If a column is missing that the rules look at.
        """
        if self.rules is None:
            raise ArtifactError(
                f"`{SEGMENT_STATE}` holds no rules, by which `{SEGMENTS}` names the "
                "segments. Train the clusters again."
            )
        _require_columns(features, self.rules, "all shops are")
        return self.rules.assign(features)

    def place(
        self,
        features: pl.DataFrame,
        scaled: np.ndarray,
        latent: np.ndarray,
        clusters: np.ndarray,
    ) -> pl.DataFrame:
        """Return the published segment of rows, and the nearest other one.

        Here clusters become ids, for every output.

        Parameters
        ----------
        features : DataFrame
            The rows, unscaled, with whatever the splits look at.
        scaled, latent : ndarray of shape (n_rows, n_dimensions), float64
            The rows in both spaces.
        clusters : ndarray of shape (n_rows,), int64
            Their latent clusters, -1 for none.

        Returns
        -------
        DataFrame
            ``segment`` (int32; -1 is unassigned), ``segment_name``, ``segment_kind``,
            ``sub_segment``, ``sub_segment_name`` (null where the segment is not
            divided), ``nearest_segment`` (int32; null where there is no other) and
            ``distance`` to it (null likewise).
        """
        if self.published.kind == "partition":
            found = self.partition.assign(scaled)
            labels, nearest = found.labels, found.runner_up
            distance = found.runner_up_distances
        elif self.published.kind == "rules":
            labels = self.by_rules(features)
            # A rule holds or does not: nobody is nearly in another segment.
            nearest = np.full(len(labels), UNASSIGNED)
            distance = np.full(len(labels), np.nan)
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
                **self._parts_of(features, labels),
                "nearest_segment": pl.Series(ids_of(nearest), dtype=pl.Int32),
                "distance": pl.Series(distance).fill_nan(None),
            }
        ).with_columns(
            pl.when(pl.col("nearest_segment") >= 0).then(pl.col("nearest_segment"))
        )

    def _parts_of(
        self, features: pl.DataFrame, labels: np.ndarray
    ) -> dict[str, pl.Series]:
        """Return id and name of the sub-segment of rows, given their clusters."""
        parts = list(self.published.parts.values())
        place = {part.id: number for number, part in enumerate(parts)}
        found = np.full(len(labels), UNASSIGNED)
        for segment in self.published.segments:
            rows = np.flatnonzero(labels == segment.cluster)
            if segment.parts and len(rows):
                split = self.split_of(segment)
                _require_columns(features, split, f"segment {segment.id} is")
                own = split.assign(features[rows])
                order = sorted(segment.parts, key=lambda part: part.cluster)
                found[rows] = np.array([place[part.id] for part in order])[own]
        numbers = pl.Series(found)
        return {
            column: numbers.replace_strict(
                dict(enumerate(texts)), default=None, return_dtype=pl.String
            )
            for column, texts in (
                ("sub_segment", [part.id for part in parts]),
                ("sub_segment_name", [part.name for part in parts]),
            )
        }

    def split_of(self, segment: Segment) -> Split:
        """Return what divides a published segment.

        Raises
        ------
        ArtifactError
            If the saved model has nothing that divides it into its sub-segments.
        """
        split = self.splits.get(segment.kind, {}).get(segment.cluster)
        n = len(segment.parts)
        if split is None or split.n_segments != n:
            raise ArtifactError(
                f"`{SEGMENT_STATE}` does not divide segment {segment.id} into the {n} "
                f"sub-segments that `{SEGMENTS}` names. Train the clusters again."
            )
        return split


def _require_columns(features: pl.DataFrame, split: Split, divided: str) -> None:
    """Raise unless a table has what divides a segment, or everyone."""
    missing = [name for name in split.features if name not in features.columns]
    if missing:
        raise FeatureMismatchError(
            f"the features have no {listed(missing)}, by which {divided} divided; "
            "expected the columns of `features.parquet`. Prepare the shops "
            "with this version."
        )


PREDICTION_SCHEMA = {
    "shop_id": pl.String,
    "latent_cluster": pl.Int32,
    "latent_cluster_strength": pl.Float64,
    "raw_cluster": pl.Int32,
    "raw_cluster_strength": pl.Float64,
    "segment": pl.Int32,
    "segment_name": pl.String,
    "segment_kind": pl.String,
    "sub_segment": pl.String,
    "sub_segment_name": pl.String,
    "state": pl.String,
    "nearest_segment": pl.Int32,
    "distance": pl.Float64,
    "changing": pl.String,
    "changing_to": pl.Int32,
    "changing_since": pl.String,
    "reason": pl.String,
}


# What features do not tell.
UNTOLD = ("state", "changing", "changing_to", "changing_since", "reason")


@dataclass(frozen=True, repr=False)
class Model(Displayed):
    """Everything that turns the features of a shop into its clusters.

    Attributes
    ----------
    config : Config
        The configuration it was trained with.
    features : list of str
        The features it expects, in order.
    as_of : str
        The month that its training looked up to, ``YYYY-MM``.
    has_products : bool
        Whether its training sales had products.
    scaler, encoder : FeatureScaling, Codec
        From features to the scaled and to the latent space.
    latent, raw : Assigner
        The clusters of both spaces.
    segments : SegmentAssigner
        The segments, and which of them are published.
    life_cycle : LifeCycle
        What tells the states of shops.

    Examples
    --------
    Of `examples/shops.py`:

    ```python
    placed = model.assign_sales(rows)
    print(placed.select("shop_id", "segment", "segment_name", "state"))
    ```
    """

    config: Config
    features: list[str]
    as_of: str
    has_products: bool
    scaler: FeatureScaling
    encoder: Codec
    latent: Assigner
    raw: Assigner
    segments: SegmentAssigner
    life_cycle: LifeCycle

    def _shown(self) -> Shown:
        shown = self.segments._shown()
        own = {"as_of": self.as_of, "n_features": len(self.features)}
        return replace(shown, facts={**own, **shown.facts})

    @classmethod
    def load(cls, artifacts: str | Path) -> Model:
        """Read the published model of an artifacts folder.

        Raises
        ------
        ArtifactError
            If there is none, it is not finished, or any of its files has changed.
        """

        def read(published: ArtifactSet | None) -> Model:
            if published is None:
                raise ArtifactError(
                    f"`{artifacts}` holds no model. Train one with `{PROGRAM} run`."
                )
            return cls.from_set(published)

        return read_published(Path(artifacts), read, RETAILERS)

    @classmethod
    def from_set(cls, artifact_set: ArtifactSet) -> Model:
        """Read the model of a set.

        Raises
        ------
        ArtifactError
            If it has none, or its files have changed or do not fit together.
        """
        with fitting(f"the model in `{artifact_set.folder}`", RETAILERS):
            model = cls._read(artifact_set)
            # Parts that do not fit each other show with the first shop.
            nobody = pl.DataFrame(
                {"shop_id": [""]} | dict.fromkeys([*model.features, *MOMENTUM], 0.0)
            )
            model.assign(nobody)
            for segment in model.segments.published.segments:
                if segment.parts:
                    model.segments.split_of(segment).assign(nobody)
        return model

    @classmethod
    def _read(cls, artifact_set: ArtifactSet) -> Model:
        manifest = artifact_set.manifest
        manifest.facts("clustering")
        prepared = manifest.facts("prepare")
        scaler, encoder = load_encoder(artifact_set)
        arrays, meta = artifact_set.arrays(CLUSTER_STATE)
        _refuse_extensions(meta)
        return cls(
            config=manifest.config,
            features=list(prepared["features"]),
            as_of=prepared["as_of"],
            has_products=prepared["intake"]["n_products"] is not None,
            scaler=scaler,
            encoder=encoder,
            latent=Assigner.from_state(*state_part(arrays, meta, "latent")),
            raw=Assigner.from_state(*state_part(arrays, meta, "raw")),
            segments=SegmentAssigner.from_set(artifact_set),
            life_cycle=load_life_cycle(artifact_set),
        )

    def assign(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return the clusters and the segment of shops whose features are known.

        Parameters
        ----------
        features : DataFrame
            ``shop_id`` and the model's features, in its order; then, in any order,
            `core.retailers.features.MOMENTUM` if the model divides segments, and
            further columns such as sales volume.

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
                a segment from 0. Kind ``rules``: the same, by conditions.
            ``sub_segment, sub_segment_name``
                Where inside its segment, such as "2a"; null where the segment is not
                divided.
            ``nearest_segment, distance``
                The nearest segment other than the shop's own, and how far it is:
                to the nearest of its exemplars in the latent space, or to its centre
                among the scaled features. Null where there is no other segment, and
                where segments are rules, which have no distance.
            ``state, changing, changing_to, changing_since, reason``
                Null: features do not tell the state, see `score`, and a refresh tells
                of change, see `core.segments.ledger.LEDGER_SCHEMA`.

        Raises
        ------
        FeatureMismatchError
            If a feature is missing, one that divides a segment included, or those that
            were clustered come in another order.
        """
        found = [name for name in features.columns if name != "shop_id"]
        check_features(found[: len(self.features)], self.features)
        scaled = self.scaler.transform(feature_matrix(features, self.features))
        vectors = self.encoder.transform(scaled)
        latent, raw = self.latent.assign(vectors), self.raw.assign(scaled)
        table = pl.DataFrame(
            {
                "shop_id": features["shop_id"],
                "latent_cluster": latent.labels,
                "latent_cluster_strength": latent.strengths,
                "raw_cluster": raw.labels,
                "raw_cluster_strength": raw.strengths,
            }
        )
        placed = self.segments.place(features, scaled, vectors, latent.labels)
        whole = table.hstack(placed).with_columns(**dict.fromkeys(UNTOLD))
        return whole.select(
            pl.col(name).cast(dtype) for name, dtype in PREDICTION_SCHEMA.items()
        )

    @property
    def columns(self) -> list[str]:
        """The columns that tell the published segment of a shop."""
        is_by_rules = self.segments.published.kind == "rules"
        return [*self.features, *(MOMENTUM if is_by_rules else ())]

    def segments_of(self, features: pl.DataFrame) -> np.ndarray:
        """Return the published segment of shops alone, as `assign` does.

        Parameters
        ----------
        features : DataFrame
            `columns` at least.

        Returns
        -------
        ndarray of shape (n_shops,), int64
            Permanent ids; -1 for none.
        """
        X, published = feature_matrix(features, self.features), self.segments.published
        if published.kind == "rules":
            return published.ids_of(self.segments.by_rules(features))
        if published.kind == "density":
            return published.ids_of(self.latent_labels(X))
        scaled = self.scaler.transform(X)
        return published.ids_of(self.segments.partition.assign(scaled).labels)

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
        vectors = self.encoder.transform(self.scaler.transform(X))
        return self.latent.assign(vectors).labels

    def assign_sales(self, rows: Any, as_of: str | None = None) -> Any:
        """Return the clusters and segments of the shops in a table of sales rows.

        One shop or a million: the same code runs. Shops that are not eligible have null
        labels and a reason.

        Parameters
        ----------
        rows : pandas, Polars, DuckDB or Arrow table, or Spark DataFrame
            Sales rows with the columns that the model's configuration maps.
        as_of : str, optional
            Last month looked at, ``YYYY-MM``; default: the newest complete month of the
            rows, or the model's own `as_of` where that is later: a shop that stopped
            buying has not moved time back.

        Returns
        -------
        polars.DataFrame, or Spark DataFrame for one of Spark
            `PREDICTION_SCHEMA`, a row per shop; in Polars by ascending id, on Spark
            computed and kept on the executors' disks until it is unpersisted.
        """
        if is_spark(rows):
            return self._assigned_on_spark(rows, as_of)
        with temporary_folder() as work:
            prepared = self._prepared(rows, work / "first", as_of)
            if as_of is None and prepared.as_of < self.as_of:
                prepared = self._prepared(rows, work / "second", self.as_of)
            parts = [labels for _, labels in self.score(prepared)]
            rest = excluded_rows(prepared.exclusions).collect()
        return pl.concat([*parts, rest]).sort("shop_id")

    def _assigned_on_spark(self, rows: Any, as_of: str | None) -> Any:
        with prepared_on_spark(
            self._config_at(as_of),
            rows,
            has_products=self.has_products,
            life_cycle=self.life_cycle,
            not_before=self.as_of if as_of is None else None,
        ) as prepared:
            found = labelled(self, prepared.stated_features, prepared.exclusions)
            labels = on_disk(found)
            labels.count()
        return labels

    def _config_at(self, as_of: str | None) -> Config:
        features = self.config.features.model_copy(update={"as_of": as_of})
        return self.config.model_copy(update={"features": features})

    def _prepared(self, rows: Any, work: Path, as_of: str | None) -> Prepared:
        """Return a table of sales rows, prepared as the model was, up to `as_of`."""
        return prepare(
            self._config_at(as_of),
            work,
            rows,
            has_products=self.has_products,
            life_cycle=self.life_cycle,
        )

    def score(self, prepared: Prepared) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Yield features and predictions of the eligible shops, batch by batch."""
        for shops, batches in prepared.parts(self.config.clustering.batch_size):
            for batch in batches:
                yield batch, with_states(self.assign(batch), shops)


def labelled(model: Model, features: Any, exclusions: Any) -> Any:
    """Return the labels of everyone on Spark, lazily.

    Parameters
    ----------
    model : Model
    features, exclusions : Spark DataFrame
        Features with ``state``, and `excluded_rows`' columns.

    Returns
    -------
    Spark DataFrame
        `PREDICTION_SCHEMA`.
    """
    scored = map_tables(features, scored_part, PREDICTION_SCHEMA, model)
    return scored.union(map_tables(exclusions, excluded_part, PREDICTION_SCHEMA))


def scored_part(table: pl.DataFrame, model: Model) -> pl.DataFrame:
    """Return the labels of shops, given features and ``state``."""
    batches = table.iter_slices(model.config.clustering.batch_size)
    return pl.concat(
        with_states(model.assign(batch.drop("state")), batch) for batch in batches
    )


def excluded_part(table: pl.DataFrame, _: None) -> pl.DataFrame:
    """Return `excluded_rows`."""
    return excluded_rows(table)


def with_states(labels: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """Return predictions with the states of their shops.

    Parameters
    ----------
    labels : DataFrame
        As `Model.assign` returns them.
    states : DataFrame
        ``shop_id, state`` of these shops, and any others.
    """
    known = labels.select("shop_id").join(
        states.select("shop_id", "state"),
        on="shop_id",
        how="left",
        maintain_order="left",
    )
    return labels.with_columns(known["state"])


def _refuse_extensions(meta: Mapping[str, Any]) -> None:
    """Refuse segments added later: earlier versions had `refresh --retrain noise`."""
    if "extension_1" in meta:
        raise ArtifactError(
            "the saved model holds segments that `refresh --retrain noise` added to "
            "it; expected segments that were all learnt in one run. Train it again "
            f"with `{PROGRAM} run`, or go back to an earlier version with "
            f"`{PROGRAM} rollback`."
        )


def excluded_rows(exclusions: Table) -> Table:
    """Return prediction rows for exclusions (``shop_id, state, reason``, ...)."""
    return exclusions.select(
        pl.col(name).cast(dtype)
        if name in {"shop_id", "state", "reason"}
        else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in PREDICTION_SCHEMA.items()
    )


FEATURES = "features.parquet"


def features_of(base: ArtifactSet) -> pl.DataFrame:
    """Return the features of a run's shops: ``shop_id``, then as it names them.

    Columns that describe, and that its version did not know yet, are null.
    """
    return _as_named(base, base.table(FEATURES).lazy()).collect()


def features_scan(base: ArtifactSet) -> pl.LazyFrame:
    """Return `features_of` lazily, for whom nobody else can publish meanwhile."""
    return _as_named(base, pl.scan_parquet(base.path(FEATURES), glob=False))


def _as_named(base: ArtifactSet, table: pl.LazyFrame) -> pl.LazyFrame:
    with fitting(f"`{base.folder / FEATURES}`", RETAILERS):
        names: list[str] = base.manifest.facts("prepare")["features"]
        types = table.select(names).collect_schema()
        if odd := [name for name, dtype in types.items() if not dtype.is_numeric()]:
            raise ValueError(f"{listed(odd)} should hold numbers")
    known = set(table.collect_schema())
    unknown = [name for name in UNCLUSTERED if name not in known]
    return table.with_columns(pl.lit(None, pl.Float64).alias(n) for n in unknown)


EXCLUSIONS = "exclusions.csv"


def exclusions_of(base: ArtifactSet) -> pl.DataFrame:
    """Return ``shop_id, state, reason`` of a run's shops that were not eligible.

    The state is null in one of an earlier version, which had none.
    """
    return _told_in(base, EXCLUSIONS, base.read(EXCLUSIONS)).collect()


def exclusions_scan(base: ArtifactSet) -> pl.LazyFrame:
    """Return `exclusions_of` lazily, as `features_scan` does."""
    return _told_in(base, EXCLUSIONS, base.path(EXCLUSIONS)).lazy()


def states_scan(base: ArtifactSet) -> pl.LazyFrame:
    """Return ``shop_id`` and ``state`` of a run's shops; none of an earlier version."""
    if SHOP_STATES not in base.manifest.files:
        return pl.LazyFrame(schema={"shop_id": pl.String, "state": pl.String})
    return _told_in(base, SHOP_STATES, base.path(SHOP_STATES)).drop("reason")


def _told_in(base: ArtifactSet, file: str, source: Path | bytes) -> pl.LazyFrame:
    """Return ``shop_id, state, reason`` of a table in CSV; null where it has none."""
    with fitting(f"`{base.folder / file}`", RETAILERS):
        table = pl.scan_csv(source, infer_schema=False, glob=False)
        known = table.collect_schema()
        ids = pl.col("shop_id")
        if base.manifest.facts("prepare").get("csv_safety") == "all":
            ids = restored(ids)
        told = [
            pl.col(name) if name in known else pl.lit(None, pl.String).alias(name)
            for name in ("state", "reason")
        ]
        found = table.select(ids, *told)
        found.collect_schema()
    return found
