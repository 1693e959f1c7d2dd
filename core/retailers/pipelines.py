"""The four stages of a run, from a configuration to saved artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from core.artifacts.arrays import save_arrays
from core.artifacts.folder import Artifacts, ArtifactSet, StageResult, StageWriter
from core.config import Config, resolve_config
from core.errors import PROGRAM, ArtifactError
from core.evaluation.certificate import Verdict
from core.evaluation.null import StructureCheck, structure_check
from core.evaluation.quality import compare_spaces, label_summary, project_2d
from core.logging import get_logger, progress
from core.models.autoencoder.estimator import Autoencoder, in_new_units
from core.models.density import DensityClusterer, choose_density, fit_density
from core.models.scaling import FeatureScaler
from core.models.state import join_states
from core.retailers import prepare
from core.retailers.features import SHOP, feature_set
from core.retailers.files import RETAILERS, Stage, refuse_late_changes
from core.retailers.model import (
    CLUSTER_STATE,
    ENCODER_STATE,
    Model,
    load_encoder,
    publish_scored,
)
from core.retailers.monthly import ARCHIVE, write_archive
from core.retailers.publish import publish_training, published_opening, published_row
from core.retailers.report.evidence import (
    closing_table,
    report_lines,
)
from core.retailers.training import (
    TrainingShops,
    found_predecessor,
    learn_segments,
    training_table,
    write_pickle,
)
from core.scratch import temporary_folder
from core.segments.published import PublishedSegments
from core.tables.sales import Sales, source_fingerprint


def prepare_features(config: Config, frame: Any = None) -> StageResult:
    """Stage 1: from sales rows to the features of the eligible shops.

    Writes ``features.parquet``, ``rejected_rows.parquet``, ``exclusions.csv``; for
    looking back ``history.parquet``, ``later.parquet`` and ``monthly.parquet``; for
    monthly refreshes ``sales.parquet``; for the built-in sample ``sample_truth.csv``.

    Parameters
    ----------
    config : Config
        What to read and compute.
    frame : pandas, Polars, DuckDB or Arrow table, or Sales, optional
        Rows to use instead of the configured source.

    Raises
    ------
    SourceError, SchemaError, EligibilityError, ConfigError
        If the rows cannot be had, used, or are too few for clustering.
    """
    chosen = feature_set(config.features.name)
    with (
        temporary_folder() as work,
        Artifacts(config.artifacts, RETAILERS).stage("prepare", config) as out,
    ):
        prepared = prepare.prepare(config, work, frame)
        _check_enough(prepared, config)
        batches = prepared.batches(config.clustering.batch_size)
        prepare.write_batches(batches, out.path("features.parquet"))
        prepared.sales.rejected.write_parquet(out.path("rejected_rows.parquet"))
        prepared.exclusions.write_csv(out.path("exclusions.csv"))
        if prepared.sales.truth is not None:
            prepared.sales.truth.write_csv(out.path("sample_truth.csv"))
        write_archive(prepared.sales, out.path(ARCHIVE))
        paths = {
            name: out.path(name)
            for name in (prepare.HISTORY, prepare.LATER, prepare.MONTHLY)
        }
        cuts = prepare.write_history(prepared, paths)
        reasons = prepared.exclusions["reason"].value_counts(sort=True, name="n")
        out.facts |= {
            "feature_set": chosen.name,
            "features": chosen.names,
            "as_of": prepared.as_of,
            "notes": [*prepared.sales.intake.notes, *prepared.notes],
            "intake": prepared.sales.intake.to_dict(),
            "from_frame": frame is not None and not isinstance(frame, Sales),
            "from_archive": isinstance(frame, Sales),
            "fingerprint": prepared.sales.fingerprint,
            "n_shops": prepared.shops.height,
            "n_eligible": len(prepared.eligible),
            "cuts": cuts,
            "exclusions": {row["reason"]: row["n"] for row in reasons.to_dicts()},
        }
    lines = [
        *prepared.sales.intake.summary(),
        *prepared.notes,
        _eligibility_line(out.facts),
        f"{len(chosen.names)} `{chosen.name}` features as of {prepared.as_of}.",
    ]
    return Artifacts(config.artifacts, RETAILERS).result("prepare", out.facts, lines)


def _check_enough(prepared: prepare.Prepared, config: Config) -> None:
    """Raise unless there are shops enough for one cluster and for its density."""
    needed = config.clustering.n_needed
    prepare.require_eligible(prepared.shops, config.eligibility, needed)


def train_autoencoder(config: Config, start: Model | None = None) -> StageResult:
    """Stage 2: fit the scaler and the autoencoder.

    Writes ``autoencoder-model.keras``, ``feature-scaler.pkl`` (for notebooks),
    ``encoder-state.safetensors`` (what inference reads) and ``loss-plot.png``.

    Parameters
    ----------
    config : Config
    start : Model, optional
        Training goes on from the weights of its encoder, in the units of the new
        scaler, where it has the same features, architecture and sizes; else from
        random weights, and the facts say why. None: from random weights.
    """
    from core.reporting.plots import plot_loss

    with Artifacts(config.artifacts, RETAILERS).stage("autoencoder", config) as out:
        _, X = training_table(out)
        scaler = FeatureScaler(**config.scaling.model_dump()).fit(X)
        scaled = scaler.transform(X)
        with progress("Training the autoencoder") as report:
            encoder = Autoencoder(
                **config.autoencoder.model_dump(), seed=config.seed, on_epoch=report
            )
            earlier = _started_from(start, encoder, scaler, out)
            encoder.fit(scaled, start=earlier)
        encoder.save_keras(out.path("autoencoder-model.keras"))
        write_pickle(scaler, out.path("feature-scaler.pkl"))
        states = join_states(scaler=scaler.get_state(), encoder=encoder.get_state())
        save_arrays(out.path(ENCODER_STATE), *states)
        history = encoder.history_
        plot_loss(history, encoder.best_epoch_, out.path("loss-plot.png"))
        out.facts |= {
            "is_warm": earlier is not None,
            "n_shops": len(X),
            "epochs": len(history["loss"]),
            "best_epoch": encoder.best_epoch_,
            "loss": history["loss"][encoder.best_epoch_ - 1],
            "validation_loss": history["val_loss"][encoder.best_epoch_ - 1],
        }
    facts = out.facts
    lines = [
        f"`{config.autoencoder.architecture}` autoencoder on {facts['n_shops']:,} "
        f"shops: best of {facts['epochs']} epochs is {facts['best_epoch']}, with a "
        f"validation loss of {facts['validation_loss']:.3f}."
    ]
    return Artifacts(config.artifacts, RETAILERS).result("autoencoder", facts, lines)


def _started_from(
    start: Model | None, encoder: Autoencoder, scaler: FeatureScaler, out: StageWriter
) -> Autoencoder | None:
    """Return what training starts from; None, with the reason as a fact: anew."""
    if start is None:
        return None
    assert out.base is not None  # the training table was read from it
    features = out.base.manifest.facts("prepare")["features"]
    fault = encoder.start_fault(start.encoder, len(features))
    if start.features != features:
        fault = "it was trained on other features"
    if fault:
        out.facts["cold_reason"] = fault
        get_logger().warning("The autoencoder is trained anew: %s", fault)
        return None
    return in_new_units(start.encoder, start.scaler, scaler)


N_NULLS = 19
CHECK_MIN_SAMPLES = 10


def train_clustering(config: Config, predecessor: Model | None = None) -> StageResult:
    """Stage 3: cluster the raw features and the latent space; learn the segments.

    Writes ``cluster-state.safetensors`` and ``segment-state.safetensors`` (what
    inference reads), ``segments.json``, ``hdbscan-latent.pkl`` and ``hdbscan-raw.pkl``
    (for notebooks), ``comparison.csv`` and the plots.

    Parameters
    ----------
    config : Config
    predecessor : Model, optional
        The model that this one is to follow, with the same features: of equally good
        clusters of the latent space, those nearest to its labels of the same shops are
        taken, and its segments keep their ids and names. None: the best clusters; what
        is then followed is the model of a complete run in the folder, if it has the
        same features and is of the same shops.
    """
    from core.retailers.report.plots import draw_spaces

    with Artifacts(config.artifacts, RETAILERS).stage("clustering", config) as out:
        table, X = training_table(out)
        assert out.base is not None  # _training_table has read from it
        scaler, encoder = load_encoder(out.base)
        scaled = scaler.transform(X)
        spaces = {"latent": encoder.transform(scaled), "raw": scaled}
        near = None if predecessor is None else predecessor.latent_labels(X)
        fitted = _fit_spaces(spaces, out, near)
        labels = {name: clusterer.labels_ for name, clusterer in fitted.items()}
        strengths = {name: clusterer.strengths_ for name, clusterer in fitted.items()}
        comparison = SHOP.named_table(compare_spaces(labels, scaled, strengths))
        comparison.write_csv(out.path("comparison.csv"))
        check = check_structure(scaled, config)
        draw_spaces(out.folder, {"raw": project_2d(scaled)}, labels)
        features = out.base.manifest.facts("prepare")["features"]
        out.facts |= {
            "spaces": {
                name: SHOP.named_facts(asdict(label_summary(values)))
                for name, values in labels.items()
            },
            "structure_check": SHOP.named_facts(check.as_dict()),
        }
        shops = TrainingShops(table, features, X, scaled, spaces["latent"])
        before = predecessor or found_predecessor(
            Artifacts(config.artifacts, RETAILERS), table, features
        )
        published = learn_segments(out, shops, fitted["latent"], check, before)
    lines = [
        *report_lines("spaces", spaces=out.facts["spaces"]),
        f"Structure check: {check.verdict}.",
        f"Partition: {out.facts['partition']['reason']}.",
        *published_opening(published).lines,
    ]
    return Artifacts(config.artifacts, RETAILERS).result("clustering", out.facts, lines)


def _fit_spaces(
    spaces: dict[str, np.ndarray], out: StageWriter, near: np.ndarray | None
) -> dict[str, DensityClusterer]:
    """Cluster every space, the latent one near earlier labels; save what was found."""
    fitted = {}
    options, seed = out.config.clustering, out.config.seed
    for name, Z in spaces.items():
        get_logger().info("Clustering the %s space (%d shops)", name, len(Z))
        found = choose_density(Z, options, seed, near if name == "latent" else None)
        fitted[name] = found.clusterer
        if found.agreement is not None:
            out.facts["near"] = {
                "agreement": found.agreement,
                "kept_score": found.kept_score,
            }
        write_pickle(fitted[name].hdbscan_, out.path(f"hdbscan-{name}.pkl"))
    states = {name: clusterer.get_state() for name, clusterer in fitted.items()}
    save_arrays(out.path(CLUSTER_STATE), *join_states(**states))
    return fitted


def check_structure(scaled: np.ndarray, config: Config) -> StructureCheck:
    """Compare the run's clustering with that of data without structure: quickly.

    Parameters
    ----------
    scaled : ndarray of float, shape (n_shops, n_features)
        Scaled features.
    config : Config
        Its clustering options and its seed.
    """
    # One degree of smoothing for all: choosing it, too, would take four times as long.
    degree = config.clustering.min_samples or CHECK_MIN_SAMPLES
    options = config.clustering.model_copy(update={"min_samples": degree})
    with progress("Clustering data without structure, for comparison") as report:
        return structure_check(
            scaled,
            lambda Z: fit_density(Z, options, config.seed).labels_,
            n_null=N_NULLS,
            seed=config.seed,
            on_step=report,
        )


def run_inference(config: Config, frame: Any = None) -> StageResult:
    """Stage 4: label every shop, from the saved artifacts alone.

    Writes ``cluster_predictions.csv``, ``cluster_insights.csv`` and
    ``segment_insights.csv``; for the training data also ``segments.json`` and
    ``report.html``, for other data ``scored_rejected_rows.parquet``.

    Parameters
    ----------
    config : Config
        Other data than the training data is scored if its ``data`` section says so.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        Rows to score instead.
    """
    artifacts = Artifacts(config.artifacts, RETAILERS)
    base = artifacts.base("inference")
    is_training_data = frame is None and base is not None and is_same_data(config, base)
    source = base if is_training_data else artifacts.serving()
    if source is None:
        raise ArtifactError(
            f"`{config.artifacts}` holds no model. Run the training pipelines first."
        )
    saved = source.manifest.config
    folder = Path(config.artifacts)
    closing = []
    # What has judged a complete model stands: the same model labels the same shops.
    is_serving = not is_training_data or source.manifest.is_complete
    with artifacts.stage("inference", saved, is_serving=is_serving) as out:
        assert out.base is not None  # `source`, opened again under the lock
        model = Model.from_set(out.base)
        published = model.segments.published
        if is_training_data:
            out.facts |= _facts_before(out.base)
            publish_training(out, model)
            spaces = out.base.manifest.facts("clustering")["spaces"]
            closing = [*closing_table(spaces), published_row(published)]
            lines = [
                *published_opening(published).lines,
                f"Report: {folder / 'report.html'}",
            ]
        else:
            out.facts |= _facts_before(out.base)
            with temporary_folder() as work:
                prepared = prepare.prepare(config, work, frame)
                scored = model.score(prepared)
                publish_scored(out, model, scored, prepared.exclusions, work)
                rejected = prepared.sales.rejected
                rejected.write_parquet(out.path("scored_rejected_rows.parquet"))
            out.facts["is_training_data"] = False
            lines = [_verdict_line(published)]
    line = f"{out.facts['labelled']:,} shops labelled"
    if out.facts["not_eligible"]:
        line += f", {out.facts['not_eligible']:,} listed with the reason why not"
    lines = [f"{line}: {folder / 'cluster_predictions.csv'}", *lines]
    return Artifacts(config.artifacts, RETAILERS).result(
        "inference", out.facts, lines, closing
    )


def _eligibility_line(facts: Mapping[str, Any]) -> str:
    """Say how many shops are eligible, and why the others are not."""
    reasons = "; ".join(f"{n:,} {reason}" for reason, n in facts["exclusions"].items())
    line = f"{facts['n_eligible']:,} of {facts['n_shops']:,} shops are eligible"
    return f"{line} ({reasons})." if reasons else f"{line}."


def _verdict_line(published: PublishedSegments) -> str:
    """Say under which verdict the segments are published."""
    verdict = Verdict.from_dict(published.verdict)
    standing = "certified" if verdict.is_certified else "provisional"
    kind = verdict.kind.capitalize()
    return f"Verdict: {kind} ({standing}): {verdict.meaning(SHOP)}."


def _facts_before(base: ArtifactSet) -> dict[str, Any]:
    """Return what was found of the model so far, which scoring leaves in place."""
    stage = base.manifest.stages.get("inference")
    return stage.facts if stage is not None else {}


def run_all(config: Config, frame: Any = None) -> list[StageResult]:
    """Run the four stages one after the other."""
    return [
        prepare_features(config, frame),
        train_autoencoder(config),
        train_clustering(config),
        run_inference(config),
    ]


def stage_config(
    stage: Stage,
    file: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
) -> Config:
    """Resolve the configuration of a stage, on top of what earlier stages have saved.

    Raises
    ------
    ConfigError
        As `core.config.resolve_config`; also if an option differs that an earlier stage
        has already used.
    ArtifactError
        If an earlier stage has not run, or its artifacts are not sound.
    """
    config = resolve_config(file, flags, assignments)
    if stage == "prepare":
        return config
    artifacts = Artifacts(config.artifacts, RETAILERS)
    base = artifacts.base(stage)
    if base is None:
        raise ArtifactError(
            f"`{config.artifacts}` holds no artifacts yet. "
            f"Run `{PROGRAM} {RETAILERS.stages['prepare']}` first."
        )
    saved = base.manifest.config
    config = resolve_config(file, flags, assignments, base=saved)
    if stage == "inference" and not names_same_data(config, saved):
        base = artifacts.serving() or base
        saved = base.manifest.config
        config = resolve_config(file, flags, assignments, base=saved)
    refuse_late_changes(base.manifest, config, stage)
    return config


def names_same_data(config: Config, saved: Config) -> bool:
    """Whether two configurations name the same data."""
    return config.data == saved.data and config.sample == saved.sample


def is_same_data(config: Config, artifact_set: ArtifactSet) -> bool:
    """Whether a configuration names the data that the set was trained on."""
    manifest = artifact_set.manifest
    if not names_same_data(config, manifest.config):
        return False
    facts = manifest.facts("prepare")
    # A refit learns from the archive, which grew out of the source that is named.
    if config.data.source != "input" or facts.get("from_archive"):
        return True
    return bool(source_fingerprint(config) == facts["fingerprint"])
