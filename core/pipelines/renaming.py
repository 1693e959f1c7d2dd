"""A name that a user gives a segment: it stays, whatever model comes after."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts import Artifacts, StageWriter
from core.errors import ArtifactError, ConfigError
from core.inference import SEGMENTS, Model
from core.pipelines.common import StageResult
from core.pipelines.publishing import refresh_report
from core.reporting.curves import plot_curves
from core.segments.published import UNASSIGNED, UNASSIGNED_NAME, PublishedSegments

LONGEST = 80
_RULES = "segment_rules.txt"
_CURVES = "segment_curves.csv"
_CURVES_PICTURE = "segment-curves.png"


def rename_segment(artifacts: str | Path, segment: int, name: str) -> StageResult:
    """Give a published segment another name.

    Everything that names it is written anew in one step: ``segments.json``, the report,
    and the tables, rules and curves at hand. The model, its version and all labels stay
    as they are.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    segment : int
        Its id.
    name : str
        White space around it is cut off. The segment's present name is allowed: it is
        then kept like one that was given.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    ConfigError
        For an id that is not published, a name that another segment has, and one that
        is empty, longer than 80 characters or not one line.
    """
    published = Artifacts(artifacts).serving()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{artifacts}` holds no complete run. Run the four pipelines first."
        )
    config = published.manifest.config
    with Artifacts(artifacts).stage("inference", config, is_serving=True) as out:
        assert out.base is not None  # `published`, opened again under the lock
        model = Model.from_set(out.base)
        before = model.segments.published
        named = renamed(before, segment, name)
        model = replace(model, segments=replace(model.segments, published=named))
        out.facts |= out.base.manifest.facts("inference")
        named.write(out.path(SEGMENTS))
        _rewrite(out, before.names[segment], segment, named.names)
        refresh_report(out, model)
    lines = [
        f"Segment {segment} is now called {named.names[segment]} (it was "
        f"{before.names[segment]})."
    ]
    return StageResult("inference", Path(artifacts), out.facts, lines)


def renamed(published: PublishedSegments, segment: int, name: str) -> PublishedSegments:
    """Return what is published with another name for one segment.

    Raises
    ------
    ConfigError
        As `rename_segment`.
    """
    ids = [s.id for s in published.segments if s.id != UNASSIGNED]
    if segment not in ids:
        raise ConfigError(
            f"no segment has the id {segment}; the published ones are "
            f"{', '.join(map(str, ids))}."
        )
    text = _checked(name)
    known = {} if published.withdrawn is None else published.withdrawn.names
    taken = {**known, **published.names}
    for other, other_name in taken.items():
        if other != segment and other_name.casefold() == text.casefold():
            raise ConfigError(
                f"segment {other} is called `{other_name}` already; expected a name "
                "that no other segment has."
            )
    segments = tuple(
        s.model_copy(update={"name": text, "is_edited": True}) if s.id == segment else s
        for s in published.segments
    )
    return published.model_copy(update={"segments": segments})


def _checked(name: str) -> str:
    """Return a name that can be shown anywhere, or say why it cannot."""
    text = name.strip()
    if not text or len(text) > LONGEST or not text.isprintable():
        raise ConfigError(
            f"`{name!r}` is no name for a segment; expected one line of 1 to {LONGEST} "
            "characters."
        )
    if text.casefold() == UNASSIGNED_NAME:
        raise ConfigError(
            f"`{text}` is what shops without a segment are called; expected another "
            "name."
        )
    return text


def _rewrite(
    out: StageWriter, old_name: str, segment: int, names: Mapping[int, str]
) -> None:
    """Write anew whatever tells of a segment by its name, where it is there."""
    assert out.base is not None  # the model was read from it
    for name, entry in out.base.manifest.files.items():
        path = out.base.folder / name
        is_table = entry.stage == "inference" and path.suffix == ".csv"
        if is_table and path.is_file():
            _rewrite_table(path, segment, names[segment], out.path(name))
    if (out.base.folder / _RULES).is_file():
        rules = (out.base.folder / _RULES).read_text(encoding="utf-8").splitlines()
        texts = [_retold(rule, old_name, names[segment]) for rule in rules]
        out.path(_RULES).write_text("\n".join(texts) + "\n", encoding="utf-8")
    if out.path(_CURVES).is_file():
        curves = pl.read_csv(out.path(_CURVES), schema_overrides={"month": pl.String})
        plot_curves(curves, names, out.path(_CURVES_PICTURE))
    profiles: dict[str, Any] | None = out.facts.get("profiles")
    if profiles is not None:
        rules = [_retold(rule, old_name, names[segment]) for rule in profiles["rules"]]
        out.facts["profiles"] = {**profiles, "rules": rules}


def _rewrite_table(path: Path, segment: int, name: str, target: Path) -> None:
    """Write a table anew if it names the segments of its rows."""
    # As text, so that no other cell changes.
    table = pl.scan_csv(path, infer_schema=False)
    if not {"segment", "segment_name"} <= {*table.collect_schema().names()}:
        return
    is_own = pl.col("segment") == str(segment)
    changed = pl.when(is_own).then(pl.lit(name)).otherwise("segment_name")
    table.with_columns(changed.alias("segment_name")).collect().write_csv(target)


def _retold(rule: str, old_name: str, name: str) -> str:
    """Return a rule's sentence with a segment's other name."""
    found = re.fullmatch(r"(.* -> )(.*)(, [\d,]+ shops, \d+% of them)", rule)
    if found is None or found[2] != old_name:
        return rule
    return found[1] + name + found[3]
