"""Published segments (``segments.json``): ids, names, versions, and their successors.

Two kinds of segments are learnt in every run: the clusters of the latent space
(*density*; -1 are the entities in none of them) and a *partition*, which has a segment
for everyone. *Rules*, which have one for everyone as well, are learnt where no cut
comes out the same, and kept where they tell more of later months. The verdict decides
which of them is published.

A segment that holds a large share of the entities may be divided into sub-segments
(`core.segments.within`), which go wherever it goes.

A segment that is published has a permanent *id*. Inside one model its *cluster* counts,
a number by size that is dealt out anew with every model. This is where the two meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.display import Displayed, Shown
from core.entities import Entity
from core.errors import ArtifactError, ModelError
from core.segments.identity import Identity, IdentityEvent, with_ids
from core.segments.naming import ids_of, names_of, rename, with_given_names
from core.segments.within import Division, SubSegment

SegmentKind = Literal["density", "partition", "rules"]
UNASSIGNED = -1
UNASSIGNED_NAME = "unassigned"


class Segment(BaseModel):
    """One segment: its id and name, and how many entities it holds.

    Attributes
    ----------
    id : int
        Permanent, from 0, never given out twice in a lineage of models; -1 are the
        entities that no density segment holds.
    name : str
        In words; no two segments share one.
    kind : {'density', 'partition', 'rules'}
    size : int
        Entities of the training data.
    share : float
        `size` over all entities of the training data, 0 to 1.
    cluster : int
        Its number within the model, from 0 by size; -1 for id -1. Where it is not
        given it is the id, as in a first model.
    is_edited : bool
        Whether a user gave the name, which then stays as long as the segment.
    division : Division or None
        What looking inside has found; None where nobody has looked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: int = Field(ge=UNASSIGNED)
    name: str = Field(min_length=1)
    kind: SegmentKind
    size: int = Field(ge=0)
    share: float = Field(ge=0.0, le=1.0)
    cluster: int = Field(ge=UNASSIGNED)
    is_edited: bool = False
    division: Division | None = None

    @model_validator(mode="after")
    def _has_its_parts(self) -> Self:
        if any(part.id.rstrip(ascii_lowercase) != str(self.id) for part in self.parts):
            raise ValueError("a sub-segment has the id of another segment")
        return self

    @property
    def parts(self) -> tuple[SubSegment, ...]:
        """Its sub-segments; none where it is left whole."""
        return () if self.division is None else self.division.segments

    @model_validator(mode="before")
    @classmethod
    def _as_in_a_first_model(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "cluster" not in value and "id" in value:
            return {**value, "cluster": value["id"]}
        return value


class SegmentTable(Displayed, BaseModel):
    """All segments of one kind.

    Attributes
    ----------
    kind : {'density', 'partition', 'rules'}
    segments : tuple of Segment
        By id, ascending; ids may be missing, but no cluster is. -1, which only density
        segments have, comes last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: SegmentKind
    segments: tuple[Segment, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        last = [UNASSIGNED] if self.kind == "density" else []
        ids = sorted({segment.id for segment in self.segments} - {UNASSIGNED})
        if [segment.id for segment in self.segments] != ids + last:
            raise ValueError("the ids must ascend, with -1 last for density")
        if sorted(self.ids) != last + list(range(self.n_segments)):
            raise ValueError("the clusters must be numbered from 0, -1 for id -1")
        if len(set(self.names.values())) < len(self.segments):
            raise ValueError("two segments share a name")
        if any(segment.kind != self.kind for segment in self.segments):
            raise ValueError("a segment is of another kind than its table")
        return self

    def _shown(self) -> Shown:
        rows = [
            {
                "id": segment.id,
                "name": segment.name,
                "size": f"{segment.size:,}",
                "share": f"{segment.share:.0%}",
            }
            for segment in self.segments
        ]
        return Shown({"kind": self.kind, "n_segments": self.n_segments}, rows)

    @property
    def n_segments(self) -> int:
        """Segments, without the unassigned."""
        return sum(segment.id != UNASSIGNED for segment in self.segments)

    @property
    def names(self) -> dict[int, str]:
        """Names by id."""
        return names_of(self.segments)

    @property
    def titles(self) -> dict[int, str]:
        """Id and name as one text, by id; without the unassigned."""
        return {s.id: f"{s.id} {s.name}" for s in self.segments if s.id != UNASSIGNED}

    @property
    def parts(self) -> dict[str, SubSegment]:
        """All sub-segments by id."""
        return {part.id: part for segment in self.segments for part in segment.parts}

    @property
    def ids(self) -> dict[int, int]:
        """Ids by cluster; -1 is -1."""
        return {segment.cluster: segment.id for segment in self.segments}

    def ids_of(self, clusters: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Return the ids of clusters, shape (n_rows,); -1 stays -1."""
        return ids_of(self.segments, clusters)

    @property
    def unassigned_share(self) -> float:
        """Share of the training entities that no segment holds."""
        return sum(s.share for s in self.segments if s.id == UNASSIGNED)


VerdictKind = Literal["natural", "reproducible", "constructive"]

MEANINGS: dict[VerdictKind, str] = {
    "natural": "the {entities} form separate groups, denser than random data",
    "reproducible": "no separate groups, but the same segments come back when they are "
    "refitted",
    "constructive": "no separate groups, and other {entities} would give other "
    "segments; a convenient cut, for which simple rules are recommended",
}


BY_RULES = (
    "no separate groups; a convenient cut by simple rules, which tell at least as much "
    "about later months as any other segments tried"
)


class Verdict(Displayed, BaseModel):
    """The verdict on segments, and the figures that it rests on.

    Attributes
    ----------
    kind : {'natural', 'reproducible', 'constructive'}
        See `core.evaluation.certificate`.
    is_certified : bool
        Whether the whole pipeline was refitted on nulls; else it is provisional.
    basis : dict
        JSON-able figures that it was derived from, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    kind: VerdictKind
    is_certified: bool
    basis: dict[str, Any]

    def _shown(self) -> Shown:
        return Shown({"kind": self.kind, "is_certified": self.is_certified})

    def meaning(self, entity: Entity) -> str:
        """Return the kind in words."""
        is_by_rules = self.kind == "constructive" and "rules_ari" in self.basis
        meaning = BY_RULES if is_by_rules else MEANINGS[self.kind]
        return meaning.format(entities=entity.plural)


class PublishedSegments(SegmentTable):
    """The content of ``segments.json``: segments, and the verdict they stand under.

    Attributes
    ----------
    format : int
        1 are files from before ids were permanent: their ids are clusters.
    verdict : Verdict
    lineage : str
        Twelve hexadecimal digits that all models share whose segments keep their ids;
        empty in files of format 1 (the retailers' assigner then takes the
        model's own).
    version : int
        Number of the model in its lineage, from 1.
    latest : int
        The highest version that the lineage had when this was published.
    next_id : int
        The first id that was never given out in the lineage.
    events : tuple of IdentityEvent
        What the last change of the model, or of the kind that is published, did to the
        segments.
    withdrawn : SegmentTable or None
        The same model's segments of the other kind, if they were published before: they
        come back with these ids.
    """

    format: Literal[1, 2] = 2
    verdict: Verdict
    lineage: str = Field(pattern=r"^([0-9a-f]{12})?$")
    version: int = Field(ge=1)
    latest: int = Field(ge=1)
    next_id: int = Field(ge=0)
    events: tuple[IdentityEvent, ...] = ()
    withdrawn: SegmentTable | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_format_2(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or value.get("format") != 1:
            return value
        ids = [segment.get("id", 0) for segment in value.get("segments", [])]
        added = {"format": 2, "lineage": "", "version": 1, "latest": 1}
        return {**value, **added, "next_id": max(ids, default=UNASSIGNED) + 1}

    @model_validator(mode="after")
    def _is_numbered(self) -> Self:
        withdrawn = () if self.withdrawn is None else self.withdrawn.segments
        if any(s.id >= self.next_id for s in (*self.segments, *withdrawn)):
            raise ValueError("the next id must be above all others")
        if self.latest < self.version:
            raise ValueError("the latest version is before this one")
        return self

    def _shown(self) -> Shown:
        shown = super()._shown()
        facts = {**shown.facts, "verdict": self.verdict.kind, "version": self.version}
        return replace(shown, facts=facts)

    def ids_by_kind(self, kind: SegmentKind) -> dict[int, int]:
        """Return ids by cluster of a kind; none where it was never published."""
        tables: tuple[SegmentTable | None, ...] = (self, self.withdrawn)
        return next((t.ids for t in tables if t is not None and t.kind == kind), {})

    def write(self, path: Path) -> None:
        """Write ``segments.json``."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``segments.json``.

        Raises
        ------
        ArtifactError
            If the file does not hold published segments.
        """
        try:
            packed = path.read_bytes()
        except OSError as error:
            raise unusable(str(path), error) from None
        return cls.parse(packed, str(path))

    @classmethod
    def parse(cls, packed: bytes, where: str) -> Self:
        """Read the bytes of ``segments.json``, which messages call `where`.

        Raises
        ------
        ArtifactError
            If they do not hold published segments.
        """
        try:
            return cls.model_validate_json(packed)
        except ValueError as error:
            raise unusable(where, error) from None


def segment_table(
    kind: SegmentKind, labels: npt.NDArray[np.int64], names: Mapping[int, str]
) -> SegmentTable:
    """Count and name the segments of one kind by a model alone: ids are clusters.

    Parameters
    ----------
    kind : {'density', 'partition', 'rules'}
    labels : ndarray of int, shape (n_entities,)
        Cluster of every entity of the training data; -1 for none.
    names : mapping of int to str
        By cluster, as `core.retailers.names.name_segments` gives them.
    """
    n = int(labels.max(initial=UNASSIGNED)) + 1
    counts = np.bincount(labels[labels >= 0], minlength=n)
    sizes = {segment: int(size) for segment, size in enumerate(counts)}
    named = dict(names)
    if kind == "density":
        sizes[UNASSIGNED] = int((labels == UNASSIGNED).sum())
        named[UNASSIGNED] = UNASSIGNED_NAME
    segments = tuple(
        Segment(
            id=i,
            name=named[i],
            kind=kind,
            size=size,
            share=size / len(labels),
            cluster=i,
        )
        for i, size in sizes.items()
    )
    return SegmentTable(kind=kind, segments=segments)


def with_sizes(
    published: PublishedSegments, sizes: Mapping[int, int], parts: Mapping[str, int]
) -> PublishedSegments:
    """Return the same with other sizes and shares: those among more entities.

    Parameters
    ----------
    published : PublishedSegments
    sizes : mapping of int to int
        Entities by segment id, those of -1 included; none where it is missing.
    parts : mapping of str to int
        Entities by sub-segment id.
    """
    n = max(sum(sizes.values()), 1)

    def counted(segment: Segment) -> Segment:
        size = sizes.get(segment.id, 0)
        update: dict[str, Any] = {"size": size, "share": size / n}
        if segment.division is not None:
            found = tuple(
                part.model_copy(update={"size": own, "share": own / n})
                for part in segment.parts
                for own in (parts.get(part.id, 0),)
            )
            update["division"] = segment.division.model_copy(update={"segments": found})
        return segment.model_copy(update=update)

    return published.model_copy(
        update={"segments": tuple(counted(segment) for segment in published.segments)}
    )


FEWEST_NATURAL = 2
"""Clusters of the latent space without which nothing natural is published."""


def publishable(
    tables: Mapping[SegmentKind, SegmentTable], verdict: Verdict
) -> SegmentTable:
    """Return the segments that a verdict publishes.

    Parameters
    ----------
    tables : mapping of kind to SegmentTable
        ``rules`` are among them where they tell more than the partition, or as much.
    verdict : Verdict
        Natural: density; constructive: rules, if there are any; else the partition.

    Raises
    ------
    ModelError
        If it calls clusters natural of which there are fewer than two.
    """
    kind: SegmentKind = "density" if verdict.kind == "natural" else "partition"
    if verdict.kind == "constructive" and "rules" in tables:
        kind = "rules"
    table = tables[kind]
    if kind == "density" and table.n_segments < FEWEST_NATURAL:
        raise ModelError(
            f"the verdict is `natural`, but the latent space has {table.n_segments} "
            f"cluster(s); expected at least {FEWEST_NATURAL}. Publish another verdict."
        )
    return table


def restored_table(value: Any) -> SegmentTable:
    """Return a table that `SegmentTable.model_dump` took apart.

    Raises
    ------
    ArtifactError
        If it is none.
    """
    try:
        return SegmentTable.model_validate(value)
    except ValueError as error:
        raise unusable("segment-state.safetensors", error) from None


def unusable(where: str, error: Exception) -> ArtifactError:
    """Return the error for what does not hold segments."""
    finding = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "content"
        finding = f"{place}: {first['msg']}"
    return ArtifactError(
        f"`{where}` does not hold published segments ({finding}). Train the clusters "
        "again."
    )


def first_version(
    table: SegmentTable, verdict: Verdict, lineage: str
) -> PublishedSegments:
    """Publish the first model of a lineage: ids are clusters.

    Parameters
    ----------
    table : SegmentTable
        Of a model on its own, ids being clusters.
    verdict : Verdict
    lineage : str
        Twelve hexadecimal digits.
    """
    return PublishedSegments(
        kind=table.kind,
        segments=table.segments,
        verdict=verdict,
        lineage=lineage,
        version=1,
        latest=1,
        next_id=table.n_segments,
    )


def next_version(
    before: PublishedSegments,
    table: SegmentTable,
    identity: Identity,
    names: Mapping[int, str],
    verdict: Verdict,
    divisions: Mapping[int, Division] = MappingProxyType({}),
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
    verdict : Verdict
    divisions : mapping of int to Division
        By cluster, of those that were looked into.
    """
    version = before.latest + 1
    return PublishedSegments(
        kind=table.kind,
        segments=_renumbered(before, table, identity.ids, names, divisions),
        verdict=verdict,
        lineage=before.lineage,
        version=version,
        latest=version,
        next_id=identity.next_id,
        events=identity.events,
    )


def switch_kind(
    before: PublishedSegments,
    table: SegmentTable,
    identity: Identity,
    names: Mapping[int, str],
    verdict: Verdict,
    divisions: Mapping[int, Division] = MappingProxyType({}),
) -> PublishedSegments:
    """Publish the same model's segments of the other kind.

    Segments that were published before this kind was withdrawn have their ids again,
    for they are the same.

    Parameters
    ----------
    before, table, identity, names, verdict, divisions
        As for `next_version`.
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
        divisions = {s.cluster: s.division for s in earlier.segments if s.division}
    return PublishedSegments(
        kind=table.kind,
        segments=_renumbered(before, table, ids, names, divisions),
        verdict=verdict,
        lineage=before.lineage,
        version=before.version,
        latest=before.latest,
        next_id=next_id,
        events=events,
        withdrawn=SegmentTable(kind=before.kind, segments=before.segments),
    )


def kept_names(before: PublishedSegments, identity: Identity) -> dict[int, str]:
    """Return, by cluster, the names that segments keep because their id lives on."""
    names = before.names
    return {c: names[i] for c, i in identity.ids.items() if i in names}


def reserve_ids(
    published: PublishedSegments, others: Iterable[PublishedSegments]
) -> PublishedSegments:
    """Return the same with no id, letter or version left that others have used.

    To be asked of the model that a refit follows: after going back a version, later
    ones exist, whose ids mean other segments.

    Parameters
    ----------
    published : PublishedSegments
    others : iterable of PublishedSegments
        Those of another lineage do not count.
    """
    family = [published, *(o for o in others if o.lineage == published.lineage)]
    known = [segment for other in family for segment in other.segments]
    return published.model_copy(
        update={
            "latest": max(other.latest for other in family),
            "next_id": max(other.next_id for other in family),
            "segments": _with_letters_used(published.segments, known),
        }
    )


def _with_letters_used(
    segments: Iterable[Segment], known: Iterable[Segment]
) -> tuple[Segment, ...]:
    """Return segments that give out no letter which others of their id have used."""
    used: dict[int, int] = {}
    for other in known:
        if other.division is not None:
            n = other.division.next_letter
            used[other.id] = max(used.get(other.id, 0), n)
    return tuple(
        s.model_copy(
            update={
                "division": (s.division or Division()).model_copy(
                    update={"next_letter": used[s.id]}
                )
            }
        )
        if used.get(s.id)
        else s
        for s in segments
    )


def restore_version(
    then: PublishedSegments, now: PublishedSegments
) -> PublishedSegments:
    """Publish an earlier version again, without undoing what outlives a model.

    Ids and versions that were used since stay used, and names that users gave since
    stay, see `with_given_names`.

    Parameters
    ----------
    then, now : PublishedSegments
        What is published again, and what was published last. Of another lineage, `now`
        changes nothing.
    """
    if now.lineage != then.lineage:
        return then
    marked = reserve_ids(then, [now])
    segments = with_given_names(marked.segments, now.segments)
    given = {s.id: s.parts for s in now.segments}
    segments = tuple(with_part_names(s, given.get(s.id, ())) for s in segments)
    return marked.model_copy(update={"segments": segments})


def with_part_name(segment: Segment, part: str, name: str) -> Segment:
    """Return a segment, its sub-segment of an id under a name that a user gives.

    Raises
    ------
    ConfigError
        As `rename`; only the sub-segments of one segment may not share a name.
    """
    if segment.division is None or part not in {own.id for own in segment.parts}:
        return segment
    parts = rename(segment.parts, part, name)
    division = segment.division.model_copy(update={"segments": parts})
    return segment.model_copy(update={"division": division})


def with_part_names(segment: Segment, now: Iterable[SubSegment]) -> Segment:
    """Return a segment whose sub-segments have the names that users have given."""
    if segment.division is None:
        return segment
    parts = with_given_names(segment.parts, now)
    division = segment.division.model_copy(update={"segments": parts})
    return segment.model_copy(update={"division": division})


def _renumbered(
    before: PublishedSegments,
    table: SegmentTable,
    ids: Mapping[int, int],
    names: Mapping[int, str],
    divisions: Mapping[int, Division],
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
                "division": divisions.get(segment.cluster),
            }
        )
        for segment in table.segments
        if segment.cluster != UNASSIGNED
    ]
    found = [*_with_letters_used(found, known)]
    found.sort(key=lambda segment: segment.id)
    return (*found, *(s for s in table.segments if s.cluster == UNASSIGNED))
