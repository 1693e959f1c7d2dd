"""Guests of the built-in restaurant chain: who orders when, where and what.

A guest is of one kind (``restaurant.yaml``), which sets how often, when, where and what
it orders. The model, for guest c with the values of its kind::

    n_orders[c]   = 1 + Poisson(rate[c] * active_months[c])
    daypart[o]    ~ weights of c, drawn once per guest (Dirichlet), so some stay 0
    channel[o]    ~ weights of c, likewise
    lines[o]      = 1 + Poisson(lines[c])
    base[l]       = one of the breadth[c] base categories that c likes best
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.yaml_text import shipped_yaml

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

CHANNELS = ("ownapp", "aggregator", "instore")
INSTORE = 2
DAYPARTS = ("Breakfast", "Lunch", "Evening", "Dinner", "Late_Night")
# First and last hour of each; those from 24 on are of the next day. Restaurants close
# at 2, before clocks are changed.
HOURS = np.array([[6, 11], [11, 16], [16, 19], [19, 23], [23, 28]], dtype=np.float64)
CLOSING = 26.0
# A month of orders before the window of 27 months, and some days after it.
FIRST_DAY = np.datetime64("2023-03-01", "D")
N_DAYS = 857
DAYS_PER_MONTH = 30.44
# Guests differ from their kind: logarithm of the rate; certainty of shares; and how
# even the weights of one guest are (the smaller, the more of them are nearly 0).
RATE_SPREAD, CERTAINTY, EVENNESS, CHANNEL_EVENNESS = 0.8, 30.0, 6.0, 1.5
LAPSED = 0.3
# Chances of what is no dish, unknown to the catalogue, given away, and so on.
STRANGE_ITEM, EXCLUDED_ITEM, PROMO = 0.01, 0.06, 0.05
FAVOURITE, CUSTOMISED, ECHOED = 0.6, 0.15, 0.5
# Share of breakfast dishes in the morning; how much the most liked categories lead.
MORNING, FAVOURED = 0.75, 1.3
EXTRA_UNITS, PARTY_UNITS = 0.08, 4


@dataclass(frozen=True)
class Guests:
    """What each guest of a block is like.

    Attributes
    ----------
    kind : ndarray of shape (n_guests,)
        Position of its kind.
    values : dict of str to ndarray of shape (n_guests,)
        Numbers of `restaurant.yaml` by name, varied.
    dayparts, channels : ndarray of shape (n_guests, 5) and (n_guests, 3)
        Cumulated probabilities.
    tastes, morning_tastes : ndarray of shape (n_guests, n_bases)
        Positions of base categories, the most liked first; those of breakfast apart.
    """

    kind: Ints
    values: dict[str, Floats]
    dayparts: Floats
    channels: Floats
    tastes: Ints
    morning_tastes: Ints


@dataclass(frozen=True)
class Visits:
    """Orders of a block: arrays of shape (n_orders,), by guest."""

    guest: Ints
    channel: Ints
    daypart: Ints
    day: Ints
    second: Ints


@dataclass(frozen=True)
class Menu:
    """What is sold, by position: arrays of shape (n_items,).

    Attributes
    ----------
    base : ndarray
        Position of the base category; -1 without one.
    first, number : ndarray of shape (n_bases,)
        Where the items of a base category begin, and how many they are.
    is_breakfast, is_meal : ndarray of shape (n_bases,)
        Whether it is served in the morning, or with choices.
    driver : ndarray of shape (n_bases,)
        Position of the driver category.
    """

    names: list[str]
    price: Floats
    base: Ints
    first: Ints
    number: Ints
    is_breakfast: Flags
    is_meal: Flags
    driver: Ints


@cache
def settings() -> dict[str, Any]:
    """Return the content of ``restaurant.yaml``."""
    content: dict[str, Any] = shipped_yaml("core.channels", "restaurant.yaml")
    return content


@cache
def menu() -> Menu:
    """Return what is sold: dishes by base category, then excluded, then unmapped."""
    tree = settings()["catalog"]
    bases = [(d, base) for d, driver in enumerate(tree.values()) for base in driver]
    drivers = list(tree)
    dishes = [tree[drivers[d]][base] for d, base in bases]
    others = settings()["excluded"] | settings()["unmapped"]
    number = np.array([len(items) for items in dishes])
    return Menu(
        names=[name for items in dishes for name in items] + list(others),
        price=np.array([p for i in [*dishes, others] for p in i.values()], np.float64),
        base=np.concatenate(
            [np.repeat(np.arange(len(bases)), number), np.full(len(others), -1)]
        ),
        first=np.cumsum(number) - number,
        number=number,
        is_breakfast=np.array([drivers[d] == "breakfast" for d, _ in bases]),
        is_meal=np.array([drivers[d] == "meals" for d, _ in bases]),
        driver=np.array([d for d, _ in bases]),
    )


def draw_guests(n: int, rng: np.random.Generator) -> Guests:
    """Draw what each guest is like.

    Parameters
    ----------
    n : int
        Guests.
    rng : numpy.random.Generator
        Source of the draws.
    """
    kinds = list(settings()["kinds"].values())
    kind = rng.choice(len(kinds), n, p=[k["share"] for k in kinds])
    names = ("rate", "weekend", "breadth", "lines", "party", "discount", "query")
    values = {name: np.array([k[name] for k in kinds], float)[kind] for name in names}
    values["rate"] = values["rate"] * rng.lognormal(0.0, RATE_SPREAD, n)
    for name in ("weekend", "party", "discount", "query"):
        mean = values[name]
        values[name] = rng.beta(mean * CERTAINTY, (1.0 - mean) * CERTAINTY)
    values["breadth"] = 1.0 + rng.poisson(values["breadth"] - 1.0)
    tastes, morning_tastes = _tastes(kinds, kind, rng)
    return Guests(
        kind=kind,
        values=values,
        dayparts=_weights(
            np.array([k["dayparts"] for k in kinds]), kind, EVENNESS, rng
        ),
        channels=_weights(
            np.array([k["channels"] for k in kinds]), kind, CHANNEL_EVENNESS, rng
        ),
        tastes=tastes,
        morning_tastes=morning_tastes,
    )


def _weights(
    of_kind: NDArray[Any], kind: Ints, evenness: float, rng: np.random.Generator
) -> Floats:
    """Return cumulated probabilities, drawn around those of the kind (Dirichlet)."""
    drawn = rng.standard_gamma(evenness * of_kind[kind] / of_kind.sum(1)[kind, None])
    # Of tiny weights all may come out as 0.
    drawn += 1e-9 * of_kind[kind]
    total: Floats = np.cumsum(drawn, axis=1)
    return total / total[:, -1:]


def _tastes(
    kinds: list[dict[str, Any]], kind: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Return each guest's base categories, the most liked first (Gumbel noise)."""
    drivers = list(settings()["catalog"])
    likes = np.array([[k["likes"].get(d, 0.0) for d in drivers] for k in kinds])
    score = likes[:, menu().driver][kind]
    score = score + rng.gumbel(0.0, 1.0, score.shape)
    by_day, in_the_morning = (
        np.flatnonzero(is_served)[np.argsort(-score[:, is_served], axis=1)]
        for is_served in (~menu().is_breakfast, menu().is_breakfast)
    )
    return by_day, in_the_morning


def draw_visits(guests: Guests, rng: np.random.Generator) -> Visits:
    """Draw who orders when, and where.

    Parameters
    ----------
    guests : Guests
        The guests of a block.
    rng : numpy.random.Generator
        Source of the draws.
    """
    n_guests = len(guests.kind)
    first = rng.uniform(0.0, N_DAYS - 1.0, n_guests)
    last = np.where(
        rng.random(n_guests) < LAPSED, rng.uniform(first, N_DAYS), float(N_DAYS)
    )
    expected = guests.values["rate"] * (last - first) / DAYS_PER_MONTH
    guest = np.repeat(np.arange(n_guests), 1 + rng.poisson(expected))
    n = len(guest)
    day = (first[guest] + rng.random(n) * (last - first)[guest]).astype(np.int64)
    # Moved to the guest's days of the week: Monday is 0.
    weekday = (day + int((FIRST_DAY.astype(np.int64) + 3) % 7)) % 7
    is_weekend = rng.random(n) < guests.values["weekend"][guest]
    wanted = np.where(is_weekend, rng.integers(5, 7, n), rng.integers(0, 5, n))
    day = np.clip(day - weekday + wanted, 0, N_DAYS - 1)
    daypart = (rng.random(n)[:, None] > guests.dayparts[guest]).sum(1)
    channel = (rng.random(n)[:, None] > guests.channels[guest]).sum(1)
    begin, end = HOURS[daypart].T
    end = np.where(channel == INSTORE, np.minimum(end, CLOSING), end)
    hour = begin + (end - begin) * rng.beta(2.0, 2.0, n)
    second = (hour * 3600).astype(np.int64)
    order = np.lexsort((second, day, guest))
    return Visits(*(column[order] for column in (guest, channel, daypart, day, second)))


def draw_lines(
    guests: Guests, visits: Visits, rng: np.random.Generator
) -> pl.DataFrame:
    """Draw what is on each order, as the till writes it.

    Parameters
    ----------
    guests : Guests
        The guests of a block.
    visits : Visits
        Their orders.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    polars.DataFrame
        `order` (position), `item`, `header` (positions on the menu; -1: none),
        `quantity`, `price`, `is_promo`, `is_customised`; by order.
    """
    count = 1 + rng.poisson(guests.values["lines"][visits.guest])
    order = np.repeat(np.arange(len(visits.guest)), count)
    n = len(order)
    item = _items(guests, visits, order, rng)
    is_party = rng.random(len(count)) < guests.values["party"][visits.guest]
    extra = rng.poisson(EXTRA_UNITS, n)
    extra += is_party[order] * rng.integers(0, PARTY_UNITS, n)
    own = _lines(order, item, 1 + extra, menu().price[item])
    own["is_customised"] = rng.random(n) < CUSTOMISED
    parts = [pl.DataFrame(own), *_chosen(order, item, 1 + extra, rng)]
    parts += _beside(len(count), rng)
    return pl.concat(parts).sort("order", maintain_order=True)


def _lines(order: Ints, item: Ints, quantity: Ints, price: Floats) -> dict[str, Any]:
    n = len(order)
    return {
        "order": order,
        "item": item,
        "header": np.full(n, -1),
        "quantity": quantity,
        "price": price,
        "is_promo": np.zeros(n, dtype=bool),
        "is_customised": np.zeros(n, dtype=bool),
    }


def _items(
    guests: Guests, visits: Visits, order: Ints, rng: np.random.Generator
) -> Ints:
    """Return the dish of each line: of a base category that the guest likes."""
    sold, n = menu(), len(order)
    guest = visits.guest[order]
    is_morning = (visits.daypart[order] == 0) & (rng.random(n) < MORNING)
    base = np.empty(n, dtype=np.int64)
    for of_lines, tastes in (
        (is_morning, guests.morning_tastes),
        (~is_morning, guests.tastes),
    ):
        who = guest[of_lines]
        breadth = np.minimum(guests.values["breadth"][who], tastes.shape[1])
        place = (breadth * rng.random(len(who)) ** FAVOURED).astype(np.int64)
        base[of_lines] = tastes[who, place]
    favourite = (guest * 31 + base * 17) % sold.number[base]
    other = (rng.random(n) * sold.number[base]).astype(np.int64)
    which = np.where(rng.random(n) < FAVOURITE, favourite, other)
    return sold.first[base] + which


def _chosen(
    order: Ints, item: Ints, quantity: Ints, rng: np.random.Generator
) -> list[pl.DataFrame]:
    """Return what is chosen with meals, and the own lines that tills write of some."""
    sold = menu()
    is_meal = sold.is_meal[sold.base[item]]
    order, header, quantity = order[is_meal], item[is_meal], quantity[is_meal]
    bases = [base for tree in settings()["catalog"].values() for base in tree]
    parts = []
    for name in settings()["choices"]:
        base = bases.index(name)
        choice = sold.first[base] + rng.integers(0, sold.number[base], len(order))
        free = np.zeros(len(order))
        rows = _lines(order, choice, quantity, free)
        is_echoed = rng.random(len(order)) < ECHOED
        echoed = _lines(
            order[is_echoed], choice[is_echoed], quantity[is_echoed], free[is_echoed]
        )
        parts += [pl.DataFrame(rows | {"header": header}), pl.DataFrame(echoed)]
    return parts


def _beside(n_orders: int, rng: np.random.Generator) -> list[pl.DataFrame]:
    """Return promoted items, what is no dish, and what the catalogue does not know."""
    sold = menu()
    n_dishes = int(sold.number.sum())
    n_excluded = len(settings()["excluded"])
    ranges = (
        (PROMO, 0, n_dishes),
        (EXCLUDED_ITEM, n_dishes, n_dishes + n_excluded),
        (STRANGE_ITEM, n_dishes + n_excluded, len(sold.price)),
    )
    parts = []
    for chance, begin, end in ranges:
        order = np.flatnonzero(rng.random(n_orders) < chance)
        item = rng.integers(begin, end, len(order))
        rows = _lines(order, item, np.ones(len(order), np.int64), sold.price[item])
        if begin == 0:
            # Given away; what it is worth is the order's promo amount.
            rows |= {"is_promo": np.ones(len(order), dtype=bool)}
            rows |= {"price": np.zeros(len(order))}
        parts.append(pl.DataFrame(rows))
    return parts
