"""Any feature table: `StableSegmenter` beside KMeans, k-prototypes and HDBSCAN.

Prints three Markdown tables: packaged tables with known classes, generated tables with
planted groups, and generated tables of one population, on which the verdict must not be
*natural*: ``python benchmarks/any_table.py --draws 10``. The classes of a packaged
table need not be groups of its columns. The penguins take part where they are installed
(``pip install --no-deps palmerpenguins``).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.metrics import adjusted_rand_score, silhouette_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.models.density import smallest_size
from core.tabular.estimator import StableSegmenter

Table = tuple[pd.DataFrame, np.ndarray]
Draw = Callable[[np.random.Generator, int], Table]
MOST = 10


def packaged() -> dict[str, Table]:
    """Return the packaged tables with their classes."""
    loaders = {
        "iris": load_iris,
        "wine": load_wine,
        "breast cancer": load_breast_cancer,
        "digits": load_digits,
    }
    found = {}
    for name, load in loaders.items():
        data = load(as_frame=True)
        found[name] = data.data, data.target.to_numpy()
    from statsmodels.datasets import anes96, modechoice

    votes = anes96.load_pandas().data
    found["votes of 1996"] = votes.drop(columns=["vote", "logpopul"]), votes["vote"]
    trips = modechoice.load_pandas().data
    columns = ["ttme", "invc", "invt", "gc"]
    found["modes of travel"] = trips[columns], trips["mode"]
    if (spec := find_spec("palmerpenguins")) is not None and spec.origin is not None:
        file = Path(spec.origin).parent / "data" / "penguins.csv"
        birds = pd.read_csv(file)
        found["penguins"] = birds.drop(columns=["species", "year"]), birds["species"]
    return {name: (X, np.asarray(y)) for name, (X, y) in found.items()}


def planted(
    n_groups: int,
    *,
    numbers: int = 0,
    categories: int = 0,
    levels: int = 4,
    distance: float = 5.0,
    purity: float = 0.8,
    noise: int = 0,
    shares: tuple[float, ...] = (),
    is_skewed: bool = False,
    missing: float = 0.0,
    length: float = 1.0,
) -> Draw:
    """Return a draw of groups in numbers (`distance` apart at least) and categories.

    Of a category, a group has its own level with probability `purity`; `noise` columns,
    half of them categories, know nothing of the groups. Numbers are drawn out to
    `length` times their width in a direction by lot, groups and noise alike.
    """

    def draw(rng: np.random.Generator, n: int) -> Table:
        group = rng.choice(n_groups, n, p=shares or None)
        columns: dict[str, object] = {}
        if numbers:
            centres = rng.normal(size=(n_groups, numbers))
            apart = np.linalg.norm(centres[:, None] - centres, axis=2)
            nearest = apart[np.triu_indices(n_groups, 1)].min(initial=np.inf)
            centres *= distance / nearest if n_groups > 1 else 1.0
            values = centres[group] + rng.normal(size=(n, numbers))
            if length != 1.0:
                along = rng.normal(size=numbers)
                along /= np.linalg.norm(along)
                values += (length - 1.0) * np.outer(values @ along, along)
            values = np.exp(values / 2) if is_skewed else values
            values[rng.random(values.shape) < missing] = np.nan
            columns |= {f"number {i}": values[:, i] for i in range(numbers)}
        for i in range(categories):
            own = rng.integers(0, levels, n_groups)[group]
            drawn = rng.integers(0, levels, n)
            is_own = rng.random(n) < (purity if n_groups > 1 else 0.0)
            told = np.where(is_own, own, drawn).astype(str).astype(object)
            told[rng.random(n) < missing] = None
            columns[f"category {i}"] = told
        for i in range(noise):
            drawn = rng.normal(size=n) if i % 2 else rng.integers(0, 3, n).astype(str)
            columns[f"noise {i}"] = drawn
        return pd.DataFrame(columns), group

    return draw


def missing_together(rng: np.random.Generator, n: int) -> Table:
    """Return three groups that only differ in which three of 6 numbers are missing."""
    group = rng.integers(0, 3, n)
    likely = np.array([[0.02] * 6, [0.9] * 3 + [0.02] * 3, [0.02] * 3 + [0.9] * 3])
    values = rng.normal(size=(n, 6))
    values[rng.random((n, 6)) < likely[group]] = np.nan
    return pd.DataFrame(values).add_prefix("number "), group


def zeros(rng: np.random.Generator, n: int) -> Table:
    """Return three groups that only differ in which of 6 amounts are 0."""
    group = rng.integers(0, 3, n)
    likely = np.array([[0.9] * 2 + [0.1] * 4, [0.1] * 2 + [0.9] * 4, [0.1] * 6])
    values = rng.lognormal(3.0, 0.7, (n, 6))
    values[rng.random((n, 6)) < likely[group]] = 0.0
    return pd.DataFrame(values).add_prefix("amount "), group


PLANTED: dict[str, Draw] = {
    "3 in 6 numbers": planted(3, numbers=6),
    "5 in 6 numbers": planted(5, numbers=6),
    "3 in 6 numbers, skewed": planted(3, numbers=6, is_skewed=True),
    "3 in 4 numbers, 6 columns of noise": planted(3, numbers=4, noise=6),
    "3 (70, 25 and 5%) in 5 numbers": planted(3, numbers=5, shares=(0.7, 0.25, 0.05)),
    "4 in 8 categories": planted(4, categories=8),
    "3 in 3 numbers and 4 categories": planted(3, numbers=3, categories=4),
    "3 in 3 numbers and 4 categories, 10% missing": planted(
        3, numbers=3, categories=4, missing=0.1
    ),
    "4, near: 3 in 4 numbers and 4 categories": planted(
        4, numbers=4, categories=4, distance=3.0
    ),
    "3 in 4 numbers, drawn out 5 times": planted(3, numbers=4, length=5.0),
    "2 (98.5 and 1.5%) in 4 numbers": planted(
        2, numbers=4, distance=9.0, shares=(0.985, 0.015)
    ),
    "4 in 15 numbers and 15 categories": planted(
        4, numbers=15, categories=15, distance=8.0
    ),
    "3 told by missing cells": missing_together,
    "3 told by zeros among amounts": zeros,
}


def correlated(rng: np.random.Generator, n: int) -> Table:
    """Return normal numbers that depend on each other."""
    X = rng.normal(size=(n, 8)) @ rng.normal(size=(8, 8))
    return pd.DataFrame(X, columns=[f"x{i}" for i in range(8)]), np.zeros(n)


def behaviour(rng: np.random.Generator, n: int) -> Table:
    """Return what a shop knows of customers of one kind: counts, amounts, shares."""
    rate = rng.gamma(2.0, 3.0, n)
    orders = 1 + rng.poisson(rate)
    table = pd.DataFrame(
        {
            "orders": orders,
            "spend": orders * rng.lognormal(3.0, 0.5, n),
            "days": rng.exponential(60, n),
            "online": rng.beta(2.0, 2.0, n),
            "age": rng.normal(45, 14, n).round(),
            "country": rng.choice(["FR", "DE", "ES", "IT", "PT"], n, p=P_COUNTRIES),
            "has_card": rng.random(n) < 0.4,
        }
    )
    return table, np.zeros(n)


def amounts(rng: np.random.Generator, n: int) -> Table:
    """Return amounts of which half are 0, whatever the others are."""
    values = rng.lognormal(3.0, 1.0, (n, 4)) * (rng.random((n, 4)) < 0.5)
    return pd.DataFrame(values).add_prefix("amount "), np.zeros(n)


def visits(rng: np.random.Generator, n: int) -> Table:
    """Return counts that are mostly 0."""
    values = rng.poisson(0.4 * rng.gamma(1.0, 1.0, (n, 6)))
    return pd.DataFrame(values).add_prefix("count "), np.zeros(n)


def of_one(rng: np.random.Generator, n: int) -> Table:
    """Return shares that add up to 1."""
    values = rng.dirichlet([0.5] * 5, n)
    return pd.DataFrame(values).add_prefix("share "), np.zeros(n)


def hours(rng: np.random.Generator, n: int) -> Table:
    """Return an hour of the day as sine and cosine, beside an amount."""
    hour = rng.uniform(0.0, 2 * np.pi, n)
    table = {"sine": np.sin(hour), "cosine": np.cos(hour)}
    return pd.DataFrame({**table, "amount": rng.lognormal(3.0, 1.0, n)}), np.zeros(n)


P_COUNTRIES = (0.5, 0.25, 0.15, 0.07, 0.03)
NOTHING: dict[str, Draw] = {
    "6 numbers": planted(1, numbers=6),
    "8 correlated numbers": correlated,
    "6 skewed numbers": planted(1, numbers=6, is_skewed=True),
    "6 categories of 4 levels": planted(1, categories=6),
    "4 categories of 12 levels": planted(1, categories=4, levels=12),
    "3 numbers and 4 categories": planted(1, numbers=3, categories=4),
    "the same, 10% missing": planted(1, numbers=3, categories=4, missing=0.1),
    "customers of one kind": behaviour,
    "4 amounts, half of them 0": amounts,
    "6 counts, mostly 0": visits,
    "5 shares that add up to 1": of_one,
    "an hour as sine and cosine": hours,
}


def encoded(table: pd.DataFrame) -> np.ndarray:
    """Return what a notebook would: medians, standard deviations, one-hot."""
    numbers = table.select_dtypes("number")
    rest = table[[c for c in table if c not in numbers]]
    numbers = numbers.fillna(numbers.median())
    numbers = (numbers - numbers.mean()) / numbers.std().replace(0, 1)
    if rest.shape[1] == 0:
        return numbers.to_numpy(float)
    levels = pd.get_dummies(rest.astype(object), dummy_na=False)
    return np.hstack([numbers.to_numpy(float), levels.to_numpy(float)])


def kmeans(X: np.ndarray, n: int) -> np.ndarray:
    """Return KMeans's clusters."""
    return KMeans(n, n_init=10, random_state=0).fit_predict(X)


def kmeans_by_silhouette(X: np.ndarray) -> np.ndarray:
    """Return KMeans's clusters of the number with the largest silhouette."""
    tried = [kmeans(X, n) for n in range(2, MOST + 1)]
    return max(tried, key=lambda own: silhouette_score(X, own, sample_size=2000,
                                                       random_state=0))  # fmt: skip


def k_prototypes(table: pd.DataFrame, n: int, n_init: int = 5) -> np.ndarray:
    """Return k-prototypes (Huang, 1998): means of numbers, modes of categories.

    A mismatch costs half of the numbers' mean standard deviation, squared distances
    being of standardised numbers.
    """
    numbers = table.select_dtypes("number")
    N = encoded(numbers) if numbers.shape[1] else np.zeros((len(table), 0))
    rest = table[[c for c in table if c not in numbers]].astype(object)
    C = np.column_stack(
        [pd.factorize(rest[c], use_na_sentinel=False)[0] for c in rest]
        or [np.zeros(len(table), int)]
    )
    best, least = np.zeros(len(table), int), np.inf
    for seed in range(n_init):
        rng = np.random.default_rng(seed)
        start = rng.choice(len(table), n, replace=False)
        means, modes = N[start], C[start]
        for _ in range(50):
            cost = ((N[:, None] - means) ** 2).sum(axis=2)
            cost = cost + 0.5 * (C[:, None] != modes).sum(axis=2)
            labels = cost.argmin(axis=1)
            before = means.copy(), modes.copy()
            for k in np.unique(labels):
                means[k] = N[labels == k].mean(axis=0)
                modes[k] = [np.bincount(c[labels == k]).argmax() for c in C.T]
            if np.allclose(before[0], means) and (before[1] == modes).all():
                break
        if (total := cost.min(axis=1).sum()) < least:
            best, least = labels, total
    return best


def hdbscan(X: np.ndarray) -> np.ndarray:
    """Return HDBSCAN's clusters, -1 for noise, with our smallest size."""
    return HDBSCAN(min_cluster_size=smallest_size(len(X)), copy=True).fit_predict(X)


def number_of(labels: np.ndarray) -> int:
    """Return how many clusters there are, noise left out."""
    return len(np.unique(labels[labels >= 0]))


def row_of(table: pd.DataFrame, truth: np.ndarray) -> list[tuple[float, int, str]]:
    """Return the ARI with the truth, the number, and the verdict, by method."""
    ours = StableSegmenter().fit(table)
    X, n = encoded(table), len(np.unique(truth))
    found = [(ours.labels_, ours.verdict_.kind)]
    found += [(kmeans_by_silhouette(X), ""), (hdbscan(X), "")]
    found += [(kmeans(X, n), ""), (k_prototypes(table, n), "")]
    return [
        (adjusted_rand_score(truth, own), number_of(own), verdict)
        for own, verdict in found
    ]


METHODS = (
    "`StableSegmenter`",
    "KMeans, silhouette",
    "HDBSCAN",
    "KMeans, told",
    "k-prototypes, told",
)
HEAD = " | ".join(METHODS)


def told(values: list[float], numbers: list[int]) -> str:
    """Return a mean ARI, with the number found most often."""
    n = Counter(numbers).most_common(1)[0][0]
    return f"{np.mean(values):.2f} ({n})"


def print_packaged() -> None:
    """Print a row per packaged table."""
    print(f"| table | rows, columns | classes | verdict | {HEAD} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (table, truth) in packaged().items():
        own = row_of(table, truth)
        cells = " | ".join(told([ari], [n]) for ari, n, _ in own)
        shape = f"{table.shape[0]:,}, {table.shape[1]}"
        n = len(np.unique(truth))
        print(f"| {name} | {shape} | {n} | {own[0][2]} | {cells} |", flush=True)


def print_planted(n_rows: int, n_draws: int) -> None:
    """Print a row per kind of planted groups."""
    print(f"| groups | natural | {HEAD} |")
    print("|---|---|---|---|---|---|---|")
    for name, draw in PLANTED.items():
        rows = [
            row_of(*draw(np.random.default_rng(seed), n_rows))
            for seed in range(n_draws)
        ]
        n_natural = sum(row[0][2] == "natural" for row in rows)
        cells = " | ".join(
            told([row[i][0] for row in rows], [row[i][1] for row in rows])
            for i in range(len(rows[0]))
        )
        print(f"| {name} | {n_natural} of {n_draws} | {cells} |", flush=True)


def print_nothing(sizes: list[int], n_draws: int) -> None:
    """Print a row per kind of one population: false alarms, by number of rows."""
    heads = " | ".join(f"{n:,} rows" for n in sizes)
    print(f"| one population | {heads} | HDBSCAN finds clusters |")
    print("|---|" + "---|" * (len(sizes) + 1))
    for name, draw in NOTHING.items():
        cells, n_found = [], 0
        for n in sizes:
            n_natural = 0
            for seed in range(n_draws):
                table, _ = draw(np.random.default_rng(seed), n)
                verdict = StableSegmenter(max_segments=6).fit(table).verdict_
                n_natural += verdict.kind == "natural"
                n_found += number_of(hdbscan(encoded(table))) > 1
            cells.append(f"{n_natural} of {n_draws}")
        found = f"{n_found} of {len(sizes) * n_draws}"
        print(f"| {name} | {' | '.join(cells)} | {found} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument(
        "--only", choices=("packaged", "planted", "nothing"), default=None
    )
    options = parser.parse_args()
    if options.only in (None, "packaged"):
        print_packaged()
    if options.only in (None, "planted"):
        print_planted(options.rows, options.draws)
    if options.only in (None, "nothing"):
        print_nothing([100, 300, options.rows], options.draws)


if __name__ == "__main__":
    main()
