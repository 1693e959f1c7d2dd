"""What a model publishes: predictions, insights, names, the report.

Labelling after training, scoring new data and a verdict that changes go one way, so
that a folder never holds predictions of one verdict beside segments of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.artifacts.folder import Artifacts, StageResult, StageWriter
from core.artifacts.manifest import Manifest
from core.artifacts.reading import ArtifactSet
from core.artifacts.spreadsheet import defused
from core.errors import ArtifactError, ConfigError, listed
from core.evaluation.quality import label_summary
from core.lifecycle.playbook import run_playbook, save_playbook
from core.models.scaling import feature_matrix
from core.reporting.board import BOARD
from core.retailers.features import SHOP
from core.retailers.files import RETAILERS
from core.retailers.history import MONTHLY
from core.retailers.model import SEGMENTS, Model, features_scan
from core.retailers.playbook import WHERE
from core.retailers.report.board import report_board
from core.retailers.report.cards import (
    CURVES,
    curve_table,
    how_sure,
    segment_curves,
)
from core.retailers.report.differences import rule_words
from core.retailers.report.evidence import (
    Evidence,
    Opening,
    opening,
    shop_counts,
)
from core.retailers.report.model_card import MODEL_CARD, ModelCardContent, model_card
from core.retailers.report.scorecard_words import scorecard_lines
from core.retailers.report.tree import (
    TREE,
    contrasts_by_id,
    segment_rows,
    segment_tree,
)
from core.retailers.scorecard import write_scorecard
from core.retailers.scored import (
    SPACES,
    insights_of,
    publish_scored,
    score_training,
    sizes_in,
    write_scored,
)
from core.retailers.shop_files import FOLDER, SHOPS, rewrite_files, write_shop_table
from core.scratch import temporary_folder
from core.segments.naming import rename
from core.segments.published import (
    UNASSIGNED,
    UNASSIGNED_NAME,
    PublishedSegments,
    SegmentKind,
    Verdict,
    publishable,
    with_part_name,
    with_sizes,
)


def publish_training(
    out: StageWriter, model: Model
) -> tuple[PublishedSegments, list[dict[str, str]]]:
    """Write everything that tells of the training data under the model's verdict.

    Returns
    -------
    published : PublishedSegments
        The model's, with the sizes among all shops, those included that it was not
        learnt from.
    closing : list of dict
        The segments as rows of the closing table.
    """
    assert out.base is not None  # `model` was read from it
    with temporary_folder() as work:
        scored, exclusions = score_training(out.base, model, work)
        table, insights = publish_scored(out, model, scored, exclusions, work)
        published = with_sizes(model.segments.published, *sizes_in(table))
        model = replace(model, segments=replace(model.segments, published=published))
        published.write(out.path(SEGMENTS))
        save_playbook(out, out.config.report.playbook, *WHERE)
        out.facts["verdict"] = published.verdict.model_dump()
        write_scorecard(out, model)
        if published.kind == "rules":
            write_exact_rules(out, model)
        written = out, model, table, out.path(SHOPS), insights
        return published, _write_report(*written, writes_tree=True)


@contextmanager
def judging(
    artifacts: str | Path, judged: Manifest | None = None
) -> Iterator[tuple[StageWriter, ArtifactSet]]:
    """Take in files and facts that judge the published model, then tell of them.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    judged : Manifest, optional
        Of the model that was judged while the artifacts were free; None: of whichever
        is published, judged now.

    Yields
    ------
    StageWriter, ArtifactSet
        Of ``inference``, with its facts so far, and the published set. The report is
        written anew at the end.

    Raises
    ------
    ArtifactError
        If there is no complete run, or another model was published meanwhile.
    """
    folder = Artifacts(artifacts, RETAILERS)
    config = (judged or folder.complete().manifest).config
    with folder.stage("inference", config, is_serving=True) as out:
        base = refuse_another(out, judged)
        out.facts |= base.manifest.facts("inference")
        yield out, base
        refresh_report(out)


def refuse_another(out: StageWriter, judged: Manifest | None) -> ArtifactSet:
    """Return the published set; raise if it is no longer the one that was judged."""
    assert out.base is not None  # a complete run was published before
    if judged is not None and out.base.manifest.model_id != judged.model_id:
        raise ArtifactError(
            "another model was published while this one was judged; nothing was "
            "written. Run the command again."
        )
    return out.base


def refresh_report(out: StageWriter, model: Model | None = None) -> None:
    """Write the report anew from whatever the artifacts hold.

    Called last, when all facts and files are in `out`.

    Parameters
    ----------
    out : StageWriter
        Of ``inference``, opened with ``is_serving=True`` on a complete run.
    model : Model, optional
        The published one, if its segments are about to be written anew.
    """
    assert out.base is not None  # a complete run was published before
    model = model or Model.from_set(out.base)
    with temporary_folder() as work:
        table = work / "scored.parquet"
        scored, exclusions = score_training(out.base, model, work)
        # Not `out`'s own predictions: those may be of other data by now.
        write_scored(scored, table)
        insights = insights_of(table, model, SPACES)
        shops = work / SHOPS
        write_shop_table(table, exclusions, model.segments.published, shops)
        _write_report(out, model, table, shops, insights)


def _write_report(
    out: StageWriter,
    model: Model,
    table: Path,
    everyone: Path,
    insights: pl.DataFrame,
    writes_tree: bool = False,
) -> list[dict[str, str]]:
    """Write report and model card of the training data; return the segments' rows.

    `table` has features beside labels, `everyone` is as `write_shop_table` leaves it.
    """
    from core.retailers.report.page import report_content, write_report
    from core.retailers.report.shops import largest_shops, shop_explorer

    assert out.base is not None  # `model` was read from it
    published = model.segments.published
    contrasts = contrasts_by_id(table, published, model.columns)
    tree = segment_tree(table, published, contrasts)
    if writes_tree:
        out.write_csv(TREE, tree)
    curves = curve_table(table, out.base.table(MONTHLY), model.as_of, published)
    out.write_csv(CURVES, segment_curves(curves, published))
    evidence = Evidence.of(out, published)
    content = report_content(
        evidence,
        published_summary(published),
        table,
        SPACES,
        insights,
        contrasts,
        tree,
        curves,
        run_playbook(out, out.config.report.playbook, *WHERE),
    )
    shops = pl.scan_parquet(everyone, glob=False)
    content["explorer"] = shop_explorer(shops, table, model)
    content["largest"] = largest_shops(shops, content["cards"])
    write_report(content, out.path("report.html"))
    board = report_board(content, evidence, curves)
    out.path(BOARD).write_text(board.to_json(), encoding="utf-8")
    sure = {str(s.id): how_sure(evidence, s)[0] for s in published.segments}
    sure |= {i: how_sure(evidence, part)[0] for i, part in published.parts.items()}
    rows = segment_rows(tree, sure)
    _write_card(evidence, content["opening"], rows, out.path(MODEL_CARD))
    return rows


def _write_card(
    evidence: Evidence,
    told: Opening,
    rows: Sequence[Mapping[str, str]],
    path: Path,
) -> None:
    """Write the model card, with whatever has judged the model so far."""
    names = evidence.facts.get("names_before", {})
    scorecard = evidence.judged("scorecard")
    card = ModelCardContent(
        manifest=evidence.manifest,
        published=evidence.published,
        opening=told,
        segments=rows,
        stability=evidence.jaccards,
        names_before={int(segment): name for segment, name in names.items()},
        gate=evidence.facts.get("gate"),
        scorecard=() if scorecard is None else scorecard_lines(scorecard),
    )
    path.write_text(model_card(card), encoding="utf-8", newline="\n")


def model_under(out: StageWriter, verdict: Verdict) -> Model:
    """Return a complete model with the segments that a verdict publishes.

    Segments of another kind are matched with those that were published, so that ids
    and names live on where the groups do. `publish_training` then writes everything
    else anew; between the two there is time to write what tells of these segments by
    their ids.

    Parameters
    ----------
    out : StageWriter
        Of ``inference``, opened with ``is_serving=True``. The facts get those of
        before, and if another kind is published, `out` gets its pictures.
    verdict : Verdict
        Decides which kind of segments is published.

    Raises
    ------
    ArtifactError
        If there is no complete run to build on.
    ModelError
        If the verdict is `natural` for a model of fewer than two latent clusters.
    """
    if out.base is None or not out.base.manifest.is_complete:
        raise ArtifactError(
            f"`{out.root}` holds no complete run. Run the four pipelines first."
        )
    out.facts |= out.base.manifest.facts("inference") | out.facts
    model = Model.from_set(out.base)
    published = _under(out, model, verdict)
    return replace(model, segments=replace(model.segments, published=published))


def _under(out: StageWriter, model: Model, verdict: Verdict) -> PublishedSegments:
    """Return what a verdict publishes; draw it anew if it is of another kind."""
    from core.retailers.training import (
        clusters_of,
        draw_segments,
        fit_sample,
        publish_other_kind,
    )

    assert out.base is not None  # `model` was read from it
    table, before = (
        publishable(model.segments.tables, verdict),
        model.segments.published,
    )
    if table.kind == before.kind:
        return before.model_copy(update={"verdict": verdict})
    shops = fit_sample(features_scan(out.base), model.config)
    published = publish_other_kind(model, shops, table, verdict, out.config.refresh)
    scaled = model.scaler.transform(feature_matrix(shops, model.features))
    spaces: dict[SegmentKind, np.ndarray] = {
        "density": model.encoder.transform(scaled),
        "partition": scaled,
        "rules": scaled,
    }
    # What was drawn under its ids is drawn again under clusters.
    kinds: set[SegmentKind] = {"density", before.kind, published.kind}
    labels = {kind: clusters_of(model, kind, shops) for kind in sorted(kinds)}
    draw_segments(out.folder, published, labels, spaces)
    return published


def published_summary(published: PublishedSegments) -> dict[str, Any]:
    """Return the figures of what is published, by the shops of the training data.

    ``flat`` has those of the flat view: sub-segments in the place of their segment.
    """
    segments = published.segments
    facts: dict[str, Any] = _size_facts({s.id: s.size for s in segments})
    leaves = [leaf.size for s in segments for leaf in s.parts or (s,) if s.id >= 0]
    sizes = dict(enumerate(leaves)) | {
        UNASSIGNED: sum(s.size for s in segments if s.id == UNASSIGNED)
    }
    return facts | {"flat": _size_facts(sizes)}


def _size_facts(sizes: Mapping[int, int]) -> Any:
    labels = np.repeat([*sizes], [*sizes.values()])
    return SHOP.named_facts(asdict(label_summary(labels)))


def published_opening(published: PublishedSegments, manifest: Manifest) -> Opening:
    """Put the verdict of what is published into words.

    Parameters
    ----------
    published : PublishedSegments
    manifest : Manifest
        Of its set.
    """
    return opening(
        published.verdict,
        published.kind,
        published_summary(published),
        shop_counts(manifest),
    )


_RULES = "segment_rules.txt"
_RULE_TABLE = "segment_rules.csv"


def write_exact_rules(out: StageWriter, model: Model) -> list[str]:
    """Write the rules that published segments of kind ``rules`` are.

    Parameters
    ----------
    out : StageWriter
        Gets ``segment_rules.txt``, a sentence per segment, and ``segment_rules.csv``
        (``rule, segment, segment_name, n_shops, condition, words``).
    model : Model

    Returns
    -------
    list of str
        The sentences.
    """
    published, split = model.segments.published, model.segments.rules
    assert split is not None  # of this kind
    assert split.rules is not None
    rows, lines = [], []
    for segment in sorted(published.segments, key=lambda own: own.cluster):
        rule = split.rules.condition(split.rules.segments[segment.cluster])
        own = (segment.cluster + 1, segment.id, segment.name, segment.size)
        rows.append((*own, rule.text(), rule_words(rule)))
        told = f"{segment.name}, {segment.size:,} shops, 100% of them"
        lines.append(f"{rule.text()} -> {told}")
    columns = ["rule", "segment", "segment_name", SHOP.count_column]
    schema = [*columns, "condition", "words"]
    out.write_csv(_RULE_TABLE, pl.DataFrame(rows, schema=schema, orient="row"))
    out.path(_RULES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines


def rename_segment(artifacts: str | Path, segment: int | str, name: str) -> StageResult:
    """Give a published segment or sub-segment another name.

    Everything that names it is written anew in one step: ``segments.json``, the report,
    and the tables, rules and curves at hand. The model, its version and all labels stay
    as they are.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    segment : int or str
        Its id, such as 2 or "2a".
    name : str
        White space around it is cut off. The segment's present name is allowed: it is
        then kept like one that was given.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    ConfigError
        For an id that is not published, a name that another segment has (of a
        sub-segment: another one of its segment), and one that
        `core.segments.naming.rename` refuses.
    """
    segment = str(segment).strip()
    published = Artifacts(artifacts, RETAILERS).complete()
    config = published.manifest.config
    with Artifacts(artifacts, RETAILERS).stage(
        "inference", config, is_serving=True
    ) as out:
        assert out.base is not None  # `published`, opened again under the lock
        model = Model.from_set(out.base)
        before = model.segments.published
        named = renamed(before, segment, name)
        model = replace(model, segments=replace(model.segments, published=named))
        out.facts |= out.base.manifest.facts("inference")
        named.write(out.path(SEGMENTS))
        old, new = _names_by_text(before)[segment], _names_by_text(named)[segment]
        if segment in named.parts:
            _rewrite_tables(out, segment, new)
        else:
            _rewrite(out, old, segment, new)
        rewrite_files(out, out.base, named)
        refresh_report(out, model)
    lines = [f"Segment {segment} is now called {new} (it was {old})."]
    return StageResult("inference", Path(artifacts), out.facts, lines)


def _names_by_text(published: PublishedSegments) -> dict[str, str]:
    """Return the names of segments and sub-segments by id, as text."""
    names = {str(segment): name for segment, name in published.names.items()}
    return names | {part.id: part.name for part in published.parts.values()}


def renamed(published: PublishedSegments, segment: str, name: str) -> PublishedSegments:
    """Return what is published with another name for one segment or sub-segment.

    Raises
    ------
    ConfigError
        As `rename_segment`.
    """
    if name.strip().casefold() == UNASSIGNED_NAME:
        raise ConfigError(
            f"`{name.strip()}` is what shops without a segment are called; expected "
            "another name."
        )
    reserved = {} if published.withdrawn is None else published.withdrawn.names
    own = [s for s in published.segments if s.id != UNASSIGNED]
    others = [s for s in published.segments if s.id == UNASSIGNED]
    if segment in published.parts:
        own = [with_part_name(s, segment, name) for s in own]
    elif segment.removeprefix("-").isdecimal():
        own = [*rename(own, int(segment), name, reserved)]
    else:
        known = [i for s in own for i in (str(s.id), *(part.id for part in s.parts))]
        raise ConfigError(
            f"no segment has the id `{segment}`; expected one of "
            f"{listed(known, limit=20)}."
        )
    return published.model_copy(update={"segments": (*own, *others)})


def _rewrite(out: StageWriter, old_name: str, segment: str, new_name: str) -> None:
    """Write anew whatever tells of a segment by its name, where it is there."""
    assert out.base is not None  # the model was read from it
    _rewrite_tables(out, segment, new_name)
    if (written := out.base.output(_RULES)) is not None:
        rules = written.read_text(encoding="utf-8").splitlines()
        texts = [_retold(rule, old_name, new_name) for rule in rules]
        out.path(_RULES).write_text("\n".join(texts) + "\n", encoding="utf-8")
    profiles: dict[str, Any] | None = out.facts.get("profiles")
    if profiles is not None:
        rules = [_retold(rule, old_name, new_name) for rule in profiles["rules"]]
        out.facts["profiles"] = {**profiles, "rules": rules}


# What names a segment in a table, by where its id stands.
_NAMED = {"segment": "segment_name", "sub_segment": "sub_segment_name"}


def _rewrite_tables(out: StageWriter, segment: str, name: str) -> None:
    """Write tables anew that name the segments or sub-segments of their rows."""
    assert out.base is not None  # the model was read from it
    text = pl.lit(name) if out.config.csv_safety == "off" else defused(pl.lit(name))
    for file, entry in out.base.manifest.files.items():
        # Those of shops are left to `rewrite_files`.
        is_table = file.endswith(".csv") and not file.startswith(f"{FOLDER}/")
        is_table &= entry.stage in {"inference", "refresh"}
        path = out.base.output(file) if is_table else None
        if path is None:
            continue
        # As text, so that no other cell changes.
        table = pl.scan_csv(path, infer_schema=False, glob=False)
        columns = table.collect_schema().names()
        named = {"id": "name"} if file == TREE else _NAMED
        changed = [
            pl.when(pl.col(key) == segment).then(text).otherwise(column).alias(column)
            for key, column in named.items()
            if {key, column} <= {*columns}
        ]
        if changed:
            table.with_columns(changed).collect().write_csv(out.path(file))


def _retold(rule: str, old_name: str, name: str) -> str:
    """Return a rule's sentence with a segment's other name."""
    found = re.fullmatch(r"(.* -> )(.*)(, [\d,]+ shops, \d+% of them)", rule)
    if found is None or found[2] != old_name:
        return rule
    return found[1] + name + found[3]
