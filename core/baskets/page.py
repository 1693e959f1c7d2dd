"""``baskets.html``: the segments and what to do first, then what they rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl

from core.artifacts.folder import StageWriter
from core.baskets.content import Content
from core.baskets.documents import TEMPLATES
from core.baskets.files import DOCUMENTS, FILES
from core.baskets.intake import account_lines
from core.baskets.parts import Facts, Parts
from core.baskets.plots import plot_effects, plot_quadrants
from core.lifecycle.page import (
    NO_PROOF,
    Found,
    PageContent,
    Row,
    page_content,
    rules_badge,
    segment_rows,
    who_could,
    who_could_not,
)
from core.redaction import redacted
from core.reporting.changes import change_lines, changes_part, drift_part, moves_table
from core.reporting.page import Part, Picture, Table
from core.reporting.text import plural, rounded

_STEPS: Final = (
    ("baskets score", "places customers of another table in these segments"),
    ("baskets", "takes in newer orders, with `--config` of yours"),
    ('baskets rename segment ID "NAME"', "gives a segment a name that stays"),
    ("baskets rollback", "brings the version before back"),
    ("serve", "starts the HTTP API over the profiles"),
)


def write_page(
    out: StageWriter,
    parts: Parts,
    facts: Facts,
    told: tuple[str, Sequence[str]],
    drift: pl.DataFrame,
) -> None:
    """Write ``baskets.html``.

    Parameters
    ----------
    out : StageWriter
    parts : Parts
    facts : mapping
        Of `core.lifecycle.run.run_segmentation`, with ``proof``, ``moves`` and
        ``account``.
    told : (str, sequence of str)
        Headline and notes, as the terminal has them.
    drift : DataFrame
        See `core.reporting.changes.changes_part`.
    """
    found = Content(parts)
    with TemporaryDirectory() as folder:
        text = TEMPLATES.page(
            "baskets.html.j2",
            heading="Basket segments",
            content=_content(out, found, facts, told),
            found=_found(found, facts),
            parts=[p for p in (_changes(found, facts, drift),) if p],
            account=account_lines(facts["account"]),
            rows=_rows(found),
            stories=found.stories,
            pictures=list(_pictures(found, Path(folder))),
            rules=_rules_part(found),
            plan=_plan_part(found),
            tried=[table for table in (found.spaces, found.study()) if table],
            research=[
                *_research_parts(found),
                _study_part(found),
                *(p for p in (drift_part(drift, found.words),) if p),
            ],
            documents=DOCUMENTS,
        )
    out.path(FILES.page).write_text(text, encoding="utf-8", newline="\n")


def _content(
    out: StageWriter, found: Content, facts: Facts, told: tuple[str, Sequence[str]]
) -> PageContent:
    source = out.config.baskets.orders or out.config.baskets.source
    source = "the built-in sample" if source == "sample" else redacted(source)
    return page_content(out, facts, source, *told, _STEPS)


def _found(found: Content, facts: Facts) -> Found:
    """Return who could be segmented, how sure that is, and what was found."""
    checks = found.parts.readiness.checks if found.parts.readiness else None
    is_care = checks is None or checks["status"].is_in(["caution", "fails"]).any()
    return Found(
        "care" if is_care else "good",
        who_could(facts),
        rules_badge(facts),
        [
            f"{plural(len(found.placed), 'segment')} by rules. {facts['proof']} "
            f"{who_could_not(facts)} {found.ready}",
            " ".join([*found.sure, NO_PROOF]),
        ],
    )


def _rows(found: Content) -> tuple[list[Row], Row | None]:
    """Return the segments with their share of the orders, two differences each."""
    orders = {str(story.id): story.orders_share for story in found.stories}
    rows, rest = segment_rows(found.told.segments)
    for row in (*rows, *([rest] if rest else [])):
        row |= {"sales_share": orders[row["id"]], "apart": row["apart"][:2]}
    return rows, rest


def _pictures(found: Content, folder: Path) -> Iterator[Picture]:
    """Draw the pictures, and yield them."""
    parts = found.parts
    divided = found.quantiles.drop_nulls()
    if divided.height == 2 and divided["score"].n_unique() == 2:
        path = folder / "quadrants.png"
        scores = divided["score"].to_list()
        plot_quadrants(
            parts.features.select(scores),
            parts.features["segment"],
            dict(divided.select("score", "threshold").iter_rows()),
            {name: found.words(name) for name in scores},
            path,
        )
        said = ", ".join(
            f"{found.words(score)} at {rounded(value)}"
            for score, value in divided.select("score", "threshold").iter_rows()
        )
        yield Picture("Where customers lie", path, f"Thresholds: {said}.")
    evidence = found.evidence
    if evidence.height:
        path = folder / "effects.png"
        columns = ("eta_squared", "low", "high")
        value, low, high = (
            evidence[name].to_numpy().astype(np.float64) for name in columns
        )
        names = [found.words(name) for name in evidence["metric"]]
        plot_effects(names, (value, low, high), path)
        alt = "; ".join(f"{n} {v:.2f}" for n, v in zip(names, value, strict=True))
        yield Picture("What sets segments apart", path, alt)


def _changes(found: Content, facts: Facts, drift: pl.DataFrame) -> Part | None:
    """Return what is other than in the run before; None in a first run."""
    told = change_lines(facts, is_short=False)
    part = changes_part(told, facts["n_moved"], drift, found.words)
    if part is None or not facts["moves"]:
        return part
    names = dict(found.parts.segments.select("segment_id", "segment").iter_rows())
    return replace(part, tables=[moves_table(facts["moves"], names), *part.tables])


def _rules_part(found: Content) -> Part:
    rules = [
        {"segment": story.name, "rule": story.rule, "description": story.description}
        for story in found.placed
    ]
    return Part(
        "The rules",
        ["Thresholds are learnt once, saved, and used for every customer who comes."],
        tables=[
            Table("Thresholds are shown with four digits.", rules, frozenset(rules[0])),
            found.thresholds,
        ]
        if rules
        else [],
    )


def _plan_part(found: Content) -> Part:
    """Return how to find out whether acting on the segments pays, in short."""
    table, lines = found.experiment, _plan_lines(found)
    return Part("Experiment plan", lines[:1], tables=[] if table is None else [table])


def _plan_lines(found: Content) -> list[str]:
    return found.lines(found.parts.experiment, "No experiment was planned.")


def _research_parts(found: Content) -> Iterator[Part]:
    """Yield what the segments rest on; what was not made is told."""
    parts = found.parts
    yield Part(
        "Do the orders carry a segmentation?", [found.ready], tables=found.readiness
    )
    yield Part(
        "Do the segments differ?",
        found.lines(parts.validation, "This was not examined."),
        tables=found.validation,
    )
    if lines := _plan_lines(found)[1:]:
        yield Part("The experiment plan in detail", lines)
    for title, part, table, missing in (
        (
            "Do they tell what customers do next?",
            parts.out_of_time,
            found.out_of_time,
            "This was not examined: no validation out of time was made.",
        ),
        (
            "Monitoring",
            parts.monitoring,
            found.monitoring,
            "No monitoring was planned.",
        ),
    ):
        tables = [] if table is None else [table]
        yield Part(title, found.lines(part, missing), tables=tables)


def _study_part(found: Content) -> Part:
    """Return what clustering found, in sentences."""
    study = found.parts.study
    said = [] if study is None else found.prose(study.recommendation[1:])
    return Part("Rules or clusters?", [found.decision, *said])
