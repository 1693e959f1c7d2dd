"""Ids and names of an axis' segments, those of the model before where they live on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from core.features.customer_axes import AxisFeatures
from core.segments.axis_criterion import AxisChoice
from core.segments.axis_model import NOWHERE, AxisModel, AxisPlacement, IntArray
from core.segments.axis_names import SegmentName, name_clusters
from core.segments.axis_record import AxisSegment, FittedAxis
from core.segments.axis_rules import AxisNames
from core.segments.identity import Identity, match_segments


class AxisFit(NamedTuple):
    """What was learnt of an axis, before its segments have ids and names.

    Attributes
    ----------
    features : AxisFeatures
    model : AxisModel or None
        None where the axis is skipped, as `placed` and `choice` are then.
    placed : AxisPlacement or None
        Of all customers, by cluster.
    before : ndarray of int, shape (n_customers,), or None
        Ids that the model before gives the same customers.
    choice : AxisChoice or None
    """

    features: AxisFeatures
    model: AxisModel | None
    placed: AxisPlacement | None
    before: IntArray | None
    choice: AxisChoice | None


def with_identity(
    fit: AxisFit, before: FittedAxis | None, names: AxisNames
) -> FittedAxis:
    """Return an axis whose segments have ids and names.

    A segment that lives on keeps its id. It keeps its name, too, if a user gave it, or
    if the axis had several segments before and has several now: `everyone` cannot be
    the name of a part. What the rules would call it now stands in `rule_name`.

    Parameters
    ----------
    fit : AxisFit
    before : FittedAxis, optional
        The same axis of the model before.
    names : AxisNames
    """
    next_id = 0 if before is None else before.next_id
    if fit.model is None or fit.placed is None or fit.choice is None:
        return _skipped(fit.features, next_id)
    identity = _identity(fit, before, next_id)
    sizes = np.bincount(fit.placed.labels + 1, minlength=fit.model.n_segments + 1)
    centres = fit.model.centres
    values = fit.model.scaling.in_units(centres)
    used = fit.features.used
    kept = _kept_names(identity, before, fit.model.n_segments)
    by_rules = name_clusters(centres, values, used, names)
    named = name_clusters(
        centres, values, used, names, {c: s.name for c, s in kept.items()}
    )
    segments = [
        _segment(fit.choice, identity, cluster, sizes, kept, by_rules, named)
        for cluster in range(fit.model.n_segments)
    ]
    lost = _unplaced(fit.choice, names, sizes)
    return FittedAxis(
        fit.features.axis,
        used,
        dict(fit.features.skipped),
        fit.model,
        (*sorted(segments, key=lambda s: s.id), lost),
        identity.next_id,
        identity.events,
        _report(fit.choice, sizes),
    )


def _skipped(features: AxisFeatures, next_id: int) -> FittedAxis:
    """Return the record of an axis without a model."""
    report = {"kind": "skipped", "n_segments": 0, "verdict": "skipped"}
    skipped = dict(features.skipped)
    return FittedAxis(features.axis, (), skipped, None, (), next_id, (), report)


def _unplaced(choice: AxisChoice, names: AxisNames, sizes: IntArray) -> AxisSegment:
    """Return the record of the customers who lack a feature."""
    return AxisSegment(
        id=NOWHERE,
        name=names.unplaced,
        cluster=NOWHERE,
        size=int(sizes[0]),
        share=float(sizes[0] / sizes.sum()),
        kind=choice.kind,
        rule_name=names.unplaced,
        why="a feature of the axis is unknown",
    )


def _identity(fit: AxisFit, before: FittedAxis | None, next_id: int) -> Identity:
    """Return the ids of the clusters, and what became of the segments before."""
    assert fit.model is not None
    assert fit.placed is not None
    clusters = range(fit.model.n_segments)
    if before is None or fit.before is None:
        ids = {cluster: next_id + cluster for cluster in clusters}
        return Identity(ids, (), next_id + len(ids))
    trained = {segment.id: segment.size for segment in before.segments}
    known = [segment.id for segment in before.segments if segment.id != NOWHERE]
    return match_segments(
        fit.before, fit.placed.labels, next_id=next_id, known=known, trained=trained
    )


def _kept_names(
    identity: Identity, before: FittedAxis | None, n_segments: int
) -> dict[int, AxisSegment]:
    """Return, by cluster, the segments before whose name lives on."""
    if before is None:
        return {}
    old = {segment.id: segment for segment in before.segments}
    n_old = len(old) - 1
    is_like_before = (n_old > 1) == (n_segments > 1)
    return {
        cluster: old[id_]
        for cluster, id_ in identity.ids.items()
        if id_ in old and (old[id_].is_edited or is_like_before)
    }


def _segment(
    choice: AxisChoice,
    identity: Identity,
    cluster: int,
    sizes: IntArray,
    kept: Mapping[int, AxisSegment],
    by_rules: Mapping[int, SegmentName],
    named: Mapping[int, SegmentName],
) -> AxisSegment:
    """Return the record of one segment."""
    old = kept.get(cluster)
    return AxisSegment(
        id=identity.ids[cluster],
        name=named[cluster].name if old is None else old.name,
        cluster=cluster,
        size=int(sizes[cluster + 1]),
        share=float(sizes[cluster + 1] / sizes.sum()),
        kind=choice.kind,
        is_edited=old is not None and old.is_edited,
        rule_name=by_rules[cluster].name,
        why=by_rules[cluster].why,
    )


def _report(choice: AxisChoice, sizes: IntArray) -> dict[str, Any]:
    """Return the figures of an axis."""
    placed = sizes[1:].sum()
    shown = choice.shown
    return {
        "kind": choice.kind,
        "n_segments": choice.n_segments,
        "n_customers": int(sizes.sum()),
        "n_unplaced": int(sizes[0]),
        "smallest_share": float(sizes[1:].min() / placed),
        "largest_share": float(sizes[1:].max() / placed),
        "n_considered": None if shown is None else shown.n_segments,
        "silhouette": None if shown is None else shown.silhouette,
        "null_silhouette": choice.null_silhouette,
        "valley": None if shown is None else shown.valley,
        "stability": None if shown is None else shown.stability,
        "verdict": choice.verdict,
        "candidates": [asdict(candidate) for candidate in choice.candidates],
    }
