"""Parts of the report that the judging verbs add, and what is left to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from core.evaluation.scorecard import ALL
from core.reporting.page import NextStep, Part, Picture, Table
from core.reporting.text import count, decimal
from core.retailers.report import plots
from core.retailers.report.cards import how_sure
from core.retailers.report.evidence import Evidence, report_line, report_lines
from core.retailers.report.scorecard_words import (
    OUTCOME_TITLES,
    choice_remark,
    scorecard_answers,
    scorecard_lines,
    scorecard_rows,
)


def next_steps(evidence: Evidence) -> list[NextStep]:
    """Return the verbs whose part is missing, or tells of other segments."""
    is_certified = evidence.published.verdict.is_certified
    stable = stability_part(evidence)
    wanted = {
        "profile": evidence.judged("profiles") is None,
        "scorecard": not (evidence.judged("scorecard") or {}).get("n_permutations"),
        "certify": not is_certified,
        "stability": stable is None and is_certified,
        "compare": comparison_part(evidence) is None,
    }
    return [
        NextStep(evidence.command(verb), report_line(f"{verb}_adds"))
        for verb, is_wanted in wanted.items()
        if is_wanted
    ]


def scorecard_part(evidence: Evidence) -> Part | None:
    """Return what segments and states told of the months after, in sentences."""
    facts = evidence.judged("scorecard")
    if facts is None:
        return None
    lines = scorecard_answers(facts)
    if not facts["why_not"]:
        criterion = evidence.manifest.facts("clustering")["partition"]["criterion"]
        lines += choice_remark(facts["kind"], criterion)
    return Part("Do the segments tell what shops do next?", lines)


def scorecard_details(evidence: Evidence) -> Part | None:
    """Return the figures that `scorecard_part` rests on."""
    facts, table = evidence.judged("scorecard"), evidence.table("scorecard.csv")
    if facts is None or facts["why_not"] or table is None:
        return None
    alt = report_line("scorecard_alt")
    title = "What usual sales and segments explain of the months after"
    has_picture = facts["n_permutations"]
    return Part(
        "Scorecard: what shops did next",
        scorecard_lines(facts),
        _pictures(evidence, "scorecard.png", title, alt) if has_picture else (),
        [
            Table(
                report_line("scorecard_table"),
                [_scorecard_row(row) for row in scorecard_rows(table)],
                frozenset({"labels", "shops", "outcome"}),
            )
        ],
    )


def _scorecard_row(row: Mapping[str, str]) -> dict[str, str]:
    """Say the labels' full name."""
    title = OUTCOME_TITLES[row["labels"]]
    outcome = "on average" if row["outcome"] == ALL else row["outcome"]
    return {**row, "labels": title, "outcome": outcome}


# Hennig (2007): from here on a cluster is stable.
_STABLE = 0.75


def stability_part(evidence: Evidence) -> Part | None:
    """Return how well each published segment comes back."""
    table = evidence.table("stability.csv")
    own = None if table is None else table.filter(kind=evidence.published.kind)
    if own is None or own.is_empty():
        return None
    same = evidence.judged("stability")
    if same is None:
        agreement = evidence.facts.get("certificate", {}).get("agreement", {})
        same = agreement.get(evidence.published.kind)
    sentences = report_lines(
        "stability",
        same=same,
        kind=evidence.published.kind,
        # One figure for one fact: the verdict tells it for these kinds.
        is_told_above=evidence.published.kind != "density"
        and (same or {}).get("how", "subsample") == "subsample",
        n_stable=int((own["jaccard"] >= _STABLE).sum()),
        n_segments=own.height,
    )
    return Part(
        "Do the segments come back?",
        sentences,
        tables=[
            Table(
                report_line("stability_table"),
                [
                    _stability_row(row, evidence.titles[s.id], how_sure(evidence, s)[0])
                    for row in own.to_dicts()
                    for s in evidence.published.segments
                    if s.id == row["segment"]
                ],
                frozenset({"segment", "how sure"}),
            )
        ],
    )


def _stability_row(row: Mapping[str, Any], title: str, sure: str) -> dict[str, str]:
    """Return one segment's stability as text."""
    shown = {
        "segment": title,
        "how sure": sure,
        "shops": count(row["size"]),
        "Jaccard": decimal(row["jaccard"]),
        "lowest": decimal(row["lowest_jaccard"]),
    }
    if row.get("seed_jaccard") is not None:
        shown["other seed"] = decimal(row["seed_jaccard"])
    if row.get("null_p") is not None:
        shown["p against nulls"] = f"{row['null_p']:.2g}"
    return shown


def certificate_part(evidence: Evidence) -> Part | None:
    """Return what the whole pipeline finds in data without structure."""
    found = evidence.facts.get("certificate")
    if found is None:
        return None
    structure = found["structure"]
    sentences = report_lines(
        "certificate",
        structure=structure,
        n_passed=sum(s["p_value"] <= 0.05 for s in structure["segments"]),
    )
    picture = _pictures(
        evidence,
        "null-distribution.png",
        "These shops, and data without groups",
        "Structure score of every data set without groups, and of these shops.",
    )
    return Part("More structure than chance?", sentences, picture)


def comparison_part(evidence: Evidence) -> Part | None:
    """Return spaces and clusterers side by side."""
    table = evidence.table("comparison-spaces.csv", note=pl.String, null_p=pl.Float64)
    if table is None:
        return None
    picture = _pictures(
        evidence,
        "comparison-spaces.png",
        "Feature sets, spaces and clusterers",
        "A row per space and clusterer, a panel per figure.",
    )
    rows = Table(
        report_line("comparison_table"),
        plots.comparison_table(table),
        frozenset({"recipe"}),
    )
    return Part(
        "For researchers: spaces and clusterers",
        plots.comparison_lines(table),
        picture,
        [rows],
    )


def _pictures(
    evidence: Evidence, name: str, title: str, alt: str
) -> tuple[Picture, ...]:
    """Return a picture, unless its file is gone."""
    path = evidence.file(name)
    return () if path is None else (Picture(title, path, alt),)
