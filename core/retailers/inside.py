"""Looking inside large segments: what divides them, and what the parts are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from core.config import Config, RefreshConfig
from core.evaluation.splits import TREE, choose_split
from core.logging import get_logger
from core.retailers.features import MOMENTUM, SHOP
from core.retailers.model import Model
from core.retailers.names import name_segments
from core.segments.identity import Identity
from core.segments.profiles import cluster_contrasts
from core.segments.published import UNASSIGNED, PublishedSegments, SegmentTable
from core.segments.split import Split
from core.segments.within import (
    LARGE_SHARE,
    NONE,
    Division,
    division,
    matched_letters,
    relettered,
)


@dataclass(frozen=True)
class Past:
    """What is known of the shops at earlier months.

    Attributes
    ----------
    history, monthly : DataFrame
        As `core.retailers.history.write_history` writes them.
    clusters : callable
        Cluster of every row of a table like `history`.
    """

    history: pl.DataFrame
    monthly: pl.DataFrame
    clusters: Callable[[pl.DataFrame], np.ndarray]


def look_inside(
    table: SegmentTable,
    labels: np.ndarray,
    shops: pl.DataFrame,
    features: Sequence[str],
    past: Past,
    config: Config,
    predecessor: Model | None = None,
) -> tuple[SegmentTable, dict[int, Split]]:
    """Divide the segments that hold more than a quarter of the shops, where that helps.

    Parameters
    ----------
    table : SegmentTable
        Of a model on its own, ids being clusters.
    labels : ndarray of int, shape (n_shops,)
        Cluster of every shop; -1 for none.
    shops : DataFrame
        Their features.
    features : sequence of str
        Those that were clustered.
    past : Past
        Its `clusters` are of the same model, frozen.
    config : Config
    predecessor : Model, optional
        The model that is followed: what divided a segment there goes on where it is as
        good.

    Returns
    -------
    table : SegmentTable
        The same with a `Division` in every large segment.
    splits : dict of int to Split
        What divides them, by cluster; none of a segment that is left whole.
    """
    large = [s for s in table.segments if s.id != UNASSIGNED and s.share > LARGE_SHARE]
    if not large:
        return table, {}
    momentum = [name for name in MOMENTUM if name in past.history.columns]
    columns = [*features, *momentum]
    before = np.zeros(0, dtype=np.int64)
    if past.history.height:
        before = past.clusters(past.history)
    followed = {} if predecessor is None else _splits_before(predecessor, shops, labels)
    divisions, splits = {}, {}
    for segment in large:
        get_logger().info("Looking inside segment %d", segment.id)
        members = shops.filter(pl.Series(labels == segment.cluster))
        history = past.history.filter(pl.Series(before == segment.cluster))
        given = (members, features, history, past.monthly, config, SHOP)
        choice = choose_split(
            *given,
            seed=config.seed,
            momentum=momentum,
            before=followed.get(segment.cluster),
        )
        told = {"reason": choice.reason, "evidence": choice.evidence}
        if choice.split is None:
            divisions[segment.cluster] = Division(**told)
            continue
        # Why it was chosen stands in the division, for people.
        split = splits[segment.cluster] = replace(choice.split, reason="", evidence={})
        parts = split.assign(members)
        divisions[segment.cluster] = division(
            segment.id,
            split.kind,
            parts,
            len(labels),
            part_names(members, parts, split, columns),
            method=split.method,
            **told,
        )
    segments = tuple(
        s.model_copy(update={"division": divisions.get(s.cluster)})
        for s in table.segments
    )
    return table.model_copy(update={"segments": segments}), splits


def _splits_before(
    predecessor: Model, shops: pl.DataFrame, labels: np.ndarray
) -> dict[int, Split]:
    """Return, by cluster, what divided the segment that most of its shops were in."""
    before, assigner = predecessor.segments_of(shops), predecessor.segments
    known = {s.id: assigner.split_of(s) for s in assigner.published.segments if s.parts}
    found = {}
    for cluster in np.unique(labels[labels != UNASSIGNED]):
        ids, counts = np.unique(before[labels == cluster], return_counts=True)
        if (split := known.get(int(ids[counts.argmax()]))) is not None:
            found[int(cluster)] = split
    return found


def part_names(
    members: pl.DataFrame,
    parts: np.ndarray,
    split: Split,
    columns: Sequence[str],
    kept: Mapping[int, str] | None = None,
) -> dict[int, str]:
    """Name the parts of a segment by what sets each apart from the others in it.

    Parts by a rule set at hand have the names of its rules.

    Parameters
    ----------
    members : DataFrame
        Features of the shops of the segment.
    parts : ndarray of int64, shape (n_members,)
    split : Split
        What has made them.
    columns : sequence of str
        Features that may give a name.
    kept : mapping of int to str, optional
        Names that parts have already.
    """
    labelled = members.with_columns(pl.Series("part", parts))
    kept = kept or {}
    names = name_segments(cluster_contrasts(labelled, "part", columns), kept)
    return named_by_rules(names, split, kept)


def named_by_rules(
    names: Mapping[int, str], split: Split | None, kept: Mapping[int, str]
) -> dict[int, str]:
    """Return names, but for kept ones those of the rules of a rule set at hand."""
    named = None if split is None or split.method == TREE else split.rules
    found = dict(names)
    for part, rule in enumerate(() if named is None else named.segments):
        if part not in kept and rule.name not in found.values():
            found[part] = rule.name
    return found


def continued_divisions(
    before: PublishedSegments,
    placed: pl.DataFrame,
    table: SegmentTable,
    identity: Identity,
    labels: np.ndarray,
    splits: Mapping[int, Split],
    shops: pl.DataFrame,
    features: Sequence[str],
    options: RefreshConfig,
) -> dict[int, Division]:
    """Return the divisions of a new model under the letters and names of the old one.

    Parameters
    ----------
    before : PublishedSegments
    placed : DataFrame
        Where that has the shops: ``segment`` and ``sub_segment``.
    table : SegmentTable
        Of the new model on its own.
    identity : Identity
        The ids of its clusters.
    labels : ndarray of int, shape (n_shops,)
        Cluster of every shop by it.
    splits : mapping of int to Split
        By its clusters.
    shops : DataFrame
        The shops' features.
    features : sequence of str
        Those that were clustered.
    options : RefreshConfig
        With the shares from which a sub-segment counts as the same one.
    """
    known = {s.id: s.division for s in before.segments if s.division is not None}
    columns = [*features, *(name for name in MOMENTUM if name in shops.columns)]
    found = {}
    for segment in table.segments:
        if segment.division is None:
            continue
        parent = identity.ids[segment.cluster]
        earlier = known.get(parent, Division())
        number = {part.id: part.number for part in earlier.segments}
        old = placed["sub_segment"].replace_strict(
            number, default=NONE, return_dtype=pl.Int64
        )
        own = labels == segment.cluster
        members, new = shops.filter(pl.Series(own)), np.full(len(labels), NONE)
        if segment.parts:
            new[own] = splits[segment.cluster].assign(members)
        shares = options.survived, options.part
        numbers = matched_letters(earlier, old.to_numpy(), new, *shares)
        called = {part.number: part.name for part in earlier.segments}
        kept = {part: called[n] for part, n in numbers.items() if n in called}
        names = {}
        if segment.parts:
            split = splits[segment.cluster]
            names = part_names(members, new[own], split, columns, kept)
        found[segment.cluster] = relettered(
            segment.division, parent, earlier, numbers, names
        )
    return found
