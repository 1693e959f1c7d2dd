"""The model card of one version, as Markdown: what it is, from what, how far to trust.

After Mitchell et al., "Model cards for model reporting" (FAT* 2019), cut down to what a
segmentation has to say of itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.artifacts.manifest import Manifest
from core.errors import PROGRAM
from core.reporting.text import MISSING, count, decimal, literal
from core.retailers.features import known_features
from core.retailers.report.decision import event_lines, figure
from core.retailers.report.evidence import (
    TEMPLATES,
    Opening,
    rules_tried,
)
from core.retailers.report.page import data_steps, source_name
from core.retailers.report.tree import inside_sentences
from core.segments.published import UNASSIGNED, PublishedSegments

MODEL_CARD = "model-card.md"

_LIMITS = (
    "The segments describe how shops sell. This does not prove that acting on them "
    "pays. Test on some shops first.",
    "They hold for shops with about a year of sales, from the same source, prepared "
    "with the same configuration. Other shops are listed with a reason, not labelled.",
    "Strengths are no probabilities, and cannot be compared between segments.",
    "Labels are the same on one machine with one set of versions; other versions of "
    "hdbscan or TensorFlow may draw other borders.",
)


_BASIS = {
    "is_structured": "more structure than chance",
    "structure_score": "structure score of these shops",
    "largest_null_score": "largest structure score of data without groups",
    "p_value": "p of the structure score",
    "n_nulls": "data sets without groups",
    "n_clusters": "latent clusters",
    "cluster_jaccard": "how well they come back, on average (Jaccard)",
    "dissolved_jaccard": "dissolved up to this Jaccard",
    "partition_ari": "agreement of refits of the partition (ARI)",
    "rules_ari": "agreement of refits of the rules (ARI)",
    "reproducible_ari": "reproducible from this ARI on",
    "n_partition_refits": "refits of the partition",
}


@dataclass(frozen=True)
class ModelCardContent:
    """What a model card tells, as far as it is known.

    Attributes
    ----------
    manifest : Manifest
        Of the complete set; its ``prepare``, ``autoencoder`` and ``clustering`` facts
        are read.
    published : PublishedSegments
    opening : Opening
        The verdict in words.
    segments : sequence of mapping
        `core.retailers.report.tree.segment_rows`.
    stability : mapping of int to float
        Clusterwise Jaccard by segment id, where it was measured.
    names_before : mapping of int to str
        Names of the version before, by id, for the events.
    gate : mapping or None
        `core.evaluation.gate.GateDecision.model_dump`; None where no model had to be
        beaten.
    scorecard : sequence of str
        What the segments tell of later months, in sentences; empty where that was not
        asked.
    """

    manifest: Manifest
    published: PublishedSegments
    opening: Opening
    segments: Sequence[Mapping[str, str]]
    stability: Mapping[int, float]
    names_before: Mapping[int, str]
    gate: Mapping[str, Any] | None = None
    scorecard: Sequence[str] = ()


def model_card(content: ModelCardContent) -> str:
    """Return the model card of a version as Markdown (GitHub's, with tables).

    Whatever comes from users, names first, is escaped.
    """
    manifest, published = content.manifest, content.published
    stage = manifest.stages["clustering"]
    return TEMPLATES.page(
        "model-card.md.j2",
        version=published.version,
        lineage=published.lineage,
        model_id=manifest.model_id,
        made_at=stage.finished_at,
        opening=content.opening,
        about=_about(manifest),
        steps=[(step.label, step.count, step.unit) for step in _steps(manifest)],
        features=known_features(manifest.facts("prepare")),
        segments=_segment_rows(content),
        inside=inside_sentences(published),
        basis=_basis(published),
        events=_events(content),
        gate=_gate(content.gate),
        scorecard=content.scorecard,
        limits=_limits(content),
        versions=stage.versions,
        config=manifest.config.to_yaml(),
        seed=stage.seed,
        program=PROGRAM,
        is_warm=manifest.facts("autoencoder").get("is_warm", False),
        fingerprint=manifest.facts("prepare")["fingerprint"],
    )


def _about(manifest: Manifest) -> list[tuple[str, str]]:
    """Return what it was made from and how, the shortest of it."""
    facts, config = manifest.facts("prepare"), manifest.config
    intake, partition = facts["intake"], manifest.facts("clustering")["partition"]
    rows = [
        ("Source", source_name(manifest)),
        ("Months of sales", f"{intake['oldest_month']} to {intake['newest_month']}"),
        ("Features as of", facts["as_of"]),
        ("Shops seen", count(facts["n_shops"])),
        ("Shops segmented", count(facts["n_eligible"])),
        *_states(facts),
        ("Features", f"{facts['feature_set']} ({len(facts['features'])})"),
        ("Scaling", config.scaling.method),
        ("Autoencoder", config.autoencoder.architecture),
        ("Latent dimensions", str(config.autoencoder.latent_size)),
        ("Partition", f"{partition['method']}, {partition['n_segments']} segments"),
        *((name.capitalize(), said) for name, said in rules_tried(manifest).items()),
    ]
    return [(name, _cell(value)) for name, value in rows]


def _states(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return in which states shops are; earlier versions did not tell."""
    told = [f"{n:,} {state}" for state, n in facts.get("states", {}).items()]
    return [("States of shops", ", ".join(told))] if told else []


def _steps(manifest: Manifest) -> list[Any]:
    """Return what was set aside on the data's way."""
    return [step for step in data_steps(manifest.facts("prepare")) if step.is_loss]


def _segment_rows(content: ModelCardContent) -> list[dict[str, str]]:
    """Return the table of segments with their sub-segments, the unassigned last."""
    titles = content.published.titles
    jaccards = {titles[i]: decimal(found) for i, found in content.stability.items()}
    rows = []
    for row in content.segments:
        shown = {name: literal(text) for name, text in row.items()}
        if jaccards:
            shown["Jaccard"] = jaccards.get(row["segment"], MISSING)
        rows.append(shown)
    return rows


def _basis(published: PublishedSegments) -> list[tuple[str, str]]:
    """Return the figures that the verdict rests on, by name."""
    return [
        (told, figure(published.verdict.basis[name]))
        for name, told in _BASIS.items()
        if published.verdict.basis.get(name) is not None
    ]


def _events(content: ModelCardContent) -> list[str]:
    """Say what the version did to the segments before it."""
    names = dict(content.names_before) | content.published.names
    shown = {str(i): literal(name) for i, name in names.items() if i != UNASSIGNED}
    events = [event.model_dump(mode="json") for event in content.published.events]
    return event_lines(events, shown)


def _gate(gate: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the gate's finding with its cells made fit for a table."""
    if gate is None:
        return None
    columns = ("check", "champion", "challenger", "needed")
    rows = [
        {name: _cell(figure(row[name])) for name in columns}
        | {"passed": "yes" if row["is_passed"] else "**no**"}
        for row in gate["rows"]
    ]
    return {"reason": _cell(gate["reason"]), "rows": rows}


def _limits(content: ModelCardContent) -> list[str]:
    """Say what is not known of this version."""
    limits = []
    if not content.published.verdict.is_certified:
        limits.append(
            f"The verdict is provisional: `{PROGRAM} certify` puts the whole pipeline "
            "to the test."
        )
    if not content.stability:
        limits.append(
            f"Whether each segment comes back was not measured: `{PROGRAM} stability` "
            "does."
        )
    return [*limits, *_LIMITS]


def _cell(text: str) -> str:
    """Return a text that stays inside its cell or line; code stays code."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
