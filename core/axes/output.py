"""The files of a run: model, profiles, tables, page, messages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from core.artifacts.folder import StageWriter, link
from core.artifacts.manifest import library_versions
from core.artifacts.reading import ArtifactSet
from core.axes import files
from core.axes.assign import AxesAssigner, write_meta
from core.axes.changes import Labels
from core.axes.features.catalog import AXES
from core.axes.model import AxesModel
from core.axes.report import TEMPLATES, AxesContent, write_axes_page
from core.config import Config
from core.models.centroids import NOWHERE, Assignment, IntArray
from core.reporting.page import NextStep
from core.reporting.text import command, enumerated
from core.tables.orders import intake_lines


class StoreLoad(NamedTuple):
    """What became of loading a published set into a store.

    Attributes
    ----------
    line : str
        In words.
    facts : dict
        JSON-able; counts of rows, or the error.
    exit_code : int
        0, or that of the error.
    """

    line: str
    facts: dict[str, Any]
    exit_code: int = 0


StoreLoader = Callable[[Config, ArtifactSet], StoreLoad]
"""Loads a published set into the store of a configuration: `core.store.publish`."""

SIZES_SCHEMA: Final = pl.Schema(
    {
        "axis": pl.String,
        "segment_id": pl.Int64,
        "segment": pl.String,
        "n_customers": pl.Int64,
        "share": pl.Float64,
        "share_when_learnt": pl.Float64,
        "kind": pl.String,
        "is_edited": pl.Boolean,
        "rule_name": pl.String,
        "why": pl.String,
    }
)
"""Columns of `sizes_table`; id -1 are the customers whom the axis does not place."""

REPORT_SCHEMA: Final = pl.Schema(
    {
        "axis": pl.String,
        "group": pl.String,
        "description": pl.String,
        "kind": pl.String,
        "n_segments": pl.Int64,
        "silhouette": pl.Float64,
        "smallest_share": pl.Float64,
        "largest_share": pl.Float64,
        "stability": pl.Float64,
        "n_placed": pl.Int64,
        "n_not_placed": pl.Int64,
        "verdict": pl.String,
        "features": pl.String,
        "skipped": pl.String,
    }
)
"""Columns of `report_table`.

``kind``
    ``natural`` (parted by valleys), ``cut`` (tiers that were asked for), ``single`` (no
    segments here), ``skipped``.
``silhouette``, ``stability``
    On scaled features, when the axis was learnt; null with fewer than two segments.
``smallest_share``, ``largest_share``
    Of the customers that the axis places, in this run.
``features``, ``skipped``
    Joined by commas; skipped ones with the reason, several reasons by semicolons.
"""


def sizes_table(model: AxesModel, found: Labels) -> pl.DataFrame:
    """Return a row per segment with its customers in this run, `SIZES_SCHEMA`.

    By axis, then by size, the customers not placed last; none of these, no row.
    """
    rows = []
    for axis, fitted in model.fitted.items():
        labels = found[axis]
        n_all = max(len(labels), 1)
        for segment in fitted.segments:
            n = int(np.count_nonzero(labels == segment.id))
            if n or segment.id != NOWHERE:
                row = {
                    "axis": axis,
                    "segment_id": segment.id,
                    "segment": segment.name,
                    "n_customers": n,
                    "share": n / n_all,
                    "share_when_learnt": segment.share,
                }
                rows.append({**segment.model_dump(), **row})
    table = pl.DataFrame(
        [{name: row[name] for name in SIZES_SCHEMA} for row in rows],
        schema=SIZES_SCHEMA,
    )
    order = {axis: place for place, axis in enumerate(model.fitted)}
    return table.sort(
        pl.col("axis").replace_strict(order, return_dtype=pl.Int64),
        pl.col("segment_id") == NOWHERE,
        -pl.col("n_customers"),
        "segment_id",
    )


def report_table(model: AxesModel, sizes: pl.DataFrame) -> pl.DataFrame:
    """Return a row per axis, skipped ones too, `REPORT_SCHEMA`.

    Parameters
    ----------
    model : AxesModel
    sizes : DataFrame
        Of `sizes_table`.
    """
    known = {axis.name: axis for axis in AXES}
    rows = []
    for report in model.report:
        axis = known[report["axis"]]
        own = sizes.filter(axis=axis.name)
        rows.append(
            {
                "axis": axis.name,
                "group": axis.group,
                "description": axis.description,
                **_figures(report),
                **_shares(own),
                "features": ", ".join(report["features"]),
                "skipped": _by_reason(report["skipped"]),
            }
        )
    return pl.DataFrame(rows, schema=REPORT_SCHEMA)


def _by_reason(skipped: Mapping[str, str]) -> str:
    """Return skipped features with what they have in common.

    >>> _by_reason({"refund_rate": "no refunds", "has_returns": "no refunds"})
    'refund_rate, has_returns (no refunds)'
    """
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(own)} ({reason})" for reason, own in names.items())


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the number of segments that was chosen."""
    if not report["features"]:
        reasons = "; ".join(dict.fromkeys(report["skipped"].values()))
        return {"kind": "skipped", "n_segments": 0, "verdict": f"skipped: {reasons}"}
    n_segments = report["n_segments"]
    tried = {found["n_segments"]: found for found in report["candidates"]}
    chosen = tried.get(n_segments, {}) if n_segments > 1 else {}
    return {
        "kind": report["kind"],
        "n_segments": n_segments,
        "silhouette": chosen.get("silhouette"),
        "stability": chosen.get("stability"),
        "verdict": report["verdict"],
    }


def _shares(own: pl.DataFrame) -> dict[str, Any]:
    """Return how an axis divides its customers in this run."""
    is_placed = own["segment_id"] != NOWHERE
    sizes = own.filter(is_placed)["n_customers"]
    n_placed = int(sizes.sum())
    shares = (sizes / max(n_placed, 1)).to_list()
    return {
        "smallest_share": min(shares, default=None),
        "largest_share": max(shares, default=None),
        "n_placed": n_placed,
        "n_not_placed": int(own.filter(~is_placed)["n_customers"].sum()),
    }


OVERLAP_CUSTOMERS = 20_000


def axis_overlap(labels: Mapping[str, IntArray]) -> pl.DataFrame:
    """Return the overlap of every two axes.

    Parameters
    ----------
    labels : mapping of str to ndarray of int, shape (n_customers,)
        Segments by axis, the same customers in the same order; -1 is not placed.

    Returns
    -------
    DataFrame
        ``axis, other, ami, n_customers``, one row per pair in the axes' order. `ami` is
        1 where the segments of one axis follow from those of the other, 0 where they
        agree as much as by chance; null where one of them has a single segment. Counted
        on the customers placed on both, `n_customers`, of at most 20,000 in all.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    n = max((len(column) for column in labels.values()), default=0)
    picked = np.arange(n)
    if n > OVERLAP_CUSTOMERS:
        rng = np.random.default_rng(0)
        picked = np.sort(rng.choice(n, OVERLAP_CUSTOMERS, replace=False))
    drawn = {axis: column[picked] for axis, column in labels.items()}
    rows = []
    for axis, other in itertools.combinations(drawn, 2):
        is_placed = (drawn[axis] != NOWHERE) & (drawn[other] != NOWHERE)
        pair = drawn[axis][is_placed], drawn[other][is_placed]
        has_several = all(len(np.unique(one)) > 1 for one in pair)
        ami = float(adjusted_mutual_info_score(*pair)) if has_several else None
        rows.append((axis, other, ami, int(is_placed.sum())))
    schema = {
        "axis": pl.String,
        "other": pl.String,
        "ami": pl.Float64,
        "n_customers": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


# Sentences of one kind that the terminal shows; the page has all.
SAID = 5
Facts = Mapping[str, Any]


def run_lines(facts: Facts, folder: Path) -> list[str]:
    """Return what a run did: the customers, every axis, changes, and where it all is.

    Parameters
    ----------
    facts : mapping
        Of `core.axes.run.Run.execute`.
    folder : path
        Of the published set.
    """
    lines = [headline(facts), *facts["notes"], *intake_notes(facts)]
    lines += axis_lines(facts["axes"], facts["segments"]) + change_lines(facts)
    return [*lines, f"Page: {folder / files.PAGE}"]


def run_sentences(topic: str, **values: Any) -> list[str]:
    """Return the sentences that the text of runs has for a topic."""
    return TEMPLATES.sentences("run.txt.j2", topic, **values)


def headline(facts: Facts) -> str:
    """Return who was segmented, by what."""
    return " ".join(run_sentences("headline", **facts))


def axis_lines(axes: Sequence[Facts], segments: Sequence[Facts]) -> list[str]:
    """Return each axis: its segments with their shares, or why it has none."""
    return run_sentences("axes", axes=axes, segments=segments)


def change_lines(facts: Facts, *, is_short: bool = True) -> list[str]:
    """Return what is other than in the run before; nothing in a first run.

    With `is_short` everything is in sentences, of drift the first few; without it moves
    and drift are left to tables.
    """
    if facts["version_before"] is None:
        return []
    lines = [
        f"{facts['n_entered']:,} customers are new, {facts['n_left']:,} have gone."
    ]
    if is_short:
        lines += _moved(facts["n_moved"])
        lines += _first([f"Drift: {alert}." for alert in facts["drift"]], "drift alert")
    now = _names_by_axis(facts["segments"])
    for axis, events in facts["events"].items():
        before = {int(i): name for i, name in facts["names_before"][axis].items()}
        lines += event_lines(axis, events, before, now.get(axis, {}))
    return lines


def event_lines(
    axis: str,
    events: Sequence[Mapping[str, Any]],
    before: Mapping[int, str],
    now: Mapping[int, str],
) -> list[str]:
    """Say what became of the segments of one axis; survivors are not worth a word.

    Parameters
    ----------
    axis : str
    events : sequence of mapping
        `core.segments.identity.IdentityEvent` as dicts.
    before, now : mapping of int to str
        Names of the segments by id, before and after.
    """
    changes = [
        {
            **event,
            "old": enumerated([f"`{before.get(i, i)}`" for i in event["old"]]),
            "new": enumerated([f"`{now.get(i, i)}`" for i in event["new"]]),
        }
        for event in events
        if event["kind"] != "survived"
    ]
    return run_sentences("events", axis=axis, events=changes)


def intake_notes(facts: Facts) -> list[str]:
    """Return what became of the rows, and what should be known of them."""
    n = facts["n_rejected"]
    told = [f"{n:,} rows were set aside, see {files.REJECTED}."] if n else []
    return [*intake_lines(facts["intake"]), *told]


def _names_by_axis(segments: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """Return the names in a list of segments by axis and id."""
    found: dict[str, dict[int, str]] = {}
    for segment in segments:
        found.setdefault(segment["axis"], {})[segment["segment_id"]] = segment[
            "segment"
        ]
    return found


def _moved(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say how many customers moved on which axes, by cause."""
    moved = {
        cause: sorted(
            ((axis, n[cause]) for axis, n in counts.items() if n.get(cause)),
            key=lambda pair: -pair[1],
        )
        for cause in ("behaviour", "model")
    }
    return run_sentences("moved", moved=moved)


def _first(lines: Sequence[str], noun: str) -> list[str]:
    """Return the first few lines, and how many there are besides."""
    rest = len(lines) - SAID
    more = [f"And {rest:,} more {noun}{'s' if rest > 1 else ''}."] if rest > 0 else []
    return [*lines[:SAID], *more]


def write_page(
    out: StageWriter,
    facts: Mapping[str, Any],
    report: pl.DataFrame,
    sizes: pl.DataFrame,
    overlap: pl.DataFrame,
    drift: pl.DataFrame,
) -> None:
    """Write ``axes.html`` and its pictures.

    Parameters
    ----------
    out : StageWriter
    facts : mapping
        Of the run.
    report, sizes : DataFrame
        Of `core.axes.output`.
    overlap : DataFrame
        Of `core.axes.output.axis_overlap`.
    drift : DataFrame
        Columns `core.axes.changes.AXES_DRIFT_ROWS`.
    """
    kinds = report["kind"]
    content = AxesContent(
        source=facts["intake"]["orders"]["source"],
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        headline=headline(facts),
        notes=[*facts["notes"], *intake_notes(facts)],
        tiles={
            "customers": facts["n_customers"],
            "orders": facts["n_orders"],
            "item lines": facts["n_items"],
            "axes with segments": int(kinds.is_in(["natural", "cut"]).sum()),
            "axes without": int((kinds == "single").sum()),
            "axes skipped": int((kinds == "skipped").sum()),
        },
        axes=report,
        segments=sizes,
        overlap=overlap,
        changes=change_lines(facts, is_short=False),
        moved=facts["n_moved"],
        drift=drift,
        next_steps=_next_steps(out),
        made={
            "Run": {
                "run": facts["run"],
                "version": facts["version"],
                "store": facts["store"],
                "now": facts["reference_date"],
                "seed": out.config.seed,
            },
            "Versions": library_versions(),
        },
    )
    write_axes_page(content, out.path(files.PAGE))


def _next_steps(out: StageWriter) -> list[NextStep]:
    """Return the commands that make sense after a run."""
    folder = str(out.root.parent)
    return [
        NextStep(command(verb, folder), adds)
        for verb, adds in (
            ("serve", "starts the HTTP API over the profiles"),
            ("axes --orders FILE --items FILE", "takes in next month's orders"),
            ('axes rename AXIS ID "NAME"', "gives a segment a name that stays"),
            ("axes rollback", "brings the version before back"),
        )
    ]


@dataclass(frozen=True)
class Result:
    """What a run has found.

    Attributes
    ----------
    assigner : AxesAssigner
    features : DataFrame
        Of the customers, as the assigner knows them.
    placed : dict of axis to Assignment
        Of the same customers.
    rejected : DataFrame
        Rows that could not be used.
    drift : DataFrame
        Columns `core.axes.changes.AXES_DRIFT_ROWS`.
    moves : DataFrame
        The run's block of the ledger.
    """

    assigner: AxesAssigner
    features: pl.DataFrame
    placed: dict[str, Assignment]
    rejected: pl.DataFrame
    drift: pl.DataFrame
    moves: pl.DataFrame


def write_output(
    out: StageWriter, result: Result, facts: dict[str, Any], *, is_learnt: bool
) -> None:
    """Write everything but the reference of the drift, which only learning makes.

    Adds ``axes``, ``segments`` and ``events`` to `facts`.
    """
    _write_model(out, result, is_learnt=is_learnt)
    result.rejected.write_parquet(out.path(files.REJECTED), compression="zstd")
    if result.drift.height:
        result.drift.write_csv(out.path(files.DRIFT))
    if out.base is not None and facts["version_before"] is not None:
        files.carry_ledger(out.base, out.folder)
        result.moves.write_parquet(out.path(files.block_name(facts["run"])))
    facts["events"] = _events(result) if is_learnt else {}
    profiles = result.assigner.profiles(result.features, result.placed)
    write_tables(out, result.assigner.model, profiles, result.drift, facts)


def write_tables(
    out: StageWriter,
    model: AxesModel,
    profiles: pl.DataFrame,
    drift: pl.DataFrame,
    facts: dict[str, Any],
) -> None:
    """Write the profiles, and all that follows from them and from the model.

    Adds ``axes``, a row per axis, and ``segments``, a row per segment, to `facts`.
    """
    profiles.write_parquet(out.path(files.PROFILES), compression="zstd")
    out.write_csv(files.LONG_TABLE, long_table(profiles), float_precision=4)
    labels = labels_of(profiles)
    sizes = sizes_table(model, labels)
    out.write_csv(files.SIZES, sizes, float_precision=4)
    report = report_table(model, sizes)
    report.write_csv(out.path(files.REPORT), float_precision=4)
    overlap = axis_overlap(labels)
    overlap.write_csv(out.path(files.OVERLAP), float_precision=4)
    facts["axes"] = report.to_dicts()
    facts["segments"] = sizes.to_dicts()
    write_page(out, facts, report, sizes, overlap, drift)


def labels_of(profiles: pl.DataFrame) -> dict[str, npt.NDArray[np.int64]]:
    """Return the segment ids of profiles by axis."""
    ids = profiles["segment_ids"].struct
    return {axis: ids.field(axis).to_numpy().astype(np.int64) for axis in ids.fields}


def long_table(profiles: pl.DataFrame) -> pl.DataFrame:
    """Return a row per customer and axis.

    Parameters
    ----------
    profiles : DataFrame
        Of `core.axes.assign.AxesAssigner.profiles`.

    Returns
    -------
    DataFrame
        ``customer_id``, ``axis``, ``segment_id`` (-1: not placed), ``segment``,
        ``strength``, ``runner_up`` (null: none); by axis, then as `profiles`.
    """
    fields = {
        "segment_id": "segment_ids",
        "segment": "segment_memberships",
        "strength": "membership_strengths",
        "runner_up": "runner_up_segments",
    }
    axes = profiles["segment_ids"].struct.fields
    parts = [
        profiles.select(
            "customer_id",
            pl.lit(axis).alias("axis"),
            *(pl.col(s).struct.field(axis).alias(name) for name, s in fields.items()),
        )
        for axis in axes
    ]
    return pl.concat(parts)


def _write_model(out: StageWriter, result: Result, *, is_learnt: bool) -> None:
    """Write a new model; one that only placed stays the same file."""
    if is_learnt:
        result.assigner.save(out.folder)
        return
    assert out.base is not None  # whose model it is
    for name in (files.STATE, files.DRIFT_REFERENCE):
        link(out.base.path(name), out.path(name))
    write_meta(out.path(files.META), result.assigner.get_state()[1])


def _events(result: Result) -> dict[str, list[dict[str, Any]]]:
    """Return what became of segments, as plain values."""
    return {
        axis: [event.model_dump(mode="json") for event in events]
        for axis, events in result.assigner.model.events.items()
        if events
    }
