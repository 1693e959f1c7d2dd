"""From one publication to the next: who keeps id and name, who gets new ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from core.segments.identity import Identity, IdentityEvent, with_ids
from core.segments.published import (
    UNASSIGNED,
    UNASSIGNED_NAME,
    PublishedSegments,
    Segment,
    SegmentTable,
)


def begun(
    table: SegmentTable, verdict: Mapping[str, Any], lineage: str
) -> PublishedSegments:
    """Publish the first model of a lineage: ids are clusters.

    Parameters
    ----------
    table : SegmentTable
        Of a model on its own, ids being clusters.
    verdict : mapping
    lineage : str
        Twelve hexadecimal digits.
    """
    return PublishedSegments(
        kind=table.kind,
        segments=table.segments,
        verdict=dict(verdict),
        lineage=lineage,
        version=1,
        latest=1,
        next_id=table.n_segments,
    )


def followed(
    before: PublishedSegments,
    table: SegmentTable,
    identity: Identity,
    names: Mapping[int, str],
    verdict: Mapping[str, Any],
) -> PublishedSegments:
    """Publish another model after an earlier one.

    Parameters
    ----------
    before : PublishedSegments
    table : SegmentTable
        Of the new model on its own, ids being clusters.
    identity : Identity
        The ids of its clusters.
    names : mapping of int to str
        By cluster, those of `kept_names` as they are.
    verdict : mapping
    """
    version = before.latest + 1
    return PublishedSegments(
        kind=table.kind,
        segments=_renumbered(before, table, identity.ids, names),
        verdict=dict(verdict),
        lineage=before.lineage,
        version=version,
        latest=version,
        next_id=identity.next_id,
        events=identity.events,
    )


def turned(
    before: PublishedSegments,
    table: SegmentTable,
    identity: Identity,
    names: Mapping[int, str],
    verdict: Mapping[str, Any],
) -> PublishedSegments:
    """Publish the same model's segments of the other kind.

    Segments that were published before this kind was withdrawn have their ids again,
    for they are the same.

    Parameters
    ----------
    before, table, identity, names, verdict
        As for `followed`.
    """
    ids, events, next_id = identity.ids, identity.events, identity.next_id
    earlier = before.withdrawn
    if earlier is not None and earlier.kind == table.kind:
        again = {ids[c]: i for c, i in earlier.ids.items() if c != UNASSIGNED}
        ids = {cluster: again[i] for cluster, i in ids.items()}
        events, next_id = with_ids(events, again), before.next_id
        given = before.names
        names = {
            segment.cluster: given.get(segment.id, segment.name)
            for segment in earlier.segments
        }
    return PublishedSegments(
        kind=table.kind,
        segments=_renumbered(before, table, ids, names),
        verdict=dict(verdict),
        lineage=before.lineage,
        version=before.version,
        latest=before.latest,
        next_id=next_id,
        events=events,
        withdrawn=SegmentTable(kind=before.kind, segments=before.segments),
    )


def extended_table(
    table: SegmentTable, labels: npt.NDArray[np.int64], names: Mapping[int, str]
) -> SegmentTable:
    """Return a model's density segments with those that it gained, by the model alone.

    Parameters
    ----------
    table : SegmentTable
        Of the model before, ids being clusters.
    labels : ndarray of int, shape (n_shops,)
        Clusters of the shops now, the new ones numbered after those of the table.
    names : mapping of int to str
        By cluster, old and new.
    """
    n_clusters = max(table.n_segments, int(labels.max(initial=UNASSIGNED)) + 1)
    named = {cluster: names[cluster] for cluster in range(n_clusters)}
    named[UNASSIGNED] = UNASSIGNED_NAME
    segments = tuple(
        Segment(
            id=cluster,
            name=name,
            kind="density",
            size=int((labels == cluster).sum()),
            share=float((labels == cluster).mean()),
            cluster=cluster,
        )
        for cluster, name in named.items()
    )
    return SegmentTable(kind="density", segments=segments)


def extended(
    before: PublishedSegments, table: SegmentTable, names: Mapping[int, str]
) -> PublishedSegments:
    """Publish a model that kept all its density segments and gained some.

    Parameters
    ----------
    before : PublishedSegments
        Of kind density.
    table : SegmentTable
        `extended_table` of the model.
    names : mapping of int to str
        By cluster; those of old clusters are the published ones.
    """
    old = {s.cluster: s.id for s in before.segments if s.cluster != UNASSIGNED}
    sizes = {s.cluster: s.size for s in table.segments}
    new = [cluster for cluster in sorted(sizes) if cluster >= len(old)]
    ids = old | {cluster: before.next_id + i for i, cluster in enumerate(new)}
    stayed = [
        IdentityEvent(
            kind="survived",
            old=(i,),
            new=(i,),
            n_old=sizes[cluster],
            n_new=sizes[cluster],
            n_shared=sizes[cluster],
            jaccard=1.0,
        )
        for cluster, i in sorted(old.items(), key=lambda pair: pair[1])
    ]
    n_left = sizes[UNASSIGNED] + sum(sizes[cluster] for cluster in new)
    born = [
        IdentityEvent(
            kind="born",
            old=(UNASSIGNED,),
            new=(ids[cluster],),
            n_old=n_left,
            n_new=sizes[cluster],
            n_shared=sizes[cluster],
        )
        for cluster in new
    ]
    version = before.latest + 1
    return PublishedSegments(
        kind=table.kind,
        segments=_renumbered(before, table, ids, names),
        verdict=dict(before.verdict),
        lineage=before.lineage,
        version=version,
        latest=version,
        next_id=before.next_id + len(new),
        events=(*stayed, *born),
    )


def kept_names(before: PublishedSegments, identity: Identity) -> dict[int, str]:
    """Return, by cluster, the names that segments keep because their id lives on."""
    names = before.names
    return {c: names[i] for c, i in identity.ids.items() if i in names}


def raised(
    published: PublishedSegments, others: Iterable[PublishedSegments]
) -> PublishedSegments:
    """Return the same with neither an id nor a version left that others have used.

    To be asked of the model that a refit follows: after going back a version, later
    ones exist, whose ids mean other segments.

    Parameters
    ----------
    published : PublishedSegments
    others : iterable of PublishedSegments
        Those of another lineage do not count.
    """
    family = [published, *(o for o in others if o.lineage == published.lineage)]
    return published.model_copy(
        update={
            "latest": max(other.latest for other in family),
            "next_id": max(other.next_id for other in family),
        }
    )


def returned(then: PublishedSegments, now: PublishedSegments) -> PublishedSegments:
    """Publish an earlier version again, without undoing what outlives a model.

    Ids and versions that were used since stay used, and names that users gave since
    stay. Where such a name is that of another segment of the earlier version, that one
    gets a number.

    Parameters
    ----------
    then, now : PublishedSegments
        What is published again, and what was published last. Of another lineage, `now`
        changes nothing.
    """
    if now.lineage != then.lineage:
        return then
    given = {s.id: s.name for s in now.segments if s.is_edited}
    taken = {name for i, name in given.items() if i in then.names}
    segments = []
    for segment in then.segments:
        name, number = given.get(segment.id, segment.name), 2
        while segment.id not in given and name in taken:
            name, number = f"{segment.name} {number}", number + 1
        taken.add(name)
        is_edited = segment.is_edited or segment.id in given
        changes = {"name": name, "is_edited": is_edited}
        segments.append(segment.model_copy(update=changes))
    marked = raised(then, [now])
    return marked.model_copy(update={"segments": tuple(segments)})


def _renumbered(
    before: PublishedSegments,
    table: SegmentTable,
    ids: Mapping[int, int],
    names: Mapping[int, str],
) -> tuple[Segment, ...]:
    """Return a model's segments under their ids and names."""
    known = (
        before.segments
        if before.withdrawn is None
        else (*before.withdrawn.segments, *before.segments)
    )
    edited = {segment.id for segment in known if segment.is_edited}
    found = [
        segment.model_copy(
            update={
                "id": ids[segment.cluster],
                "name": names[segment.cluster],
                "is_edited": ids[segment.cluster] in edited,
            }
        )
        for segment in table.segments
        if segment.cluster != UNASSIGNED
    ]
    found.sort(key=lambda segment: segment.id)
    return (*found, *(s for s in table.segments if s.cluster == UNASSIGNED))
