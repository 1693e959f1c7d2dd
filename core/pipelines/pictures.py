"""The pictures of both kinds of segments: ids for what is published, else clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from core.evaluation.quality import project_2d
from core.segments.published import PublishedSegments, SegmentKind


def draw_segments(
    folder: Path,
    published: PublishedSegments,
    labels: Mapping[SegmentKind, np.ndarray],
    spaces: Mapping[SegmentKind, np.ndarray],
    shops: pl.DataFrame,
    features: Sequence[str],
) -> None:
    """Draw the maps and heat maps of both kinds.

    Parameters
    ----------
    folder : Path
        Gets ``latent-space.png``, ``cluster-heatmap.png``, ``partition-space.png`` and
        ``partition-heatmap.png``.
    published : PublishedSegments
        The kind whose groups are drawn under their ids.
    labels : mapping of kind to ndarray of int, shape (n_shops,)
        Clusters; -1 is none.
    spaces : mapping of kind to ndarray of float, shape (n_shops, n_dimensions)
        Where each kind was found.
    shops : DataFrame
        The shops' features, in the same order.
    features : sequence of str
        Those that were clustered.
    """
    from core.reporting.drawing import draw_density, draw_partition

    shown = dict(labels)
    shown[published.kind] = published.ids_of(labels[published.kind])
    map_of = {kind: project_2d(space) for kind, space in spaces.items()}
    draw_density(folder, map_of["density"], shown["density"], shops, features)
    draw_partition(folder, map_of["partition"], shown["partition"], shops, features)
