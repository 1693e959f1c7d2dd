"""Segments of shops on a continuum of trends, held against what was planted.

::

    python benchmarks/continuum.py                          # this code
    python benchmarks/continuum.py --checkout ../before     # another checkout of it

Twelve archetypes of unequal shares: steady, growing and fading shops, whose trends
spread until they touch (44%), and nine with a season of their own. Months vary with a
coefficient of variation of 0.8, and eight months of the third year are a shock to the
whole market. Nothing but sales rows reaches the product, which runs with its defaults.

Per seed, over shops that have a segment (-1 is one), as adjusted Rand index with the
archetypes, and among steady, growing and fading shops alone: the published segments;
the flat view, in which a divided segment counts as its sub-segments; a mixture that is
told the number of archetypes; and a forest that has learnt from four fifths of the
shops which archetype they are, as a ceiling. Mixture and forest see the features that
are clustered, and momentum.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import polars as pl
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from core.config import Config
from core.evaluation.comparison import recipe_of
from core.models.preprocessing import FeatureScaler
from core.models.scaling import feature_matrix
from core.retailers.archetypes import (
    Archetype,
    ArchetypeFamily,
    Jitter,
    Peak,
    draw_population,
)
from core.retailers.features import MOMENTUM, feature_set
from core.retailers.sample import (
    catalogue_size_for,
    draw_baskets,
    draw_demand,
    month_starts,
    rows_table,
)
from core.tables.frames import identifiers

REPOSITORY = Path(__file__).resolve().parents[1]
SEEDS = (901, 902, 903, 904, 905)
N_SHOPS = 3000
N_MONTHS = 36
MONTHLY_CV = 0.8
PRODUCTS_PER_MONTH = 4.0
# Of the third year: the market halves, and comes back step by step.
SHOCK = {26: 0.5, 27: 0.5, 28: 0.55, 29: 0.6, 30: 0.7, 31: 0.8, 32: 0.9, 33: 0.95}
CONTINUUM = ("steady", "growing", "fading")
SUMMER, FESTIVE = (Peak(7.0, 2.3, 2.0),), (Peak(12.0, 2.6, 3.5),)
FAMILY = ArchetypeFamily(
    (
        Archetype("steady", 0.22),
        Archetype("growing", 0.12, growth=0.7),
        Archetype("fading", 0.10, growth=-0.7),
        Archetype("summer", 0.14, SUMMER),
        Archetype("festive", 0.11, FESTIVE),
        Archetype("spring", 0.08, (Peak(4.5, 2.3, 2.5),)),
        Archetype("autumn", 0.06, (Peak(10.0, 2.3, 2.5),)),
        Archetype("new_year", 0.05, (Peak(1.5, 2.3, 3.0),)),
        Archetype("two_peaks", 0.04, (Peak(4.0, 2.3, 4.0), Peak(10.0, 2.3, 4.0))),
        Archetype("summer_closed", 0.03, (Peak(8.0, -2.5, 3.0),)),
        Archetype("summer_growing", 0.03, SUMMER, growth=0.7),
        Archetype("festive_fading", 0.02, FESTIVE, growth=-0.7),
    ),
    Jitter(growth=0.15, breadth_growth=0.1),
)


def generate(n_shops: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return sales rows, and ``shop_id, archetype`` of every shop."""
    people, demands, baskets = np.random.default_rng(seed).spawn(3)
    population = draw_population(FAMILY, "archetypes", 0.0, n_shops, people)
    months = month_starts("2021-01", N_MONTHS)
    calendar = months.dt.month().to_numpy()
    demand = draw_demand(population, calendar, MONTHLY_CV, PRODUCTS_PER_MONTH, demands)
    market = np.array([SHOCK.get(month, 1.0) for month in range(N_MONTHS)])
    units = np.maximum(np.rint(demand.units * market), 1).astype(np.int64)
    catalogue = catalogue_size_for(PRODUCTS_PER_MONTH)
    sales = list(draw_baskets(demand._replace(units=units), catalogue, baskets))
    ids = identifiers("S", n_shops, width=6)
    rows = rows_table(sales, ids, identifiers("P", catalogue, width=4), months)
    names = pl.Series([archetype.name for archetype in FAMILY.archetypes])
    truth = {"shop_id": ids, "archetype": names.gather(population.first)}
    return rows, pl.DataFrame(truth)


def published(checkout: Path, sales: Path, artifacts: Path) -> pl.DataFrame:
    """Run the product's defaults; return ``shop_id, segment, leaf`` of who has one."""
    command = [sys.executable, "-m", "core", "run", "--input", str(sales)]
    subprocess.run(
        [*command, "--artifacts", str(artifacts)],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = pl.read_csv(artifacts / "cluster_predictions.csv", infer_schema=False)
    segment = pl.col("segment")
    inside = pl.col("sub_segment") if "sub_segment" in found.columns else segment
    leaf = pl.coalesce(inside, segment).alias("leaf")
    return found.drop_nulls("segment").select("shop_id", "segment", leaf)


def measure(checkout: Path, n_shops: int, seed: int) -> dict[str, float]:
    """Return the figures of one seed."""
    rows, truth = generate(n_shops, seed)
    with tempfile.TemporaryDirectory() as folder:
        sales, artifacts = Path(folder, "sales.parquet"), Path(folder, "artifacts")
        rows.write_parquet(sales)
        labels = published(checkout, sales, artifacts)
        features = pl.read_parquet(artifacts / "features.parquet", memory_map=False)
    mixture = recipe_of("raw", "mixture", Config(), len(FAMILY.archetypes))
    known = labels.join(truth, on="shop_id").join(features, on="shop_id")
    names = [*feature_set("behaviour").names, *MOMENTUM]
    X = feature_matrix(known, [name for name in names if name in known.columns])
    archetype = known["archetype"].to_numpy()
    told = {
        "published": known["segment"].to_numpy(),
        "flat": known["leaf"].to_numpy(),
        "mixture, true k": mixture(X, seed)(X),
        "forest, told": forest_labels(X, archetype, seed),
    }
    trend = known["archetype"].is_in(CONTINUUM).to_numpy()
    scores = {}
    for name, own in told.items():
        scores[name] = adjusted_rand_score(archetype, own)
        scores[f"{name}: trends"] = adjusted_rand_score(archetype[trend], own[trend])
    return scores | {
        "largest": largest_share(known["segment"]),
        "largest leaf": largest_share(known["leaf"]),
        "leaves": known["leaf"].n_unique(),
        "shops": known.height,
    }


def forest_labels(X: np.ndarray, archetype: np.ndarray, seed: int) -> np.ndarray:
    """Return the archetype that a forest takes each shop for, not having seen it."""
    scaled = FeatureScaler(**Config().scaling.model_dump()).fit_transform(X)
    forest = RandomForestClassifier(400, min_samples_leaf=3, random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(forest, scaled, archetype, cv=folds))


def largest_share(labels: pl.Series) -> float:
    """Return the share of shops in the largest group."""
    return float(labels.value_counts()["count"].max()) / len(labels)


def main() -> None:
    """Print a row per figure, a column per seed, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, default=REPOSITORY)
    parser.add_argument("--shops", type=int, default=N_SHOPS)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    chosen = parser.parse_args()
    checkout = chosen.checkout.resolve()
    seeds = SEEDS[: chosen.seeds]
    rows = [measure(checkout, chosen.shops, seed) for seed in seeds]
    print(f"| {chosen.shops:,} shops | {' | '.join(map(str, seeds))} | mean |")
    print("| --- |" + " ---: |" * (len(rows) + 1))
    for name in rows[0]:
        values = [row[name] for row in rows]
        cells = " | ".join(f"{value:.3g}" for value in [*values, mean(values)])
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
