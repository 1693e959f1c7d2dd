"""How often the criterion of the axes finds planted groups, and groups in none.

Draws customers of known make, chooses the number of segments as `./run.sh axes` does,
and prints one row per kind of population: how often the answer was right, beside what
the largest silhouette alone (the reference recipe, on the same scaled features) says:
``python benchmarks/axes_criterion.py --customers 3000 --draws 20``.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.models.centroids import learn_scaling, one_thread
from core.models.criterion import Choice, Drawn, choose_segments
from core.models.valleys import spread_ties

Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return standard normal noise."""
    return rng.normal(size=shape)


def tails(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return noise with long tails: Student's t, 4 degrees of freedom."""
    return rng.standard_t(4, shape)


def skew(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return skewed noise of about unit spread: lognormal."""
    return rng.lognormal(0, 0.5, shape) / 0.6


def box(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return even noise of unit spread."""
    return rng.uniform(-1.73, 1.73, shape)


def groups(
    n_groups: int,
    n_features: int,
    distance: float,
    shares: tuple[float, ...],
    noise: Callable[..., np.ndarray] = normal,
) -> Draw:
    """Return a draw of groups, the nearest two `distance` apart."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        centres = rng.normal(size=(n_groups, n_features))
        apart = np.linalg.norm(centres[:, None] - centres, axis=2)
        centres *= distance / apart[np.triu_indices(n_groups, 1)].min()
        group = rng.choice(n_groups, n, p=shares)
        return centres[group] + noise(rng, (n, n_features))

    return draw


def flags_together(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return four answers, mostly yes from 30% and mostly no from the others."""
    chance = np.where(rng.random(n) < 0.3, 0.92, 0.06)[:, None]
    return np.column_stack([rng.random((n, 4)) < chance, rng.normal(size=n)])


def zero_or_sum(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return a sum and a rate that are 0 for 65%."""
    amount, rate = rng.normal(3, 0.6, n), rng.beta(2, 8, n) + 0.02
    return np.where(rng.random(n) < 0.35, [amount, rate], 0.0).T


def rates(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return the discount rates of a few orders each: 30% hunters, 70% others."""
    orders = 1 + rng.geometric(0.15, n)
    share = rng.binomial(orders, np.where(rng.random(n) < 0.3, 0.85, 0.08)) / orders
    return np.column_stack([share, 1 - share])


def one_or_more(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return orders and gaps of 30% who ordered once, and of others."""
    is_once = rng.random(n) < 0.3
    orders = np.where(is_once, 1, 2 + rng.poisson(rng.gamma(4, 2.5, n)))
    gap = np.where(
        is_once, 200 * rng.random(n), 400 / orders * rng.lognormal(0, 0.3, n)
    )
    steadiness = np.where(is_once, 1.0, rng.beta(8, 5, n))
    return np.column_stack([np.log1p(orders), np.log1p(gap), steadiness])


def stages(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return a tenure and two scores that step at the same tenures."""
    tenure = rng.uniform(0, 36, n)
    stage = np.searchsorted([3, 12, 24], tenure)
    points = np.searchsorted([12, 24], tenure) + rng.integers(0, 3, n)
    return np.column_stack([tenure, stage, points, rng.lognormal(0, 0.5, n)])


def fading_zeros(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return amounts of which 40% are 0, and the others the rarer the larger."""
    return np.where(rng.random((n, 1)) < 0.4, 0.0, rng.exponential(size=(n, 3)))


PLANTED: dict[str, tuple[int, Draw]] = {
    "2 normal, 4 sd, 50:50": (2, groups(2, 4, 4, (0.5, 0.5))),
    "2 normal, 4 sd, 85:15": (2, groups(2, 4, 4, (0.85, 0.15))),
    "2 normal, 6 sd, 95:5": (2, groups(2, 4, 6, (0.95, 0.05))),
    "3 normal, 5 sd": (3, groups(3, 5, 5, (0.5, 0.3, 0.2))),
    "5 normal, 5 sd": (5, groups(5, 6, 5, (0.3, 0.25, 0.2, 0.15, 0.1))),
    "6 normal, 6 sd": (6, groups(6, 4, 6, (0.3, 0.2, 0.2, 0.1, 0.1, 0.1))),
    "3 long-tailed, 7 sd": (3, groups(3, 4, 7, (0.6, 0.25, 0.15), tails)),
    "3 skewed, 6 sd": (3, groups(3, 4, 6, (0.6, 0.25, 0.15), skew)),
    "3 boxes, 5 sd": (3, groups(3, 3, 5, (0.6, 0.25, 0.15), box)),
    "4 flags that go together": (2, flags_together),
    "nothing or a sum": (2, zero_or_sum),
    "rates of a few orders": (2, rates),
    "one order or more": (2, one_or_more),
}
SINGLE: dict[str, tuple[int, Draw]] = {
    "normal, 1 feature": (1, lambda rng, n: rng.normal(size=(n, 1))),
    "normal, 6 features": (1, lambda rng, n: rng.normal(size=(n, 6))),
    "correlated normal": (
        1,
        lambda rng, n: 2 * rng.normal(size=(n, 1)) + rng.normal(size=(n, 5)),
    ),
    "even, 1 feature": (1, lambda rng, n: rng.random((n, 1))),
    "even, 2 features": (1, lambda rng, n: rng.random((n, 2))),
    "even, 4 features": (1, lambda rng, n: rng.random((n, 4))),
    "lognormal": (1, lambda rng, n: rng.lognormal(size=(n, 4))),
    "exponential": (1, lambda rng, n: rng.exponential(size=(n, 3))),
    "t, 3 degrees": (1, lambda rng, n: rng.standard_t(3, (n, 5))),
    "shares of one": (1, lambda rng, n: rng.dirichlet([1, 1, 1], n)),
    "counts": (1, lambda rng, n: rng.poisson(rng.gamma(1, 3, (n, 3)))),
    "a flag beside": (
        1,
        lambda rng, n: np.column_stack([rng.normal(size=(n, 4)), rng.random(n) < 0.4]),
    ),
    "zeros that fade": (1, fading_zeros),
    "scores of one tenure": (1, stages),
}


def chosen(table: np.ndarray, seed: int) -> Choice:
    """Choose the number of segments as a fit does."""
    table = np.asarray(table, dtype=np.float64)
    scaling = learn_scaling(table, [False] * table.shape[1])
    opened = scaling.columns(table, is_clipped=False)
    opened = spread_ties(opened, np.random.default_rng(seed))
    rows = np.ascontiguousarray(scaling.columns(table).T)
    return choose_segments(Drawn(rows, opened), fewest=1, most=6, seed=seed)[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=3000)
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    print(f"{'population':26} true  right  answers        by silhouette alone")
    with one_thread():
        for name, (true, draw) in {**PLANTED, **SINGLE}.items():
            found, naive = Counter(), Counter()
            for seed in range(given.draws):
                table = draw(np.random.default_rng(seed), given.customers)
                choice = chosen(table, seed)
                found[choice.n_segments] += 1
                best = max(choice.candidates, key=lambda c: c.silhouette)
                naive[best.n_segments] += 1
            said, silly = (
                " ".join(f"{n}:{count}" for n, count in sorted(c.items()))
                for c in (found, naive)
            )
            right = found[true] / given.draws
            print(f"{name:26} {true:4} {right:6.0%}  {said:14} {silly}", flush=True)


if __name__ == "__main__":
    main()
