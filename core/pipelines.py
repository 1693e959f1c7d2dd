"""The four stages of a run, each a function from a configuration to saved artifacts.

The scripts at the root and the verbs of ``python -m core`` are wiring over these.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.artifacts import Artifacts, ArtifactSet, StageWriter, save_arrays
from core.clustering.density import DensityClusterer
from core.config import Config
from core.data.eligibility import require_eligible
from core.data.sources import source_fingerprint
from core.errors import ArtifactError
from core.evaluation.null import StructureCheck, structure_check
from core.evaluation.quality import compare_spaces, label_summary, project_2d
from core.features.preparation import Prepared, prepare
from core.features.retailer import feature_set
from core.features.scaling import FeatureScaler
from core.inference import (
    CLUSTER_STATE,
    ENCODER_STATE,
    Model,
    feature_matrix,
    insights_of,
    join_states,
    load_encoder,
    score_training,
    write_batches,
    write_predictions,
)
from core.logging import get_logger, progress
from core.manifest import SCRIPTS, Stage, refuse_late_changes
from core.reporting.summary import (
    closing_table,
    eligibility_line,
    inference_lines,
    space_lines,
)
from core.representation.autoencoder import Autoencoder
from core.resolve import resolve_config

SPACES = {"latent": "latent_cluster", "raw": "raw_cluster"}
N_NULLS = 19
MIN_SHOPS = 10


@dataclass(frozen=True)
class StageResult:
    """What a stage has done.

    Attributes
    ----------
    stage : str
        Its name.
    folder : Path
        Where its files lie: the artifacts folder, or ``pending`` in it while a
        complete earlier set is being replaced.
    facts : dict
        What it also wrote to the manifest.
    lines : list of str
        A summary for people.
    table : list of dict
        Rows of the closing table; only of ``inference`` on the training data.
    """

    stage: Stage
    folder: Path
    facts: dict[str, Any]
    lines: list[str]
    table: list[dict[str, str]] = field(default_factory=list)


def stage_config(
    stage: Stage,
    file: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
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
    config = resolve_config(file, flags, assignments, environ)
    if stage == "prepare":
        return config
    artifacts = Artifacts(config.artifacts)
    base = artifacts.base(stage)
    if base is None:
        raise ArtifactError(
            f"`{config.artifacts}` holds no artifacts yet. "
            f"Run `python {SCRIPTS['prepare']}` first."
        )
    saved = base.manifest.config
    config = resolve_config(file, flags, assignments, environ, base=saved)
    if stage == "inference" and not _names_same_data(config, saved):
        base = artifacts.serving() or base
        saved = base.manifest.config
        config = resolve_config(file, flags, assignments, environ, base=saved)
    refuse_late_changes(base.manifest, config, stage)
    return config


def prepare_features(config: Config, frame: Any = None) -> StageResult:
    """Stage 1: from sales rows to the features of the eligible shops.

    Writes ``features.parquet``, ``rejected_rows.parquet``, ``exclusions.csv`` and, for
    the built-in sample, ``sample_truth.csv``.

    Parameters
    ----------
    config : Config
        What to read and compute.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        Rows to use instead of the configured source.

    Raises
    ------
    SourceError, SchemaError, EligibilityError, ConfigError
        If the rows cannot be had, used, or are too few for clustering.
    """
    chosen = feature_set(config.features.name)
    with (
        tempfile.TemporaryDirectory() as work,
        Artifacts(config.artifacts).stage("prepare", config) as out,
    ):
        prepared = prepare(config, Path(work), frame)
        _check_enough(prepared, config)
        batches = prepared.batches(config.clustering.batch_size)
        write_batches(batches, out.path("features.parquet"))
        prepared.sales.rejected.write_parquet(out.path("rejected_rows.parquet"))
        prepared.exclusions.write_csv(out.path("exclusions.csv"))
        if prepared.sales.truth is not None:
            prepared.sales.truth.write_csv(out.path("sample_truth.csv"))
        reasons = prepared.exclusions["reason"].value_counts(sort=True, name="n")
        out.facts |= {
            "feature_set": chosen.name,
            "features": chosen.names,
            "as_of": prepared.as_of,
            "notes": [*prepared.sales.intake.notes, *prepared.notes],
            "intake": prepared.sales.intake.to_dict(),
            "from_frame": frame is not None,
            "fingerprint": prepared.sales.fingerprint,
            "n_shops": prepared.shops.height,
            "n_eligible": len(prepared.eligible),
            "exclusions": {row["reason"]: row["n"] for row in reasons.to_dicts()},
        }
    lines = [
        *prepared.sales.intake.summary(),
        *prepared.notes,
        eligibility_line(out.facts),
        f"{len(chosen.names)} `{chosen.name}` features as of {prepared.as_of}.",
    ]
    return _result("prepare", config, out.facts, lines)


def train_autoencoder(config: Config) -> StageResult:
    """Stage 2: fit the scaler and the autoencoder.

    Writes ``autoencoder-model.keras``, ``feature-scaler.pkl`` (for notebooks),
    ``encoder-state.safetensors`` (what inference reads) and ``loss-plot.png``.
    """
    from core.reporting.plots import plot_loss

    with Artifacts(config.artifacts).stage("autoencoder", config) as out:
        _, X = training_table(out)
        scaler = FeatureScaler(**config.scaling.model_dump()).fit(X)
        scaled = scaler.transform(X)
        with progress("Training the autoencoder") as report:
            encoder = Autoencoder(
                **config.autoencoder.model_dump(), seed=config.seed, on_epoch=report
            ).fit(scaled)
        encoder.save_keras(out.path("autoencoder-model.keras"))
        _pickle(scaler, out.path("feature-scaler.pkl"))
        states = join_states(scaler=scaler.get_state(), encoder=encoder.get_state())
        save_arrays(out.path(ENCODER_STATE), *states)
        history = encoder.history_
        plot_loss(history, encoder.best_epoch_, out.path("loss-plot.png"))
        out.facts |= {
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
    return _result("autoencoder", config, facts, lines)


def train_clustering(config: Config) -> StageResult:
    """Stage 3: cluster the raw scaled features and the latent space.

    Writes ``cluster-state.safetensors`` (what inference reads), ``hdbscan-latent.pkl``
    and ``hdbscan-raw.pkl`` (for notebooks), ``comparison.csv`` and the plots.
    """
    from core.reporting.run import draw_spaces

    with Artifacts(config.artifacts).stage("clustering", config) as out:
        table, X = training_table(out)
        assert out.base is not None  # _training_table has read from it
        scaler, encoder = load_encoder(out.base)
        scaled = scaler.transform(X)
        spaces = {"latent": encoder.transform(scaled), "raw": scaled}
        fitted = {}
        for name, Z in spaces.items():
            get_logger().info("Clustering the %s space (%d shops)", name, len(Z))
            fitted[name] = _clusterer(config).fit(Z)
            _pickle(fitted[name].hdbscan_, out.path(f"hdbscan-{name}.pkl"))
        states = {name: clusterer.get_state() for name, clusterer in fitted.items()}
        save_arrays(out.path(CLUSTER_STATE), *join_states(**states))
        labels = {name: clusterer.labels_ for name, clusterer in fitted.items()}
        strengths = {name: clusterer.strengths_ for name, clusterer in fitted.items()}
        comparison = compare_spaces(labels, scaled, strengths)
        comparison.write_csv(out.path("comparison.csv"))
        check = _check_structure(scaled, config)
        projections = {name: project_2d(Z) for name, Z in spaces.items()}
        features = out.base.manifest.facts("prepare")["features"]
        draw_spaces(out.folder, projections, labels, table, features)
        out.facts |= {
            "spaces": {
                name: asdict(label_summary(values)) for name, values in labels.items()
            },
            "structure_check": check.as_dict(),
        }
    lines = [*space_lines(out.facts["spaces"]), f"Structure check: {check.verdict}."]
    return _result("clustering", config, out.facts, lines)


def run_inference(config: Config, frame: Any = None) -> StageResult:
    """Stage 4: label every shop, from the saved artifacts alone.

    Writes ``cluster_predictions.csv`` and ``cluster_insights.csv``; for the training
    data also ``report.html``, for other data ``scored_rejected_rows.parquet``.

    Parameters
    ----------
    config : Config
        Other data than the training data is scored if its ``data`` section says so.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        Rows to score instead.
    """
    from core.reporting.report import content_verdict, write_report
    from core.reporting.run import report_content

    artifacts = Artifacts(config.artifacts)
    base = artifacts.base("inference")
    is_training_data = frame is None and base is not None and _is_same(config, base)
    source = base if is_training_data else artifacts.serving()
    if source is None:
        raise ArtifactError(
            f"`{config.artifacts}` holds no model. Run the training pipelines first."
        )
    saved = source.manifest.config
    with (
        tempfile.TemporaryDirectory() as work,
        artifacts.stage("inference", saved, is_serving=not is_training_data) as out,
    ):
        assert out.base is not None  # `source`, opened again under the lock
        model = Model.from_set(out.base)
        if is_training_data:
            scored, exclusions = score_training(out.base, model)
            rejected = None
        else:
            prepared = prepare(config, Path(work), frame)
            scored, exclusions = model.score(prepared), prepared.exclusions
            rejected = prepared.sales.rejected
        table = Path(work) / "scored.parquet"
        counts = write_predictions(
            scored, exclusions, out.path("cluster_predictions.csv"), table
        )
        insights = insights_of(table, model, SPACES)
        insights.write_csv(out.path("cluster_insights.csv"))
        out.facts |= counts | {"is_training_data": is_training_data}
        if rejected is not None:
            rejected.write_parquet(out.path("scored_rejected_rows.parquet"))
        if is_training_data:
            content = report_content(out.base, table, SPACES, insights)
            write_report(content, out.path("report.html"))
    lines = inference_lines(out.facts, Path(config.artifacts))
    closing = []
    if is_training_data:
        facts = out.base.manifest.facts("clustering")
        closing = closing_table(facts["spaces"])
        lines += [
            f"Verdict: {content_verdict(content).headline}.",
            f"Report: {Path(config.artifacts) / 'report.html'}",
        ]
    return _result("inference", config, out.facts, lines, closing)


def run_all(config: Config, frame: Any = None) -> list[StageResult]:
    """Run the four stages one after the other."""
    return [
        prepare_features(config, frame),
        train_autoencoder(config),
        train_clustering(config),
        run_inference(config),
    ]


def _check_enough(prepared: Prepared, config: Config) -> None:
    """Raise unless there are shops enough for one cluster and for its density."""
    clustering = config.clustering
    needed = max(clustering.min_cluster_size, clustering.min_samples + 1, MIN_SHOPS)
    require_eligible(prepared.shops, config.eligibility, needed)


def training_table(out: StageWriter) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the features of the set that a stage builds on, as table and matrix."""
    if out.base is None:
        raise ArtifactError(
            f"there are no features yet. Run `python {SCRIPTS['prepare']}` first."
        )
    facts = out.base.manifest.facts("prepare")
    table = pl.read_parquet(out.base.path("features.parquet"), memory_map=False)
    return table, feature_matrix(table, facts["features"])


def _pickle(value: Any, path: Path) -> None:
    """Write a pickle for notebooks; nothing here ever reads one."""
    with path.open("wb") as stream:
        pickle.dump(value, stream)


def _clusterer(config: Config) -> DensityClusterer:
    """Return an unfitted clusterer with the configured parameters."""
    clustering = config.clustering
    return DensityClusterer(
        min_cluster_size=clustering.min_cluster_size,
        min_samples=clustering.min_samples,
        selection_method=clustering.selection_method,
    )


def _check_structure(scaled: np.ndarray, config: Config) -> StructureCheck:
    """Compare the run's clustering with that of data without structure."""
    with progress("Clustering data without structure, for comparison") as report:
        return structure_check(
            scaled,
            lambda Z: _clusterer(config).fit(Z).labels_,
            n_null=N_NULLS,
            seed=config.seed,
            on_step=report,
        )


def _names_same_data(config: Config, saved: Config) -> bool:
    """Whether two configurations name the same data."""
    return config.data == saved.data and config.sample == saved.sample


def _is_same(config: Config, artifact_set: ArtifactSet) -> bool:
    """Whether a configuration names the data that the set was trained on."""
    manifest = artifact_set.manifest
    if not _names_same_data(config, manifest.config):
        return False
    if config.data.source != "input":
        return True
    return bool(source_fingerprint(config) == manifest.facts("prepare")["fingerprint"])


def _result(
    stage: Stage,
    config: Config,
    facts: dict[str, Any],
    lines: list[str],
    table: list[dict[str, str]] | None = None,
) -> StageResult:
    """Say where a finished stage's files lie."""
    artifacts = Artifacts(config.artifacts)
    is_pending = artifacts.pending_folder.is_dir()
    folder = artifacts.pending_folder if is_pending else artifacts.root
    if is_pending:
        lines.append(
            f"Built aside in {folder}; {artifacts.root} keeps its complete run until "
            "this one is complete too."
        )
    return StageResult(stage, folder, facts, lines, table or [])
