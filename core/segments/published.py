"""Which segments are published, of what kind, under which verdict: ``segments.json``.

Two kinds of segments are learnt in every run: the clusters of the latent space
(*density*; -1 are the shops in none of them) and a *partition*, which has a segment for
everyone. The verdict decides which of them is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.errors import ArtifactError, ModelError

SegmentKind = Literal["density", "partition"]
UNASSIGNED = -1
UNASSIGNED_NAME = "unassigned"


class Segment(BaseModel):
    """One segment: its number and name, and how many shops it was learnt with.

    Attributes
    ----------
    id : int
        From 0; -1 are the shops that no density segment holds.
    name : str
        In words; no two segments share one.
    kind : {'density', 'partition'}
    size : int
        Shops of the training data.
    share : float
        `size` over all shops of the training data, 0 to 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: int = Field(ge=UNASSIGNED)
    name: str = Field(min_length=1)
    kind: SegmentKind
    size: int = Field(ge=0)
    share: float = Field(ge=0.0, le=1.0)


class SegmentTable(BaseModel):
    """All segments of one kind.

    Attributes
    ----------
    kind : {'density', 'partition'}
    segments : tuple of Segment
        By id, ascending from 0; -1, which only density segments have, comes last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: SegmentKind
    segments: tuple[Segment, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        expected = list(range(self.n_segments))
        if self.kind == "density":
            expected.append(UNASSIGNED)
        if [segment.id for segment in self.segments] != expected:
            raise ValueError("the ids must ascend from 0, with -1 last for density")
        if len(set(self.names.values())) < len(self.segments):
            raise ValueError("two segments share a name")
        if any(segment.kind != self.kind for segment in self.segments):
            raise ValueError("a segment is of another kind than its table")
        return self

    @property
    def n_segments(self) -> int:
        """Segments, without the unassigned."""
        return sum(segment.id != UNASSIGNED for segment in self.segments)

    @property
    def names(self) -> dict[int, str]:
        """Names by id."""
        return {segment.id: segment.name for segment in self.segments}

    @property
    def unassigned_share(self) -> float:
        """Share of the training shops that no segment holds."""
        return sum(s.share for s in self.segments if s.id == UNASSIGNED)


class PublishedSegments(SegmentTable):
    """The content of ``segments.json``: segments, and the verdict they stand under.

    Attributes
    ----------
    format : int
    verdict : dict
        ``kind`` (natural, reproducible, constructive), ``is_certified`` and ``basis``,
        the figures it rests on.
    """

    format: Literal[1] = 1
    verdict: dict[str, Any]

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
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise unusable(str(path), error) from None


def segment_table(
    kind: SegmentKind, labels: npt.NDArray[np.int64], names: Mapping[int, str]
) -> SegmentTable:
    """Count and name the segments of one kind.

    Parameters
    ----------
    kind : {'density', 'partition'}
    labels : ndarray of int, shape (n_shops,)
        Segment of every shop of the training data; -1 for none.
    names : mapping of int to str
        By segment, as `core.segments.naming.name_segments` gives them.
    """
    n = int(labels.max(initial=UNASSIGNED)) + 1
    counts = np.bincount(labels[labels >= 0], minlength=n)
    sizes = {segment: int(size) for segment, size in enumerate(counts)}
    named = dict(names)
    if kind == "density":
        sizes[UNASSIGNED] = int((labels == UNASSIGNED).sum())
        named[UNASSIGNED] = UNASSIGNED_NAME
    segments = tuple(
        Segment(id=i, name=named[i], kind=kind, size=size, share=size / len(labels))
        for i, size in sizes.items()
    )
    return SegmentTable(kind=kind, segments=segments)


def publishable(
    tables: Mapping[SegmentKind, SegmentTable], verdict: Mapping[str, Any]
) -> PublishedSegments:
    """Return the segments that a verdict publishes.

    Raises
    ------
    ModelError
        If it calls clusters natural of which there are fewer than two.
    """
    kind: SegmentKind = "density" if verdict["kind"] == "natural" else "partition"
    table = tables[kind]
    if kind == "density" and table.n_segments < 2:
        raise ModelError(
            f"the verdict is `natural`, but the latent space has {table.n_segments} "
            "cluster(s); expected at least 2. Publish another verdict."
        )
    return PublishedSegments(kind=kind, segments=table.segments, verdict=dict(verdict))


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
