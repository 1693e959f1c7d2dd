"""Stages 2 and 3 of a model that keeps all its segments and gains new ones.

Scaler, encoder, clusters and partition are those of the model that stands, so every
shop that has a segment keeps it. New segments come from the unassigned alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl

from core.artifacts.arrays import join_states, save_arrays
from core.artifacts.folder import Artifacts, ArtifactSet, StageWriter
from core.config import Config
from core.errors import ModelError
from core.evaluation.quality import compare_spaces, label_summary, project_2d
from core.models.density_assigner import Assignment, extended_exemplars
from core.models.extension import NewGroups, find_new_groups
from core.models.matrix import feature_matrix
from core.retailers.model import (
    CLUSTER_STATE,
    ENCODER_STATE,
    SEGMENT_STATE,
    SEGMENTS,
    Model,
    SegmentAssigner,
    extension_states,
)
from core.retailers.training import (
    StageResult,
    TrainingShops,
    draw_segments,
    stage_result,
    training_table,
    write_pickle,
)
from core.segments.names import name_segments
from core.segments.profiles import cluster_contrasts
from core.segments.published import UNASSIGNED, extended, extended_table

# Of the encoder's stage, for people; a set does without those that a user has deleted.
ENCODER_FILES = ("autoencoder-model.keras", "loss-plot.png")


def extend_model(
    config: Config, before: ArtifactSet, predecessor: Model
) -> list[StageResult]:
    """Look for new segments among the unassigned; if there are any, add them.

    To be called after `prepare_features`, in its folder, in place of
    `train_autoencoder` and `train_clustering`.

    Parameters
    ----------
    config : Config
        Of the new shops; its folder holds their features.
    before : ArtifactSet
        The set that the model was read from; its pictures of the training are kept.
    predecessor : Model
        What is extended. All its labels stay as they are.

    Returns
    -------
    list of StageResult
        Of both stages; empty, and nothing written, where no group stands out.

    Raises
    ------
    ModelError
        If the model publishes a partition, which leaves nobody unassigned, or the
        features are not the model's.
    """
    if predecessor.segments.published.kind != "density":
        raise ModelError(
            "the model publishes a partition, which leaves nobody unassigned; new "
            "segments are looked for among the unassigned. Choose another "
            "`refresh.retrain`, such as `always`."
        )
    found = _search(config, predecessor)
    if found.extension is None:
        return []
    extensions = (*predecessor.extensions, found.extension)
    model = replace(predecessor, extensions=extensions)
    return [_keep_encoder(config, before, model), _extend(config, before, model, found)]


def _search(config: Config, model: Model) -> NewGroups:
    """Look for groups among the shops of a folder that the model leaves unassigned."""
    base = Artifacts(config.artifacts).base("autoencoder")
    if base is None or base.manifest.facts("prepare")["features"] != model.features:
        raise ModelError(
            f"`{config.artifacts}` does not hold the features of the model that is to "
            "be extended. Prepare them with the model's own options."
        )
    table = pl.read_parquet(base.path("features.parquet"), memory_map=False)
    X = feature_matrix(table, model.features)
    vectors = model.encoder.transform(model.scaler.transform(X))
    labels = model.cluster(vectors).labels
    return find_new_groups(vectors, labels, config.clustering, config.seed)


def _keep_encoder(config: Config, before: ArtifactSet, model: Model) -> StageResult:
    """Stage 2, with the scaler and the encoder that there are."""
    with Artifacts(config.artifacts).stage("autoencoder", config) as out:
        table, _ = training_table(out)
        states = join_states(
            scaler=model.scaler.get_state(), encoder=model.encoder.get_state()
        )
        save_arrays(out.path(ENCODER_STATE), *states)
        write_pickle(model.scaler, out.path("feature-scaler.pkl"))
        for name in ENCODER_FILES:
            if name in before.manifest.files and (before.folder / name).exists():
                shutil.copyfile(before.folder / name, out.path(name))
        facts = before.manifest.facts("autoencoder")
        out.facts |= facts | {"is_kept": True, "n_shops": table.height}
    lines = ["The scaler and the encoder are those of the model that stands."]
    return stage_result("autoencoder", config, out.facts, lines)


def _extend(
    config: Config, before: ArtifactSet, model: Model, found: NewGroups
) -> StageResult:
    """Stage 3, with the clusters that there are and the new ones."""
    with Artifacts(config.artifacts).stage("clustering", config) as out:
        table, X = training_table(out)
        scaled = model.scaler.transform(X)
        vectors = model.encoder.transform(scaled)
        shops = TrainingShops(table, model.features, X, scaled, vectors)
        spaces = {"latent": model.cluster(vectors), "raw": model.raw.assign(scaled)}
        _save_clusters(out, model)
        assigner = _extended_segments(model, shops, spaces["latent"])
        save_arrays(out.path(SEGMENT_STATE), *assigner.get_state())
        published = assigner.published
        published.write(out.path(SEGMENTS))
        labels = {name: space.labels for name, space in spaces.items()}
        strengths = {name: space.strengths for name, space in spaces.items()}
        compare_spaces(labels, scaled, strengths).write_csv(out.path("comparison.csv"))
        _draw(out.folder, assigner, shops, labels)
        out.facts |= before.manifest.facts("clustering") | {
            "spaces": {
                name: asdict(label_summary(values)) for name, values in labels.items()
            },
            "lineage": published.lineage,
            "version": published.version,
            "events": [event.model_dump(mode="json") for event in published.events],
            "extension": {"largest": found.largest, "largest_null": found.largest_null},
        }
    n_born = sum(event.kind == "born" for event in published.events)
    lines = [
        f"{n_born} new segment(s) among the unassigned, the largest of "
        f"{found.largest:,} shops (structureless shops give {found.largest_null:,} at "
        f"most); {published.n_segments - n_born} segments stay as they are."
    ]
    return stage_result("clustering", config, out.facts, lines)


def _save_clusters(out: StageWriter, model: Model) -> None:
    """Write the state of the clusters in both spaces, extensions included."""
    states = {"latent": model.latent.get_state(), "raw": model.raw.get_state()}
    states |= extension_states(model.extensions)
    save_arrays(out.path(CLUSTER_STATE), *join_states(**states))


def _extended_segments(
    model: Model, shops: TrainingShops, found: Assignment
) -> SegmentAssigner:
    """Return the model's segments with the new ones, sizes counted on these shops."""
    segments, published = model.segments, model.segments.published
    labelled = shops.table.with_columns(pl.Series("segment", found.labels))
    contrasts = cluster_contrasts(labelled, "segment", model.features)
    density = segments.tables["density"]
    own, shown = (
        {s.cluster: s.name for s in table.segments if s.cluster != UNASSIGNED}
        for table in (density, published)
    )
    table = extended_table(density, found.labels, name_segments(contrasts, own))
    return replace(
        segments,
        exemplars=extended_exemplars(segments.exemplars, shops.latent, *found),
        tables={**segments.tables, "density": table},
        published=extended(published, table, name_segments(contrasts, shown)),
    )


def _draw(
    folder: Path,
    assigner: SegmentAssigner,
    shops: TrainingShops,
    labels: Mapping[str, np.ndarray],
) -> None:
    """Draw what a training run draws."""
    from core.retailers.report.plots import draw_spaces

    draw_spaces(folder, {"raw": project_2d(shops.scaled)}, labels)
    partition = assigner.partition.assign(shops.scaled).labels
    draw_segments(
        folder,
        assigner.published,
        {"density": labels["latent"], "partition": partition},
        {"density": shops.latent, "partition": shops.scaled},
        shops.table,
        shops.features,
    )
