"""The report of a run: one self-contained HTML file, the finding first.

Pictures are inlined, there is no script and no address to fetch anything from, and
whatever comes from the user's data is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from core.reporting import wording
from core.reporting.cards import Card, Difference, differences
from core.reporting.opening import Opening, null_strip
from core.reporting.parts import NextStep, Part, Picture
from core.reporting.templating import rendered
from core.reporting.wording import count, decimal, percent

NOISE = -1
_CLUSTERS_SHOWN = 40
_MEASURES: tuple[tuple[str, str, str, Callable[[Any], str]], ...] = (
    ("Clusters", "groups found; noise is not one", "clusters", count),
    (
        "Effective clusters",
        "exp(entropy of the sizes): how many equal clusters would be as diverse",
        "effective_clusters",
        decimal,
    ),
    (
        "Largest share",
        "of the clustered shops, in the largest cluster",
        "largest_share",
        percent,
    ),
    (
        "Noise ratio",
        "shops in no cluster; says nothing without the two lines above",
        "noise_ratio",
        percent,
    ),
    ("Sizes", "shops per cluster, largest first", "sizes", wording.size_list),
    (
        "Structure score",
        "coverage \N{MULTIPLICATION SIGN} ln(effective clusters); 0 is nothing",
        "structure_score",
        decimal,
    ),
    (
        "Explained variance",
        "of the same scaled features by the clusters, chance taken off; more "
        "clusters explain more",
        "explained_variance",
        percent,
    ),
    (
        "Agreement (AMI)",
        "with the other space, noise as a group; 0 is chance, 1 the same",
        "agreement_ami",
        decimal,
    ),
    ("Agreement (ARI)", "the same, by pairs of shops", "agreement_ari", decimal),
    (
        "Mean strength",
        "of the clustered shops within their own cluster; no measure of quality",
        "mean_strength",
        decimal,
    ),
)


@dataclass(frozen=True)
class Step:
    """One line of the data's way.

    Attributes
    ----------
    label : str
        Such as ``"rows read"`` or ``"no `shop_id`"``.
    count : int
    unit : str
        ``"rows"`` or ``"shops"``.
    is_loss : bool
        Whether these were set aside, and not what went on.
    note : str
        A remark, such as the first faulty row.
    """

    label: str
    count: int
    unit: str
    is_loss: bool = False
    note: str = ""


@dataclass(frozen=True)
class Spaces:
    """The clusters that HDBSCAN finds in each space, for researchers.

    Attributes
    ----------
    titles : mapping of str to str
        Space to its title in words, such as ``{"latent": "Latent space"}``.
    comparison : polars.DataFrame
        `core.evaluation.quality.compare_spaces`.
    insights : polars.DataFrame
        `core.segments.profiles.cluster_insights`, of which ``space``, ``cluster``,
        ``size`` and ``share`` are read.
    contrasts : mapping of str to polars.DataFrame
        Space to its `core.segments.profiles.cluster_contrasts`; the clusters of these
        spaces are listed (those of others have their cards).
    pictures : sequence of Picture
    """

    titles: Mapping[str, str]
    comparison: pl.DataFrame
    insights: pl.DataFrame
    contrasts: Mapping[str, pl.DataFrame]
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class ReportContent:
    """All that the report tells, as plain data.

    Attributes
    ----------
    title : str
        Of the page.
    source : str
        Where the rows came from, as the user would name it.
    created : str
        When, as text; given from outside so that equal runs give equal files.
    as_of : str
        Last month looked at, YYYY-MM.
    opening : Opening
        The verdict in words.
    tiles : sequence of (str, str)
        What each figure beside it is, and the figure.
    check : mapping or None
        The comparison with data without structure that it rests on, as a dict.
    cards : sequence of Card
        The published segments.
    reading : sequence of str
        How to read the cards, and what their words rest on.
    notes : sequence of str
        Below the cards: what they leave out.
    pictures : sequence of Picture
        Of the published segments.
    parts, research : sequence of Part
        What the judging verbs have added, for everyone and for researchers.
    next_steps : sequence of NextStep
        The verbs that would add something.
    spaces : Spaces
    steps : sequence of Step
        The data's way, in order.
    limits : sequence of str
        What the report does not say.
    made : mapping of str to mapping
        How it was made, by group: ``{"Run": {"seed": 42}, "Versions": {...}}``.
    config : str
        The resolved configuration as YAML.
    """

    title: str
    source: str
    created: str
    as_of: str
    opening: Opening
    tiles: Sequence[tuple[str, str]]
    check: Mapping[str, Any] | None
    cards: Sequence[Card]
    reading: Sequence[str]
    notes: Sequence[str]
    pictures: Sequence[Picture]
    parts: Sequence[Part]
    research: Sequence[Part]
    next_steps: Sequence[NextStep]
    spaces: Spaces
    steps: Sequence[Step]
    limits: Sequence[str]
    made: Mapping[str, Mapping[str, Any]]
    config: str = ""


def write_report(content: ReportContent, path: Path) -> None:
    """Write the report as one HTML file (UTF-8) that needs nothing else.

    Raises
    ------
    ArtifactError
        If a picture cannot be read.
    """
    spaces = content.spaces
    rows = spaces.comparison.to_dicts()
    page = rendered(
        "report.html.j2",
        content=content,
        opening=content.opening,
        strip=null_strip(content.check),
        spaces=[spaces.titles.get(row["space"], row["space"]) for row in rows],
        measures=comparison_table(rows),
        reading=wording.comparison_reading(rows, spaces.titles),
        cluster_tables=[cluster_table(spaces, name) for name in spaces.contrasts],
    )
    path.write_text(page, encoding="utf-8", newline="\n")


def comparison_table(
    rows: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str, list[str]]]:
    """Return (measure, what it says, one text per space), companions together."""
    return [
        (name, says, [form(row[column]) for row in rows])
        for name, says, column, form in _MEASURES
    ]


def cluster_table(spaces: Spaces, space: str) -> dict[str, Any]:
    """Return one space's clusters with size, share and strongest differences."""
    own = spaces.insights.filter(pl.col("space") == space)
    contrasts = spaces.contrasts[space]
    lines = []
    for row in own.select("cluster", "size", "share").iter_rows(named=True):
        is_noise = row["cluster"] == NOISE
        told: list[Difference] = []
        if not is_noise:
            told = differences(contrasts.filter(cluster=row["cluster"]).to_dicts())
        lines.append({**row, "is_noise": is_noise, "differences": told})
    clusters = [line for line in lines if not line["is_noise"]]
    noise = [line for line in lines if line["is_noise"]]
    return {
        "title": spaces.titles.get(space, space),
        "lines": clusters[:_CLUSTERS_SHOWN] + noise,
        "n_hidden": max(len(clusters) - _CLUSTERS_SHOWN, 0),
        "n_clusters": len(clusters),
        "largest": max((line["share"] for line in lines), default=0.0),
    }
