"""What one run has to show: the content of its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from core.manifest import Manifest, now
from core.reporting.cards import CARDS, segment_cards
from core.reporting.drawing import LATENT, TITLES
from core.reporting.evidence import Evidence
from core.reporting.opening import opening, tiles
from core.reporting.parts import Picture, judged_parts, next_steps, research_parts
from core.reporting.report import ReportContent, Spaces, Step
from core.reporting.wording import count, percent
from core.segments.profiles import cluster_contrasts
from core.segments.published import UNASSIGNED


def report_content(
    evidence: Evidence,
    meaning: str,
    summary: Mapping[str, Any],
    scored: Path,
    label_columns: Mapping[str, str],
    insights: pl.DataFrame,
) -> ReportContent:
    """Collect what the report tells.

    Parameters
    ----------
    evidence : Evidence
    meaning : str
        What the verdict's kind means.
    summary : mapping
        `core.evaluation.quality.LabelSummary` of the published segments, as a dict.
    scored : Path
        Parquet file of the training data's features and labels, ``segment`` included.
    label_columns : mapping of space to label column
        In that file.
    insights : DataFrame
        `core.segments.profiles.cluster_insights` of the same shops.
    """
    manifest, published = evidence.manifest, evidence.published
    facts = manifest.facts("prepare")
    table = pl.scan_parquet(scored)
    contrasts = cluster_contrasts(table, "segment", facts["features"])
    check = evidence.check
    return ReportContent(
        title="Retailer segments",
        source=source_name(manifest),
        created=f"{now()[:16].replace('T', ' ')} UTC",
        as_of=facts["as_of"],
        opening=opening(
            published.verdict,
            meaning,
            summary,
            check,
            evidence.titles,
            evidence.command("certify"),
        ),
        tiles=tiles(summary, published.kind),
        check=check,
        cards=segment_cards(evidence, contrasts),
        reading=_reading(evidence),
        notes=_notes(evidence),
        pictures=_pictures(evidence),
        parts=judged_parts(evidence),
        research=research_parts(evidence),
        next_steps=next_steps(evidence),
        spaces=_spaces(evidence, table, label_columns, insights),
        steps=data_steps(facts),
        limits=_limits(evidence),
        made=_made(manifest),
        config=manifest.config.to_yaml(),
    )


def source_name(manifest: Manifest) -> str:
    """Name the source as the user would."""
    data = manifest.config.data
    if manifest.facts("prepare")["from_frame"]:
        return "a table handed in from Python"
    if data.source == "kaggle":
        return f"Kaggle: {data.kaggle_handle}"
    if data.source == "input":
        return str(data.input)
    sample = manifest.config.sample
    return (
        f"built-in sample ({sample.structure}, {sample.difficulty}, "
        f"seed {manifest.stages['prepare'].seed})"
    )


def _reading(evidence: Evidence) -> list[str]:
    """Say what the words on the cards rest on."""
    lines = [
        "Differences are medians of the segment's shops, beside those of all other "
        "shops."
    ]
    profiles = evidence.judged("profiles")
    test = None if profiles is None else profiles["test"]
    if test is None:
        lines.append(
            "The segments were made from these features, so differences describe them "
            "and prove nothing."
        )
    elif test["why_not"] is not None:
        lines.append(
            "The segments were made from these features, so differences describe them "
            f"and prove nothing; they could not be tested: {test['why_not']}."
        )
    else:
        lines.append(
            "Confirmed means that the difference also shows in the "
            f"{test['n_months']} months after {test['cut']}, among shops and months "
            "that nothing was learnt from (at most 5% of these claims are false ones). "
            f"{test['n_found_again']} of {test['n_segments']} segments were found "
            f"again for it, and {test['n_clear']} of {test['n_comparisons']} "
            "differences held. What was not tested only describes."
        )
        if evidence.published.kind == "partition":
            lines.append(
                "That a difference holds is no sign of groups: parts of a continuum "
                "differ, too."
            )
    if profiles is not None and evidence.file("segment_curves.csv") is not None:
        lines.append(
            "Curves are monthly sales over a shop's own average month (dotted), all on "
            "one scale: the mean, and the middle half of the shops."
        )
    surrogate = None if profiles is None else profiles["surrogate"]
    if surrogate is not None and surrogate["accuracy"] is not None:
        lines.append(
            f"The {surrogate['n_rules']} plain rules imitate the segments: they name "
            f"the right one for {surrogate['accuracy']:.0%} of the shops held out "
            f"({surrogate['balanced_accuracy']:.0%} on average over the segments; "
            "always naming the largest would be right for "
            f"{surrogate['largest_share']:.0%})."
        )
    return lines


def _notes(evidence: Evidence) -> list[str]:
    """Say what the cards leave out."""
    published = evidence.published
    notes = []
    if published.n_segments > CARDS:
        notes.append(
            f"{published.n_segments - CARDS} smaller segments have no card; "
            "`segment_insights.csv` has them all."
        )
    left = next((s for s in published.segments if s.id == UNASSIGNED), None)
    if left is not None and left.size:
        notes.append(
            f"Unassigned: {count(left.size)} shops ({percent(left.share)}), close "
            "enough to none of these segments. `cluster_predictions.csv` names the "
            "nearest one of each shop."
        )
    command = evidence.command("explain SHOP")
    notes.append(f"Why is a shop where it is? `{command}` tells.")
    return notes


def _pictures(evidence: Evidence) -> list[Picture]:
    """Return the pictures of the published segments."""
    told = (
        "In robust standard deviations from the other shops, segment numbers below. "
        "The segments were made from these features."
    )
    if evidence.published.kind == "density":
        return _known(
            evidence,
            ("latent-space.png", "A map of the shops", _MAP, _TOUCH),
            ("cluster-heatmap.png", "What sets the segments apart", _HEAT, told),
        )
    return _known(
        evidence,
        (
            "partition-space.png",
            "A map of the shops",
            _MAP,
            "The two leading directions of the scaled features. The borders between "
            "the segments are drawn through, not around: there are no gaps.",
        ),
        ("partition-heatmap.png", "What sets the segments apart", _HEAT, told),
    )


_MAP = "Scatter of all shops, coloured and numbered by segment."
_HEAT = "Heat map of segments by feature."
_TOUCH = (
    "Two directions of the space that the autoencoder learnt; unassigned shops are "
    "grey. Groups may touch here and still be apart in the other directions."
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
    latent = ("latent-space.png", "Latent space", _SCATTER, _TOUCH)
    return Spaces(
        titles=TITLES,
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
    limits = []
    if not evidence.published.verdict["is_certified"]:
        limits.append(
            "That each segment is a group of its own: the quick check speaks of all "
            "of them together."
        )
    if evidence.table("stability.csv") is None:
        limits.append(
            "That the same segments would come out again: scaler, autoencoder and "
            "clusters were learnt once."
        )
    if evidence.judged("scorecard") is None:
        limits.append("That the segments tell anything about what shops do next.")
    return [
        *limits,
        "That acting on the segments pays. Only a test with some shops left out tells.",
        "That unassigned shops are bad data: they resemble no group closely enough, "
        "and keep the cluster \N{MINUS SIGN}1 and the strength 0.",
        "What strength is worth between clusters: it is measured against the core of "
        "the shop's own cluster.",
        "What data without structure cannot show: groups that a single feature, or "
        "features rising and falling together, show by themselves also arise there. "
        "One bent or ring-shaped population, on the other hand, can pass for "
        "structure.",
    ]


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
        Step(f"not eligible: {reason}", n, "shops", True)
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
        },
        "Seeds": {name: stages[name].seed for name in training},
        "Seconds": {name: f"{stages[name].seconds:.1f}" for name in training},
        "Versions": stages["clustering"].versions,
    }
