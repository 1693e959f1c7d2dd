"""The parts of the report that the judging verbs add, each only if it was judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from core.reporting.comparison import comparison_lines, comparison_table
from core.reporting.evidence import Evidence
from core.reporting.scorecard import (
    ALL,
    TITLES,
    choice_remark,
    scorecard_lines,
    scorecard_rows,
)
from core.reporting.wording import decimal, percent, plural, probability


@dataclass(frozen=True)
class Picture:
    """A PNG file with its heading, a text for who cannot see it, and a caption."""

    title: str
    path: Path
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows as text, with a caption; the columns of `texts` are no numbers."""

    caption: str
    rows: Sequence[Mapping[str, str]]
    texts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Part:
    """A heading, sentences, pictures, then tables."""

    title: str
    sentences: Sequence[str]
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = field(default=())


@dataclass(frozen=True)
class NextStep:
    """What a command would add to the report."""

    command: str
    adds: str


def judged_parts(evidence: Evidence) -> list[Part]:
    """Return the parts for which there is evidence, the most telling first."""
    parts = (
        scorecard_part(evidence),
        stability_part(evidence),
        certificate_part(evidence),
    )
    return [part for part in parts if part is not None]


def research_parts(evidence: Evidence) -> list[Part]:
    """Return what is there for researchers."""
    parts = (comparison_part(evidence), selection_part(evidence))
    return [part for part in parts if part is not None]


def next_steps(evidence: Evidence) -> list[NextStep]:
    """Return the verbs whose part is missing, or tells of other segments."""
    is_certified = bool(evidence.published.verdict["is_certified"])
    stable = stability_part(evidence)
    wanted = (
        ("profile", evidence.judged("profiles") is None, _PROFILE),
        ("scorecard", scorecard_part(evidence) is None, _SCORECARD),
        ("certify", not is_certified, _CERTIFY),
        ("stability", stable is None and is_certified, _STABILITY),
        ("compare", comparison_part(evidence) is None, _COMPARE),
        ("select", selection_part(evidence) is None, _SELECT),
    )
    return [
        NextStep(evidence.command(verb), adds)
        for verb, is_wanted, adds in wanted
        if is_wanted
    ]


_PROFILE = (
    "differences tested on later months, monthly curves, typical shops and plain rules "
    "for every segment"
)
_SCORECARD = "what earlier segments told of the months that came after them"
_CERTIFY = (
    "the certified verdict: the whole model learnt anew on data without groups and on "
    "other samples of the shops, and how well each segment comes back. Takes minutes, "
    "and can be interrupted (`stability` gives the second part alone)"
)
_STABILITY = "how well each of these segments comes back"
_COMPARE = "other spaces and clusterers on the same shops (for researchers)"
_SELECT = "a search for better options of the clustering (for researchers)"


def scorecard_part(evidence: Evidence) -> Part | None:
    """Return what frozen segments told of the months after."""
    facts, table = evidence.judged("scorecard"), evidence.table("scorecard.csv")
    if facts is None or table is None:
        return None
    lines = scorecard_lines(table, facts["horizon_months"], facts["cuts"])
    criterion = evidence.manifest.facts("clustering")["partition"]["criterion"]
    lines += choice_remark(facts["labels"], criterion)
    return Part(
        "Do the segments tell what shops do next?",
        lines,
        _pictures(
            evidence,
            "scorecard.png",
            "What size alone and segments explain of the months after",
            "Bars: share of the variance of each outcome explained by size and by "
            "labels. Lines: how what labels add fades by month.",
        ),
        [
            Table(
                "What labels add to size alone, in percentage points of explained "
                "variance, averaged over the looks back; p against labels dealt out "
                "by lot.",
                [_scorecard_row(row) for row in scorecard_rows(table)],
                frozenset({"labels", "outcome"}),
            )
        ],
    )


# Hennig (2007): from here on a cluster is stable.
_STABLE = 0.75


def _scorecard_row(row: Mapping[str, str]) -> dict[str, str]:
    """Say the labels' full name, and which of them are published."""
    name = row["labels"]
    title = TITLES[name.rstrip("*")] + (" (published)" if name.endswith("*") else "")
    outcome = "on average" if row["outcome"] == ALL else row["outcome"]
    return {**row, "labels": title, "outcome": outcome}


_HOW = {
    "subsample": "on four fifths of the shops",
    "bootstrap": "on shops drawn with replacement",
    "seed": "with another seed",
    "partition": "on four fifths of the shops",
}


def stability_part(evidence: Evidence) -> Part | None:
    """Return how well each published segment comes back."""
    table = evidence.table("stability.csv")
    own = None if table is None else table.filter(kind=evidence.published.kind)
    if own is None or own.is_empty():
        return None
    same = evidence.judged("stability")
    if same is None:
        agreement = evidence.facts.get("certificate", {}).get("agreement", {})
        same = agreement.get("partition")
    sentences = [] if same is None else [_agreement(same, evidence.published.kind)]
    n_stable = int((own["jaccard"] >= _STABLE).sum())
    sentences.append(
        f"Taken one by one, {n_stable} of {own.height} segments are stable or better."
    )
    sentences.append(
        "A convenient cut can come back, too, so this is no proof of groups: the "
        "verdict above weighs both."
    )
    return Part(
        "Do the segments come back?",
        sentences,
        tables=[
            Table(
                "Shops that a segment and its best match among the refits have in "
                "common, over all shops in either (Hennig's clusterwise Jaccard): from "
                "0.85 on highly stable, from 0.75 stable, from 0.6 a pattern whose "
                "borders blur, below it dissolves.",
                [_stability_row(row, evidence.titles) for row in own.to_dicts()],
                frozenset({"segment", "in words"}),
            )
        ],
    )


def _stability_row(row: Mapping[str, Any], titles: Mapping[int, str]) -> dict[str, str]:
    """Return one segment's stability as text."""
    shown = {
        "segment": titles.get(row["segment"], str(row["segment"])),
        "in words": row["verdict"],
        "shops": f"{row['size']:,}",
        "Jaccard": decimal(row["jaccard"]),
        "lowest": decimal(row["lowest_jaccard"]),
    }
    if row.get("seed_jaccard") is not None:
        shown["other seed"] = decimal(row["seed_jaccard"])
    if row.get("null_p") is not None:
        shown["p against nulls"] = f"{row['null_p']:.2g}"
    return shown


def _agreement(same: Mapping[str, Any], kind: str) -> str:
    """Say how far refits agree with the model."""
    how = _HOW[same.get("how", "partition")]
    what = "The whole model was" if kind == "density" else "Scaler and partition were"
    noise = " with the unassigned as a group" if kind == "density" else ""
    held = same.get("ari_held_out")
    unseen = "" if held is None else f"; {decimal(held)} over shops they had not seen"
    return (
        f"{what} learnt anew {same['n_refits']} times {how}. The refits agree with "
        f"the published segments at {decimal(same['ari'])}{noise} (adjusted Rand "
        f"index: 1 is the same, 0 is chance){unseen}."
    )


def certificate_part(evidence: Evidence) -> Part | None:
    """Return what the whole pipeline finds in data without structure."""
    found = evidence.facts.get("certificate")
    if found is None:
        return None
    structure = found["structure"]
    clusters, n_null = structure["clusters"], structure["n_null"]
    early = ""
    if structure["is_stopped_early"]:
        early = f" (stopped early of {structure['n_null_planned']})"
    sentences = [
        f"Everything was learnt anew on {n_null} data sets{early} that keep every "
        "feature's distribution, ties and gaps included, and the rank correlations, "
        "but hold no groups. The structure score is coverage "
        "\N{MULTIPLICATION SIGN} ln(effective clusters). Demanded are a p of at most "
        f"0.05 and a lead of {decimal(structure['required_excess'])} over the best of "
        f"them; found are {probability(structure['p_value'], n_null)}, and a lead of "
        f"{decimal(structure['excess'])}.",
        f"Found in these shops ({structure['n_rows']:,} of them): "
        f"{plural(clusters['n_clusters'], 'cluster')}, "
        f"{percent(clusters['noise_ratio'])} noise, "
        f"{decimal(clusters['effective_clusters'])} effective clusters, "
        f"{percent(clusters['largest_share'])} of the clustered shops in the largest.",
    ]
    if structure["segments"]:
        passed = sum(s["p_value"] <= 0.05 for s in structure["segments"])
        sentences.append(
            f"{passed} of {len(structure['segments'])} clusters also stand out by "
            "themselves from the best cluster of every null (max-T, p at most 0.05)."
        )
    picture = _pictures(
        evidence,
        "null-distribution.png",
        "These shops, and data without groups",
        "Structure score of every data set without groups, and of these shops.",
    )
    return Part("More than chance gives?", sentences, picture)


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
        "Only figures that hold across spaces: distances and densities of different "
        "spaces cannot be compared.",
        comparison_table(table),
        frozenset({"recipe"}),
    )
    return Part(
        "For researchers: spaces and clusterers",
        comparison_lines(table),
        picture,
        [rows],
    )


def selection_part(evidence: Evidence) -> Part | None:
    """Return what a search of the clustering's options has shown."""
    found = evidence.facts.get("selection")
    if found is None:
        return None
    chosen, standing = found["chosen"], found["standing"]
    if not found["is_beyond_null"]:
        says = (
            "No options find clearly more than the best of them do in data without "
            "structure, so the options of this run were kept."
        )
    elif chosen["is_standing"]:
        says = "The options of this run are within one standard error of the best."
    else:
        says = (
            f"Better options than those of this run ({_options(standing)}) were found: "
            f"{_options(chosen)}. This report tells of the options of the run."
        )
    return Part(
        "For researchers: options of the clustering",
        [
            "Options were compared by refit agreement, coverage and effective "
            "clusters, less what data without structure reaches. " + says
        ],
    )


def _options(row: Mapping[str, Any]) -> str:
    """Name the options of a row of the search, with what they reach."""
    names = ("min_cluster_size", "min_samples", "selection_method", "latent_size")
    said = ", ".join(f"{name} {row[name]}" for name in names)
    return f"{said}: {decimal(row['criterion'])}"


def _pictures(
    evidence: Evidence, name: str, title: str, alt: str
) -> tuple[Picture, ...]:
    """Return a picture, unless its file is gone."""
    path = evidence.file(name)
    return () if path is None else (Picture(title, path, alt),)
