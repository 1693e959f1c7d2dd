"""How often the clustering study of baskets sees groups where there are none.

Makes features of customers of known make, with groups and without, runs the study on
each, and prints one row per kind of population: how often each verdict came, and how
far the clusters chosen agree with the planted groups (adjusted Rand index):
``python benchmarks/basket_study.py --customers 600 --draws 20``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import adjusted_rand_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.baskets.features import BEHAVIOUR
from core.baskets.study import Study, run_study
from core.evaluation.workers import Workers

N_AISLES = 40
AISLES = [f"aisle_{place}_goods" for place in range(1, N_AISLES + 1)]
N = len(BEHAVIOUR)
Made = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Behaviour, shares of aisles, and planted groups or None."""


def shares(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """Return shares of aisles that scatter around weights, and sum to 1."""
    amounts = rng.gamma(weights)
    return amounts / np.maximum(amounts.sum(axis=1, keepdims=True), 1e-12)


def flat(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return shares of customers who all have the same taste."""
    return shares(rng, np.full((n, N_AISLES), 0.5))


def independent(rng: np.random.Generator, n: int) -> Made:
    """Return habits that have nothing to do with one another."""
    return rng.normal(size=(n, N)), flat(rng, n), None


def one_gaussian(rng: np.random.Generator, n: int) -> Made:
    """Return one correlated normal population."""
    drivers = rng.normal(size=(n, 4))
    own = drivers @ rng.normal(size=(4, N)) + rng.normal(size=(n, N))
    return own, np.exp(drivers @ rng.normal(0, 0.5, (4, N_AISLES))) * flat(rng, n), None


def heavy_tails(rng: np.random.Generator, n: int) -> Made:
    """Return log-normal habits and amounts with common drivers."""
    drivers = rng.normal(size=(n, 3))
    own = drivers @ rng.normal(0, 0.5, (3, N)) + 0.7 * rng.normal(size=(n, N))
    log = drivers @ rng.normal(0, 0.5, (3, N_AISLES)) + rng.normal(size=(n, N_AISLES))
    amounts = np.exp(log)
    return np.exp(own), amounts / amounts.sum(axis=1, keepdims=True), None


def gradients(rng: np.random.Generator, n: int) -> Made:
    """Return two even gradients that habits and tastes follow up to a limit."""
    place = rng.random((n, 2)) - 0.5
    own = np.tanh(place @ rng.normal(0, 2, (2, N))) + 0.3 * rng.normal(size=(n, N))
    log = 2 * np.tanh(place @ rng.normal(0, 2, (2, N_AISLES)))
    return own, shares(rng, 0.5 * np.exp(log)), None


def bend(rng: np.random.Generator, n: int) -> Made:
    """Return one even gradient that habits go up and down with."""
    turns, start = rng.uniform(0.5, 2, N + N_AISLES), rng.uniform(0, 6.3, N + N_AISLES)
    waves = np.sin(np.pi * rng.random((n, 1)) * turns + start)
    own = waves[:, :N] + 0.3 * rng.normal(size=(n, N))
    return own, shares(rng, 0.5 * np.exp(1.5 * waves[:, N:])), None


def arc(rng: np.random.Generator, n: int) -> Made:
    """Return an even gradient that goes up one habit, along another, and down again."""
    way = 4 * rng.random(n)
    across = np.clip(way - 1.5, 0, 1)
    along = np.minimum(np.minimum(way, 4 - way), 1.5)
    plane = np.column_stack([across, along])
    own = plane @ rng.normal(0, 2, (2, N)) + 0.3 * rng.normal(size=(n, N))
    return own, flat(rng, n), None


def groups(
    rng: np.random.Generator, n: int, sizes: tuple[float, ...], *, in_behaviour: bool
) -> Made:
    """Return groups of unequal sizes, in behaviour and tastes or in tastes only."""
    kind = rng.choice(len(sizes), n, p=sizes)
    weights = np.full((len(sizes), N_AISLES), 0.5)
    for own in weights:
        own[rng.choice(N_AISLES, 8, replace=False)] *= 5
    centres = rng.normal(size=(len(sizes), N)) * in_behaviour
    return centres[kind] + rng.normal(size=(n, N)), shares(rng, weights[kind]), kind


def groups_of_habits(rng: np.random.Generator, n: int) -> Made:
    """Return three groups that differ in behaviour only."""
    kind = rng.choice(3, n, p=(0.6, 0.3, 0.1))
    centres = 1.5 * rng.normal(size=(3, N))
    return centres[kind] + rng.normal(size=(n, N)), flat(rng, n), kind


POPULATIONS: dict[str, Callable[[np.random.Generator, int], Made]] = {
    "independent habits": independent,
    "one correlated normal": one_gaussian,
    "log-normal, heavy tails": heavy_tails,
    "two gradients": gradients,
    "a gradient that bends": bend,
    "an arc": arc,
    "3 groups, behaviour": groups_of_habits,
    "4 groups, aisles only": partial(
        groups, sizes=(0.45, 0.3, 0.15, 0.1), in_behaviour=False
    ),
    "5 groups, both": partial(
        groups, sizes=(0.35, 0.25, 0.2, 0.12, 0.08), in_behaviour=True
    ),
}


def features_of(own: np.ndarray, tastes: np.ndarray) -> pl.DataFrame:
    """Return a table as `core.baskets.features.customer_features` makes it."""
    columns = dict(zip(BEHAVIOUR, own.T, strict=True)) | dict(
        zip(AISLES, tastes.T, strict=True)
    )
    ids = [str(number) for number in range(len(own))]
    return pl.DataFrame({"customer_id": ids} | columns)


def studied(name: str, customers: int, seed: int) -> tuple[Study, float | None]:
    """Run the study on one draw; return it and its agreement with what was planted."""
    rng = np.random.default_rng([seed, list(POPULATIONS).index(name)])
    own, tastes, kind = POPULATIONS[name](rng, customers)
    features = features_of(own, tastes)
    study = run_study(features, AISLES, seed=seed, max_customers=customers, epochs=0)
    if kind is None or study.labels is None:
        return study, None
    truth = pl.DataFrame({"customer_id": features["customer_id"], "kind": kind})
    both = study.labels.join(truth, on="customer_id")
    return study, adjusted_rand_score(both["kind"], both["cluster"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=600)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--only", choices=list(POPULATIONS), action="append")
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    print(f"{'population':26} none  weak  clear  ARI with the planted  seconds a study")
    with Workers(given.workers) as workers:
        for name in given.only or POPULATIONS:
            started = time.perf_counter()
            tasks = [
                partial(studied, name, given.customers, seed)
                for seed in range(given.first_seed, given.first_seed + given.draws)
            ]
            found = [result for _, result in workers.run(tasks)]
            said = Counter(study.verdict for study, _ in found)
            aris = sorted(ari for _, ari in found if ari is not None)
            planted = "-"
            if aris:
                planted = f"{np.median(aris):.2f} ({aris[0]:.2f} to {aris[-1]:.2f})"
            seconds = (time.perf_counter() - started) / given.draws
            print(
                f"{name:26} {said['none']:4}  {said['weak']:4}  {said['clear']:5}  "
                f"{planted:20}  {seconds:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
