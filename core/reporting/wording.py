"""The report's sentences, as pure functions of plain figures.

A noise ratio is never put into words without the effective number of clusters and the
largest share in the same breath.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

Figures = Mapping[str, Any]
Level = Literal["structure", "hollow", "none", "unchecked", "empty"]

MISSING = "\N{EN DASH}"
# From here on one cluster is the bulk, and the others are what breaks away from it.
_BULK_SHARE = 0.8
_CLEAR_EFFECT = 0.5
_FEATURES_SHOWN = (3, 5)
_SIZES_SHOWN = 12


@dataclass(frozen=True)
class Verdict:
    """How far to trust the clusters: a level, a headline and the reasons."""

    level: Level
    badge: str
    headline: str
    reasons: tuple[str, ...]


def count(value: float | None) -> str:
    """Return a whole number with thousands separators.

    >>> count(4310)
    '4,310'
    """
    return MISSING if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal.

    >>> percent(0.8199)
    '82.0%'
    """
    return MISSING if value is None else f"{value:.1%}"


def decimal(value: float | None) -> str:
    """Return a figure with two decimals and a true minus sign.

    >>> decimal(1.062)
    '1.06'
    """
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value:,.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "\N{MINUS SIGN}")


def size_list(text: str) -> str:
    """Return the comparison's sizes for readers, the first dozen.

    >>> size_list("4120|96")
    '4,120, 96'
    """
    sizes = [int(size) for size in text.split("|") if size]
    shown = ", ".join(count(size) for size in sizes[:_SIZES_SHOWN])
    rest = len(sizes) - _SIZES_SHOWN
    return (f"{shown} and {rest:,} more" if rest > 0 else shown) or MISSING


def plural(n: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "cluster"), plural(1200, "shop")
    ('1 cluster', '1,200 shops')
    """
    return f"{count(n)} {noun}" if n == 1 else f"{count(n)} {noun}s"


def finding(row: Figures) -> str:
    """Say what was found in one space: a row of the comparison.

    >>> row = {"clusters": 4, "n_shops": 4310, "noise_ratio": 0.18,
    ...        "effective_clusters": 3.62, "largest_share": 0.373}
    >>> finding(row)  # doctest: +NORMALIZE_WHITESPACE
    '4 clusters cover 82.0% of the 4,310 eligible shops. They are as diverse as 3.62
    clusters of equal size; the largest holds 37.3% of the clustered shops. The other
    18.0% of the shops are noise: not close enough to any group.'
    """
    shops = plural(row["n_shops"], "eligible shop")
    if not row["clusters"]:
        return (
            f"No cluster was found: all of the {shops} are noise (0 effective "
            "clusters, no largest one)."
        )
    verb = "covers" if row["clusters"] == 1 else "cover"
    shape = (
        f"They are as diverse as {decimal(row['effective_clusters'])} clusters of "
        f"equal size; the largest holds {percent(row['largest_share'])} of the "
        "clustered shops."
    )
    if row["clusters"] == 1:
        shape = "It holds 100.0% of the clustered shops (1.00 effective clusters)."
    noise = row["noise_ratio"]
    rest = "No shop is noise."
    if noise > 0:
        rest = (
            f"The other {percent(noise)} of the shops are noise: not close enough to "
            "any group."
        )
    return (
        f"{plural(row['clusters'], 'cluster')} {verb} {percent(1 - noise)} of the "
        f"{shops}. {shape} {rest}"
    )


def caution(row: Figures) -> str:
    """Warn of clusters that divide little; an empty text where they do divide."""
    companions = (
        f"noise {percent(row['noise_ratio'])}, effective clusters "
        f"{decimal(row['effective_clusters'])}, largest share "
        f"{percent(row['largest_share'])}"
    )
    if row["clusters"] == 1:
        return f"Take care: a single cluster tells no groups apart ({companions})."
    if row["clusters"] and row["largest_share"] >= _BULK_SHARE:
        return (
            "Take care: this is one bulk with small groups beside it, whatever the "
            f"number of clusters ({companions})."
        )
    if row["clusters"] and row["noise_ratio"] > 0.5:
        return f"Take care: most shops belong to no cluster ({companions})."
    return ""


def verdict(row: Figures, check: Figures | None) -> Verdict:
    """Judge the published clusters by the structure check.

    Parameters
    ----------
    row : mapping
        The published space's row of the comparison.
    check : mapping or None
        `core.evaluation.null.StructureCheck.as_dict`; ``None`` if it was not made.
    """
    reasons = [finding(row)]
    if check is not None:
        reasons.append(check_sentence(check))
    if not row["clusters"]:
        advice = "Simple rules on volume, trend and activity will serve better."
        if check is not None and check["is_structured"]:
            advice = (
                "The features do hold density structure that this space does not "
                "show: compare the other space, or lower `min_cluster_size`."
            )
        headline = "No clusters: these shops form no groups that stand apart"
        return Verdict("empty", "No clusters", headline, (*reasons, advice))
    if check is None:
        reasons.append(
            "Whether structureless data would give clusters like these was not "
            "checked, and clustering finds clusters in such data, too."
        )
        headline = f"{plural(row['clusters'], 'cluster')}, not yet checked"
        return Verdict("unchecked", "Not checked", headline, tuple(reasons))
    if not check["is_structured"]:
        reasons.append(
            "Treat the clusters as a description, not as natural groups: another "
            "sample may well cut the shops elsewhere."
        )
        headline = "No density structure beyond what data without structure shows"
        return Verdict("none", "No structure found", headline, tuple(reasons))
    warning = caution(row)
    if warning:
        headline = "The data holds groups, but these clusters hardly show them"
        return Verdict(
            "hollow", "Clusters divide little", headline, (*reasons, warning)
        )
    reasons.append(
        "So groups of alike shops do exist. That each of these clusters is one of them "
        "is not shown by this check."
    )
    headline = f"{plural(row['clusters'], 'cluster')} in data that does hold groups"
    return Verdict("structure", "Structure found", headline, tuple(reasons))


def check_sentence(check: Figures) -> str:
    """Set the data's structure score beside those of data without structure."""
    nulls = check["null_statistics"]
    reach = decimal(max(nulls))
    score = decimal(check["statistic"])
    close = "" if check["is_structured"] else _why_not(check)
    return (
        f"Whether there are groups at all was checked apart, by clustering the leading "
        f"principal components: {len(nulls)} made-up tables, which keep every "
        f"feature's distribution and correlations but hold no groups, reach a "
        f"structure score of {reach} at most, against {score} here "
        f"(p = {decimal(check['p_value'])}){close}."
    )


def _why_not(check: Figures) -> str:
    """Say which of the two conditions failed."""
    if check["excess"] <= 0:
        return ": no more than chance gives"
    return (
        f": a lead of {decimal(check['excess'])}, where "
        f"{decimal(check['required_excess'])} is asked for"
    )


def comparison_reading(rows: Sequence[Figures], titles: Mapping[str, str]) -> str:
    """Read the comparison of the spaces in plain words."""
    parts = [
        f"{titles.get(row['space'], row['space'])}: {short_finding(row)}."
        for row in rows
    ]
    agreements = [row["agreement_ami"] for row in rows if len(rows) == 2]
    if agreements and agreements[0] is not None:
        parts.append(
            f"The two {_agreement_word(agreements[0])} on who belongs together "
            f"(AMI {decimal(agreements[0])}; 0 is chance, 1 the same groups)."
        )
    return " ".join(parts)


def short_finding(row: Figures) -> str:
    """Say what was found in half a sentence, companions included."""
    if not row["clusters"]:
        return "no cluster, every shop is noise"
    return (
        f"{plural(row['clusters'], 'cluster')}, {percent(row['noise_ratio'])} noise, "
        f"{decimal(row['effective_clusters'])} effective clusters, "
        f"{percent(row['largest_share'])} of the clustered shops in the largest"
    )


def _agreement_word(ami: float) -> str:
    """Put an adjusted mutual information into a verb."""
    for bound, word in ((0.8, "largely agree"), (0.5, "agree in part")):
        if ami >= bound:
            return word
    return "agree little" if ami >= 0.1 else "do not agree"


def strongest_features(contrasts: pl.DataFrame, cluster: int) -> list[tuple[str, str]]:
    """Return the 3 to 5 features that set a cluster apart most, and by how much.

    Beyond the first three, a feature is named only if its median differs by at least
    half a robust standard deviation. Features without any difference are not named.

    Returns
    -------
    list of (feature, words)
        Such as ``("trend", "higher, +1.62")``; the largest difference first.
    """
    own = (
        contrasts.filter((pl.col("cluster") == cluster) & pl.col("effect").abs().gt(0))
        .sort(pl.col("effect").abs(), descending=True, maintain_order=True)
        .head(_FEATURES_SHOWN[1])
    )
    named = []
    for place, row in enumerate(own.iter_rows(named=True)):
        if place < _FEATURES_SHOWN[0] or abs(row["effect"]) >= _CLEAR_EFFECT:
            word, sign = ("higher", "+") if row["effect"] > 0 else ("lower", "")
            named.append((row["feature"], f"{word}, {sign}{decimal(row['effect'])}"))
    return named
