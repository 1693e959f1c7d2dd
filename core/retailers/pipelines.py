"""The four stages of a run, from a configuration to saved artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.artifacts.arrays import join_states, save_arrays
from core.artifacts.folder import Artifacts, StageResult, StageWriter, put
from core.artifacts.manifest import Manifest
from core.artifacts.reading import ArtifactSet, read_published
from core.artifacts.spreadsheet import safe_table
from core.config import Config
from core.errors import PROGRAM, ArtifactError, ConfigError, preceded_by
from core.evaluation.quality import compare_spaces, label_summary, project_2d
from core.logging import get_logger, progress
from core.models.autoencoder.network import Codec
from core.resolve import resolve_config, unaddressed
from core.retailers import prepare
from core.retailers.features import SHOP, feature_set
from core.retailers.files import (
    RETAILERS,
    SCORED_REJECTED,
    Stage,
    refuse_late_changes,
)
from core.retailers.history import write_history
from core.retailers.model import (
    CLUSTER_STATE,
    ENCODER_STATE,
    LIFE_CYCLE,
    SHOP_STATES,
    Model,
    labelled,
    load_encoder,
)
from core.retailers.monthly import ARCHIVE, write_archive
from core.retailers.on_spark import is_on_spark, prepared_on_spark
from core.retailers.playbook import shop_playbook
from core.retailers.presets import settings_of
from core.retailers.publish import publish_training, published_opening
from core.retailers.report.evidence import (
    report_lines,
)
from core.retailers.report.scorecard_words import scorecard_answers
from core.retailers.report.tree import inside_sentences
from core.retailers.scored import predictions, write_scored
from core.retailers.shop_files import FOLDER, WORKBOOK
from core.retailers.states import state_counts, state_table, states_lines
from core.scratch import temporary_folder
from core.segments.published import PublishedSegments
from core.spark.session import session
from core.spark.sources import told_of
from core.spark.tables import output_of, read, write
from core.tables.sales import Sales, source_fingerprint

# What only learning needs, 1.5 s of scikit-learn and SciPy, the functions import that
# learn: preparing and labelling do not wait for it.
if TYPE_CHECKING:
    from core.evaluation.null import StructureCheck
    from core.models.autoencoder.estimator import Autoencoder
    from core.models.density import DensityClusterer
    from core.models.preprocessing import FeatureScaler


def prepare_features(config: Config, frame: Any = None) -> StageResult:
    """Stage 1: from sales rows to the features of the eligible shops.

    Writes ``features.parquet``, ``rejected_rows.parquet``, ``exclusions.csv``; the
    states of all shops, ``shop_states.csv``, and what tells them, ``life-cycle.json``;
    for looking back ``history.parquet``, ``state-history.parquet``, ``later.parquet``
    and ``monthly.parquet``; for monthly refreshes ``sales.parquet``; for the built-in
    sample ``sample_truth.csv``.

    Parameters
    ----------
    config : Config
        What to read and compute.
    frame : pandas, Polars, DuckDB or Arrow table, Spark DataFrame or Sales, optional
        Rows to use instead of the configured source.

    Raises
    ------
    SourceError, SchemaError, EligibilityError, ConfigError
        If the rows cannot be had, used, or are too few for clustering.

    Examples
    --------
    Of `examples/steps.py`:

    ```python
    prepared = prepare_features(config)
    ```
    """
    shop_playbook(config)  # a fault in it is told before the work
    with (
        temporary_folder() as work,
        Artifacts(config.artifacts, RETAILERS).stage("prepare", config) as out,
    ):
        if is_on_spark(config, frame):
            prepared, lines = _prepare_on_spark(config, work, frame, out)
        else:
            prepared = prepare.prepare(config, work, frame)
            lines = []
        _check_enough(prepared, config)
        _write_prepared(prepared, out)
        out.facts |= {
            "from_frame": frame is not None and not isinstance(frame, Sales),
            "from_archive": isinstance(frame, Sales),
        }
    chosen = feature_set(config.features.name)
    lines = [
        *prepared.sales.intake.summary(),
        *prepared.notes,
        *(lines or [_eligibility_line(out.facts)]),
        *states_lines(out.facts["states"]),
        f"{len(chosen.names)} `{chosen.name}` features as of {prepared.as_of}.",
    ]
    return Artifacts(config.artifacts, RETAILERS).result("prepare", out.facts, lines)


def _prepare_on_spark(
    config: Config, work: Path, frame: Any, out: StageWriter
) -> tuple[prepare.Prepared, list[str]]:
    """Write what is of everyone, and return the sample; with what to say of both."""
    output = output_of(config)
    with prepared_on_spark(config, frame) as everyone:
        sales = everyone.sample(work)
        features = config.features.model_copy(update={"as_of": everyone.as_of})
        prepared = prepare.prepare(
            config.model_copy(update={"features": features}),
            work,
            sales,
            life_cycle=everyone.life_cycle,
        )
        prepared = replace(prepared, notes=everyone.notes)
        written = everyone.write(output)
        facts = everyone.facts() | {"output": output}
    sampled = prepared.facts()
    n_sample = sampled["n_shops"]
    is_sampled = n_sample < facts["n_shops"]
    out.facts["everyone"] = facts | {"is_sampled": is_sampled}
    lines = [_eligibility_line(facts)]
    lines += [f"Everyone's {name}: {where}" for name, where in written.items()]
    if is_sampled:
        lines.append(
            f"The artifacts hold a sample of {n_sample:,} shops, drawn by a hash of "
            f"their ids: {sampled['n_eligible']:,} are eligible."
        )
    return prepared, lines


def _write_prepared(prepared: prepare.Prepared, out: StageWriter) -> None:
    """Write the files of stage 1, and what is told of them as facts."""
    config, sales = out.config, prepared.sales
    chosen = feature_set(config.features.name)
    batches = prepared.batches(config.clustering.batch_size)
    prepare.write_batches(batches, out.path("features.parquet"))
    sales.rejected.write_parquet(out.path("rejected_rows.parquet"))
    out.write_csv("exclusions.csv", prepared.exclusions)
    if sales.truth is not None:
        sales.truth.write_csv(out.path("sample_truth.csv"))
    write_archive(sales, out.path(ARCHIVE))
    cuts = write_history(prepared, out.folder)
    out.write_csv(SHOP_STATES, state_table(prepared))
    life_cycle = prepared.life_cycle.to_json()
    out.path(LIFE_CYCLE).write_text(life_cycle, encoding="utf-8", newline="\n")
    out.facts |= {
        "feature_set": chosen.name,
        "features": chosen.names,
        "csv_safety": config.csv_safety,  # of exclusions.csv
        "as_of": prepared.as_of,
        "notes": [*sales.intake.notes, *prepared.notes],
        "intake": sales.intake.to_dict(),
        "fingerprint": sales.fingerprint,
        **prepared.facts(),
        "cuts": cuts,
        "states": state_counts(prepared.states),
    }


def _check_enough(prepared: prepare.Prepared, config: Config) -> None:
    """Raise unless there are shops enough for one cluster and for its density.

    What became of the rows comes first: most may have been set aside before.
    """
    needed = config.clustering.n_needed
    with preceded_by(prepared.sales.intake.summary()):
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

    Examples
    --------
    Of `examples/steps.py`:

    ```python
    trained = train_autoencoder(config)
    ```
    """
    from core.models.autoencoder.estimator import Autoencoder
    from core.models.preprocessing import FeatureScaler
    from core.reporting.plots import plot_loss
    from core.retailers.training import training_table, write_pickle

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
        states = join_states(
            scaler=scaler.get_state(), encoder=encoder.codec_.get_state()
        )
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
) -> Codec | None:
    """Return what training starts from; None, with the reason as a fact: anew."""
    from core.models.autoencoder.estimator import in_new_units

    if start is None:
        return None
    assert out.base is not None  # the training table was read from it
    features = out.base.manifest.facts("prepare")["features"]
    fault = encoder.start_fault(start.encoder, len(features))
    if start.features != features:
        fault = "it was trained on other features"
    if fault:
        out.facts["cold_reason"] = fault
        get_logger().warning("The autoencoder is trained from scratch: %s", fault)
        return None
    return in_new_units(start.encoder, start.scaler, scaler.scaling_)


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

    Examples
    --------
    Of `examples/steps.py`:

    ```python
    clustered = train_clustering(config)
    ```
    """
    from core.retailers.report.plots import draw_spaces
    from core.retailers.training import (
        TrainingShops,
        found_predecessor,
        learn_segments,
        training_table,
    )

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
        settings = {"seed": config.seed, **settings_of(config)}
        comparison.with_columns(
            pl.lit(value).alias(name) for name, value in settings.items()
        ).write_csv(out.path("comparison.csv"))
        check = check_structure(scaled, config)
        draw_spaces(out.folder, {"raw": project_2d(scaled)}, labels)
        features = out.base.manifest.facts("prepare")["features"]
        out.facts |= {
            "n_shops": table.height,
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
        *([f"Rules: {out.facts['rules']['reason']}."] if "rules" in out.facts else []),
        *published_opening(published, out.base.manifest).lines,
        *inside_sentences(published),
    ]
    return Artifacts(config.artifacts, RETAILERS).result("clustering", out.facts, lines)


def _fit_spaces(
    spaces: dict[str, np.ndarray], out: StageWriter, near: np.ndarray | None
) -> dict[str, DensityClusterer]:
    """Cluster every space, the latent one near earlier labels; save what was found."""
    from core.models.density import choose_density
    from core.retailers.training import write_pickle

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
    states = {
        name: clusterer.assigner_.get_state() for name, clusterer in fitted.items()
    }
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
    from core.evaluation.null import structure_check
    from core.models.density import fit_density

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


def run_inference(
    config: Config, frame: Any = None, output: str | Path | None = None
) -> StageResult:
    """Stage 4: label every shop, from the saved artifacts alone.

    For the training data it publishes ``cluster_predictions.csv``,
    ``cluster_insights.csv``, ``segment_insights.csv``, ``segments.json``,
    ``report.html``, and the files of `core.retailers.shop_files`. Other rows are
    scored, and nothing that is published changes.

    Parameters
    ----------
    config : Config
        Other data than the training data is scored if its ``data`` section says so.
    frame : pandas, Polars, DuckDB or Arrow table, or Spark DataFrame, optional
        Rows to score instead.
    output : path, optional
        Where labels are written to, as CSV or Parquet; whatever the rows are, they are
        scored then. Default: ``scored_predictions.csv`` in the artifacts folder. On
        Spark as `core.config.SparkConfig.output`, which is the default.

    Raises
    ------
    ArtifactError
        If there is no model, or another process is writing here.
    ConfigError
        If `output` cannot be written to.

    Examples
    --------
    Of `examples/steps.py`:

    ```python
    inferred = run_inference(config)
    ```
    """
    artifacts = Artifacts(config.artifacts, RETAILERS)
    base = artifacts.base("inference")
    is_apart = frame is not None or output is not None
    if base is None or is_apart or not is_same_data(config, base):
        return _score_rows(config, frame, output)
    shop_playbook(config)
    # What has judged a complete model stands: the same model labels the same shops.
    is_serving = base.manifest.is_complete
    saved = base.manifest.config
    told = {"csv_safety": config.csv_safety, "report": config.report}
    saved = saved.model_copy(update=told)
    with artifacts.stage("inference", saved, is_serving) as out:
        assert out.base is not None  # `base`, opened again under the lock
        model = Model.from_set(out.base)
        stage = out.base.manifest.stages.get("inference")
        out.facts |= stage.facts if stage is not None else {}
        published, closing = publish_training(out, model)
        everyone = _label_everyone(config, out.base.manifest, model)
        spaces = out.base.manifest.facts("clustering")["spaces"]
    lines = [
        _labelled_line(out.facts, artifacts.root / "cluster_predictions.csv"),
        *everyone,
        *published_opening(published, base.manifest).lines,
        *scorecard_answers(out.facts["scorecard"]),
        *report_lines("spaces", spaces=spaces),
        f"Report: {artifacts.root / 'report.html'}",
        f"Shops of each segment: {artifacts.root / WORKBOOK}, and as CSV files in "
        f"{artifacts.root / FOLDER}",
    ]
    return artifacts.result("inference", out.facts, lines, closing)


def _label_everyone(config: Config, manifest: Manifest, model: Model) -> list[str]:
    """Label everyone whose features are on Spark, if any are; say where."""
    facts = manifest.facts("prepare").get("everyone")
    if facts is None:
        return []
    spark, output = session(config.spark), facts["output"]
    with told_of(output):
        states = read(spark, output, "shop_states").select("shop_id", "state")
        features = read(spark, output, "features").join(states, "shop_id", "left")
        exclusions = read(spark, output, "exclusions")
        where = write(labelled(model, features, exclusions), output, "predictions")
    return [
        f"Everyone: {facts['n_eligible']:,} of {facts['n_shops']:,} shops have labels: "
        f"{where}"
    ]


SCORED = "scored_predictions.csv"


def _score_rows(config: Config, frame: Any, output: str | Path | None) -> StageResult:
    """Label the shops of other rows with the model that serves, into a file apart."""
    artifacts = Artifacts(config.artifacts, RETAILERS)
    if is_on_spark(config, frame):
        return _score_on_spark(config, frame, output)
    target = _scored_path(artifacts, config, output)
    model = _serving_model(artifacts)
    published = model.segments.published
    with temporary_folder() as work:
        prepared = prepare.prepare(
            config,
            work,
            frame,
            has_products=model.has_products,
            life_cycle=model.life_cycle,
        )
        labels, table = work / "labels", work / "table"
        n_labelled = write_scored(model.score(prepared), table)
        everyone = predictions(table, prepared.exclusions)
        if target.suffix.lower() == ".parquet":
            everyone.sink_parquet(labels)
        else:
            safe_table(everyone, config.csv_safety).sink_csv(labels)
        known = prepared.facts()
        n_others = known["n_shops"] - known["n_eligible"]
        facts: dict[str, Any] = {"labelled": n_labelled, "not_eligible": n_others}
        rejected = prepared.sales.rejected
        rejected.write_parquet(work / "rejected")
        target.parent.mkdir(parents=True, exist_ok=True)
        put(labels, target)
        put(work / "rejected", _rejected_path(target))
    told = [*prepared.sales.intake.summary(), *prepared.notes]
    lines = [*told, _labelled_line(facts, target)]
    if rejected.height:
        lines.append(
            f"{rejected.height:,} rows were set aside: {_rejected_path(target)}"
        )
    lines.append(_verdict_line(published))
    facts |= {"n_rejected": rejected.height, "verdict": published.verdict.model_dump()}
    return StageResult("inference", target.parent, facts, lines)


def _score_on_spark(
    config: Config, frame: Any, output: str | Path | None
) -> StageResult:
    """Label the shops of other rows on Spark, into tables apart."""
    artifacts = Artifacts(config.artifacts, RETAILERS)
    model = _serving_model(artifacts)
    target = output_of(config) if output is None else str(output)
    with prepared_on_spark(
        config, frame, has_products=model.has_products, life_cycle=model.life_cycle
    ) as prepared:
        labels = labelled(model, prepared.stated_features, prepared.exclusions)
        with told_of(prepared.name):
            where = write(labels, target, "scored_predictions")
            lines = [*prepared.intake.summary(), *prepared.notes]
            if prepared.rejected is not None:
                aside = write(prepared.rejected, target, "scored_rejected_rows")
                n = prepared.intake.rows_set_aside
                lines.append(f"{n:,} rows were set aside: {aside}")
        known = prepared.facts()
    n_rejected, n_labelled = prepared.intake.rows_set_aside, known["n_eligible"]
    verdict = model.segments.published.verdict.model_dump()
    facts = {
        "labelled": n_labelled,
        "not_eligible": known["n_shops"] - n_labelled,
        "n_rejected": n_rejected,
        "verdict": verdict,
    }
    lines += [_labelled_line(facts, where), _verdict_line(model.segments.published)]
    return StageResult("inference", artifacts.root, facts, lines)


def _rejected_path(target: Path) -> Path:
    """Return where rows that could not be scored are kept, beside the labels."""
    stem = target.stem.removesuffix("_predictions")
    return target.with_name(f"{stem}_rejected_rows.parquet")


def _scored_path(
    artifacts: Artifacts, config: Config, output: str | Path | None
) -> Path:
    """Return where labels are to be written to.

    Raises
    ------
    ConfigError
        If that is no CSV or Parquet file, is read from, or belongs to what is
        published.
    """
    target = artifacts.root / SCORED if output is None else Path(output)
    if target.suffix.lower() not in {".csv", ".parquet"} or target.is_dir():
        raise ConfigError(
            f"`--output {target}`: expected the path of a file that ends in `.csv` or "
            "`.parquet`."
        )
    found = artifacts.published()
    kept = {} if found is None else found.manifest.files
    taken = [artifacts.root / name for name in kept if name != SCORED_REJECTED]
    if config.data.input is not None:
        taken.append(Path(config.data.input))
    for path in (target, _rejected_path(target)):
        if path.resolve() in {other.resolve() for other in taken}:
            raise ConfigError(
                f"`--output {target}` would replace `{path}`, which is "
                "published or read. Pass another path."
            )
    return target


def _serving_model(artifacts: Artifacts) -> Model:
    """Return the model that scores new rows.

    Raises
    ------
    ArtifactError
        If there is none.
    """

    def read(_: ArtifactSet | None) -> Model:
        source = artifacts.serving()
        if source is None:
            raise ArtifactError(
                f"`{artifacts.root}` holds no model. Run the training pipelines first."
            )
        return Model.from_set(source)

    return read_published(artifacts.root, read, RETAILERS)


def _labelled_line(facts: Mapping[str, Any], path: Path | str) -> str:
    """Say how many shops have labels, and where these are."""
    line = f"{facts['labelled']:,} shops labelled"
    if facts["not_eligible"]:
        line += f", {facts['not_eligible']:,} listed with the reason why not"
    return f"{line}: {path}"


def _eligibility_line(facts: Mapping[str, Any]) -> str:
    """Say how many shops are eligible, and why the others are not."""
    reasons = "; ".join(f"{n:,} {reason}" for reason, n in facts["exclusions"].items())
    line = f"{facts['n_eligible']:,} of {facts['n_shops']:,} shops are eligible"
    return f"{line} ({reasons})." if reasons else f"{line}."


def _verdict_line(published: PublishedSegments) -> str:
    """Say under which verdict the segments are published."""
    verdict = published.verdict
    standing = "certified" if verdict.is_certified else "provisional"
    kind = verdict.kind.capitalize()
    return f"Verdict: {kind} ({standing}): {verdict.meaning(SHOP)}."


def run_all(config: Config, frame: Any = None) -> list[StageResult]:
    """Run the four stages one after the other.

    Examples
    --------
    Executed in full by ``examples/shops.py``.

    Of `examples/shops.py`:

    ```python
    config = Config(artifacts=folder, sample={"n_shops": 300})
    prepared, _, _, inferred = run_all(config)
    ```
    """
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

    Addresses come from the user alone (`core.resolve.unaddressed`). Who names no data
    means the training data, which inference does not read again.

    Raises
    ------
    ConfigError
        As `core.resolve.resolve_config`; also if an option differs that an earlier
        stage has already used.
    ArtifactError
        If an earlier stage has not run, or its artifacts are not sound.
    """
    config = resolve_config(file, flags, assignments)
    if stage == "prepare":
        return config
    artifacts = Artifacts(config.artifacts, RETAILERS)
    # The folder is where it was found, not where it was when it was written.
    flags = {**(flags or {}), "artifacts": config.artifacts}
    base = artifacts.base(stage)
    if base is None:
        raise ArtifactError(
            f"`{config.artifacts}` holds no artifacts yet. "
            f"Run `{PROGRAM} {RETAILERS.stages['prepare']}` first."
        )
    saved = base.manifest.config
    config = resolve_config(file, flags, assignments, base=unaddressed(saved))
    if stage == "inference" and not names_same_data(config, saved):
        base = artifacts.serving() or base
        saved = base.manifest.config
        config = resolve_config(file, flags, assignments, base=unaddressed(saved))
    if stage != "inference" and config.data == unaddressed(saved).data:
        config = config.model_copy(update={"data": saved.data})
    refuse_late_changes(base.manifest, config, stage)
    return config


def names_same_data(config: Config, saved: Config) -> bool:
    """Whether a configuration names the data of a saved one, or none of its own."""
    own, *known = (
        one.data.model_dump(mode="json") for one in (config, saved, unaddressed(saved))
    )
    is_known = own in known
    return is_known and config.sample == saved.sample


def is_same_data(config: Config, artifact_set: ArtifactSet) -> bool:
    """Whether a configuration names the data that the set was trained on."""
    manifest = artifact_set.manifest
    if not names_same_data(config, manifest.config):
        return False
    facts = manifest.facts("prepare")
    # A refit learns from the archive, which grew out of the source that is named.
    # On Spark, everyone's features are already where stage 1 has written them.
    if config.data.input is None or facts.get("from_archive") or "everyone" in facts:
        return True
    return bool(source_fingerprint(config) == facts["fingerprint"])
