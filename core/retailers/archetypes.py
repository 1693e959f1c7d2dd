"""Archetypes of shops that the built-in generator plants, and draws from them.

An archetype says how a shop *behaves*, never how much it sells. A family is a table of
archetypes; ``archetypes.yaml`` has them by name (option ``sample.family``), and a
further family is a further entry, without any code. From a family, `draw_population`
draws the behaviour of each shop: an archetype shop has its archetype's numbers with a
jitter of its own, an in-between shop stands between two archetypes, and a structureless
population is one Gaussian cloud with the same means, spreads and correlations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.yaml_text import shipped_yaml

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_CALENDAR_MONTHS = 12
# Columns of a table of behaviours: the logarithm of the seasonal factor of January to
# December, then these. They are scales on which a straight line between two shops, and
# a Gaussian around one, both make sense.
TRAITS = (
    "growth",
    "breadth_growth",
    "logit_active_share",
    "log_breadth",
    "concentration",
    "log_lumpiness",
)
# In-between shops keep away from their parents, or they would be archetype shops.
BETWEEN_WEIGHTS = (0.3, 0.7)
# The cloud's moments come from this many archetype shops, whatever the sample's size.
N_MOMENT_SHOPS = 20_000
# Cholesky needs a positive definite matrix, and a trait may be the same for everyone.
COVARIANCE_RIDGE = 1e-9


@dataclass(frozen=True)
class Peak:
    """A time of the year at which a shop buys more.

    Attributes
    ----------
    month : float
        Calendar month of the top, 1 to 12; 12.5 is the turn of the year.
    log_height : float
        Logarithm of top over base: 0.7 doubles the month. Negative for a trough.
    sharpness : float
        Concentration of the von Mises bump: at 2 a month and a half either side still
        has half of the height, at 6 less than one month.
    """

    month: float
    log_height: float
    sharpness: float


@dataclass(frozen=True)
class Archetype:
    """One way to buy, as a category manager would tell it.

    Attributes
    ----------
    name : str
        Name in the truth table.
    share : float
        Proportion among archetype shops; the family's shares are divided by their sum.
    peaks : tuple of Peak
        Seasonal peaks; none for a shop without a season.
    growth, breadth_growth : float
        Growth per year of units, and of distinct products bought in a month, as
        natural logarithms.
    active_share : float
        Probability that the shop buys anything in a month, between 0 and 1, exclusive.
    breadth : float
        Distinct products in a month, relative to the other archetypes.
    concentration : float
        Zipf exponent of the shop's products: 0 buys all alike, 2 lives on a few.
    lumpiness : float
        Factor on the coefficient of variation of monthly units.
    """

    name: str
    share: float
    peaks: tuple[Peak, ...] = ()
    growth: float = 0.0
    breadth_growth: float = 0.0
    active_share: float = 0.985
    breadth: float = 1.0
    concentration: float = 0.8
    lumpiness: float = 1.0


@dataclass(frozen=True)
class Jitter:
    """Standard deviations of a shop around its archetype.

    Attributes
    ----------
    log_peak_height : float
        Of the logarithm of the factor on all peak heights of a shop.
    peak_month : float
        Months by which all peaks of a shop come earlier or later.
    season : float
        Of each of the six coefficients (sine and cosine of one, two and three cycles
        a year) of a small season of the shop's own.
    growth, breadth_growth, logit_active_share, log_breadth, concentration : float
        Of the trait of that name.
    log_lumpiness : float
        Of the logarithm of the lumpiness.
    """

    log_peak_height: float = 0.15
    peak_month: float = 0.3
    season: float = 0.04
    growth: float = 0.05
    breadth_growth: float = 0.04
    logit_active_share: float = 0.2
    log_breadth: float = 0.15
    concentration: float = 0.1
    log_lumpiness: float = 0.05


@dataclass(frozen=True)
class ArchetypeFamily:
    """A table of archetypes, and how far shops stray from them."""

    archetypes: tuple[Archetype, ...]
    jitter: Jitter = field(default_factory=Jitter)

    @property
    def shares(self) -> Floats:
        """Proportions of the archetypes, in table order, with a sum of 1."""
        shares = np.array([archetype.share for archetype in self.archetypes])
        proportions: Floats = shares / shares.sum()
        return proportions


def _read_family(table: Mapping[str, Any]) -> ArchetypeFamily:
    """Return a family of ``archetypes.yaml``."""
    archetypes = (
        Archetype(**{**row, "peaks": tuple(Peak(*p) for p in row.get("peaks", ()))})
        for row in table["archetypes"]
    )
    return ArchetypeFamily(tuple(archetypes), Jitter(**table.get("jitter", {})))


FAMILIES: dict[str, ArchetypeFamily] = {
    name: _read_family(table)
    for name, table in shipped_yaml("core.retailers", "archetypes.yaml").items()
}


@dataclass(frozen=True)
class Population:
    """The behaviour of every shop, and where it comes from.

    Attributes
    ----------
    parameters : ndarray of float64, shape (n_shops, 12 + len(TRAITS))
        Log seasonal factors, January first, then `TRAITS`.
    first, second : ndarray of int64, shape (n_shops,)
        Rows of the family's table: the archetype, and the other parent of an
        in-between shop; equal for archetype shops, -1 for structureless ones.
    weight : ndarray of float64, shape (n_shops,)
        Part of `first` in the mixture; 1 for archetype shops, NaN for structureless.
    """

    parameters: Floats
    first: Ints
    second: Ints
    weight: Floats

    @property
    def log_season(self) -> Floats:
        """Log seasonal factors, shape (n_shops, 12), January first."""
        return self.parameters[:, :N_CALENDAR_MONTHS]

    def trait(self, name: str) -> Floats:
        """Return one of `TRAITS` for every shop, shape (n_shops,)."""
        column: Floats = self.parameters[:, N_CALENDAR_MONTHS + TRAITS.index(name)]
        return column


def draw_population(
    family: ArchetypeFamily,
    structure: Literal["archetypes", "none"],
    between_share: float,
    n_shops: int,
    rng: np.random.Generator,
) -> Population:
    """Draw the behaviour of `n_shops` shops.

    Parameters
    ----------
    family : ArchetypeFamily
        The table to draw from.
    structure : {"archetypes", "none"}
        ``"none"`` draws one Gaussian cloud with the mean and the covariance of the
        behaviours that ``"archetypes"`` would have drawn: as rich a population, in
        which no group exists.
    between_share : float
        Probability of standing between two archetypes, 0 to 1; needs two archetypes.
    n_shops : int
        Shops to draw.
    rng : numpy.random.Generator
        Source of randomness.
    """
    if structure == "archetypes":
        return _draw_archetypes(family, between_share, n_shops, rng)
    model = _draw_archetypes(family, between_share, N_MOMENT_SHOPS, rng).parameters
    covariance = np.cov(model, rowvar=False)
    root = np.linalg.cholesky(covariance + COVARIANCE_RIDGE * np.eye(len(covariance)))
    cloud = rng.standard_normal((n_shops, len(root))) @ root.T + model.mean(axis=0)
    nobody = np.full(n_shops, -1)
    return Population(cloud, nobody, nobody, np.full(n_shops, np.nan))


def _draw_archetypes(
    family: ArchetypeFamily,
    between_share: float,
    n_shops: int,
    rng: np.random.Generator,
) -> Population:
    """Draw archetype and in-between shops."""
    shares = family.shares
    first = rng.choice(len(shares), size=n_shops, p=shares)
    second = first.copy()
    weight = np.ones(n_shops)
    is_between = rng.random(n_shops) < between_share
    if len(shares) > 1:
        second[is_between] = _other_archetypes(first[is_between], shares, rng)
        weight[is_between] = rng.uniform(*BETWEEN_WEIGHTS, size=is_between.sum())
    own = _draw_parameters(family, first, rng)
    other = _draw_parameters(family, second, rng)
    parameters = weight[:, None] * own + (1.0 - weight[:, None]) * other
    return Population(parameters, first, second, weight)


def _other_archetypes(first: Ints, shares: Floats, rng: np.random.Generator) -> Ints:
    """Draw, by share, an archetype other than `first` for each."""
    odds = np.tile(shares, (len(first), 1))
    odds[np.arange(len(first)), first] = 0.0
    steps = np.cumsum(odds, axis=1)
    target = rng.random((len(first), 1)) * steps[:, -1:]
    other: Ints = (steps <= target).sum(axis=1)
    return other


def _draw_parameters(
    family: ArchetypeFamily, index: Ints, rng: np.random.Generator
) -> Floats:
    """Draw the behaviour of shops of the archetypes `index`, with their jitter."""
    jitter = family.jitter
    traits = np.array([_traits_of(archetype) for archetype in family.archetypes])
    spread = np.array([getattr(jitter, name) for name in TRAITS])
    drawn = traits[index] + spread * rng.standard_normal((len(index), len(TRAITS)))
    return np.hstack([_draw_log_season(family, index, rng), drawn])


def _traits_of(archetype: Archetype) -> tuple[float, ...]:
    """Return the archetype's numbers in the order of `TRAITS`."""
    odds = archetype.active_share / (1.0 - archetype.active_share)
    return (
        archetype.growth,
        archetype.breadth_growth,
        float(np.log(odds)),
        float(np.log(archetype.breadth)),
        archetype.concentration,
        float(np.log(archetype.lumpiness)),
    )


def _draw_log_season(
    family: ArchetypeFamily, index: Ints, rng: np.random.Generator
) -> Floats:
    """Draw log seasonal factors, shape (n_shops, 12): peaks plus an own small wave."""
    jitter = family.jitter
    n_peaks = max((len(archetype.peaks) for archetype in family.archetypes), default=0)
    table = np.zeros((len(family.archetypes), n_peaks, 3))
    for row, archetype in enumerate(family.archetypes):
        for column, peak in enumerate(archetype.peaks):
            table[row, column] = peak.month, peak.log_height, peak.sharpness
    top, height, sharpness = np.moveaxis(table[index], -1, 0)
    top = top + jitter.peak_month * rng.standard_normal((len(index), 1))
    height = height * np.exp(
        jitter.log_peak_height * rng.standard_normal((len(index), 1))
    )
    months = np.arange(1, N_CALENDAR_MONTHS + 1)
    turn = 2.0 * np.pi / N_CALENDAR_MONTHS
    distance = np.cos(turn * (months - top[..., None])) - 1.0
    bumps = height[..., None] * np.exp(sharpness[..., None] * distance)
    cycles = turn * np.outer(np.arange(1, 4), months)
    waves = np.vstack([np.sin(cycles), np.cos(cycles)])
    own = jitter.season * rng.standard_normal((len(index), len(waves))) @ waves
    season: Floats = bumps.sum(axis=1) + own
    return season
