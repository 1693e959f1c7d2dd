"""Which products each generated shop buys, and how many units of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.data.archetypes import Floats, Ints
from core.data.demand import Demand

# Products a shop ever lists, over those of its broadest month.
REPERTOIRE_FACTOR = 1.6
MIN_CATALOGUE_SIZE = 500
CATALOGUE_PER_MONTHLY_PRODUCT = 20.0
POPULARITY_EXPONENT = 0.7
# Cells of (shop, month, repertoire) held at once: about 200 MB of work arrays.
CHUNK_CELLS = 4_000_000


class Sales(NamedTuple):
    """Sold units of a chunk of shops, one entry per shop, month and product."""

    shop: NDArray[np.int32]
    month: NDArray[np.int32]
    product: NDArray[np.int32]
    units: Floats


def catalogue_size_for(products_per_month: float) -> int:
    """Return how many products the distributor sells."""
    wanted = int(np.ceil(CATALOGUE_PER_MONTHLY_PRODUCT * products_per_month))
    return max(MIN_CATALOGUE_SIZE, wanted)


def draw_baskets(
    demand: Demand, catalogue_size: int, rng: np.random.Generator
) -> Iterator[Sales]:
    """Spread each month's units over products, a bounded number of shops at a time.

    Parameters
    ----------
    demand : Demand
        Activity, units and expected breadth of every shop and month.
    catalogue_size : int
        Products to choose from; product 0 is the most popular.
    rng : numpy.random.Generator
        Source of randomness.

    Yields
    ------
    Sales
        Of consecutive shops, by shop and month; units of a month add up to its demand.
    """
    broadest = np.where(demand.is_active, demand.breadth, 1.0).max(axis=1)
    repertoire = np.ceil(REPERTOIRE_FACTOR * broadest).astype(np.int64) + 1
    repertoire = np.minimum(repertoire, catalogue_size)
    n_shops, n_months = demand.is_active.shape
    place = np.arange(1.0, catalogue_size + 1.0)
    popularity: Floats = np.power(place, -POPULARITY_EXPONENT)
    widest = max(n_months * int(repertoire.max()), catalogue_size)
    n_chunk = max(1, CHUNK_CELLS // widest)
    for start in range(0, n_shops, n_chunk):
        shops = slice(start, min(start + n_chunk, n_shops))
        assortment = _draw_assortments(repertoire[shops], popularity, rng)
        yield _draw_chunk(demand, shops, repertoire, assortment, rng)


def _draw_assortments(
    repertoire: Ints, popularity: Floats, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Draw ranked products without replacement, shape (n_shops, widest repertoire).

    The smallest of exponential waiting times divided by the weights are a weighted
    sample without replacement (Efraimidis and Spirakis, 2006), the most wanted first.
    """
    widest = int(repertoire.max())
    wait = rng.standard_exponential((len(repertoire), len(popularity)), np.float32)
    wait /= popularity.astype(np.float32)
    nearest = np.argpartition(wait, widest - 1, axis=1)[:, :widest]
    order = np.argsort(np.take_along_axis(wait, nearest, axis=1), axis=1)
    return np.take_along_axis(nearest, order, axis=1).astype(np.int32)


def _draw_chunk(
    demand: Demand,
    shops: slice,
    repertoire: Ints,
    assortment: NDArray[np.int32],
    rng: np.random.Generator,
) -> Sales:
    """Draw the products of each active month of some shops and share the units out."""
    shop, month = np.nonzero(demand.is_active[shops])
    units = demand.units[shops][shop, month]
    expected = demand.breadth[shops][shop, month]
    others = repertoire[shops][shop] - 1
    odds = np.minimum((expected - 1.0) / np.maximum(others, 1), 1.0)
    count = np.minimum(1 + rng.binomial(others, odds), units)

    rank = np.arange(1, assortment.shape[1] + 1)
    weight = rank ** -demand.concentration[shops][:, None]
    wait = rng.standard_exponential((len(shop), len(rank)), np.float32)
    wait /= weight.astype(np.float32)[shop]
    wait[rank > repertoire[shops][shop][:, None]] = np.inf
    ordered = np.sort(wait, axis=1)
    bar = np.take_along_axis(ordered, count[:, None] - 1, axis=1)
    event, product = np.nonzero(wait <= bar)

    sold = share_out(units, event, weight[shop[event], product])
    return Sales(
        shop=(shop[event] + shops.start).astype(np.int32),
        month=month[event].astype(np.int32),
        product=assortment[shop[event], product],
        units=sold,
    )


def share_out(units: Ints, event: Ints, weight: Floats) -> Floats:
    """Split each event's units over its entries: one each, the rest by weight.

    Rounding the running total instead of each part keeps the sum exact.

    Parameters
    ----------
    units : ndarray of int, shape (n_events,)
        At least as many as the event has entries; raised to that where ties in the
        draw gave it one entry more.
    event : ndarray of int, shape (n_entries,)
        Event of each entry, ascending, every event at least once.
    weight : ndarray of float, shape (n_entries,)
        Positive.

    Returns
    -------
    ndarray of float64, shape (n_entries,)
        Whole units, at least 1.
    """
    n_entries = np.bincount(event)
    start = np.cumsum(n_entries) - n_entries
    running = np.cumsum(weight)
    before = (running - weight)[start]
    total = np.add.reduceat(weight, start)
    rest = np.maximum(units - n_entries, 0)
    reached = np.clip((running - before[event]) / total[event], 0.0, 1.0)
    reached[np.append(start[1:], len(event)) - 1] = 1.0
    reached = np.rint(reached * rest[event])
    part = np.diff(reached, prepend=0.0)
    part[start] = reached[start]
    sold: Floats = 1.0 + part
    return sold
