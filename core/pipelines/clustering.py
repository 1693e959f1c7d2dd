"""Stage 3: the clusters of the latent space and of the raw features."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from core.arrays import save_arrays
from core.artifacts import Artifacts, StageWriter
from core.clustering.density import DensityClusterer
from core.clustering.options import choose_density, fit_density
from core.config import Config
from core.evaluation.null import StructureCheck, structure_check
from core.evaluation.quality import compare_spaces, label_summary, project_2d
from core.inference import CLUSTER_STATE, Model, join_states, load_encoder
from core.logging import get_logger, progress
from core.pipelines.common import (
    StageResult,
    stage_result,
    training_table,
    write_pickle,
)
from core.pipelines.lineage import found_predecessor
from core.pipelines.publishing import published_opening
from core.pipelines.segments import TrainingShops, learn_segments
from core.reporting.summary import space_lines

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
    from core.reporting.drawing import draw_spaces

    with Artifacts(config.artifacts).stage("clustering", config) as out:
        table, X = training_table(out)
        assert out.base is not None  # _training_table has read from it
        scaler, encoder = load_encoder(out.base)
        scaled = scaler.transform(X)
        spaces = {"latent": encoder.transform(scaled), "raw": scaled}
        near = None if predecessor is None else predecessor.latent_labels(X)
        fitted = _fit_spaces(spaces, out, near)
        labels = {name: clusterer.labels_ for name, clusterer in fitted.items()}
        strengths = {name: clusterer.strengths_ for name, clusterer in fitted.items()}
        comparison = compare_spaces(labels, scaled, strengths)
        comparison.write_csv(out.path("comparison.csv"))
        check = check_structure(scaled, config)
        draw_spaces(out.folder, {"raw": project_2d(scaled)}, labels)
        features = out.base.manifest.facts("prepare")["features"]
        out.facts |= {
            "spaces": {
                name: asdict(label_summary(values)) for name, values in labels.items()
            },
            "structure_check": check.as_dict(),
        }
        shops = TrainingShops(table, features, X, scaled, spaces["latent"])
        before = predecessor or found_predecessor(
            Artifacts(config.artifacts), table, features
        )
        published = learn_segments(out, shops, fitted["latent"], check, before)
    lines = [
        *space_lines(out.facts["spaces"]),
        f"Structure check: {check.verdict}.",
        f"Partition: {out.facts['partition']['reason']}.",
        *published_opening(published).lines,
    ]
    return stage_result("clustering", config, out.facts, lines)


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
