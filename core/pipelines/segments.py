"""Part of stage 3: both kinds of segments, and the verdict that publishes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from core.artifacts import ArtifactSet, StageWriter, save_arrays
from core.clustering.density import DensityClusterer
from core.config import Config
from core.evaluation.null import StructureCheck
from core.evaluation.partition_choice import (
    PartitionChoice,
    choose_partition,
    partition_stability,
)
from core.evaluation.quality import project_2d
from core.evaluation.verdict import Verdict, derive_verdict
from core.features.history import HISTORY, MONTHLY
from core.inference import SEGMENT_STATE, SEGMENTS, SegmentAssigner
from core.logging import progress
from core.segments.exemplars import choose_exemplars
from core.segments.naming import name_segments
from core.segments.partition import Partition
from core.segments.profiles import cluster_contrasts
from core.segments.published import (
    PublishedSegments,
    SegmentKind,
    SegmentTable,
    publishable,
    segment_table,
)


@dataclass(frozen=True)
class TrainingShops:
    """The shops that a run learns from, row by row the same.

    Attributes
    ----------
    table : DataFrame
        Their features.
    features : list of str
        Those that are clustered.
    X : ndarray of float64, shape (n_shops, n_features)
        The same, unscaled; NaN where unknown.
    scaled, latent : ndarray of float64, shape (n_shops, n_dimensions)
        The shops in both spaces.
    """

    table: pl.DataFrame
    features: list[str]
    X: np.ndarray
    scaled: np.ndarray
    latent: np.ndarray


def learn_segments(
    out: StageWriter,
    shops: TrainingShops,
    clusterer: DensityClusterer,
    check: StructureCheck,
) -> PublishedSegments:
    """Learn the partition, derive the provisional verdict, and write both.

    Writes ``segment-state.safetensors``, ``segments.json`` and the pictures of the
    partition; the facts get ``partition`` (`PartitionChoice`, and its stability) and
    ``verdict``.

    Parameters
    ----------
    out : StageWriter
        Of ``clustering``.
    shops : TrainingShops
    clusterer : DensityClusterer
        Fitted on the latent space.
    check : StructureCheck
        Of the run's shops.
    """
    from core.reporting.drawing import draw_partition

    assert out.base is not None  # `shops` were read from it
    config = out.config
    choice = _choose(out.base, shops, config)
    partition = Partition(choice.method, choice.n_segments, config.seed)
    partition.fit(shops.scaled)
    draw_partition(
        out.folder,
        project_2d(shops.scaled),
        partition.labels_,
        shops.table,
        shops.features,
    )
    stability = partition_stability(shops.X, partition.labels_, choice, config)
    verdict = provisional_verdict(check, clusterer.n_clusters_, choice, stability)
    tables: dict[SegmentKind, SegmentTable] = {
        "density": _named(shops, "density", clusterer.labels_),
        "partition": _named(shops, "partition", partition.labels_),
    }
    exemplars = choose_exemplars(shops.latent, clusterer.labels_, clusterer.strengths_)
    published = publishable(tables, verdict.as_dict())
    assigner = SegmentAssigner(partition, exemplars, tables, published)
    save_arrays(out.path(SEGMENT_STATE), *assigner.get_state())
    published.write(out.path(SEGMENTS))
    out.facts |= {
        "partition": choice.as_dict() | {"stability": stability},
        "verdict": verdict.as_dict(),
    }
    return published


def provisional_verdict(
    check: StructureCheck,
    n_clusters: int,
    choice: PartitionChoice,
    stability: dict[str, Any],
) -> Verdict:
    """Derive the verdict of a run from its quick check and the partition's refits."""
    return derive_verdict(
        is_structured=check.is_structured,
        n_clusters=n_clusters,
        partition_ari=stability["ari"],
        is_certified=False,
        structure_score=check.statistic,
        largest_null_score=max(check.null_statistics),
        p_value=check.p_value,
        n_nulls=len(check.null_statistics),
        partition_method=choice.method,
        partition_segments=choice.n_segments,
        partition_criterion=choice.criterion,
        n_partition_refits=stability["n_refits"],
    )


def _choose(base: ArtifactSet, shops: TrainingShops, config: Config) -> PartitionChoice:
    """Choose the partition by the past of the shops, if they have one."""
    history, monthly = (
        pl.read_parquet(base.path(name), memory_map=False)
        for name in (HISTORY, MONTHLY)
    )
    with progress("Choosing a partition by what shops did later") as report:
        return choose_partition(
            shops.X, shops.features, history, monthly, config, report
        )


def _named(shops: TrainingShops, kind: SegmentKind, labels: np.ndarray) -> SegmentTable:
    """Name and count the segments of one kind."""
    labelled = shops.table.with_columns(pl.Series("segment", labels))
    contrasts = cluster_contrasts(labelled, "segment", shops.features)
    return segment_table(kind, labels, name_segments(contrasts))
