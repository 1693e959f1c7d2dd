"""The report of a run: one self-contained HTML file, the finding first.

Pictures are inlined, there is no script and no address to fetch anything from, and
whatever comes from the user's data is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from core.errors import ArtifactError
from core.reporting import wording
from core.reporting.wording import count, decimal, percent

NOISE = -1
_TEMPLATES = Path(__file__).parent / "templates"
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
class Picture:
    """A PNG file with its heading, a text for who cannot see it, and a caption."""

    title: str
    path: Path
    alt: str
    caption: str = ""


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
    published : str
        The space whose clusters open the report; one of those in `comparison`.
    spaces : mapping of str to str
        Space to its title in words, such as ``{"latent": "Latent space"}``.
    steps : sequence of Step
        The data's way, in order.
    comparison : polars.DataFrame
        `core.evaluation.quality.compare_spaces`.
    insights : polars.DataFrame
        `core.segments.profiles.cluster_insights`, of which ``space``, ``cluster``,
        ``size`` and ``share`` are read.
    contrasts : mapping of str to polars.DataFrame
        Space to its `core.segments.profiles.cluster_contrasts`.
    check : mapping or None
        `core.evaluation.null.StructureCheck.as_dict`; ``None`` if it was not made.
    pictures : sequence of Picture
    made : mapping of str to mapping
        How it was made, by group: ``{"Run": {"seed": 42}, "Versions": {...}}``.
    config : str
        The resolved configuration as YAML.
    feature_notes : mapping of str to str
        Feature to what it means, where known.
    """

    title: str
    source: str
    created: str
    as_of: str
    published: str
    spaces: Mapping[str, str]
    steps: Sequence[Step]
    comparison: pl.DataFrame
    insights: pl.DataFrame
    contrasts: Mapping[str, pl.DataFrame]
    check: Mapping[str, Any] | None
    pictures: Sequence[Picture]
    made: Mapping[str, Mapping[str, Any]]
    config: str = ""
    feature_notes: Mapping[str, str] = field(default_factory=dict)


def published_row(content: ReportContent) -> dict[str, Any]:
    """Return the published space's row of the comparison.

    Raises
    ------
    ArtifactError
        If it has none.
    """
    rows = {row["space"]: row for row in content.comparison.to_dicts()}
    if content.published not in rows:
        raise ArtifactError(
            f"the report is to open with the space `{content.published}`, but the "
            f"comparison holds {', '.join(f'`{name}`' for name in rows) or 'none'}."
        )
    return rows[content.published]


def content_verdict(content: ReportContent) -> wording.Verdict:
    """Return how far the published clusters can be trusted."""
    return wording.verdict(published_row(content), content.check)


def write_report(content: ReportContent, path: Path) -> None:
    """Write the report as one HTML file (UTF-8) that needs nothing else.

    Raises
    ------
    ArtifactError
        If a picture cannot be read, or `published` is not among the compared spaces.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "percent": percent, "decimal": decimal}
    rows = content.comparison.to_dicts()
    known = [row["space"] for row in rows]
    row = published_row(content)
    page = environment.get_template("report.html.j2").render(
        content=content,
        published=row,
        verdict=content_verdict(content),
        strip=null_strip(content.check),
        pictures=[(picture, _inlined(picture.path)) for picture in content.pictures],
        spaces=[content.spaces.get(name, name) for name in known],
        measures=comparison_table(rows),
        reading=wording.comparison_reading(rows, content.spaces),
        cluster_tables=[cluster_table(content, name) for name in known],
    )
    path.write_text(page, encoding="utf-8", newline="\n")


def null_strip(check: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Place the structure scores of data and nulls on one axis from 0 to 100."""
    if check is None:
        return None
    top = max(check["statistic"], *check["null_statistics"], 0.5)
    return {
        "nulls": [round(100 * score / top, 2) for score in check["null_statistics"]],
        "data": round(100 * check["statistic"] / top, 2),
        "top": top,
    }


def comparison_table(
    rows: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str, list[str]]]:
    """Return (measure, what it says, one text per space), companions together."""
    return [
        (name, says, [form(row[column]) for row in rows])
        for name, says, column, form in _MEASURES
    ]


def cluster_table(content: ReportContent, space: str) -> dict[str, Any]:
    """Return one space's clusters with size, share and strongest features."""
    own = content.insights.filter(pl.col("space") == space)
    contrasts = content.contrasts.get(space)
    lines = []
    for row in own.select("cluster", "size", "share").iter_rows(named=True):
        is_noise = row["cluster"] == NOISE
        features = (
            []
            if is_noise or contrasts is None
            else wording.strongest_features(contrasts, row["cluster"])
        )
        lines.append({**row, "is_noise": is_noise, "features": features})
    clusters = [line for line in lines if not line["is_noise"]]
    noise = [line for line in lines if line["is_noise"]]
    return {
        "title": content.spaces.get(space, space),
        "lines": clusters[:_CLUSTERS_SHOWN] + noise,
        "n_hidden": max(len(clusters) - _CLUSTERS_SHOWN, 0),
        "n_clusters": len(clusters),
        "largest": max((line["share"] for line in lines), default=0.0),
    }


def _inlined(path: Path) -> str:
    """Return a PNG file as base64 text."""
    try:
        return base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError as error:
        raise ArtifactError(
            f"the report's picture `{path}` cannot be read: {error.strerror}. "
            "Draw the pictures before the report is written."
        ) from None
