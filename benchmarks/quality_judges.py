"""What `quality.py` measures: one function per kind of result.

All options are the defaults; a method of the table differs from ours by what its name
says. KMeans and the mixture are told the true number of archetypes, which nobody has in
practice.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import continuum
import numpy as np
import polars as pl
import quality_data as data
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from core.artifacts.manifest import read_manifest
from core.config import Config
from core.evaluation.certificate import Certificate, certify_table, derive_verdict
from core.evaluation.comparison import recipe_of
from core.evaluation.n_segments import partition_recipe
from core.evaluation.out_of_time import backtest_cuts, labels_over_time, out_of_time
from core.evaluation.quality import label_summary
from core.evaluation.splits import choose_split
from core.evaluation.stability import (
    Recipe,
    Refit,
    agreement,
    cluster_stability,
    refit,
    whole_pipeline,
)
from core.models.preprocessing import FeatureScaler
from core.models.scaling import feature_matrix
from core.retailers.features import SHOP
from core.retailers.files import RETAILERS
from core.retailers.history import HISTORY, MONTHLY
from core.retailers.pipelines import check_structure, run_all
from core.tables.frames import identifiers

N_NULLS = 19
N_SUBSAMPLES = 3
N_SEEDS = 2
Result = dict[str, Any]


def published_recipe() -> Recipe:
    """Return the reference as published: its latent space, HDBSCAN(50) on it."""
    config = Config.model_validate(
        {"clustering": {"min_cluster_size": 50, "min_samples": 50}}
    )
    return recipe_of("reference", "hdbscan", config)


METHODS: dict[str, tuple[str, Callable[[Config, int], Recipe]]] = {
    "ours": ("behaviour", lambda config, k: whole_pipeline(config)),
    "reference recipe": ("baseline", lambda config, k: published_recipe()),
    "PCA + HDBSCAN": ("behaviour", lambda c, k: recipe_of("pca", "hdbscan", c)),
    "UMAP + HDBSCAN": ("behaviour", lambda c, k: recipe_of("umap", "hdbscan", c)),
    "KMeans, true k": ("behaviour", lambda c, k: recipe_of("raw", "kmeans", c, k)),
    "mixture, true k": ("behaviour", lambda c, k: recipe_of("raw", "mixture", c, k)),
}


def judge_planted(
    family: str, difficulty: str, n_shops: int, seed: int, method: str
) -> Result:
    """Compare one method's labels with what was planted."""
    shops = data.planted(family, difficulty, n_shops, seed)
    config = Config()
    name, make = METHODS[method]
    X = shops.features[name]
    started = time.perf_counter()
    labels = make(config, shops.n_archetypes)(X, config.seed)(X)
    seconds = time.perf_counter() - started
    summary, known = label_summary(labels), shops.is_archetype
    return {
        "ari": float(adjusted_rand_score(shops.archetype[known], labels[known])),
        "noise": summary.noise_ratio,
        "clusters": summary.n_clusters,
        "effective": summary.effective_clusters,
        "true_effective": shops.effective_archetypes,
        "between_noise": float((labels[~known] == -1).mean()),
        "n_eligible": len(X),
        "seconds": seconds,
    }


def judge_stability(family: str, difficulty: str, n_shops: int, seed: int) -> Result:
    """Refit the whole pipeline on 80% of the shops, and with other training seeds."""
    shops = data.planted(family, difficulty, n_shops, seed)
    X, config = shops.features["behaviour"], Config()
    recipe = whole_pipeline(config)
    reference = recipe(X, config.seed)(X)
    parts = refit(X, recipe, config.seed, N_SUBSAMPLES)
    seeds = refit(X, recipe, config.seed, N_SEEDS, "seed")
    both = [reference, *(found.labels for found in seeds)]
    between = [
        float(adjusted_rand_score(both[i], both[j]))
        for i in range(len(both))
        for j in range(i)
    ]
    return {
        "refit_ari": agreement(reference, parts)["ari"].to_list(),
        "seed_ari": between,
        "fitted_ari": [_truth_ari(shops, found, is_seen=True) for found in parts],
        "held_out_ari": [_truth_ari(shops, found, is_seen=False) for found in parts],
    }


def _truth_ari(shops: data.Shops, found: Refit, *, is_seen: bool) -> float:
    """Return the agreement with the truth of shops learnt from, or of the others."""
    rows = shops.is_archetype & (found.is_seen == is_seen)
    return float(adjusted_rand_score(shops.archetype[rows], found.labels[rows]))


def judge_structureless(kind: str, number: int) -> Result:
    """Ask both checks about data without structure."""
    return _both_checks(data.structureless(kind, number))


def judge_natural(family: str, difficulty: str, seed: int) -> Result:
    """Ask both checks about planted archetypes."""
    shops = data.planted(family, difficulty, data.PLANTED_SHOPS, seed)
    return _both_checks(shops.features["behaviour"])


def _both_checks(X: np.ndarray) -> Result:
    """Ask the certificate, and the quick check of a run, whether there is structure."""
    config = Config()
    recipe = whole_pipeline(config)
    labels = recipe(X, config.seed)(X)
    started = time.perf_counter()
    found = certify_table(X, recipe, seed=config.seed, n_null=N_NULLS, labels=labels)
    seconds = time.perf_counter() - started
    kind = _certified(X, recipe, config.seed, labels, found)
    scaler = FeatureScaler(**config.scaling.model_dump())
    quick = check_structure(scaler.fit_transform(X), config)
    return {
        "n_shops": len(X),
        "clusters": found.clusters.n_clusters,
        "p_value": found.p_value,
        "n_nulls": found.n_null,
        "is_natural": kind == "natural",
        "is_quick_natural": quick.is_structured and found.clusters.n_clusters > 1,
        "seconds": seconds,
    }


def _certified(
    X: np.ndarray, recipe: Recipe, seed: int, labels: np.ndarray, found: Certificate
) -> str:
    """Return the kind of verdict that the certificate gives, without a partition."""
    jaccard = None
    if found.is_structured:
        clusters = cluster_stability(labels, refit(X, recipe, seed, N_SUBSAMPLES))
        jaccard = float(np.average(clusters["jaccard"], weights=clusters["size"]))
    return derive_verdict(
        is_structured=found.is_structured,
        n_clusters=found.clusters.n_clusters,
        partition_ari=None,
        cluster_jaccard=jaccard,
        is_certified=True,
    ).kind


def judge_inside(kind: str, number: int) -> Result:
    """Look inside data without structure, as if it were one large segment."""
    X, config = data.structureless(kind, number), Config()
    names = [f"feature_{place}" for place in range(X.shape[1])]
    shops = identifiers("S", len(X), width=6).alias(SHOP.id_column)
    table = pl.DataFrame(X, schema=names).insert_column(0, shops)
    past = pl.DataFrame(schema={"as_of": pl.String} | table.schema)
    nothing = past, pl.DataFrame(), config, SHOP
    found = choose_split(table, names, *nothing, seed=config.seed)
    is_natural = found.split is not None and found.split.kind == "density"
    return {"n_shops": len(X), "is_natural": is_natural}


def judge_continuum(n_shops: int, seed: int) -> Result:
    """Run the product on shops on a continuum of trends."""
    return continuum.measure(continuum.REPOSITORY, n_shops, seed)


def judge_real(name: str, groups: str | None = None) -> Result:
    """Run the four pipelines with the defaults, and the certificate after them."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        started = time.perf_counter()
        run_all(data.REAL[name].config(folder))
        seconds = time.perf_counter() - started
        root = Path(folder)
        manifest = read_manifest(root, RETAILERS)
        assert manifest is not None  # written by the run
        config, facts = manifest.config, manifest.facts("clustering")
        features = manifest.facts("prepare")["features"]
        X = feature_matrix(pl.read_parquet(root / "features.parquet"), features)
        predictions = pl.read_csv(
            root / "cluster_predictions.csv", schema_overrides={"shop_id": pl.String}
        ).filter(pl.col("latent_cluster").is_not_null())
        cuts = backtest_cuts(
            pl.read_parquet(root / HISTORY, memory_map=False),
            pl.read_parquet(root / MONTHLY, memory_map=False),
            features,
            config.evaluation.horizon_months,
            SHOP,
        )
    recipe = whole_pipeline(config)
    reference = recipe(X, config.seed)(X)
    certificate = certify_table(X, recipe, seed=config.seed, labels=reference)
    latent, partition = facts["spaces"]["latent"], facts["partition"]
    is_density = predictions["segment_kind"][0] == "density"
    numbers = partition["method"], partition["n_segments"]
    asked = recipe if is_density else partition_recipe(config, *numbers)
    score = _later_score(asked, cuts, config.seed)
    refits = refit(X, recipe, config.seed, N_SUBSAMPLES)
    return {
        "n_eligible": len(X),
        "verdict": facts["verdict"]["kind"],
        "certified": _certified(X, recipe, config.seed, reference, certificate),
        "p_value": certificate.p_value,
        **{key: latent[key] for key in ("n_clusters", "noise_ratio")},
        **{key: latent[key] for key in ("effective_clusters", "largest_share")},
        "refit_ari": float(agreement(reference, refits)["ari"].to_numpy().mean()),
        "partition": f"{partition['n_segments']} ({partition['method']})",
        "partition_ari": partition["stability"]["ari"],
        "out_of_time": score[0],
        "out_of_time_se": score[1],
        **_agreement_with_groups(name, predictions, groups),
        "seconds": seconds,
    }


def _later_score(
    recipe: Recipe, cuts: list[Any], seed: int
) -> tuple[float | None, float | None]:
    """Return what the published kind of segments explains of later months."""
    if not cuts:
        return None, None
    found = out_of_time(cuts, labels_over_time(cuts, recipe, seed), seed)
    if not np.isfinite(found.standard_error):
        return None, None
    return found.mean, found.standard_error


def _agreement_with_groups(
    name: str, predictions: pl.DataFrame, file: str | None
) -> Result:
    """Return how the published segments agree with what the shops are known by."""
    known, words = data.known_groups(name), data.REAL[name].groups
    if file is not None:
        known, words = pl.read_csv(file, infer_schema=False), Path(file).stem
    if known is None:
        return {"groups": "", "ami": None}
    both = predictions.join(known.select("shop_id", "group"), on="shop_id")
    ami = adjusted_mutual_info_score(both["group"], both["segment"])
    return {"groups": words, "ami": float(ami), "n_grouped": both.height}


JUDGES: dict[str, Callable[..., Result]] = {
    "planted": judge_planted,
    "stability": judge_stability,
    "structureless": judge_structureless,
    "natural": judge_natural,
    "inside": judge_inside,
    "continuum": judge_continuum,
    "real": judge_real,
}
