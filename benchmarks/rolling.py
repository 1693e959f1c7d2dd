"""Sales that go on month after month, with changes whose month is known.

For judging monthly refreshes: warm-up months to learn from, then months that come one
by one, the first of them a January. Shops enter and leave all along, some drift slowly
within their archetype, and four events happen. The month of each follows from how the
rows are made, not from any way of finding it, for features that look back over **12
months** (``features.history_months``), default eligibility (12 active months), and
shops that count as gone after 6 months without a sale
(``eligibility.max_inactive_months``) and never by their own rhythm
(``states.thresholds.lapsed_below`` 0):

``split``, third refresh (March)
    Of the `full_range` shops, 45% have, from now on, a March of nine times their base.
    A window of twelve months holds one March, and the first that is high is this one.
``birth``, fifth refresh (May)
    A cohort with a behaviour that nobody had opened eleven months ago and paused in
    no month since: May is the twelfth active month of each, and all become eligible.
``merge``, eighth refresh (August)
    `festive` shops had an ordinary August and `festive_and_august` shops a high one;
    from now on the Augusts of both are spread evenly between the two, so that no gap
    is left. This August replaces the only other one in the window.
``death``, tenth refresh (October)
    All `harvest` shops sold for the last time in April, so that October is the sixth
    month without a sale of each. Their season is a November that every window up to
    then still holds.

Only seasons of a single month start or end, no archetype grows or shrinks, and hardly
anyone skips a month: over twelve months a trend and a season cannot be told apart, and
a single pause would be a group of its own.

A complete takeover (the shops of one archetype become like those of another) is not
among the events: where the old and the new model label the same new rows, nothing is
left of it to see but movement and a death.

With 2,500 shops of difficulty ``easy``, the whole pipeline finds the archetypes of
every month looked at (adjusted Rand index of 0.96 and more over archetype shops, one
cluster each, seed 3), and density structure beyond that of data without any. With
``medium`` the indices are 0.81 to 0.87 (seed 2), and some months have none such.

Every step writes into a `Course`; the rows follow from it afterwards. Months are
positions that count from the first of the warm-up. The first refresh is a January, so
that the number of a refresh is its calendar month.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import polars as pl
from numpy.random import Generator
from numpy.typing import NDArray

from core.errors import ConfigError, listed
from core.retailers.archetypes import (
    N_CALENDAR_MONTHS,
    Archetype,
    ArchetypeFamily,
    Floats,
    Ints,
    Jitter,
    Peak,
    Population,
    draw_population,
)
from core.retailers.sample import (
    DIFFICULTIES,
    Bools,
    Demand,
    catalogue_size_for,
    draw_baskets,
    draw_demand,
    month_starts,
    rows_table,
)
from core.tables.frames import identifiers

Shift = Literal["level", "noise", "pauses", "mix"]
EventKind = Literal["split", "merge", "birth", "death"]

# Active months that make a shop eligible, and idle ones after which it is gone.
TENURE_MONTHS = 12
SILENT_MONTHS = 6
# So sharp that a neighbouring month has under a thousandth of the height.
ONE_MONTH = 60.0
HIGH = 2.2  # logarithm: nine times the base
JITTER = Jitter(log_peak_height=0.12, peak_month=0.0, growth=0.03, breadth_growth=0.03)

# Nobody skips a month, but one shop in 200 a year. Over twelve months, a single pause
# would be a group of its own: the share of idle months has no values in between.
ALWAYS = 0.9995


def _archetype(name: str, share: float, **traits: Any) -> Archetype:
    """Return an archetype that sells every month."""
    return Archetype(name, share, active_share=ALWAYS, **traits)


def _high(*calendar_months: float) -> tuple[Peak, ...]:
    """Return single months of nine times the base."""
    return tuple(Peak(month, HIGH, ONE_MONTH) for month in calendar_months)


FAMILY = ArchetypeFamily(
    archetypes=(
        _archetype("everyday", 0.14),
        _archetype("full_range", 0.24, breadth=4.0, concentration=0.2, lumpiness=0.6),
        _archetype("specialist", 0.13, breadth=0.35, concentration=1.8),
        _archetype(
            "spring_and_autumn",
            0.12,
            peaks=(Peak(4.0, 1.9, 4.0), Peak(10.0, 1.9, 4.0)),
        ),
        _archetype("summer_peak", 0.12, peaks=(Peak(7.0, 2.0, 2.0),)),
        _archetype("harvest", 0.09, peaks=_high(11)),
        _archetype("festive", 0.08, peaks=_high(12)),
        _archetype("festive_and_august", 0.08, peaks=_high(12, 8)),
    ),
    jitter=JITTER,
)
KIOSK = _archetype(
    "kiosk", 1.0, peaks=(Peak(5.5, 2.0, 3.0),), breadth=0.4, concentration=1.6
)
# Cohorts come on top of the starting shops, by this part of their number.
COHORTS = {"birth": (KIOSK, 0.06), "mix": (FAMILY.archetypes[0], 0.15)}
# Under one half, so that it is the stayers who are still the old archetype.
SPLIT_SHARE = 0.45
# Shops that drift, and by how much a year: standard deviation of the logarithm.
DRIFTING_SHARE = 0.10
DRIFT_STD = 0.25
SHIFTED_LEVEL = 0.6
SHIFTED_NOISE_STD = 0.8
SHIFTED_PAUSES = 0.25


class Planned(NamedTuple):
    """Which refresh an event happens in, and to which archetypes."""

    refresh: int
    old: tuple[str, ...]
    new: tuple[str, ...]


EVENTS: dict[EventKind, Planned] = {
    "split": Planned(3, ("full_range",), ("full_range", "full_range_with_march")),
    "birth": Planned(5, (), (KIOSK.name,)),
    "merge": Planned(8, ("festive", "festive_and_august"), ("festive_any_august",)),
    "death": Planned(10, ("harvest",), ()),
}


@dataclass
class Course:
    """What every shop does, month by month.

    Attributes
    ----------
    population : Population
        The behaviour that a shop begins with.
    name, later_name : ndarray of str, shape (n_shops,)
        Archetype before `change`, and from then on.
    cohort : ndarray of str, shape (n_shops,)
        A key of `COHORTS`; empty for the starting shops.
    change : ndarray of int64, shape (n_shops,)
        Month of the event that concerns the shop; `n_months` if none does.
    log_units, log_breadth : ndarray of float64, shape (n_shops, n_months)
        Added to the logarithm of units, and of expected products.
    is_active : ndarray of bool, shape (n_shops, n_months)
        Whether the shop buys.
    """

    population: Population
    name: NDArray[np.object_]
    later_name: NDArray[np.object_]
    cohort: NDArray[np.object_]
    change: Ints
    log_units: Floats
    log_breadth: Floats
    is_active: Bools

    def applied_to(self, demand: Demand) -> Demand:
        """Return the demand that shops have in the end."""
        units = np.rint(demand.units * np.exp(self.log_units))
        breadth = demand.breadth * np.exp(self.log_breadth)
        return demand._replace(
            is_active=self.is_active,
            units=np.maximum(units, 1.0).astype(np.int64),
            breadth=np.maximum(breadth, 1.0),
        )


def draw_people(
    n_shops: int, between_share: float, rng: Generator
) -> tuple[Population, NDArray[np.object_], NDArray[np.object_]]:
    """Draw starting shops and cohorts: behaviours, archetypes, cohorts.

    A cohort is always drawn, whether or not it ever opens, so that everyone else is the
    same with and without it.
    """
    parts = [("", FAMILY, between_share, n_shops)]
    for cohort, (archetype, share) in COHORTS.items():
        family = ArchetypeFamily((archetype,), FAMILY.jitter)
        parts.append((cohort, family, 0.0, round(share * n_shops)))
    drawn = [
        (cohort, family, draw_population(family, "archetypes", between, n, rng))
        for cohort, family, between, n in parts
    ]
    people = [population for _, _, population in drawn]
    everyone = Population(
        *(
            np.concatenate([getattr(population, name) for population in people])
            for name in ("parameters", "first", "second", "weight")
        )
    )
    names = [_names(family, population) for _, family, population in drawn]
    cohorts = [np.full(len(p.first), cohort, object) for cohort, _, p in drawn]
    return everyone, np.concatenate(names), np.concatenate(cohorts)


def _names(family: ArchetypeFamily, population: Population) -> NDArray[np.object_]:
    """Return each shop's archetype, or both as ``a + b`` for one in between."""
    names = np.array([archetype.name for archetype in family.archetypes], object)
    first, second = names[population.first], names[population.second]
    is_between = population.first != population.second
    return np.where(is_between, first + " + " + second, first)


def begin(
    population: Population,
    name: NDArray[np.object_],
    cohort: NDArray[np.object_],
    demand: Demand,
) -> Course:
    """Return the course of shops to whom nothing has happened; cohorts are closed."""
    n_shops, n_months = demand.is_active.shape
    return Course(
        population=population,
        name=name,
        later_name=name.copy(),
        cohort=cohort,
        change=np.full(n_shops, n_months),
        log_units=np.zeros((n_shops, n_months)),
        log_breadth=np.zeros((n_shops, n_months)),
        is_active=demand.is_active & (cohort == "")[:, None],
    )


def drift(course: Course, n_warm_months: int, rng: Generator) -> None:
    """Let some shops grow or shrink slowly in units and products, within archetypes."""
    n_shops, n_months = course.is_active.shape
    is_drifting = rng.random(n_shops) < DRIFTING_SHARE
    slopes = DRIFT_STD * rng.standard_normal((2, n_shops)) * is_drifting
    years = np.maximum(np.arange(n_months) - n_warm_months + 1, 0) / N_CALENDAR_MONTHS
    course.log_units += slopes[0][:, None] * years
    course.log_breadth += slopes[1][:, None] * years


def split(course: Course, at: int, rng: Generator) -> None:
    """Let nearly half of an archetype's shops have a season from now on."""
    (old,), (_, new) = EVENTS["split"].old, EVENTS["split"].new
    leaves = (course.name == old) & (rng.random(len(course.name)) < SPLIT_SHARE)
    leaves &= course.cohort == ""
    height = HIGH * np.exp(JITTER.log_peak_height * rng.standard_normal(len(leaves)))
    course.log_units[leaves, at::N_CALENDAR_MONTHS] += height[leaves, None]
    _become(course, leaves, new, at)


def merge(course: Course, at: int, rng: Generator) -> None:
    """Spread one month of two archetypes evenly between what both had."""
    old, (new,) = EVENTS["merge"].old, EVENTS["merge"].new
    meets = np.isin(course.name, old)
    before = course.population.log_season[:, EVENTS["merge"].refresh - 1]
    height = HIGH * rng.random(len(meets))
    step = (height - before)[meets, None]
    course.log_units[meets, at::N_CALENDAR_MONTHS] += step
    _become(course, meets, new, at)


def birth(course: Course, at: int, rng: Generator) -> None:
    """Open a cohort so that all of it becomes eligible now."""
    _open(course, "birth", at, rng)
    course.change[course.cohort == "birth"] = at


def death(course: Course, at: int, rng: Generator) -> None:
    """Let the shops of an archetype stop together, so that all are gone by now."""
    del rng  # nothing is left to chance: the last month is the same for all
    (old,) = EVENTS["death"].old
    last = at - SILENT_MONTHS
    stops = course.name == old
    is_open = stops & course.is_active[:, last:].any(axis=1)
    is_open &= course.is_active[:, : last + 1].any(axis=1)
    course.is_active[is_open, last] = True
    course.is_active[stops, last + 1 :] = False


HAPPEN: Mapping[EventKind, Callable[[Course, int, Generator], None]] = {
    "split": split,
    "birth": birth,
    "merge": merge,
    "death": death,
}


def shift(course: Course, kind: Shift, at: int, rng: Generator) -> None:
    """Change for good what everyone, or the mix of shops, is like."""
    later = course.log_units[:, at:]
    if kind == "level":
        later += np.log(SHIFTED_LEVEL)
    elif kind == "noise":
        later += SHIFTED_NOISE_STD * rng.standard_normal(later.shape)
    elif kind == "pauses":
        course.is_active[:, at:] &= rng.random(later.shape) >= SHIFTED_PAUSES
    else:
        _open(course, "mix", at, rng)


def _become(course: Course, shops: Bools, name: str, at: int) -> None:
    """Note that shops belong to another archetype from now on."""
    course.later_name[shops] = name
    course.change[shops] = at


def _open(course: Course, cohort: str, at: int, rng: Generator) -> None:
    """Open a cohort that has been active for exactly `TENURE_MONTHS` by now."""
    share = 1.0 / (1.0 + np.exp(-course.population.trait("logit_active_share")))
    is_active = rng.random(course.is_active.shape) < share[:, None]
    start = at - TENURE_MONTHS + 1
    is_active[:, :start] = False
    is_active[:, start : at + 1] = True
    shops = course.cohort == cohort
    course.is_active[shops] = is_active[shops]


FIRST_REFRESH_YEAR = 2024


@dataclass(frozen=True)
class PlantedEvent:
    """A change of the archetypes.

    Attributes
    ----------
    kind : {'split', 'merge', 'birth', 'death'}
        What happens.
    month : str
        ``YYYY-MM``: the first month whose features show it.
    old, new : tuple of str
        The archetypes concerned, before and after.
    """

    kind: EventKind
    month: str
    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True)
class RollingOptions:
    """What is generated.

    Attributes
    ----------
    n_shops : int
        Shops of the starting archetypes; cohorts come on top of them.
    n_warm_months : int
        Months before the first refresh, at least 12.
    n_refreshes : int
        Months that come one by one, at least 1. Events after the last do not happen.
    difficulty : {'easy', 'medium', 'hard'}
        As ``sample.difficulty``.
    has_events : bool
        Whether the four events happen; all other behaviour is the same without them.
    shift : {'level', 'noise', 'pauses', 'mix'} or None
        What changes for good from `shift_refresh` on. ``level``: everyone sells 40%
        less; ``noise``: everyone's months scatter far more (another lognormal factor
        with a standard deviation of 0.8); ``pauses``: everyone skips a quarter of the
        months; ``mix``: new `everyday` shops, 15% of `n_shops`, become eligible in one
        month.
    shift_refresh : int
        The refresh of the shift, from 1; without meaning where there is none.
    products_per_month : float
        As ``sample.products_per_month``.

    Raises
    ------
    ConfigError
        For a value that is out of range or unknown.
    """

    n_shops: int = 2500
    n_warm_months: int = 24
    n_refreshes: int = 12
    difficulty: Literal["easy", "medium", "hard"] = "easy"
    has_events: bool = True
    shift: Shift | None = None
    shift_refresh: int = 4
    products_per_month: float = 6.0

    def __post_init__(self) -> None:
        """Refuse what cannot be generated."""
        floors = {"n_shops": 1, "n_warm_months": TENURE_MONTHS, "n_refreshes": 1}
        for name, floor in floors.items():
            if (value := getattr(self, name)) < floor:
                raise ConfigError(f"`{name}` is {value}; expected at least {floor}.")
        known = {"difficulty": tuple(DIFFICULTIES), "shift": (None, *get_args(Shift))}
        for name, values in known.items():
            if (value := getattr(self, name)) not in values:
                raise ConfigError(
                    f"`{name}` is `{value}`; expected one of "
                    f"{listed([str(item) for item in values])}."
                )
        if self.shift and not 1 <= self.shift_refresh <= self.n_refreshes:
            raise ConfigError(
                f"`shift_refresh` is {self.shift_refresh}; expected a refresh from 1 "
                f"to {self.n_refreshes}."
            )

    @property
    def starts(self) -> pl.Series:
        """The first day of every month, the warm-up first."""
        first = FIRST_REFRESH_YEAR * N_CALENDAR_MONTHS - self.n_warm_months
        year, month = divmod(first, N_CALENDAR_MONTHS)
        n_months = self.n_warm_months + self.n_refreshes
        return month_starts(f"{year:04}-{month + 1:02}", n_months)

    @property
    def months(self) -> list[str]:
        """All months, as ``YYYY-MM``, the warm-up first."""
        return list(self.starts.dt.strftime("%Y-%m"))

    @property
    def refreshes(self) -> list[str]:
        """The months that come one by one, as ``YYYY-MM``."""
        return self.months[self.n_warm_months :]

    @property
    def events(self) -> list[PlantedEvent]:
        """The events that happen, in order."""
        months = self.refreshes if self.has_events else []
        return [
            PlantedEvent(kind, months[refresh - 1], old, new)
            for kind, (refresh, old, new) in EVENTS.items()
            if refresh <= len(months)
        ]


@dataclass(frozen=True)
class RollingSales:
    """Generated sales and what they were generated from.

    Attributes
    ----------
    rows : polars.DataFrame
        As `core.retailers.sample.SyntheticSales.rows`, of all months.
    truth : polars.DataFrame
        For evaluation only. One row per month, from the last one of the warm-up on, and
        shop that is open, which is from its first sale to its last: `month` (YYYY-MM),
        `shop_id`, `archetype` (that of the month; both as ``a + b`` for a shop in
        between), `is_changed` (whether an event has changed its behaviour or brought
        it in, now or before; drifting within an archetype is no change). Sorted by the
        first two.
    events : list of PlantedEvent
        In the order of their months.
    """

    rows: pl.DataFrame
    truth: pl.DataFrame
    events: list[PlantedEvent]


def generate_rolling(options: RollingOptions, seed: int) -> RollingSales:
    """Generate sales of warm-up months and refreshes, with or without events.

    Parameters
    ----------
    options : RollingOptions
        Shops, months, difficulty, events, shift.
    seed : int
        Seed, at least 0. The same options and seed give the same rows. What happens
        later changes nothing before it but the products that units are spread over.
    """
    people, demands, baskets, drifts, *changes = np.random.default_rng(seed).spawn(9)
    difficulty = DIFFICULTIES[options.difficulty]
    population, name, cohort = draw_people(
        options.n_shops, difficulty.between_share, people
    )
    demand = draw_demand(
        population,
        calendar_month=options.starts.dt.month().to_numpy(),
        noise_cv=difficulty.noise_cv,
        products_per_month=options.products_per_month,
        rng=demands,
    )
    course = begin(population, name, cohort, demand)
    drift(course, options.n_warm_months, drifts)
    months = options.months
    for event, rng in zip(options.events, changes, strict=False):
        HAPPEN[event.kind](course, months.index(event.month), rng)
    if options.shift:
        at = options.n_warm_months + options.shift_refresh - 1
        shift(course, options.shift, at, changes[-1])
    catalogue_size = catalogue_size_for(options.products_per_month)
    shop_id = identifiers("S", len(name), width=6)
    sells: Bools = np.asarray(course.is_active.any(axis=1))
    wanted = _demand_of(course.applied_to(demand), sells)
    sales = list(draw_baskets(wanted, catalogue_size, baskets))
    product_id = identifiers("P", catalogue_size, width=4)
    return RollingSales(
        rows=rows_table(
            sales, shop_id.filter(pl.Series(sells)), product_id, options.starts
        ),
        truth=_truth_table(course, shop_id, options),
        events=options.events,
    )


def _demand_of(demand: Demand, shops: Bools) -> Demand:
    """Return what some of the shops want."""
    return Demand(
        is_active=demand.is_active[shops],
        units=demand.units[shops],
        breadth=demand.breadth[shops],
        level=demand.level[shops],
        concentration=demand.concentration[shops],
    )


def _truth_table(
    course: Course, shop_id: pl.Series, options: RollingOptions
) -> pl.DataFrame:
    """Tell of every open shop and month what it is, and whether it has changed."""
    started = np.maximum.accumulate(course.is_active, axis=1)
    goes_on = np.maximum.accumulate(course.is_active[:, ::-1], axis=1)[:, ::-1]
    is_open = (started & goes_on)[:, options.n_warm_months - 1 :]
    month, shop = np.nonzero(is_open.T)
    is_changed = course.change[shop] <= month + options.n_warm_months - 1
    months = pl.Series(options.months[options.n_warm_months - 1 :])
    name = np.where(is_changed, course.later_name[shop], course.name[shop])
    return pl.DataFrame(
        {
            "month": months.gather(month),
            "shop_id": shop_id.gather(shop),
            "archetype": pl.Series(name.tolist(), dtype=pl.String),
            "is_changed": is_changed,
        }
    )
