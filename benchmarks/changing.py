"""Lasting changes of kind: how many refreshes name, and how many an oracle could.

::

    python benchmarks/changing.py                       # every family, easy and medium
    python benchmarks/changing.py --shops 1000 --seeds 1

Shops sell for three years; then one in sixteen takes up the behaviour of another
archetype for good, from the next month on and from the level that it has. The pipelines
learn from the three years, and six refreshes follow, one month each. A shop counts as
named if any of them writes it into ``segment_changing.csv``.

The oracle weighs the same evidence with what nobody knows: every shop's archetype, the
curves of 20,000 more shops to learn the archetypes from, and the threshold that names
2% of the unchanged shops within the half-year. Judged, by both, are shops that have a
segment after the three years and are open to the end; those in between two archetypes,
of whom an oracle of archetypes knows nothing, among the unchanged only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.random import Generator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core import Config, run_all
from core.retailers.archetypes import (
    FAMILIES,
    N_CALENDAR_MONTHS,
    Population,
    draw_population,
)
from core.retailers.refresh.changing import CHANGING
from core.retailers.refresh.month import refresh_config
from core.retailers.refresh.run import run_refresh
from core.retailers.sample import (
    DIFFICULTIES,
    GROWTH_LIMIT_YEARS,
    Demand,
    SalesChunk,
    catalogue_size_for,
    draw_baskets,
    draw_demand,
    month_starts,
    rows_table,
)
from core.segments import changing
from core.tables.frames import identifiers

LEARNT_MONTHS, REFRESHES = 36, 6
CHANGED_SHARE = 1 / 16
PRODUCTS = 6.0
# A shop that sold nothing in as many last months has left.
OPEN_MONTHS = 4
ORACLE_SHOPS = 20_000
ORACLE_FALSE = 0.02
START = month_starts("2021-01", LEARNT_MONTHS + REFRESHES)


@dataclass(frozen=True)
class World:
    """Shops, what they buy, and what became of their archetypes."""

    demand: Demand
    sales: list[SalesChunk]
    before: np.ndarray
    after: np.ndarray
    is_between: np.ndarray

    @property
    def is_open(self) -> np.ndarray:
        """Which shops sell to the end."""
        return self.demand.is_active[:, -OPEN_MONTHS:].any(axis=1)

    @property
    def is_changed(self) -> np.ndarray:
        """Which shops took up another archetype."""
        return self.before != self.after

    @property
    def n_products(self) -> np.ndarray:
        """Distinct products by shop and month."""
        counts = np.zeros(self.demand.units.shape)
        for chunk in self.sales:
            np.add.at(counts, (chunk.shop, chunk.month), 1)
        return counts


def draw_world(
    family: str, difficulty: str, n_shops: int, seed: int, changed: float
) -> World:
    """Draw shops of whom some become like another archetype after three years."""
    streams = np.random.default_rng(seed).spawn(6)
    people, later, demands, demands_later, chance, baskets = streams
    known, level = FAMILIES[family], DIFFICULTIES[difficulty]

    def drawn(rng: Generator, noise: Generator) -> tuple[Population, Demand]:
        population = draw_population(
            known, "archetypes", level.between_share, n_shops, rng
        )
        calendar = START.dt.month().to_numpy()
        return population, draw_demand(
            population, calendar, level.noise_cv, PRODUCTS, noise
        )

    (one, wanted), (other, wanted_later) = (
        drawn(people, demands),
        drawn(later, demands_later),
    )
    is_changed = (chance.random(n_shops) < changed) & (other.first != one.first)
    is_after = np.arange(len(START)) >= LEARNT_MONTHS
    years = (LEARNT_MONTHS - (len(START) - 1) / 2) / N_CALENDAR_MONTHS
    years = min(years, GROWTH_LIMIT_YEARS)
    grown = np.exp((one.trait("growth") - other.trait("growth")) * years)
    ratio = (wanted.level / wanted_later.level * grown)[:, None]
    share = 1 / (1 + np.exp(-other.trait("logit_active_share")))
    active_later = chance.random(wanted.is_active.shape) < share[:, None]
    turned = is_changed[:, None] & is_after
    units = np.maximum(np.rint(wanted_later.units * ratio), 1).astype(np.int64)
    demand = wanted._replace(
        is_active=np.where(turned, active_later, wanted.is_active),
        units=np.where(turned, units, wanted.units),
        breadth=np.where(turned, wanted_later.breadth, wanted.breadth),
    )
    after = np.where(is_changed, other.first, one.first)
    sales = list(draw_baskets(demand, catalogue_size_for(PRODUCTS), baskets))
    is_between = (one.first != one.second) | (
        is_changed & (other.first != other.second)
    )
    return World(demand, sales, one.first, after, is_between)


def named_by_refreshes(world: World, seed: int, folder: Path) -> tuple[set, set]:
    """Learn, refresh six times; return the shops with a segment, and those named."""
    products = identifiers("P", catalogue_size_for(PRODUCTS), width=4)
    ids = identifiers("S", len(world.before), width=6)
    rows = rows_table(world.sales, ids, products, START)
    t = pl.col("year") * N_CALENDAR_MONTHS + pl.col("month")
    t -= int(START[0].year) * N_CALENDAR_MONTHS + 1
    config = Config(artifacts=str(folder / "artifacts"), seed=seed)
    run_all(config, rows.filter(t < LEARNT_MONTHS))
    known: set[str] = set()
    named: set[str] = set()
    for month in range(LEARNT_MONTHS, len(START)):
        result = run_refresh(
            refresh_config(config.artifacts), rows.filter(t == month), retrain="never"
        )
        if not known:
            ledger = pl.read_parquet(sorted(result.folder.glob("ledger-*.parquet"))[0])
            known = set(ledger.filter(pl.col("settled") >= 0)["entity"])
        table = pl.read_csv(result.folder / CHANGING, infer_schema=False)
        named |= set(table["entity"])
    return known, named


def named_by_oracle(world: World, more: World, judged: np.ndarray) -> np.ndarray:
    """Return which shops the oracle names; `more` are unchanged shops to learn from."""
    both = (world, more)
    sold = [np.where(w.demand.is_active, w.demand.units, 0) for w in both]
    quantity, breadth = np.vstack(sold), np.vstack([w.n_products for w in both])
    kinds = np.concatenate([world.before, more.before])
    found = np.full(len(world.before), -np.inf)
    for last in range(LEARNT_MONTHS + 1, len(START) + 1):
        t = np.arange(last) + int(START[0].year) * N_CALENDAR_MONTHS
        months = changing.Months.of(t, quantity[:, :last], breadth[:, :last])
        odds = changing._evidence(months, kinds, last).odds[: len(found)]
        found = np.maximum(found, np.nan_to_num(odds, nan=-np.inf))
    unchanged = judged & ~world.is_changed
    return found > np.quantile(found[unchanged], 1 - ORACLE_FALSE)


def measure(family: str, difficulty: str, n_shops: int, seed: int) -> dict[str, Any]:
    """Return what was named, by the refreshes and by the oracle."""
    world = draw_world(family, difficulty, n_shops, seed, CHANGED_SHARE)
    more = draw_world(family, difficulty, ORACLE_SHOPS, seed + 10_000, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        known, named = named_by_refreshes(world, seed, Path(folder))
    ids = identifiers("S", n_shops, width=6)
    judged = ids.is_in(list(known)).to_numpy() & world.is_open
    ours = ids.is_in(list(named)).to_numpy() & judged
    oracle = named_by_oracle(world, more, judged & ~world.is_between)
    changed = judged & world.is_changed & ~world.is_between
    unchanged = judged & ~world.is_changed
    return {
        "family": family,
        "difficulty": difficulty,
        "seed": seed,
        "changed": int(changed.sum()),
        "unchanged": int(unchanged.sum()),
        "oracle": oracle[changed].mean(),
        "named": ours[changed].mean(),
        "false": ours[unchanged].mean(),
    }


HEAD = """\
| family | difficulty | seed | changed | oracle | named | of it | unchanged | false |
|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Measure and print one line per data set, and all together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=2)
    chosen = parser.parse_args()
    print(HEAD, flush=True)
    rows = []
    for family in FAMILIES:
        for difficulty in ("easy", "medium"):
            for seed in range(901, 901 + chosen.seeds):
                rows.append(measure(family, difficulty, chosen.shops, seed))
                print(line_of(rows[-1]), flush=True)
    n_changed = sum(row["changed"] for row in rows)
    n_unchanged = sum(row["unchanged"] for row in rows)
    whole = {"family": "all", "difficulty": "", "seed": ""}
    whole |= {"changed": n_changed, "unchanged": n_unchanged}
    for name in ("oracle", "named"):
        whole[name] = sum(row[name] * row["changed"] for row in rows) / n_changed
    falsely = sum(row["false"] * row["unchanged"] for row in rows)
    print(line_of(whole | {"false": falsely / n_unchanged}))


def line_of(row: dict[str, Any]) -> str:
    """Return a line of the table."""
    share = row["named"] / max(row["oracle"], 1e-9)
    return (
        f"| {row['family']} | {row['difficulty']} | {row['seed']} | {row['changed']} | "
        f"{row['oracle']:.1%} | {row['named']:.1%} | {share:.0%} | "
        f"{row['unchanged']:,} | {row['false']:.2%} |"
    )


if __name__ == "__main__":
    main()
