"""What a stage says when it is done: short sentences, and the closing table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from core.reporting.wording import difference


def eligibility_line(facts: Mapping[str, Any]) -> str:
    """Say how many shops are eligible, and why the others are not."""
    reasons = "; ".join(f"{n:,} {reason}" for reason, n in facts["exclusions"].items())
    line = f"{facts['n_eligible']:,} of {facts['n_shops']:,} shops are eligible"
    return f"{line} ({reasons})." if reasons else f"{line}."


def space_lines(spaces: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line per space; a noise ratio never stands alone."""
    lines = []
    for name, s in spaces.items():
        if s["n_clusters"] == 0:
            lines.append(f"{name} space: no cluster; every shop is noise.")
            continue
        lines.append(
            f"{name} space: {s['n_clusters']} clusters, effectively "
            f"{s['effective_clusters']:.1f}, the largest with {s['largest_share']:.0%} "
            f"of the clustered shops; {s['noise_ratio']:.1%} noise."
        )
    return lines


def closing_table(spaces: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the closing table: a row per space, the noise with its companions."""
    return [
        {
            "space": name,
            "shops": f"{s['n_shops']:,}",
            "clusters": str(s["n_clusters"]),
            "effective clusters": f"{s['effective_clusters']:.2f}",
            "largest share": f"{s['largest_share']:.1%}" if s["n_clusters"] else "-",
            "noise": f"{s['noise_ratio']:.1%}",
        }
        for name, s in spaces.items()
    ]


def inference_lines(facts: Mapping[str, Any], folder: Path) -> list[str]:
    """Say how many shops were labelled and where to look."""
    line = f"{facts['labelled']:,} shops labelled"
    if facts["not_eligible"]:
        line += f", {facts['not_eligible']:,} listed with the reason why not"
    return [f"{line}: {folder / 'cluster_predictions.csv'}"]


def stability_lines(stability: Mapping[str, Any]) -> list[str]:
    """Say how far refits agree, with and without noise."""
    clustered = stability["ari_clustered"]
    without = "none were clustered twice" if clustered is None else f"{clustered:.2f}"
    return [
        f"{stability['n_refits']} refits of everything ({stability['how']}) agree with "
        f"the model: ARI {stability['ari']:.2f}, AMI {stability['ami']:.2f} with noise "
        f"as a group; ARI {without} over shops that both put into a cluster.",
        "Noise agrees with noise and a convenient cut can come back, too: read this "
        "beside the report's verdict.",
    ]


def stability_table(segments: pl.DataFrame) -> list[dict[str, str]]:
    """Return the rows of ``stability.csv`` as text."""
    return [
        {
            "segment": str(row["segment"]),
            "shops": f"{row['size']:,}",
            "Jaccard": f"{row['jaccard']:.2f}",
            "lowest": f"{row['lowest_jaccard']:.2f}",
            "verdict": row["verdict"],
        }
        for row in segments.to_dicts()
    ]


def profile_lines(facts: Mapping[str, Any], names: Mapping[int, str]) -> list[str]:
    """Say what sets the segments apart, and what that rests on."""
    lines = []
    for segment, strongest in facts["strongest"].items():
        said = [difference(row) for row in strongest[:3]]
        lines.append(f"{names[int(segment)]}: {'; '.join(said) or 'nothing clear'}.")
    test = facts["test"]
    if test["why_not"] is not None:
        lines.append(
            f"Differences are descriptive only, not tested: {test['why_not']}."
        )
    else:
        lines.append(
            f"Tested on the {test['n_months']} months after {test['cut']}, on shops "
            f"that nothing was learnt from: {test['n_found_again']} of "
            f"{test['n_segments']} segments found again, {test['n_clear']} of "
            f"{test['n_comparisons']} differences hold (false discoveries at most 5%)."
        )
    surrogate = facts["surrogate"]
    if surrogate is not None and surrogate["accuracy"] is not None:
        lines.append(
            f"{surrogate['n_rules']} plain rules name the segment of "
            f"{surrogate['accuracy']:.0%} of the shops held out (the mean over "
            f"segments is {surrogate['balanced_accuracy']:.0%}); always naming the "
            f"largest would name {surrogate['largest_share']:.0%}."
        )
    return lines
