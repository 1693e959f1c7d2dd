"""Part of stage 3: both kinds of segments, and the verdict that publishes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from core.arrays import save_arrays
from core.artifacts import ArtifactSet, StageWriter
from core.clustering.density import DensityClusterer
from core.config import Config, RefreshConfig
from core.evaluation.null import StructureCheck
from core.evaluation.partition_choice import (
    PartitionChoice,
    choose_partition,
    partition_stability,
)
from core.evaluation.verdict import Verdict, derive_verdict
from core.features.history import HISTORY, MONTHLY
from core.inference import SEGMENT_STATE, SEGMENTS, Model, SegmentAssigner
from core.logging import progress
from core.pipelines.lineage import follow, lineage_of, named_table
from core.pipelines.pictures import draw_segments
from core.segments.exemplars import choose_exemplars
from core.segments.partition import Partition
from core.segments.published import (
    PublishedSegments,
    SegmentKind,
    SegmentTable,
    publishable,
)
from core.segments.succession import begun


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

    @property
    def spaces(self) -> dict[SegmentKind, np.ndarray]:
        """Where segments of each kind are found."""
        return {"density": self.latent, "partition": self.scaled}


def learn_segments(
    out: StageWriter,
    shops: TrainingShops,
    clusterer: DensityClusterer,
    check: StructureCheck,
    predecessor: Model | None = None,
) -> PublishedSegments:
    """Learn the partition, derive the provisional verdict, and write both.

    Writes ``segment-state.safetensors``, ``segments.json`` and the pictures of the
    segments; the facts get ``partition`` (`PartitionChoice`, and its stability),
    ``verdict``, ``lineage``, ``version`` and ``events``.

    Parameters
    ----------
    out : StageWriter
        Of ``clustering``.
    shops : TrainingShops
    clusterer : DensityClusterer
        Fitted on the latent space.
    check : StructureCheck
        Of the run's shops.
    predecessor : Model, optional
        The model whose ids and names live on in this one. None: a new lineage begins.
    """
    assert out.base is not None  # `shops` were read from it
    config = out.config
    choice = _choose(out.base, shops, config, predecessor)
    partition = Partition(choice.method, choice.n_segments, config.seed)
    partition.fit(shops.scaled, start=_partition_before(shops, predecessor))
    stability = partition_stability(shops.X, partition.labels_, choice, config)
    verdict = provisional_verdict(check, clusterer.n_clusters_, choice, stability)
    labels: dict[SegmentKind, np.ndarray] = {
        "density": clusterer.labels_,
        "partition": partition.labels_,
    }
    tables = {
        kind: named_table(shops.table, kind, own, shops.features)
        for kind, own in labels.items()
    }
    exemplars = choose_exemplars(shops.latent, clusterer.labels_, clusterer.strengths_)
    published = _published(
        shops, labels, tables, verdict.as_dict(), predecessor, config.refresh
    )
    write_segments(out, SegmentAssigner(partition, exemplars, tables, published))
    drawn = (published, labels, shops.spaces, shops.table, shops.features)
    draw_segments(out.folder, *drawn)
    out.facts |= {
        "partition": choice.as_dict() | {"stability": stability},
        "verdict": verdict.as_dict(),
    }
    return published


def write_segments(out: StageWriter, assigner: SegmentAssigner) -> None:
    """Write ``segment-state.safetensors`` and ``segments.json``, and who is who.

    The facts get ``lineage``, ``version`` and ``events``.
    """
    published = assigner.published
    save_arrays(out.path(SEGMENT_STATE), *assigner.get_state())
    published.write(out.path(SEGMENTS))
    out.facts |= {
        "lineage": published.lineage,
        "version": published.version,
        "events": [event.model_dump(mode="json") for event in published.events],
    }


def _published(
    shops: TrainingShops,
    labels: Mapping[SegmentKind, np.ndarray],
    tables: Mapping[SegmentKind, SegmentTable],
    verdict: Mapping[str, Any],
    predecessor: Model | None,
    options: RefreshConfig,
) -> PublishedSegments:
    """Return what the verdict publishes, of a lineage that begins or goes on."""
    table = publishable(tables, verdict)
    own = labels[table.kind]
    if predecessor is None:
        return begun(table, verdict, lineage_of(shops.table, own))
    given = (predecessor, shops.table, shops.features, own)
    return follow(*given, table, verdict, options)


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


def _partition_before(
    shops: TrainingShops, predecessor: Model | None
) -> np.ndarray | None:
    """Return where another model's partition has the shops; None without one."""
    if predecessor is None or predecessor.features != shops.features:
        return None
    scaled = predecessor.scaler.transform(shops.X)
    return predecessor.segments.partition.assign(scaled).labels


def _choose(
    base: ArtifactSet,
    shops: TrainingShops,
    config: Config,
    predecessor: Model | None,
) -> PartitionChoice:
    """Choose the partition by the past of the shops, if they have one."""
    before = None
    if predecessor is not None:
        partition = predecessor.segments.partition
        before = partition.method, partition.n_segments_
    history, monthly = (
        pl.read_parquet(base.path(name), memory_map=False)
        for name in (HISTORY, MONTHLY)
    )
    with progress("Choosing a partition by what shops did later") as report:
        return choose_partition(
            shops.X, shops.features, history, monthly, config, report, before
        )
