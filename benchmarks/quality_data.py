"""The data that `quality.py` judges by: planted, without structure, and real.

Everything here is fixed beforehand: seeds, sizes and eligibility. Nothing is chosen by
what comes out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from core.config import Config
from core.evaluation.null import fit_gaussian_copula
from core.models.scaling import feature_matrix
from core.retailers.features import FEATURE_SETS, feature_set
from core.retailers.prepare import prepare
from core.retailers.sample import generate_sales

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SEEDS = (501, 502, 503, 504, 505)
SIZES = (5000, 20_000)
DIFFICULTIES = ("easy", "medium", "hard")
N_PER_KIND = 25
# Shops of data without structure: from 600 to 2,000, each data set another number.
STRUCTURELESS_SHOPS = (600, 2000)
PLANTED_SHOPS = 1500
HALF_A_YEAR = {"min_tenure_years": 0.5, "min_avg_active_months_per_year": 3}


class Shops(NamedTuple):
    """The eligible shops of generated sales, and what was planted.

    ``features`` maps a feature set to its unscaled matrix; ``archetype`` is "none" for
    shops in between.
    """

    features: dict[str, np.ndarray]
    is_archetype: np.ndarray
    archetype: np.ndarray

    @property
    def n_archetypes(self) -> int:
        """Archetypes that an eligible shop has, at least 2."""
        return max(2, len(set(self.archetype[self.is_archetype])))

    @property
    def effective_archetypes(self) -> float:
        """exp(entropy) of the sizes of the archetypes."""
        counts = np.unique(self.archetype[self.is_archetype], return_counts=True)[1]
        shares = counts / counts.sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))


@lru_cache(maxsize=1)
def planted(family: str, difficulty: str, n_shops: int, seed: int) -> Shops:
    """Generate sales with planted archetypes; compute both feature sets."""
    sample = {"difficulty": difficulty, "n_shops": n_shops, "family": family}
    config = Config.model_validate({"sample": sample, "seed": seed})
    made = generate_sales(config.sample, seed)
    tables = {name: features_of(config, made.rows, name) for name in FEATURE_SETS}
    shop_ids = tables["behaviour"].select("shop_id")
    truth = shop_ids.join(made.truth, on="shop_id", maintain_order="left")
    features = {}
    for name, table in tables.items():
        rows = shop_ids.join(table, on="shop_id", how="left", maintain_order="left")
        features[name] = feature_matrix(rows, feature_set(name).names)
    return Shops(
        features,
        (truth["kind"] == "archetype").to_numpy(),
        truth["archetype"].fill_null("none").to_numpy(),
    )


def features_of(config: Config, rows: Any, name: str) -> pl.DataFrame:
    """Return the features of the eligible shops of some sales rows."""
    features = config.features.model_copy(update={"name": name})
    chosen = config.model_copy(update={"features": features})
    with tempfile.TemporaryDirectory() as work:
        prepared = prepare(chosen, Path(work), rows)
        return pl.concat(prepared.batches(50_000))


@dataclass(frozen=True)
class Real:
    """A data set beside the repository, and how it is read.

    Attributes
    ----------
    file : str
        Below the folder of shared data.
    eligibility : dict
        What fits its span; nothing else is chosen for it.
    columns : dict
        As `data.columns`.
    groups : str
        What its shops are known by, in words; empty where nothing is.
    """

    file: str
    eligibility: dict[str, float] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    groups: str = ""

    def config(self, artifacts: str = "artifacts") -> Config:
        """Return the configuration of a default run on it."""
        data = {
            "source": "input",
            "input": str(SHARED / self.file),
            "columns": self.columns,
        }
        return Config.model_validate(
            {"artifacts": artifacts, "data": data, "eligibility": self.eligibility}
        )


REAL = {
    "Iowa liquor stores": Real("iowa_dev/monthly.parquet"),
    "Online Retail": Real(
        "online_retail/monthly.parquet", HALF_A_YEAR, groups="country"
    ),
    "The Complete Journey": Real(
        "complete_journey_sample/monthly.parquet", groups="household income"
    ),
}


def known_groups(name: str) -> pl.DataFrame | None:
    """Return ``shop_id, group`` as the owners of a data set tell; None if they do not.

    The country that most of a customer's orders come from; the income of a household,
    where it was told. The names of the Iowa stores, which tell their chains, are not
    in the data kept beside the repository: pass them with ``--groups``.
    """
    if name == "Online Retail":
        orders = pl.read_parquet(SHARED / "online_retail" / "orders.parquet")
        return orders.group_by(shop_id=pl.col("customer_id").cast(pl.String)).agg(
            group=pl.col("country").mode().sort().first()
        )
    if name == "The Complete Journey":
        folder = SHARED / "complete_journey_sample"
        people = pl.read_parquet(folder / "demographics.parquet")
        known = people.select(shop_id="household_id", group="income")
        return known.drop_nulls().cast(pl.String)
    return None


KINDS = ("one population", "column shuffle", "uniform", "copula of real data")


def structureless_sets() -> Iterator[tuple[str, int]]:
    """Yield kind and number of every data set without structure."""
    for number in range(N_PER_KIND):
        for kind in KINDS:
            if kind != "copula of real data" or SHARED.is_dir():
                yield kind, number


def structureless(kind: str, number: int) -> np.ndarray:
    """Return one data set without structure: unscaled features, NaN where unknown."""
    rng = np.random.default_rng([KINDS.index(kind), number])
    n_shops = int(rng.integers(*STRUCTURELESS_SHOPS))
    difficulty = DIFFICULTIES[number % len(DIFFICULTIES)]
    if kind == "one population":
        sample = {"difficulty": difficulty, "n_shops": n_shops, "structure": "none"}
        config = Config.model_validate({"sample": sample, "seed": number})
        rows = generate_sales(config.sample, number).rows
        table = features_of(config, rows, "behaviour")
        return feature_matrix(table, feature_set("behaviour").names)
    if kind == "column shuffle":
        X = planted("fmcg", difficulty, n_shops, number).features["behaviour"]
        return np.column_stack([rng.permutation(column) for column in X.T])
    if kind == "uniform":
        return rng.uniform(size=(n_shops, int(rng.integers(5, 30))))
    name = list(REAL)[number % len(REAL)]
    return fit_gaussian_copula(_real_features(name), rng).sample(rng)


@lru_cache(maxsize=len(REAL))
def _real_features(name: str) -> np.ndarray:
    """Return the features of a real data set."""
    with tempfile.TemporaryDirectory() as work:
        prepared = prepare(REAL[name].config(), Path(work))
        table = pl.concat(prepared.batches(50_000))
    return feature_matrix(table, feature_set("behaviour").names)
