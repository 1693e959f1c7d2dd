"""The built-in sample: files of grocery orders, with planted kinds of customers or not.

A customer keeps its own habits for as long as it stays: a rhythm (weekly, every two
weeks, monthly), a weekday, an hour, a size of basket, and products that it comes back
to. What happens after a date therefore follows from what was to be seen before it. With
structure, customers are of a few kinds that differ in all of this and in what they
like; without it, every habit is drawn by itself from one smooth distribution.

The model, for customer c and its order o::

    raw[o]      = start[c] + sum of gaps ~ Gamma(shape[c], gap[c])
    day[o]      = raw[o], or with probability habit[c] the nearest own weekday
    lines[o]    ~ 1 + Poisson(basket[c] * Gamma)
    product[l]  = one of the regulars of c with probability again[c], else any one
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.errors import ConfigError
from core.tables.frames import write_blocks
from core.yaml_text import shipped_yaml

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

N_PRODUCTS = 12_000
# Days that the sample covers; as such shops keep it, longer gaps count as `MOST_DAYS`,
# and of a customer there are at most so many orders.
N_DAYS, MOST_DAYS, MOST_ORDERS = 365, 30, 100
# Products that a customer comes back to.
N_REGULARS = 40
BLOCK = 20_000
# Share of customers that begin on the first day; the others come by and by.
FOUNDERS = 0.35
FAVOURED = 4.0
# Of orders that fall on the day of another one, the share that is placed all the same.
SAME_DAY = 0.2
# How much customers of one kind, and of none, differ: deviation of logarithms.
WITHIN, SMOOTH = 0.15, 0.4
HABITS = ("gap", "again", "basket", "hour", "habit", "stay")
ITEM_COLUMNS = ("order_id", "product_id", "add_to_cart_order", "reordered")


@dataclass(frozen=True)
class Kind:
    """What customers of a kind have in common.

    Attributes
    ----------
    share : float
        Of all customers.
    habits : tuple of float
        `HABITS`: days between orders, probability that a line is a regular product,
        lines of an order, hour of the day, probability that an order is moved to the
        own weekday, days until the customer stays away (mean).
    likes : tuple of str
        Departments of which more is bought.
    """

    share: float
    habits: tuple[float, ...]
    likes: tuple[str, ...]


KINDS = {
    "weekly family": Kind(
        0.28,
        (8.0, 0.75, 11.0, 10.0, 0.8, 900.0),
        ("babies", "dairy and eggs", "breakfast", "snacks"),
    ),
    "stock-up": Kind(
        0.24,
        (26.0, 0.60, 15.0, 14.0, 0.5, 700.0),
        ("canned goods", "dry goods", "household", "frozen"),
    ),
    "fresh cook": Kind(
        0.20,
        (12.0, 0.50, 8.0, 17.5, 0.6, 600.0),
        ("produce", "meat", "fish", "oils and spices"),
    ),
    "snacker": Kind(
        0.17,
        (15.0, 0.35, 4.5, 20.0, 0.3, 400.0),
        ("snacks", "sweets", "cold drinks", "alcohol"),
    ),
    "trial": Kind(0.11, (19.0, 0.15, 8.0, 15.0, 0.3, 90.0), ("ready meals",)),
}


@dataclass(frozen=True)
class Catalogue:
    """Products with their aisles and departments; ids from 1.

    Attributes
    ----------
    products, aisles, departments : DataFrame
        `product_id`, `product_name`, `aisle_id`, `department_id`; `aisle_id`, `aisle`;
        `department_id`, `department`.
    weights : ndarray of float, shape (n_aisles,)
        Share of each aisle in what is bought.
    department_of : ndarray of str, shape (n_aisles,)
    """

    products: pl.DataFrame
    aisles: pl.DataFrame
    departments: pl.DataFrame
    weights: FloatArray
    department_of: NDArray[np.str_]


@dataclass(frozen=True)
class BasketSample:
    """Orders and items of some customers, and what was planted.

    Attributes
    ----------
    orders : DataFrame
        `order_id`, `customer_id`, `order_number` (from 1), `order_dow` (0 to 6),
        `order_hour_of_day` (0 to 23), `days_since_prior_order` (null for the first;
        at most 30), a customer's orders in the order of time.
    items : DataFrame
        `order_id`, `product_id`, `add_to_cart_order` (from 1), `reordered` (0 or 1).
    truth : DataFrame
        `customer_id` and `kind`; null without structure.
    """

    orders: pl.DataFrame
    items: pl.DataFrame
    truth: pl.DataFrame


@cache
def catalogue() -> Catalogue:
    """Return the built-in catalogue."""
    shares = shipped_yaml("core.baskets", "grocery.yaml")
    rows = [
        (place, department, aisle, float(weight))
        for place, (department, aisles) in enumerate(shares.items(), 1)
        for aisle, weight in aisles.items()
    ]
    weights = np.array([row[3] for row in rows])
    weights /= weights.sum()
    sizes = np.maximum(5, np.floor(weights * N_PRODUCTS)).astype(np.int64)
    aisle_of = np.repeat(np.arange(len(rows)), sizes)
    number = np.arange(len(aisle_of)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
    names = pl.Series([row[2] for row in rows])
    products = pl.DataFrame(
        {
            "product_id": np.arange(1, len(aisle_of) + 1),
            "product_name": names.gather(aisle_of) + " " + pl.Series(number).cast(str),
            "aisle_id": aisle_of + 1,
            "department_id": np.array([row[0] for row in rows])[aisle_of],
        }
    )
    return Catalogue(
        products,
        pl.DataFrame({"aisle_id": range(1, len(rows) + 1), "aisle": names}),
        pl.DataFrame(
            {"department_id": range(1, len(shares) + 1), "department": list(shares)}
        ),
        weights,
        np.array([row[1] for row in rows]),
    )


def generate_baskets(
    customers: int, seed: int, *, has_structure: bool = True
) -> BasketSample:
    """Return the orders and items of a number of customers, in memory.

    Parameters
    ----------
    customers : int
        At least 1; each has at least one order. About 15 orders each.
    seed : int
        Seed, at least 0. The same arguments give the same rows.
    has_structure : bool
        Whether customers are of kinds.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    blocks = list(basket_blocks(customers, seed, has_structure=has_structure))
    return BasketSample(
        *(
            pl.concat([getattr(block, name) for block in blocks])
            for name in ("orders", "items", "truth")
        )
    )


def basket_blocks(
    customers: int, seed: int, *, has_structure: bool = True
) -> Iterator[BasketSample]:
    """Yield the same rows in blocks of `BLOCK` customers.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    if customers < 1 or seed < 0:
        raise ConfigError(
            f"{customers:,} customers with seed {seed} cannot be generated; expected "
            "at least 1 customer, and a seed of at least 0."
        )
    for first in range(1, customers + 1, BLOCK):
        rng = np.random.default_rng([seed, first])
        size = min(BLOCK, customers + 1 - first)
        yield _block(size, first, rng, has_structure=has_structure)


def write_sample(
    folder: Path,
    customers: int,
    seed: int,
    suffix: Literal["csv", "parquet"] = "csv",
    *,
    has_structure: bool = True,
    has_truth: bool = False,
) -> dict[str, int]:
    """Write the files that the best-known data set of grocery baskets consists of.

    Customers are written as they are drawn, so that memory does not grow with them.

    Parameters
    ----------
    folder : Path
        Where to; made if it is not there.
    customers, seed, has_structure
        As of `generate_baskets`.
    suffix : str
        Kind of the files.
    has_truth : bool
        Whether the planted kinds are written, too: ``truth``.

    Returns
    -------
    dict of str to int
        Rows by name of the file: ``orders``, ``order_products__prior``, ``products``,
        ``aisles`` and ``departments``.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    blocks = basket_blocks(customers, seed, has_structure=has_structure)
    tables = (
        _files(block, is_first=number == 0, has_truth=has_truth)
        for number, block in enumerate(blocks)
    )
    return write_blocks(folder, tables, suffix)


def _files(
    block: BasketSample, *, is_first: bool, has_truth: bool
) -> dict[str, pl.DataFrame]:
    """Return a block's tables by the names of their files, with the shop's columns."""
    orders = block.orders.rename({"customer_id": "user_id"})
    tables = {
        "orders": orders.insert_column(
            2, pl.Series("eval_set", ["prior"]).new_from_index(0, orders.height)
        ),
        "order_products__prior": block.items,
    }
    if has_truth:
        tables["truth"] = block.truth.rename({"customer_id": "user_id"})
    if is_first:
        known = catalogue()
        tables |= {
            name: getattr(known, name) for name in ("products", "aisles", "departments")
        }
    return tables


def _block(
    customers: int, first: int, rng: np.random.Generator, *, has_structure: bool
) -> BasketSample:
    """Return customers with ids from `first` on."""
    kinds = list(KINDS.values())
    kind = rng.choice(len(kinds), customers, p=[each.share for each in kinds])
    habits = _habits(kind, rng, has_structure=has_structure)
    tastes = _tastes(kind if has_structure else None, customers, rng)
    orders = _orders(habits, first, rng)
    items = _items(orders, first, habits, tastes, rng)
    names = pl.Series(list(KINDS)).gather(kind)
    truth = pl.DataFrame(
        {"customer_id": np.arange(first, first + customers), "kind": names}
    )
    if not has_structure:
        truth = truth.with_columns(kind=pl.lit(None, pl.String))
    return BasketSample(orders, items, truth)


def _habits(
    kind: IntArray, rng: np.random.Generator, *, has_structure: bool
) -> dict[str, FloatArray]:
    """Return the habits of each customer."""
    of_kinds = np.array([each.habits for each in KINDS.values()])
    if has_structure:
        drawn = of_kinds[kind] * rng.lognormal(0, WITHIN, (len(kind), len(HABITS)))
    else:
        middle = np.exp(np.log(of_kinds).mean(axis=0))
        drawn = middle * rng.lognormal(0, SMOOTH, (len(kind), len(HABITS)))
    habits = dict(zip(HABITS, drawn.T, strict=True))
    for name, least, most in (("again", 0.03, 0.92), ("habit", 0.05, 0.95)):
        habits[name] = np.clip(habits[name], least, most)
    habits["hour"] = np.clip(habits["hour"], 6, 22)
    return habits


def _tastes(
    kind: IntArray | None, customers: int, rng: np.random.Generator
) -> FloatArray:
    """Return the share of each aisle in what each customer buys."""
    known = catalogue()
    weights = np.tile(known.weights, (customers, 1))
    for place, each in enumerate(KINDS.values() if kind is not None else ()):
        is_liked = np.isin(known.department_of, each.likes)
        is_of_kind = np.asarray(kind == place)
        weights[np.ix_(is_of_kind, is_liked)] *= FAVOURED
    tastes = weights * rng.gamma(1.2, 1.0, weights.shape)
    return np.asarray(tastes / tastes.sum(axis=1, keepdims=True))


def _orders(
    habits: dict[str, FloatArray], first: int, rng: np.random.Generator
) -> pl.DataFrame:
    """Return the orders of all customers, in the order of time."""
    customers = len(habits["gap"])
    start = np.where(
        rng.random(customers) < FOUNDERS, 0.0, rng.uniform(0, 0.9 * N_DAYS, customers)
    )
    end = np.minimum(start + rng.exponential(habits["stay"]), N_DAYS)
    # Twice as many as would fit, some more, and then those that do.
    n_drawn = (2 * (end - start) / habits["gap"]).astype(np.int64) + 5
    owner = np.repeat(np.arange(customers), np.minimum(n_drawn, 2 * MOST_ORDERS))
    gaps = rng.gamma(4.0, habits["gap"][owner] / 4.0)
    is_first = np.diff(owner, prepend=-1) > 0
    gaps[is_first] = 0
    passed = np.cumsum(gaps)
    raw = start[owner] + passed - passed[is_first][owner]
    day = np.floor(raw).astype(np.int64)
    # On weekends more is ordered.
    weekday = rng.choice(7, customers, p=np.array([20, 18, 12, 12, 11, 12, 15]) / 100)
    to_own = (weekday[owner] - day + 3) % 7 - 3
    is_own = rng.random(len(day)) < habits["habit"][owner]
    day = np.maximum(np.where(is_own, day + to_own, day), 0)
    hour = np.round(rng.normal(habits["hour"][owner], 2.5)).astype(np.int64) % 24
    number = pl.int_range(1, pl.len() + 1).over("customer")
    kept = pl.DataFrame({"customer": owner, "day": day, "hour": hour}).filter(
        is_first | (raw < end[owner])
    )
    is_alone = pl.struct("customer", "day").is_first_distinct()
    is_placed = is_alone | pl.Series(rng.random(kept.height) < SAME_DAY)
    in_time = kept.sort("customer", "day", "hour").filter(is_placed)
    in_time = in_time.with_columns(number=number)
    gap = pl.col("day").diff().over("customer").clip(upper_bound=MOST_DAYS)
    customer = (pl.col("customer") + first).cast(pl.Int64)
    return in_time.filter(pl.col("number") <= MOST_ORDERS).select(
        order_id=customer * (MOST_ORDERS + 1) + pl.col("number") - 1,
        customer_id=customer,
        order_number=pl.col("number").cast(pl.Int64),
        order_dow=pl.col("day") % 7,
        order_hour_of_day=pl.col("hour"),
        days_since_prior_order=gap.cast(pl.Float64),
    )


def _items(
    orders: pl.DataFrame,
    first: int,
    habits: dict[str, FloatArray],
    tastes: FloatArray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Return the items of orders: no product twice in one order."""
    owner = orders["customer_id"].to_numpy() - first
    customers = len(tastes)
    regulars = _drawn(np.repeat(np.arange(customers), N_REGULARS), tastes, rng)
    regulars = regulars.reshape(customers, N_REGULARS)
    mean = habits["basket"][owner] * rng.gamma(8.0, 1 / 8.0, len(owner))
    order = np.repeat(np.arange(len(owner)), 1 + rng.poisson(mean))
    customer = owner[order]
    is_regular = rng.random(len(order)) < habits["again"][customer]
    # The first of them come up far more often than the last.
    rank = np.minimum(rng.geometric(0.07, len(order)) - 1, N_REGULARS - 1)
    product = np.where(
        is_regular, regulars[customer, rank], _drawn(customer, tastes, rng)
    )
    # Orders stand in the order of time.
    earliest = pl.col("order").min().over("customer", "product_id")
    lines = (
        pl.DataFrame({"order": order, "customer": customer, "product_id": product})
        .unique(["order", "product_id"], keep="first", maintain_order=True)
        .with_columns(
            add_to_cart_order=pl.int_range(1, pl.len() + 1).over("order"),
            reordered=(pl.col("order") > earliest).cast(pl.Int64),
        )
    )
    order_id = orders["order_id"].gather(lines["order"])
    return lines.with_columns(order_id=order_id).select(ITEM_COLUMNS)


def _drawn(
    customer: IntArray, tastes: FloatArray, rng: np.random.Generator
) -> IntArray:
    """Return a product for each customer named, those first in an aisle most often."""
    n_aisles = tastes.shape[1]
    # One search over all customers: their edges lie one after the other, a unit apart.
    edges = np.cumsum(tastes, axis=1) + np.arange(len(tastes))[:, None]
    place = np.searchsorted(edges.ravel(), customer + rng.random(len(customer)))
    aisle = np.minimum(place - customer * n_aisles, n_aisles - 1)
    sizes = catalogue().products.group_by("aisle_id").len().sort("aisle_id")["len"]
    n = sizes.to_numpy().astype(np.int64)
    within = np.floor(n[aisle] * rng.random(len(customer)) ** 3).astype(np.int64)
    return np.asarray((np.cumsum(n) - n)[aisle] + within + 1)
