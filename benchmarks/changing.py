"""Lasting changes: how many refreshes name, and how many an oracle could.

::

    python benchmarks/changing.py                       # everything
    python benchmarks/changing.py --shops 1000 --seeds 1 --drawn 0

Shops sell for some years; then some take up the behaviour of another archetype for
good, from the next month on and from the level that they have, and some sell lastingly
more or less. The pipelines learn from the years, and six refreshes follow, one month
each. A shop counts as named if any of them writes it into ``segment_changing.csv``.

The built-in families change in kind only; the thresholds of
`core.segments.changing` were set on them. The drawn ones are of archetypes, noise,
history, numbers of shops and shares of change that nobody has chosen, on seeds that
were not looked at.

The oracle weighs the same evidence with what nobody knows: every shop's archetype, the
curves of 20,000 more shops to learn the archetypes from, and the threshold that names
2% of the unchanged shops within the half-year. Judged, by both, are shops that have a
segment after the years learnt and are open to the end; those in between two archetypes,
of whom an oracle of archetypes knows nothing, among the unchanged only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.random import Generator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core import Config, run_all
from core.retailers.archetypes import (
    FAMILIES,
    N_CALENDAR_MONTHS,
    Archetype,
    ArchetypeFamily,
    Jitter,
    Peak,
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

REFRESHES = 6
PRODUCTS = 6.0
# A shop that sold nothing in as many last months has left.
OPEN_MONTHS = 4
ORACLE_SHOPS = 20_000
ORACLE_FALSE = 0.02
FIRST_MONTH = "2021-01"
# Logarithms of what a lasting step multiplies sales by, up or down.
STEPS = (0.5, 1.0)


@dataclass(frozen=True)
class Setting:
    """What shops are like, and what becomes of some of them.

    Attributes
    ----------
    name : str
    family : ArchetypeFamily
    noise_cv, between_share : float
        As in `core.retailers.sample.Difficulty`.
    n_shops, learnt_months : int
    changed, stepped : float
        Shares of the shops that take up another archetype, or sell lastingly more or
        less, from the first month after those learnt.
    wander : float
        Standard deviation of what the logarithm of a level moves a month.
    shock : float
        Logarithm of what everyone's sales are multiplied by from the third refresh on.
    """

    name: str
    family: ArchetypeFamily
    noise_cv: float
    between_share: float
    n_shops: int
    learnt_months: int = 36
    changed: float = 1 / 16
    stepped: float = 0.0
    wander: float = 0.0
    shock: float = 0.0

    @property
    def months(self) -> pl.Series:
        """First days of the months, the refreshes included."""
        return month_starts(FIRST_MONTH, self.learnt_months + REFRESHES)


def built_in(family: str, difficulty: str, n_shops: int) -> Setting:
    """Return a family of the built-in sample, whose shops change kind only."""
    level = DIFFICULTIES[difficulty]
    name = f"{family} {difficulty}"
    return Setting(name, FAMILIES[family], level.noise_cv, level.between_share, n_shops)


def any_setting(seed: int) -> Setting:
    """Draw archetypes, noise, history, numbers and shares that nobody has chosen."""
    rng = np.random.default_rng(seed)
    kinds = tuple(_any_archetype(i, rng) for i in range(rng.integers(4, 9)))
    jitter = Jitter(growth=rng.uniform(0.03, 0.12), season=rng.uniform(0.02, 0.08))
    return Setting(
        "drawn",
        ArchetypeFamily(kinds, jitter),
        noise_cv=rng.uniform(0.25, 0.7),
        between_share=rng.uniform(0, 0.15),
        n_shops=int(rng.choice([300, 700, 1500, 3000, 5000])),
        learnt_months=int(rng.integers(30, 55)),
        changed=rng.uniform(0.02, 0.2),
        stepped=rng.uniform(0.0, 0.05),
        wander=rng.uniform(0.0, 0.06),
        shock=rng.choice([0.0, 0.0, -0.5, 0.4]),
    )


def _any_archetype(number: int, rng: Generator) -> Archetype:
    """Draw one archetype."""
    peaks = tuple(
        Peak(rng.uniform(0.5, 12.5), rng.uniform(0.5, 1.8), rng.uniform(1.5, 8.0))
        for _ in range(rng.choice([0, 1, 1, 2]))
    )
    return Archetype(
        name=f"kind {number}",
        share=rng.gamma(2.0) + 0.2,
        peaks=peaks,
        growth=rng.choice([0.0, 0.0, 0.3, -0.3]) * rng.uniform(0.5, 1.3),
        active_share=1 - rng.choice([0.015, 0.03, 0.15, 0.4]) * rng.uniform(0.5, 1),
        breadth=float(np.exp(rng.normal(0, 0.6))),
        concentration=rng.uniform(0.3, 1.6),
        lumpiness=rng.uniform(0.7, 1.4),
    )


@dataclass(frozen=True)
class World:
    """Shops, what they buy, and what became of them."""

    demand: Demand
    sales: list[SalesChunk]
    before: np.ndarray
    after: np.ndarray
    is_between: np.ndarray
    step: np.ndarray

    @property
    def is_open(self) -> np.ndarray:
        """Which shops sell to the end."""
        return self.demand.is_active[:, -OPEN_MONTHS:].any(axis=1)

    @property
    def is_changed(self) -> np.ndarray:
        """Which shops took up another archetype."""
        return self.before != self.after

    @property
    def is_stepped(self) -> np.ndarray:
        """Which shops sell lastingly more or less, and are what they were else."""
        return self.step != 0

    @property
    def n_products(self) -> np.ndarray:
        """Distinct products by shop and month."""
        counts = np.zeros(self.demand.units.shape)
        for chunk in self.sales:
            np.add.at(counts, (chunk.shop, chunk.month), 1)
        return counts


def draw_world(setting: Setting, seed: int) -> World:
    """Draw shops of whom some become like another archetype after a while."""
    streams = np.random.default_rng(seed).spawn(6)
    people, later, demands, demands_later, chance, baskets = streams
    months, learnt = setting.months, setting.learnt_months

    def drawn(rng: Generator, noise: Generator) -> tuple[Population, Demand]:
        population = draw_population(
            setting.family, "archetypes", setting.between_share, setting.n_shops, rng
        )
        calendar, cv = months.dt.month().to_numpy(), setting.noise_cv
        return population, draw_demand(population, calendar, cv, PRODUCTS, noise)

    one, wanted = drawn(people, demands)
    other, wanted_later = drawn(later, demands_later)
    is_changed = chance.random(setting.n_shops) < setting.changed
    is_changed &= other.first != one.first
    years = (learnt - (len(months) - 1) / 2) / N_CALENDAR_MONTHS
    years = min(years, GROWTH_LIMIT_YEARS)
    grown = np.exp((one.trait("growth") - other.trait("growth")) * years)
    ratio = (wanted.level / wanted_later.level * grown)[:, None]
    share = 1 / (1 + np.exp(-other.trait("logit_active_share")))
    active_later = chance.random(wanted.is_active.shape) < share[:, None]
    turned = is_changed[:, None] & (np.arange(len(months)) >= learnt)
    units = np.where(turned, wanted_later.units * ratio, wanted.units)
    step, factor = _moved_levels(setting, is_changed, chance)
    demand = wanted._replace(
        is_active=np.where(turned, active_later, wanted.is_active),
        units=np.maximum(np.rint(units * factor), 1).astype(np.int64),
        breadth=np.where(turned, wanted_later.breadth, wanted.breadth),
    )
    after = np.where(is_changed, other.first, one.first)
    sales = list(draw_baskets(demand, catalogue_size_for(PRODUCTS), baskets))
    is_between = one.first != one.second
    is_between |= is_changed & (other.first != other.second)
    return World(demand, sales, one.first, after, is_between, step)


def _moved_levels(
    setting: Setting, is_changed: np.ndarray, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw steps, and the factor on the sales of shops and months."""
    n, months = setting.n_shops, np.arange(len(setting.months))
    is_stepped = (rng.random(n) < setting.stepped) & ~is_changed
    sign = rng.choice([-1.0, 1.0], n)
    step = np.where(is_stepped, sign * rng.uniform(*STEPS, n), 0.0)
    logs = step[:, None] * (months >= setting.learnt_months)
    logs = logs + setting.shock * (months >= setting.learnt_months + 2)
    if setting.wander:
        logs = logs + np.cumsum(rng.normal(0, setting.wander, logs.shape), axis=1)
    return step, np.exp(logs)


class Told(NamedTuple):
    """What was said of shops within the half-year, and where they ended.

    `known` have a segment after the months learnt, `named` are changing, and `settled`
    is the archetype that most shops of their settled segment had before (-1: none).
    """

    known: np.ndarray
    named: np.ndarray
    settled: np.ndarray


def told_by_refreshes(setting: Setting, world: World, seed: int, folder: Path) -> Told:
    """Learn, refresh six times, and return what the refreshes said."""
    products = identifiers("P", catalogue_size_for(PRODUCTS), width=4)
    ids = identifiers("S", len(world.before), width=6)
    rows = rows_table(world.sales, ids, products, setting.months)
    t = pl.col("year") * N_CALENDAR_MONTHS + pl.col("month")
    t -= int(setting.months[0].year) * N_CALENDAR_MONTHS + 1
    config = Config(artifacts=str(folder / "artifacts"), seed=seed)
    run_all(config, rows.filter(t < setting.learnt_months))
    named = np.zeros(len(ids), bool)
    for month in range(setting.learnt_months, len(setting.months)):
        result = run_refresh(
            refresh_config(config.artifacts), rows.filter(t == month), retrain="never"
        )
        if (result.folder / CHANGING).exists():
            table = pl.read_csv(result.folder / CHANGING, infer_schema=False)
            named |= ids.is_in(table["entity"].to_list()).to_numpy()
    blocks = [
        pl.read_parquet(p) for p in sorted(result.folder.glob("ledger-*.parquet"))
    ]
    first, last = (_settled(blocks[place], ids) for place in (0, -1))
    kinds = {k: np.bincount(world.before[first == k]).argmax() for k in set(first)}
    kinds |= {-1: -1} | dict.fromkeys(set(last) - set(first), -1)
    return Told(first >= 0, named, np.array([kinds[k] for k in last]))


def _settled(block: pl.DataFrame, ids: pl.Series) -> np.ndarray:
    """Return the settled segment of every shop, -1 for none."""
    shops = pl.DataFrame({"entity": ids}).join(block, on="entity", how="left")
    settled: np.ndarray = shops["settled"].fill_null(-1).to_numpy()
    return settled


def named_by_oracle(
    setting: Setting, world: World, more: World, judged: np.ndarray
) -> np.ndarray:
    """Return which shops the oracle names; `more` are unchanged shops to learn from."""
    both = (world, more)
    sold = [np.where(w.demand.is_active, w.demand.units, 0) for w in both]
    quantity, breadth = np.vstack(sold), np.vstack([w.n_products for w in both])
    kinds = np.concatenate([world.before, more.before])
    found = np.full(len(world.before), -np.inf)
    for last in range(setting.learnt_months + 1, len(setting.months) + 1):
        t = np.arange(last) + int(setting.months[0].year) * N_CALENDAR_MONTHS
        months = changing.Months.of(t, quantity[:, :last], breadth[:, :last])
        kind, level = changing._evidence(months, kinds, last)
        odds = np.fmax(kind.odds, level.odds)[: len(found)]
        found = np.maximum(found, np.nan_to_num(odds, nan=-np.inf))
    unchanged = judged & ~world.is_changed & ~world.is_stepped
    return found > np.quantile(found[unchanged], 1 - ORACLE_FALSE)


def measure(setting: Setting, seed: int) -> dict[str, Any]:
    """Return what was named, by the refreshes and by the oracle."""
    world = draw_world(setting, seed)
    calm = {"n_shops": ORACLE_SHOPS, "changed": 0.0, "stepped": 0.0}
    more = draw_world(replace(setting, **calm), seed + 10_000)
    with tempfile.TemporaryDirectory() as folder:
        told = told_by_refreshes(setting, world, seed, Path(folder))
    judged = told.known & world.is_open
    oracle = named_by_oracle(setting, world, more, judged & ~world.is_between)
    changed = judged & world.is_changed & ~world.is_between
    stepped = judged & world.is_stepped & ~world.is_between
    unchanged = judged & ~world.is_changed & ~world.is_stepped
    is_right = told.settled == world.after
    return {
        "data": f"{setting.name} {seed}",
        "shops": setting.n_shops,
        "changed": int(changed.sum()),
        "stepped": int(stepped.sum()),
        "unchanged": int(unchanged.sum()),
        "oracle": int(oracle[changed].sum()),
        "named": int(told.named[changed].sum()),
        "settled": int(is_right[changed].sum()),
        "step oracle": int(oracle[stepped].sum()),
        "step named": int(told.named[stepped].sum()),
        "false": int(told.named[unchanged].sum()),
        "kept": int(is_right[unchanged].sum()),
    }


SHARES = (
    *(("oracle", "changed"), ("named", "changed"), ("named", "oracle")),
    *(("settled", "changed"), ("step oracle", "stepped"), ("step named", "stepped")),
    *(("false", "unchanged"), ("kept", "unchanged")),
)
COLUMNS = (
    *("data", "shops", "changed", "oracle", "named", "of it", "settled anew"),
    *("stepped", "oracle", "named", "unchanged", "named", "settled as before"),
)


def main() -> None:
    """Measure and print one line per data set, and all together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--drawn", type=int, default=12)
    chosen = parser.parse_args()
    built = [
        (built_in(family, difficulty, chosen.shops), seed)
        for family in FAMILIES
        for difficulty in ("easy", "medium")
        for seed in range(901, 901 + chosen.seeds)
    ]
    drawn = [(any_setting(seed), seed) for seed in range(1101, 1101 + chosen.drawn)]
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for name, worlds in (("built-in", built), ("drawn", drawn)):
        rows = []
        for setting, seed in worlds:
            rows.append(measure(setting, seed))
            print(line_of(rows[-1]), flush=True)
        if rows:
            counts = pl.DataFrame(rows).drop("data").sum().row(0, named=True)
            print(line_of({"data": f"all {name}", **counts}), flush=True)


def line_of(row: dict[str, Any]) -> str:
    """Return a line of the table."""
    shares = [f"{row[a] / row[b]:.1%}" if row[b] else "-" for a, b in SHARES]
    cells = [row["data"], row["shops"], row["changed"], *shares[:4]]
    cells += [row["stepped"], *shares[4:6], row["unchanged"], *shares[6:]]
    texts = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    main()
