"""What the certificate has found: in a picture, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.reporting.canvas import COLOURS, FAINT_INK, INK, footnote, picture
from core.reporting.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HIGHEST = 4


def plot_nulls(certificate: Mapping[str, Any], path: Path) -> None:
    """Draw the structure score of every null, and where the data's lies.

    Parameters
    ----------
    certificate : mapping
        As `core.evaluation.certificate.Certificate.as_dict` returns it.
    path : Path
        PNG to write.
    """
    score = certificate["statistic"]
    nulls = sorted(certificate["null_statistics"])
    needed = max(nulls) + certificate["required_excess"]
    right = 1.08 * max(score, needed, 0.2)
    width = right / 50
    with picture(path, (7.4, 3.4)) as figure:
        axes = figure.subplots()
        tops = _stack(axes, nulls, width)
        axes.axvspan(max(nulls), needed, color="#F1F3F5", zorder=-2)
        colour = COLOURS[2] if certificate["is_structured"] else COLOURS[1]
        axes.axvline(score, color=colour, lw=2.4)
        highest = max(_HIGHEST, max(tops) + 1)
        is_left = score > right / 2
        axes.annotate(
            f"this data: {score:.2f}",
            (score, highest * 0.94),
            xytext=(-8 if is_left else 8, 0),
            textcoords="offset points",
            ha="right" if is_left else "left",
            color=INK,
            weight="bold",
        )
        axes.set_ylim(0, highest)
        axes.set_xlim(-width, right)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("structure score: coverage x ln(effective clusters)")
        axes.set_title(_title(certificate))
        footnote(
            figure,
            f"Dots: {len(nulls)} data sets without structure, learnt from anew like "
            "the data. Grey band: the margin that is demanded.",
        )


def _stack(axes: Axes, values: list[float], width: float) -> list[float]:
    """Draw values as dots, those of one place above each other; return the heights."""
    heights: dict[int, int] = {}
    tops = []
    for value in values:
        place = round(value / width)
        heights[place] = heights.get(place, 0) + 1
        tops.append(heights[place] - 0.4)
        axes.plot([value], [tops[-1]], "o", color=FAINT_INK, ms=8, mew=0)
    return tops or [0.0]


def _title(certificate: Mapping[str, Any]) -> str:
    if certificate["is_structured"]:
        return "More structure than data without any shows"
    return "No more structure than data without any shows"


def certificate_lines(found: Mapping[str, Any]) -> list[str]:
    """Say what nulls and refits have shown.

    Parameters
    ----------
    found : mapping
        Content of ``certificate.json``.
    """
    structure = found["structure"]
    clusters, n_null = structure["clusters"], f"{structure['n_null']} data sets"
    if structure["is_stopped_early"]:
        n_null += f" (stopped early of {structure['n_null_planned']})"
    lines = [
        f"Structure score {structure['statistic']:.2f}: {clusters['n_clusters']} "
        f"clusters, effectively {clusters['effective_clusters']:.1f}, "
        f"the largest with {percent(clusters['largest_share'])} of the clustered "
        f"shops, {clusters['noise_ratio']:.0%} noise. In {n_null} without structure "
        f"at most {max(structure['null_statistics']):.2f}: p = "
        f"{structure['p_value']:.2g}, and {structure['excess']:+.2f} of the "
        f"{structure['required_excess']:.2f} demanded beyond.",
    ]
    passed = [s["cluster"] for s in structure["segments"] if s["p_value"] <= 0.05]
    if structure["segments"]:
        lines.append(
            f"By itself, {len(passed)} of {len(structure['segments'])} clusters stand "
            "out from the best cluster of every null."
        )
    lines += [_agreement_line(how, same) for how, same in found["agreement"].items()]
    return lines


_WAYS = {
    "subsample": "Everything learnt anew on 80% of the shops",
    "seed": "Learnt anew with another seed",
    "partition": "The partition learnt anew on 80% of the shops",
}


def _agreement_line(how: str, same: Mapping[str, Any]) -> str:
    """Say how far the refits of one way agree with the model."""
    held_out = same["ari_held_out"]
    unseen = "" if held_out is None else f", {held_out:.2f} over shops left out"
    clustered = same["ari_clustered"]
    without = (
        ""
        if clustered is None or how == "partition"
        else f", {clustered:.2f} without noise"
    )
    return (
        f"{_WAYS.get(how, how)}, {same['n_refits']} times: ARI {same['ari']:.2f}"
        f"{without}{unseen}."
    )
