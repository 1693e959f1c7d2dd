"""What a run of the axes tells: its table of axes, its page, its messages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.runs import REJECTED
from core.axes.features.catalog import AXES
from core.axes.files import FILES, OVERLAP, REPORT
from core.axes.report import TEMPLATES, AxesContent, write_axes_page
from core.axes.told import metric_words, told_axes
from core.lifecycle.page import page_content
from core.lifecycle.playbook import run_playbook
from core.lifecycle.segmentation import Tables
from core.models.centroids import NOWHERE, IntArray
from core.reporting.changes import change_lines
from core.reporting.text import prose, share, spoken
from core.segments.axes import AxesModel, Labels, Names
from core.tables.orders import intake_lines

REPORT_SCHEMA: Final = pl.Schema(
    {
        "axis": pl.String,
        "group": pl.String,
        "description": pl.String,
        "kind": pl.String,
        "n_segments": pl.Int64,
        "silhouette": pl.Float64,
        "valley": pl.Float64,
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
    ``natural`` (with gaps between them), ``cut`` (tiers that were asked for),
    ``single`` (no segments here), ``skipped``.
``silhouette``, ``valley``, ``stability``
    On scaled features, when the axis was learnt; null with fewer than two segments.
    `valley`: by how much the density falls between the two closest segments, at most 1.
``smallest_share``, ``largest_share``
    Of the customers that the axis places, in this run.
``features``, ``skipped``
    Joined by commas; skipped ones with the reason, several reasons by semicolons.
"""


def report_table(model: AxesModel, sizes: pl.DataFrame) -> pl.DataFrame:
    """Return a row per axis, skipped ones too, `REPORT_SCHEMA`.

    Parameters
    ----------
    model : AxesModel
    sizes : DataFrame
        Of `core.segments.memberships.sizes_table`.
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
        "valley": chosen.get("valley"),
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


SAME_CUSTOMERS = 0.8
"""Cohen's kappa from which segments of two axes hold nearly the same customers; "almost
perfect" agreement in Landis and Koch (1977)."""


def same_customers(labels: Labels, names: Names) -> list[str]:
    """Return the segments of different axes with nearly the same customers.

    Parameters
    ----------
    labels : mapping of str to ndarray of int, shape (n_customers,)
        Segment ids by axis, the same customers in the same order; -1 is not placed.
    names : mapping of str to mapping of int to str
        Of the segments, by axis and id.

    Returns
    -------
    list of str
        A sentence per pair, the closest first. Of two halves of the customers the
        smaller is told, as the other one follows.
    """
    found = []
    for axis, other in itertools.combinations(labels, 2):
        for one, two in itertools.product(names[axis], names[other]):
            if NOWHERE in (one, two):
                continue
            is_one, is_two = labels[axis] == one, labels[other] == two
            p, q, both = is_one.mean(), is_two.mean(), (is_one & is_two).mean()
            chance = p * q + (1 - p) * (1 - q)
            kappa = (1 - p - q + 2 * both - chance) / (1 - chance) if chance < 1 else 0
            if kappa >= SAME_CUSTOMERS and min(p, q) <= 0.5:
                said = (
                    f"{spoken(names[axis][one]).capitalize()} ({spoken(axis)}) and "
                    f"{spoken(names[other][two])} ({spoken(other)}) are nearly the "
                    f"same customers: {share(both / min(p, q))} of the smaller segment "
                    "are in both."
                )
                found.append((-kappa, said))
    return [said for _, said in sorted(found)]


Facts = Mapping[str, Any]


def run_lines(facts: Facts, folder: Path) -> list[str]:
    """Return what a run did: the customers, every axis, changes, and where it all is.

    Parameters
    ----------
    facts : mapping
        Of `core.lifecycle.run.run_segmentation`.
    folder : path
        Of the published set.
    """
    lines = [headline(facts), *facts["notes"], *intake_notes(facts)]
    lines += axis_lines(facts["axes"], facts["segments"]) + change_lines(facts)
    return [*lines, f"Page: {folder / FILES.page}"]


def run_sentences(topic: str, **values: Any) -> list[str]:
    """Return the sentences that the text of runs has for a topic."""
    return TEMPLATES.sentences("run.txt.j2", topic, **values)


def headline(facts: Facts) -> str:
    """Return who was segmented, by what."""
    return " ".join(run_sentences("headline", **facts))


def axis_lines(axes: Sequence[Facts], segments: Sequence[Facts]) -> list[str]:
    """Return each axis: its segments with their shares, or why it has none."""
    told = [{**axis, "skipped": prose(axis["skipped"], spoken)} for axis in axes]
    return run_sentences("axes", axes=told, segments=segments)


def intake_notes(facts: Facts) -> list[str]:
    """Return what became of the rows, and what should be known of them."""
    n = facts["n_rejected"]
    told = [f"{n:,} rows were set aside, see {REJECTED}."] if n else []
    return [*intake_lines(facts["intake"]), *told]


def write_report(out: StageWriter, tables: Tables, facts: dict[str, Any]) -> None:
    """Write the tables of axes and of their overlap, and ``axes.html``.

    Adds ``axes``, a row per axis, to `facts`.
    """
    report = report_table(tables.assigner.model, tables.sizes)
    report.write_csv(out.path(REPORT), float_precision=4)
    overlap = axis_overlap(tables.labels)
    overlap.write_csv(out.path(OVERLAP), float_precision=4)
    facts["axes"] = report.to_dicts()
    model = tables.assigner.model
    playbook = run_playbook(out, out.config.axes.playbook, "axes")

    def words(feature: str) -> str:
        return metric_words(feature, playbook).words

    source = facts["intake"]["orders"]["source"]
    notes = [*facts["notes"], *intake_notes(facts)]
    content = AxesContent(
        page=page_content(out, facts, source, headline(facts), notes, _STEPS),
        n_customers=facts["n_customers"],
        told=told_axes(model, tables.profiles, playbook),
        axes=report,
        segments=tables.sizes.with_columns(
            why=pl.Series([prose(why, words) for why in tables.sizes["why"]])
        ),
        overlap=overlap,
        same=same_customers(tables.labels, model.names),
        changes=change_lines(facts, is_short=False),
        moved=facts["n_moved"],
        drift=tables.drift,
        words=words,
    )
    write_axes_page(content, out.path(FILES.page))


_STEPS = (
    ("serve", "starts the HTTP API over the profiles"),
    ("axes --orders FILE --items FILE", "takes in next month's orders"),
    ('axes rename AXIS ID "NAME"', "gives a segment a name that stays"),
    ("axes rollback", "brings the version before back"),
)
