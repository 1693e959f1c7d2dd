"""The report's sentences, as pure functions of plain figures.

A noise ratio is never put into words without the effective number of clusters and the
largest share in the same breath.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.segments.names import feature_label

Figures = Mapping[str, Any]

MISSING = "\N{EN DASH}"
# From here on one segment is the bulk, and the others are what breaks away from it.
_BULK_SHARE = 0.8
_SIZES_SHOWN = 12


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


def probability(p: float, n_nulls: int) -> str:
    """Return a p-value, not to be broken, and whether few nulls allow no smaller one.

    >>> probability(0.05, 19).split("=")[1].strip()
    '0.05, the smallest that 19 can give'
    """
    text = f"p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{p:.2g}"
    is_smallest = math.isclose(p, 1 / (n_nulls + 1))
    return f"{text}, the smallest that {n_nulls} can give" if is_smallest else text


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


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    >>> listed(["June", "July", "August"])
    'June, July and August'
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def finding(summary: Figures, kind: str) -> str:
    """Say how the published segments divide the shops.

    Parameters
    ----------
    summary : mapping
        `core.evaluation.quality.LabelSummary` of the published segments, as a dict.
    kind : {'density', 'partition'}

    >>> summary = {"n_clusters": 4, "n_shops": 4310, "noise_ratio": 0.18,
    ...            "effective_clusters": 3.62, "largest_share": 0.373}
    >>> finding(summary, "density")  # doctest: +NORMALIZE_WHITESPACE
    '4 segments hold 82.0% of the 4,310 eligible shops. They are as diverse as 3.62
    segments of equal size; the largest holds 37.3% of the assigned shops. The other
    18.0% of the shops are unassigned: not close enough to any segment.'
    """
    n, noise = summary["n_clusters"], summary["noise_ratio"]
    shops = plural(summary["n_shops"], "eligible shop")
    shape = (
        f"They are as diverse as {decimal(summary['effective_clusters'])} segments of "
        f"equal size; the largest holds {percent(summary['largest_share'])} of the "
    )
    if kind == "partition":
        if n == 1:
            return f"All of the {shops} are in one segment: nothing tells them apart."
        return (
            f"{count(n)} segments share out all of the {shops}. "
            f"{shape}shops. No shop is left out, which is how a partition is made."
        )
    rest = "No shop is unassigned."
    if noise > 0:
        rest = (
            f"The other {percent(noise)} of the shops are unassigned: not close enough "
            "to any segment."
        )
    return (
        f"{count(n)} segments hold {percent(1 - noise)} of the {shops}. "
        f"{shape}assigned shops. {rest}"
    )


def caution(summary: Figures) -> str:
    """Warn of segments that divide little; an empty text where they do divide."""
    companions = (
        f"{percent(summary['noise_ratio'])} unassigned, "
        f"{decimal(summary['effective_clusters'])} effective segments, "
        f"{percent(summary['largest_share'])} in the largest"
    )
    if summary["n_clusters"] > 1 and summary["largest_share"] >= _BULK_SHARE:
        return (
            "Take care: this is one bulk with small groups beside it, whatever the "
            f"number of segments ({companions})."
        )
    if summary["n_clusters"] and summary["noise_ratio"] > 0.5:
        return f"Take care: most shops belong to no segment ({companions})."
    return ""


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


def difference(row: Figures) -> str:
    """Say in the feature's own unit how a segment differs from the other shops.

    Parameters
    ----------
    row : mapping
        ``feature``, ``median``, ``rest_median`` and ``effect``.

    >>> difference({"feature": "assortment_breadth", "median": 2.0,
    ...             "rest_median": 1.0, "effect": 1.4})
    'assortment 7.39 products a month (others 2.72)'
    """
    words = feature_label(row["feature"])
    own, rest = words.numbers(row["median"], row["rest_median"])
    if own == rest:
        side = "higher" if row["effect"] > 0 else "lower"
        return f"{words.name} {side} in the ranks"
    return f"{words.name} {own}{words.suffix} (others {rest})"


def command(verb: str, folder: str) -> str:
    """Return the command that runs a verb on a folder of artifacts."""
    if folder == "artifacts":
        return f"python -m core {verb}"
    shown = f'"{folder}"' if " " in folder else folder
    return f"python -m core {verb} --artifacts {shown}"
