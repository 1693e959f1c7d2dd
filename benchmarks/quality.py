"""How well planted archetypes are found, by representation, on the built-in generator.

For every difficulty, size and seed, the shops' features are clustered by HDBSCAN with
the default options in several spaces, and compared with the truth that the pipelines
never see: ``python benchmarks/quality.py``. KMeans is given the true number of
archetypes, which nobody has in practice.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.clustering.density import DensityClusterer
from core.config import Config
from core.data.synthetic import generate_sales
from core.evaluation.quality import label_summary, principal_scores
from core.features.preparation import prepare
from core.features.retailer import feature_set
from core.features.scaling import FeatureScaler
from core.inference import feature_matrix
from core.representation.autoencoder import Autoencoder

Labels = np.ndarray


class Shops(NamedTuple):
    """The scaled features of the eligible shops, and what was planted."""

    behaviour: np.ndarray
    baseline: np.ndarray
    is_archetype: np.ndarray
    archetype: np.ndarray


class Result(NamedTuple):
    """One clustering against the truth; shares are of all shops."""

    ari: float
    noise: float
    clusters: float
    effective: float
    between_noise: float
    seconds: float


def make_shops(difficulty: str, structure: str, n_shops: int, seed: int) -> Shops:
    """Generate sales and compute both feature sets of the eligible shops."""
    sample = {"difficulty": difficulty, "structure": structure, "n_shops": n_shops}
    config = Config.model_validate({"sample": sample, "seed": seed})
    made = generate_sales(config.sample, seed)
    tables = {}
    for name in ("behaviour", "baseline"):
        features = config.features.model_copy(update={"name": name})
        chosen = config.model_copy(update={"features": features})
        with tempfile.TemporaryDirectory() as work:
            prepared = prepare(chosen, Path(work), made.rows)
            table = pl.concat(prepared.batches(50_000))
        tables[name] = table
    truth = tables["behaviour"].select("shop_id").join(made.truth, on="shop_id")
    scaled = FeatureScaler().fit_transform(
        feature_matrix(tables["behaviour"], feature_set("behaviour").names)
    )
    robust = FeatureScaler(method="robust").fit_transform(
        feature_matrix(tables["baseline"], feature_set("baseline").names)
    )
    return Shops(
        scaled,
        robust,
        (truth["kind"] == "archetype").to_numpy(),
        truth["archetype"].fill_null("none").to_numpy(),
    )


def hdbscan_in(space: np.ndarray) -> Labels:
    """Return the labels of HDBSCAN with the default options."""
    return DensityClusterer().fit(space).labels_


def kmeans(shops: Shops) -> Labels:
    """Return the labels of KMeans, given the true number of archetypes."""
    n = len(set(shops.archetype[shops.is_archetype])) or 8
    return KMeans(n, n_init=5, random_state=0).fit_predict(shops.behaviour)


def encoded(architecture: str, table: np.ndarray) -> Labels:
    """Return the labels in the latent space of an architecture."""
    return hdbscan_in(Autoencoder(architecture).fit_transform(table))


METHODS: dict[str, Callable[[Shops], Labels]] = {
    "`neighbours` latent": lambda s: encoded("neighbours", s.behaviour),
    "`denoising` latent": lambda s: encoded("denoising", s.behaviour),
    "raw features": lambda s: hdbscan_in(s.behaviour),
    "5 principal components": lambda s: hdbscan_in(principal_scores(s.behaviour, 5)[0]),
    "reference recipe": lambda s: encoded("reference", s.baseline),
    "KMeans, true k": kmeans,
}


def judge(shops: Shops, method: Callable[[Shops], Labels]) -> Result:
    """Run one method; noise counts as a class of its own in the ARI."""
    started = time.perf_counter()
    labels = method(shops)
    seconds = time.perf_counter() - started
    known = shops.is_archetype
    ari = float("nan")
    if known.any():
        ari = adjusted_rand_score(shops.archetype[known], labels[known])
    between = labels[~known] == -1 if known.any() else np.array([])
    summary = label_summary(labels)
    return Result(
        ari,
        summary.noise_ratio,
        summary.n_clusters,
        summary.effective_clusters,
        float(between.mean()) if len(between) else float("nan"),
        seconds,
    )


def row(name: str, results: list[Result]) -> str:
    """Return a table row: medians over the seeds, and the lowest ARI."""
    ari, noise, n, effective, between, seconds = (
        statistics.median(values) for values in zip(*results, strict=True)
    )
    lowest = min(result.ari for result in results)
    cells = [name, f"{ari:.2f}", f"{lowest:.2f}", f"{noise:.1%}", f"{n:.0f}"]
    cells += [f"{effective:.1f}", f"{between:.0%}", f"{seconds:.1f}"]
    return f"| {' | '.join('-' if 'nan' in cell else cell for cell in cells)} |"


def main() -> None:
    """Judge every method on every kind of data, and print one table per kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", type=int, default=5000)
    parser.add_argument(
        "--seeds", type=int, default=5, help="generator seeds, from 101"
    )
    parser.add_argument(
        "--difficulty", nargs="+", default=["easy", "medium", "hard", "none"]
    )
    chosen = parser.parse_args()
    seeds = range(101, 101 + chosen.seeds)
    for difficulty in chosen.difficulty:
        structure = "none" if difficulty == "none" else "archetypes"
        level = "medium" if difficulty == "none" else difficulty
        data = [make_shops(level, structure, chosen.shops, seed) for seed in seeds]
        print(f"\n{difficulty}: {chosen.shops:,} shops, {chosen.seeds} seeds\n")
        print(
            "| HDBSCAN in | ARI | lowest ARI | noise | clusters | effective "
            "| in-between shops found as noise | seconds |\n|---|" + "---:|" * 7
        )
        for name, method in METHODS.items():
            print(row(name, [judge(shops, method) for shops in data]), flush=True)


if __name__ == "__main__":
    main()
