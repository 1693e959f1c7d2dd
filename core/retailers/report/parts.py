"""Parts of the report: a card per segment, and what each judging verb adds.

After a run alone a card has name, size and differences, which only describe. After
``profile`` it has tested differences, typical shops, months and rules as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from core.evaluation.scorecard import ALL
from core.reporting.page import NextStep, Part, Picture, Table
from core.reporting.text import count, decimal, enumerated, percent
from core.retailers.names import SEASON, difference, feature_label
from core.retailers.report import plots
from core.retailers.report.evidence import Evidence, report_line, report_lines
from core.retailers.report.scorecard_words import (
    OUTCOME_TITLES,
    choice_remark,
    scorecard_answers,
    scorecard_lines,
    scorecard_rows,
)
from core.segments.published import UNASSIGNED

CARDS = 24
_CLEAR_EFFECT = 0.5
_DIFFERENCES = (3, 5)
# What `profile` holds a difference for: false discoveries at most that share.
_ERROR_RATE = 0.05


@dataclass(frozen=True)
class Difference:
    """What sets a segment apart, in words, and whether later months say so, too.

    Attributes
    ----------
    text : str
    standing : str
        ``confirmed``, ``partly confirmed``, ``not confirmed`` or ``not tested``; empty
        where none of the segment's was tested.
    """

    text: str
    standing: str


@dataclass(frozen=True)
class Curve:
    """Months as a picture of 320 x 96 units.

    Attributes
    ----------
    line, band : str
        Points of the mean, and of the area of the middle half of the shops.
    average : float
        Height of a shop's own average month.
    ticks : list of (float, str)
        Places of Januaries, and their years.
    words : str
        The same for who cannot see it.
    """

    line: str
    band: str
    average: float
    ticks: list[tuple[float, str]]
    words: str


@dataclass(frozen=True)
class Card:
    """One published segment.

    Attributes
    ----------
    title : str
        Number and name.
    size : int
        Shops of the training data; `share` of all of them, 0 to 1.
    differences : list of Difference
        The clearest first.
    members : list of str
        The most typical ones, the most typical first.
    rules : list of str
        Plain rules that imitate the segment, the widest first; of a segment by rules
        the rule itself.
    curve : Curve or None
    stability : str
        How well it comes back, in Hennig's words; empty where not measured.
    """

    title: str
    size: int
    share: float
    differences: list[Difference]
    members: list[str]
    rules: list[str]
    curve: Curve | None
    stability: str


def segment_cards(evidence: Evidence, contrasts: pl.DataFrame) -> list[Card]:
    """Return a card for each of the 24 largest published segments, the largest first.

    Parameters
    ----------
    evidence : Evidence
    contrasts : DataFrame
        `core.segments.profiles.cluster_contrasts` of the published segments.
    """
    profiles = evidence.judged("profiles")
    curves, shops, rules = _tables(evidence) if profiles else (None, None, None)
    if evidence.published.kind == "rules":
        rules = evidence.table("segment_rules.csv")
    stable = _stability_words(evidence)
    segments = [s for s in evidence.published.segments if s.id != UNASSIGNED]
    segments.sort(key=lambda segment: (-segment.size, segment.id))
    return [
        Card(
            title=evidence.titles[segment.id],
            size=segment.size,
            share=segment.share,
            differences=differences(
                profiles["strongest"].get(str(segment.id), [])
                if profiles
                else contrasts.filter(cluster=segment.id).to_dicts()
            ),
            members=_shops_of(shops, segment.id),
            rules=[] if rules is None else rule_texts(rules, segment.id),
            curve=None if curves is None else curve_of(curves, segment.id),
            stability=stable.get(segment.id, ""),
        )
        for segment in segments[:CARDS]
    ]


def differences(rows: Sequence[Mapping[str, Any]], digits: int = 3) -> list[Difference]:
    """Put the 3 to 5 features that set a segment apart most into words.

    Beyond the first three, a feature is named only if its median differs by at least
    half a robust standard deviation. Months that differ to one side are told together.

    Parameters
    ----------
    rows : sequence of mapping
        ``feature``, ``median``, ``rest_median``, ``effect`` and, where it was tested,
        ``later_effect`` and ``adjusted_p``.
    digits : int
        Significant digits of the figures.
    """
    known = [row for row in rows if row["effect"] and row["median"] is not None]
    known.sort(key=lambda row: -abs(row["effect"]))
    least, most = _DIFFERENCES
    kept = [
        row
        for place, row in enumerate(known[:most])
        if place < least or abs(row["effect"]) >= _CLEAR_EFFECT
    ]
    told: dict[Any, list[Mapping[str, Any]]] = {}
    for row in kept:
        is_month = row["feature"].startswith(SEASON)
        told.setdefault(row["effect"] > 0 if is_month else row["feature"], []).append(
            row
        )
    is_tested = any(row.get("adjusted_p") is not None for row in kept)
    return [
        Difference(
            difference(part[0], digits)
            if len(part) == 1
            else _months_text(part, digits),
            _standing(part) if is_tested else "",
        )
        for part in told.values()
    ]


def _months_text(rows: Sequence[Mapping[str, Any]], digits: int) -> str:
    """Tell several months at once, in the order of the year."""
    ordered = sorted(rows, key=lambda row: int(row["feature"].removeprefix(SEASON)))
    names = [
        feature_label(row["feature"]).name.removesuffix(" level") for row in ordered
    ]
    suffix = feature_label(ordered[0]["feature"]).suffix
    own, rest = (_range(ordered, side, digits) for side in ("median", "rest_median"))
    return f"{enumerated(names)} {own}{suffix} (others {rest})"


def _range(rows: Sequence[Mapping[str, Any]], side: str, digits: int) -> str:
    """Return the lowest and the highest value of several months of one unit."""
    words = feature_label(rows[0]["feature"])
    values = [row[side] for row in rows if row[side] is not None]
    ends = min(values, default=None), max(values, default=None)
    low, high = words.numbers(*ends, least=digits)
    return low if low == high else f"{low} to {high}"


def _standing(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say whether later months confirm a difference."""
    tested = [row for row in rows if row.get("adjusted_p") is not None]
    if not tested:
        return "not tested"
    held = [
        row["adjusted_p"] <= _ERROR_RATE and row["later_effect"] * row["effect"] > 0
        for row in tested
    ]
    if all(held) and len(tested) == len(rows):
        return "confirmed"
    return "partly confirmed" if any(held) else "not confirmed"


def rule_texts(rules: pl.DataFrame, segment: int) -> list[str]:
    """Put the rules that name a segment into words.

    Parameters
    ----------
    rules : DataFrame
        As `core.rules.surrogate.rule_table` returns it, or with ``condition``.
    segment : int
    """
    if "condition" in rules.columns:  # what the segments are, not what imitates them
        return rules.filter(segment=segment)["condition"].to_list()
    own = rules.filter(segment=segment).group_by("rule", maintain_order=True)
    texts = []
    for _, conditions in own:
        rows = conditions.to_dicts()
        asked = [_condition(row) for row in rows if row["feature"] is not None]
        texts.append(
            f"{enumerated(asked) or 'every shop'}: {count(rows[0]['n_shops'])} shops, "
            f"{rows[0]['purity']:.0%} of them in this segment"
        )
    return texts


def _condition(row: Mapping[str, Any]) -> str:
    """Say what a rule asks of one feature."""
    words = feature_label(row["feature"])
    low, high = words.numbers(row["above"], row["up_to"])
    if row["above"] is None:
        return f"{words.name} up to {high}{words.suffix}"
    if row["up_to"] is None:
        return f"{words.name} above {low}{words.suffix}"
    return f"{words.name} above {low} and up to {high}{words.suffix}"


def curve_of(curves: pl.DataFrame, segment: int) -> Curve | None:
    """Lay out the months of one segment; all segments share the scale.

    Parameters
    ----------
    curves : DataFrame
        As `core.segments.profiles.monthly_curves` returns it.
    segment : int
    """
    own = curves.filter(segment=segment).sort("month")
    if own.height < 2:
        return None
    months = curves["month"].unique().sort().to_list()
    top = float(max(curves["mean"].max(), curves["high"].max(), 1.0))  # type: ignore[arg-type,type-var]  # not empty
    step = 320 / (len(months) - 1)
    across = {month: round(place * step, 1) for place, month in enumerate(months)}

    def points(column: str) -> list[str]:
        return [
            f"{across[month]},{_height(value, top)}"
            for month, value in own.select("month", column).iter_rows()
        ]

    best = own.row(own["mean"].arg_max() or 0, named=True)
    return Curve(
        line=" ".join(points("mean")),
        band=" ".join([*points("low"), *reversed(points("high"))]),
        average=_height(1.0, top),
        ticks=[(across[m], m[:4]) for m in months if m.endswith("-01")][:6],
        words=(
            f"Monthly sales from {months[0]} to {months[-1]}, highest in "
            f"{best['month']}: {percent(best['mean'])} of a shop's own average month."
        ),
    )


def _height(value: float, top: float) -> float:
    """Return where a value lies in a picture of 96 units, counted from its top."""
    return round(92 - 88 * value / top, 1)


def _tables(
    evidence: Evidence,
) -> tuple[pl.DataFrame | None, pl.DataFrame | None, pl.DataFrame | None]:
    """Return the tables that profiling has left: months, typical shops, rules."""
    return (
        evidence.table("segment_curves.csv", month=pl.String),
        evidence.table("segment_exemplars.csv", shop_id=pl.String),
        evidence.table("segment_rules.csv", above=pl.Float64, up_to=pl.Float64),
    )


def _shops_of(shops: pl.DataFrame | None, segment: int) -> list[str]:
    if shops is None:
        return []
    own = shops.filter(segment=segment).sort("place")
    return [str(shop) for shop in own["shop_id"]]


def _stability_words(evidence: Evidence) -> dict[int, str]:
    """Return how well each segment comes back, where that was measured."""
    table = evidence.table("stability.csv")
    if table is None:
        return {}
    own = table.filter(kind=evidence.published.kind)
    return dict(own.select("segment", "verdict").iter_rows())


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
    part = comparison_part(evidence)
    return [] if part is None else [part]


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
    """Return what segments and states told of the months after."""
    facts, table = evidence.judged("scorecard"), evidence.table("scorecard.csv")
    if facts is None:
        return None
    title = "Do the segments tell what shops do next?"
    lines = scorecard_lines(facts)
    if facts["why_not"] or table is None:
        return Part(title, lines)
    criterion = evidence.manifest.facts("clustering")["partition"]["criterion"]
    lines += choice_remark(facts["kind"], criterion)
    return Part(
        title,
        [*scorecard_answers(facts), *lines],
        _pictures(
            evidence,
            "scorecard.png",
            "What usual sales and segments explain of the months after",
            report_line("scorecard_alt"),
        )
        if facts["n_permutations"]
        else (),
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
        n_stable=int((own["jaccard"] >= _STABLE).sum()),
        n_segments=own.height,
    )
    return Part(
        "Do the segments come back?",
        sentences,
        tables=[
            Table(
                report_line("stability_table"),
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
