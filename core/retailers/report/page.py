"""The report of a run: one self-contained HTML file, the finding first.

Pictures are inlined, only the script of all pages runs, there is no address to fetch
anything from, and whatever comes from the user's data is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts.manifest import Manifest, now
from core.redaction import redacted_address
from core.reporting.page import HeatMap, Part, Picture
from core.reporting.text import count, decimal, rounded, share, size_list
from core.retailers.names import feature_label
from core.retailers.playbook import ShopPlaybook
from core.retailers.report.cards import CARDS, segment_cards
from core.retailers.report.differences import Difference, differences
from core.retailers.report.evidence import (
    TEMPLATES,
    Evidence,
    null_strip,
    opening,
    report_line,
    report_lines,
    rules_tried,
    share_of_largest,
    shop_counts,
    tiles,
)
from core.retailers.report.life import mix_part
from core.retailers.report.parts import (
    certificate_part,
    comparison_part,
    next_steps,
    scorecard_details,
    scorecard_part,
    stability_part,
)
from core.retailers.report.plots import LATENT, MAPS, SPACE_TITLES
from core.retailers.report.tree import Contrasts, inside_part
from core.segments.profiles import cluster_contrasts
from core.segments.published import UNASSIGNED

NOISE = -1
_CLUSTERS_SHOWN = 40
_MEASURES: tuple[tuple[str, str, str, Callable[[Any], str]], ...] = (
    ("Clusters", "groups found; noise is not one", "clusters", count),
    (
        "Effective clusters",
        "exp(entropy of the sizes): how many clusters of equal size have it",
        "effective_clusters",
        rounded,
    ),
    (
        "Largest share",
        "of the shops, in the largest cluster",
        "largest_share",
        share,
    ),
    (
        "Noise ratio",
        "shops in no cluster; says nothing without the two lines above",
        "noise_ratio",
        share,
    ),
    ("Sizes", "shops per cluster, largest first", "sizes", size_list),
    (
        "Explained variance",
        "of the same scaled features by the clusters, chance taken off; more "
        "clusters explain more",
        "explained_variance",
        share,
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


def write_report(content: Mapping[str, Any], path: Path) -> None:
    """Write the report as one HTML file (UTF-8) that needs nothing else.

    Parameters
    ----------
    content : mapping
        `report_content`; ``explorer`` and ``largest``, see
        `core.retailers.report.shops`.
    path : Path

    Raises
    ------
    ArtifactError
        If a picture cannot be read.
    """
    spaces: Spaces = content["spaces"]
    rows = [
        {**row, "largest_share": share_of_largest(row)}
        for row in spaces.comparison.to_dicts()
    ]
    page = TEMPLATES.page(
        "report.html.j2",
        content=content,
        opening=content["opening"],
        strip=null_strip(content["check"]),
        spaces=[spaces.titles.get(row["space"], row["space"]) for row in rows],
        measures=spaces_table(rows),
        reading=report_line("spaces_reading", rows=rows, titles=spaces.titles),
        cluster_tables=[cluster_table(spaces, name) for name in spaces.contrasts],
    )
    path.write_text(page, encoding="utf-8", newline="\n")


def spaces_table(
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


def report_content(
    evidence: Evidence,
    summary: Mapping[str, Any],
    scored: Path,
    label_columns: Mapping[str, str],
    insights: pl.DataFrame,
    contrasts: Contrasts,
    tree: pl.DataFrame,
    curves: pl.DataFrame,
    playbook: ShopPlaybook,
) -> dict[str, Any]:
    """Collect what the report tells.

    Parameters
    ----------
    evidence : Evidence
    summary : mapping
        `core.evaluation.quality.LabelSummary` of the published segments, as a dict.
    scored : Path
        Parquet file of the training data's features and labels, ``segment`` included.
    label_columns : mapping of space to label column
        In that file.
    insights : DataFrame
        `core.segments.profiles.cluster_insights` of the same shops.
    contrasts : mapping of str to sequence of mapping
        `core.retailers.report.tree.contrasts_by_id` of them.
    tree : DataFrame
        `core.retailers.report.tree.segment_tree` of them.
    curves : DataFrame
        `core.retailers.report.cards.curve_table` of them.
    playbook : Playbook
        What to do with them.

    Returns
    -------
    dict
        By name, what the template tells:

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
        caption : str
            Of their table.
        cards : sequence of Card
            The published segments.
        rest : mapping or None
            ``name, size, share, sales_share, actions`` of the unassigned.
        reading : sequence of str
            How to read the cards, and what their words rest on.
        notes : sequence of str
            Below the cards: what they leave out.
        map : Picture or None
            Where the shops lie.
        heat : HeatMap or None
            How the published segments differ; None of fewer than two.
        parts, research : sequence of Part
            What the shops do next and where they stand in their life, for everyone;
            for researchers segments within segments and what the judging verbs add.
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
    manifest, published = evidence.manifest, evidence.published
    facts = manifest.facts("prepare")
    table = pl.scan_parquet(scored, glob=False)
    check = evidence.check
    return {
        "title": "Retailer segments",
        "source": source_name(manifest),
        "created": f"{now()[:16].replace('T', ' ')} UTC",
        "as_of": facts["as_of"],
        "opening": opening(
            published.verdict,
            published.kind,
            summary,
            shop_counts(manifest),
            check,
            evidence.titles,
            evidence.command("certify"),
        ),
        "tiles": tiles(summary, published.kind),
        "check": check,
        "caption": report_line("segments_table", n_shops=facts["n_eligible"]),
        "cards": segment_cards(evidence, playbook, contrasts, tree, curves, scored),
        "rest": _rest(tree, playbook),
        "reading": _reading(evidence),
        "notes": _notes(evidence),
        "map": _map(evidence),
        "heat": heat_map(contrasts, evidence.titles),
        "parts": _there(scorecard_part(evidence), mix_part(evidence, scored)),
        "research": _there(
            scorecard_details(evidence),
            inside_part(published, tree),
            stability_part(evidence),
            certificate_part(evidence),
            comparison_part(evidence),
        ),
        "next_steps": next_steps(evidence),
        "spaces": _spaces(evidence, table, label_columns, insights),
        "steps": data_steps(facts),
        "limits": _limits(evidence),
        "made": _made(manifest),
        "config": manifest.config.to_yaml(),
    }


def _rest(tree: pl.DataFrame, playbook: ShopPlaybook) -> dict[str, Any] | None:
    """Return the row of shops in no segment; None where there are none."""
    rows = tree.filter(pl.col("id") == str(UNASSIGNED), pl.col("n_shops") > 0)
    if rows.is_empty():
        return None
    row = rows.row(0, named=True)
    return {
        "name": row["name"].capitalize(),
        "size": row["n_shops"],
        "share": row["share"],
        "sales_share": row["sales_share"],
        "actions": playbook.play(row["name"]).actions,
    }


def _there(*parts: Part | None) -> list[Part]:
    return [part for part in parts if part is not None]


def source_name(manifest: Manifest) -> str:
    """Name the source as the user would."""
    data = manifest.config.data
    if manifest.facts("prepare")["from_frame"]:
        return "a table handed in from Python"
    if data.source == "kaggle":
        return f"Kaggle: {data.kaggle_handle}"
    if data.source == "input":
        return redacted_address(str(data.input))
    sample = manifest.config.sample
    return (
        f"built-in sample ({sample.structure}, {sample.difficulty}, "
        f"seed {manifest.stages['prepare'].seed})"
    )


def _reading(evidence: Evidence) -> list[str]:
    """Say what the words on the cards rest on."""
    return report_lines(
        "reading",
        kind=evidence.published.kind,
        profiles=evidence.judged("profiles"),
    )


def _notes(evidence: Evidence) -> list[str]:
    """Say what the cards leave out."""
    published = evidence.published
    return report_lines(
        "notes",
        n_hidden=published.n_segments - CARDS,
        unassigned=next((s for s in published.segments if s.id == UNASSIGNED), None),
        command=evidence.command("explain SHOP"),
    )


def _map(evidence: Evidence) -> Picture | None:
    """Return where the shops of the published segments lie."""
    kind = evidence.published.kind
    touch = report_line("space_picture", kind=kind)
    wanted = (MAPS[kind][0], "A map of the shops", _MAP, touch)
    return next(iter(_known(evidence, wanted)), None)


_MAP = "Scatter of all shops, coloured and numbered by segment."


def heat_map(contrasts: Contrasts, titles: Mapping[int, str]) -> HeatMap | None:
    """Return how far each segment lies from all other shops, feature by feature.

    Parameters
    ----------
    contrasts : mapping of str to sequence of mapping
        `core.retailers.report.tree.contrasts_by_id`.
    titles : mapping of int to str
        Number and name of the segments that are shown.
    """
    if len(titles) < 2:
        return None
    columns = [
        {row["feature"]: row["effect"] for row in contrasts[str(segment)]}
        for segment in titles
    ]
    return HeatMap(
        "What sets the segments apart",
        report_line("heatmap_picture"),
        list(titles.values()),
        [
            (feature_label(name).name, [column[name] for column in columns])
            for name in columns[0]
        ],
    )


def _known(evidence: Evidence, *wanted: tuple[str, str, str, str]) -> list[Picture]:
    """Return pictures (file, title, alt, caption) whose files are there."""
    return [
        Picture(title, path, alt, caption)
        for name, title, alt, caption in wanted
        if (path := evidence.file(name)) is not None
    ]


def _spaces(
    evidence: Evidence,
    table: pl.LazyFrame,
    label_columns: Mapping[str, str],
    insights: pl.DataFrame,
) -> Spaces:
    """Return what HDBSCAN says of each space; published clusters have their cards."""
    is_density = evidence.published.kind == "density"
    listed = {
        space: column
        for space, column in label_columns.items()
        if not (is_density and space == LATENT)
    }
    features = evidence.manifest.facts("prepare")["features"]
    comparison = evidence.table("comparison.csv", sizes=pl.String)
    assert comparison is not None  # an input of no one else, but listed and verified
    touch = report_line("space_picture", kind="density")
    latent = ("latent-space.png", "Latent space", _SCATTER, touch)
    return Spaces(
        titles=SPACE_TITLES,
        comparison=comparison,
        insights=insights,
        contrasts={
            space: cluster_contrasts(table, column, features)
            for space, column in listed.items()
        },
        pictures=_known(
            evidence,
            *([] if is_density else [latent]),
            ("raw-space.png", "Raw features", _SCATTER, ""),
            ("cluster-sizes.png", "Sizes", "Bars of shops per cluster and noise.", ""),
            ("loss-plot.png", "Training", "Training and validation loss.", ""),
        ),
    )


_SCATTER = "Scatter of all shops, coloured by HDBSCAN's clusters, noise in grey."


def _limits(evidence: Evidence) -> list[str]:
    """Say what the report does not say, given what was judged."""
    scorecard = evidence.judged("scorecard")
    return report_lines(
        "limits",
        has_products=evidence.manifest.facts("prepare")["intake"]["n_products"]
        is not None,
        is_certified=evidence.published.verdict.is_certified,
        has_unassigned=evidence.published.unassigned_share > 0,
        has_stability=evidence.table("stability.csv") is not None,
        has_scorecard=scorecard is not None and scorecard["why_not"] is None,
    )


def data_steps(facts: Mapping[str, Any]) -> list[Step]:
    """Return the data's way with its counts."""
    intake = facts["intake"]
    steps = [Step("rows read", intake["rows_read"], "rows")]
    steps += [
        Step(f"set aside: {name.replace('_', ' ')}", fault["set_aside"], "rows", True)
        for name, fault in intake["faults"].items()
        if fault["set_aside"]
    ]
    steps += [
        Step("rows kept", intake["rows_kept"], "rows"),
        Step("shops seen", facts["n_shops"], "shops"),
    ]
    steps += [
        Step(f"not segmented: {reason}", n, "shops", True)
        for reason, n in facts["exclusions"].items()
    ]
    steps.append(Step("shops segmented", facts["n_eligible"], "shops"))
    return steps


def _made(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return how the run was made, by group."""
    stages = manifest.stages
    prepared = manifest.facts("prepare")
    trained = manifest.facts("autoencoder")
    partition = manifest.facts("clustering")["partition"]
    training = [name for name in stages if name != "inference"]
    return {
        "Run": {
            "model": manifest.model_id,
            "features": f"{prepared['feature_set']} ({len(prepared['features'])})",
            "autoencoder": f"{manifest.config.autoencoder.architecture}, "
            f"best epoch {trained['best_epoch']} of {trained['epochs']}",
            "partition": f"{partition['method']}, {partition['n_segments']} segments: "
            f"{partition['reason']}",
            **rules_tried(manifest),
        },
        "Seeds": {name: stages[name].seed for name in training},
        "Seconds": {name: f"{stages[name].seconds:.1f}" for name in training},
        "Versions": stages["clustering"].versions,
    }
