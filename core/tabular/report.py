"""What a run over a feature table tells: files, the page, the lines on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.runs import REJECTED
from core.entities import Entity
from core.lifecycle.page import NO_PROOF, Found, page_content, segment_rows
from core.lifecycle.segmentation import Tables
from core.lifecycle.told import Words, board_axes
from core.models.centroids import NOWHERE
from core.reporting.board import BoardAxis
from core.reporting.changes import change_lines, changes_part, drift_part
from core.reporting.page import Part, Table, Templates
from core.reporting.text import MISSING, decimal, plural, share
from core.segments.axes import AxisSegment, FittedAxis
from core.segments.memberships import long_table
from core.segments.published import Verdict
from core.tabular.assign import TableAssigner
from core.tabular.columns import ColumnPlan
from core.tabular.files import COLUMNS, DEFAULT_STORE, FILES, SEGMENTS
from core.tabular.names import N_TOLD, contrasts

TEMPLATES = Templates(Path(__file__).parent / "templates")
CUSTOMER: Final = Entity("customer_id", "customer", "customers", "")
Facts = Mapping[str, Any]
_TONES: Final = {"natural": "good", "reproducible": "calm", "constructive": "care"}


def write_report(out: StageWriter, tables: Tables, facts: dict[str, Any]) -> None:
    """Write the segment of every row, what became of the columns, and ``fit.html``."""
    assigner = tables.assigner
    assert isinstance(assigner, TableAssigner)  # what this system makes
    own = long_table(tables.profiles).drop("axis")
    own = own.rename({"customer_id": facts["id_column"]})
    out.write_csv(SEGMENTS, own, float_precision=4)
    columns = columns_table(assigner)
    out.write_csv(COLUMNS, columns)
    axis = told_axes(assigner, tables.profiles)[0]
    rows, rest = segment_rows(axis.segments)
    changes = changes_part(
        change_lines(facts, is_short=False), facts["n_moved"], tables.drift
    )
    notes = [*facts["notes"], *_notes(facts)]
    headline = " ".join(TEMPLATES.sentences("run.txt.j2", "headline", **facts))
    page = TEMPLATES.page(
        "fit.html.j2",
        heading="Table segments",
        content=page_content(
            out, facts, facts["source"], headline, notes, _steps(facts)
        ),
        found=found_of(facts, tables),
        parts=[] if changes is None else [changes],
        account=[],
        rows=rows,
        rest=rest,
        research=[
            part
            for part in (
                _numbers_part(assigner.axis),
                _columns_part(columns),
                drift_part(tables.drift),
            )
            if part is not None
        ],
    )
    out.path(FILES.page).write_text(page, encoding="utf-8", newline="\n")


def told_axes(assigner: TableAssigner, profiles: pl.DataFrame) -> list[BoardAxis]:
    """Return the segments in words; see `core.lifecycle.told.board_axes`."""
    model = assigner.axis.model
    assert model is not None  # of every table that was learnt from
    told = contrasts(model, assigner.encoding)

    def apart(axis: FittedAxis, segment: AxisSegment) -> list[str]:
        if segment.id == NOWHERE:
            return [segment.why]
        said = [one.phrase for one in told[segment.cluster][:N_TOLD]]
        return said or ["close to the average customer"]

    words = Words(
        head=lambda axis: ("Segments", ""), apart=apart, actions=lambda axis, own: []
    )
    return board_axes(assigner.model, profiles, words)


def found_of(facts: Facts, tables: Tables) -> Found:
    """Return how many segments there are, and how far to trust them."""
    verdict = Verdict(**facts["verdict"])
    n = tables.sizes.filter(pl.col("segment_id") != NOWHERE).height
    title = f"{plural(facts['n_customers'], 'customer')}: {plural(n, 'segment')}"
    lines = [f"{verdict.meaning(CUSTOMER).capitalize()}. {_refits(facts)}", NO_PROOF]
    return Found(_TONES[verdict.kind], title, verdict.kind, lines)


def run_lines(facts: Facts, folder: Path) -> list[str]:
    """Return what a run did, for the terminal."""
    if not facts["is_changed"]:
        return TEMPLATES.sentences("run.txt.j2", "unchanged", **facts)
    verdict = Verdict(**facts["verdict"])
    said = {**facts, "meaning": verdict.meaning(CUSTOMER), "told": _refits(facts)}
    lines = TEMPLATES.sentences("run.txt.j2", "headline", **said)
    lines += [*facts["notes"], *_notes(facts)]
    lines += TEMPLATES.sentences("run.txt.j2", "segments", **said)
    return [*lines, *change_lines(facts), f"Page: {folder / FILES.page}"]


def columns_table(assigner: TableAssigner) -> pl.DataFrame:
    """Return what became of every column: ``column, kind, treatment``."""
    rows: list[tuple[str, str, str]] = [
        (plan.name, plan.kind, _treatment(plan)) for plan in assigner.encoding.columns
    ]
    rows += [(name, "left out", why) for name, why in assigner.encoding.skipped.items()]
    schema = {"column": pl.String, "kind": pl.String, "treatment": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _treatment(plan: ColumnPlan) -> str:
    if plan.kind == "category":
        return f"levels: {', '.join(plan.levels)}"
    scale = "its logarithm, winsorised at 1%" if plan.is_log else "winsorised at 1%"
    typed = ""
    if plan.form is not None:
        words = "".join(f", `{word}` is missing" for word in plan.form.words)
        typed = f"typed as text{words}; "
    levels = f"; levels: {', '.join(plan.levels)}" if plan.levels else ""
    return f"{typed}{scale}; missing: the median {plan.fill:.6g}{levels}"


def _steps(facts: Facts) -> list[tuple[str, str]]:
    """Return the verbs that go on from a run, and what each adds."""
    whose = "" if facts["store"] == DEFAULT_STORE else f" --store {facts['store']}"
    rename = f'fit rename segment ID "NAME"{whose}'
    return [
        (facts["again"], "takes in next month's rows; ids and names stay"),
        (f"fit explain ID{whose}", "tells why one is in its segment"),
        (rename, "gives a segment a name that stays"),
        (f"fit rollback{whose}", "brings the version before back"),
    ]


def _refits(facts: Facts) -> str:
    """Return how well the segments come back, in a sentence."""
    if facts["refits"] is None:
        return ""
    return (
        f"Refits on 80% of the customers agree by {decimal(facts['refits']['ari'])} of "
        "1 (adjusted Rand index)."
    )


def _notes(facts: Facts) -> list[str]:
    """Return what became of the rows and of columns left out."""
    lines = list(facts["account"])
    if facts["n_rejected"]:
        lines.append(f"Rows set aside: {REJECTED}.")
    if facts["skipped"]:
        said = "; ".join(f"{name} ({why})" for name, why in facts["skipped"].items())
        lines.append(f"Columns left out: {said}.")
    return lines


def _numbers_part(axis: FittedAxis) -> Part | None:
    """Return the numbers of segments that were tried."""
    rows = [
        {
            "segments": str(one["n_segments"]),
            "gap in density": decimal(one["valley"]),
            "silhouette": decimal(one["silhouette"]),
            "smallest": share(one["smallest_share"]),
            "largest": share(one["largest_share"]),
            "stability": decimal(one["stability"]),
            "finding": one["fault"] or "gaps between all of them",
        }
        for one in axis.report["candidates"]
    ]
    if not rows:
        return None
    reason = axis.report["verdict"]
    return Part(
        "The number of segments",
        [f"Taken: {axis.report['n_segments']}. {reason[:1].upper()}{reason[1:]}."],
        tables=[Table("Looked for: groups with gaps.", rows, frozenset({"finding"}))],
    )


def _columns_part(columns: pl.DataFrame) -> Part:
    """Return what became of the columns."""
    rows = [{k: v or MISSING for k, v in row.items()} for row in columns.to_dicts()]
    return Part(
        "What became of the columns",
        ["Every column counts alike, whatever its unit and the number of its levels."],
        tables=[Table("In the order of the table.", rows, frozenset(columns.columns))],
    )
