"""The built-in sample: orders and items of shoppers whose behaviour is known.

A shopper has one type per trait, drawn independently of the other traits, so that each
axis of behaviour has groups of its own, but for `customer_maturity` and
`loyalty_trajectory`: tenure is uniform, and nobody's orders grow or shrink by design.

The model, for shopper c with the values of its types (`core.axes.sample`)::

    n_orders[c]   = 1 + Poisson(rate[c] * tenure_months[c])
    gaps[c]       ~ Gamma(regularity[c]), scaled to fill the tenure
    draws[o]      = 1 + Poisson(2.6), an item row per product drawn
    quantity[i]   = draws[i] + Poisson(draws[i] * more_units[c])
    total[o]      = sum(price * quantity) * (1 - discount share[o])

First orders are spread evenly over two and a half years up to half a year before the
end. Shops are busier before Christmas, for everyone alike. What is drawn is the
shopper's own favourite of a category, or any of its products on the shelf (plain,
standard, fine) that the shopper buys from. Rates are scaled so that the mean number of
orders is as asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.errors import ConfigError
from core.tables.frames import identifiers
from core.yaml_text import shipped_yaml

CATEGORIES = (
    "coffee", "tea", "bakery", "dairy", "snacks", "wine", "household", "beauty",
    "pets", "garden", "toys", "stationery",
)  # fmt: skip
# Products of a category and shelf; a product's number tells both.
N_SHELVES, N_SLOTS = 3, 40
N_PRODUCTS = len(CATEGORIES) * N_SHELVES * N_SLOTS
CHANNELS = ("web", "app", "pos", "email")


@dataclass(frozen=True)
class ShopperType:
    """One type of a trait.

    Attributes
    ----------
    name : str
        What it is called in the truth.
    share : float
        Its share of all shoppers.
    values : dict of str to float
        What it sets, as named in `core.axes.sample`.
    """

    name: str
    share: float
    values: Mapping[str, float]


def _traits() -> dict[str, tuple[ShopperType, ...]]:
    """Return the types of every trait, from ``shoppers.yaml``."""
    return {
        trait: tuple(
            ShopperType(name, values.pop("share"), values)
            for name, values in kinds.items()
        )
        for trait, kinds in shipped_yaml("core.axes", "shoppers.yaml").items()
    }


TRAITS: dict[str, tuple[ShopperType, ...]] = _traits()

# With `structure="none"` everyone is drawn around these values, in one hump per value;
# positive ones lognormal, shares beta distributed.
ONE_KIND: dict[str, float] = {
    "rate": 0.45,
    "regularity": 3.0,
    "more_units": 0.6,
    "discount_chance": 0.30,
    "discount_depth": 0.15,
    "weekend": 0.30,
    "hour": 14.0,
    "breadth": 6.0,
    "favourite": 0.40,
    "refund": 0.03,
    "faithful": 0.45,
}


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Days since 1970-01-01, a Thursday. Fixed, so that the sample is the same on every day.
LAST_DAY = int(np.datetime64("2025-12-31", "D").astype(np.int64))
N_DAYS = 3 * 365
FEWEST_DAYS = 180
DAYS_PER_MONTH = 30.44
MICROS_PER_SECOND = 1_000_000
# Orders per day against the year's mean, from January on.
SEASON = (0.9, 0.85, 0.95, 0.95, 1.0, 0.95, 0.9, 0.9, 0.95, 1.0, 1.25, 1.4)
# A shopper varies around its type: positive values by this much (standard deviation of
# the logarithm), shares by a beta distribution of this certainty; the second value is
# for one population without types.
SPREAD = (0.25, 0.6)
CERTAINTY = (40.0, 8.0)
HOUR_SPREAD = (0.7, 1.5)
HOUR_NOISE, FIRST_HOUR, LAST_HOUR = 1.8, 7.0, 22.99
ITEMS_BEYOND_ONE = 2.6
SHELF_PRICES = (2.0, 12.0, 80.0)
SHELF_SHARES = (0.5, 0.35, 0.15)
CHANNEL_SHARES = (0.45, 0.30, 0.15, 0.10)
OWN_SHELF = 0.92
DEEPEST_DISCOUNT = 0.45


@dataclass(frozen=True)
class People:
    """What each shopper is like.

    Attributes
    ----------
    values : dict of str to ndarray of shape (n_customers,)
        Per value of `core.axes.sample`; `shelf` and `main` are -1 where the
        shopper has none of its own.
    types : dict of str to ndarray of shape (n_customers,)
        Per trait the position of the shopper's type; empty without types.
    """

    values: dict[str, Floats]
    types: dict[str, Ints]


@dataclass(frozen=True)
class Orders:
    """Who ordered when: arrays of shape (n_orders,), by customer and time.

    Attributes
    ----------
    customer : ndarray
        Position of the shopper.
    moment : ndarray
        Microseconds since 1970.
    """

    customer: Ints
    moment: Ints


@dataclass(frozen=True)
class Goods:
    """What was ordered: arrays of shape (n_items,), by order."""

    order: Ints
    product: Ints
    quantity: Ints
    price: Floats
    is_refunded: Flags


def draw_people(n: int, rng: np.random.Generator, *, has_types: bool) -> People:
    """Draw what each shopper is like.

    Parameters
    ----------
    n : int
        Shoppers.
    rng : numpy.random.Generator
        Source of the draws.
    has_types : bool
        Whether shoppers are of types, or of one kind.
    """
    values: dict[str, Floats] = {}
    types: dict[str, Ints] = {}
    if has_types:
        for trait, kinds in TRAITS.items():
            chance = np.array([kind.share for kind in kinds])
            types[trait] = rng.choice(len(kinds), n, p=chance)
            for name in kinds[0].values:
                of_kind = np.array([kind.values[name] for kind in kinds])
                values[name] = of_kind[types[trait]]
    else:
        values = {name: np.full(n, value) for name, value in ONE_KIND.items()}
        values |= {name: np.full(n, -1.0) for name in ("shelf", "main")}
    return People(_varied(values, rng, 0 if has_types else 1), types)


def _varied(
    values: dict[str, Floats], rng: np.random.Generator, which: int
) -> dict[str, Floats]:
    """Let shoppers of one type differ, positive values and shares each in its way."""
    varied = dict(values)
    n = len(values["rate"])
    for name in ("rate", "regularity", "more_units", "discount_depth"):
        varied[name] = values[name] * rng.lognormal(0.0, SPREAD[which], n)
    for name in ("discount_chance", "weekend", "favourite", "refund", "faithful"):
        mean, certainty = values[name], CERTAINTY[which]
        varied[name] = rng.beta(mean * certainty, (1.0 - mean) * certainty)
    varied["hour"] = values["hour"] + rng.normal(0.0, HOUR_SPREAD[which], n)
    breadth = 1 + rng.poisson(values["breadth"] - 1.0)
    varied["breadth"] = np.minimum(breadth, len(CATEGORIES)).astype(np.float64)
    return varied


def draw_orders(people: People, mean_orders: float, rng: np.random.Generator) -> Orders:
    """Draw who orders when.

    Parameters
    ----------
    people : People
        The shoppers.
    mean_orders : float
        Expected orders per shopper, above 1.
    rng : numpy.random.Generator
        Source of the draws.
    """
    n = len(people.values["rate"])
    first = rng.uniform(0.0, N_DAYS - FEWEST_DAYS, n)
    expected = people.values["rate"] * (N_DAYS - first) / DAYS_PER_MONTH
    expected *= (mean_orders - 1.0) / expected.mean()
    count = 1 + rng.poisson(expected)
    customer = np.repeat(np.arange(n), count)
    gap = rng.standard_gamma(people.values["regularity"][customer])
    starts = np.concatenate([[0], np.cumsum(count)[:-1]])
    # The first order comes at once; the last gap is the time since the last order.
    before = np.cumsum(gap) - gap
    before -= before[starts][customer]
    position = before / np.add.reduceat(gap, starts)[customer]
    pace = _pace()
    days = np.arange(N_DAYS + 1)
    begin = np.interp(first, days, pace)[customer]
    day = np.interp(begin + position * (pace[-1] - begin), pace, days)
    moment = _moments(people, customer, day.astype(np.int64), rng)
    order = np.lexsort((moment, customer))
    return Orders(customer[order], moment[order])


def _pace() -> Floats:
    """Return how much of all shopping is done by the begin of each day, unscaled."""
    start = np.datetime64(LAST_DAY - N_DAYS + 1, "D")
    month = (start + np.arange(N_DAYS)).astype("datetime64[M]").astype(np.int64) % 12
    return np.concatenate([[0.0], np.cumsum(np.array(SEASON)[month])])


def _moments(
    people: People, customer: Ints, day: Ints, rng: np.random.Generator
) -> Ints:
    """Move orders to the shopper's days of the week, and give them a time of day."""
    n = len(customer)
    date = LAST_DAY - N_DAYS + 1 + np.minimum(day, N_DAYS - 1)
    monday = date - (date + 3) % 7
    is_weekend = rng.random(n) < people.values["weekend"][customer]
    weekday = np.where(is_weekend, rng.integers(5, 7, n), rng.integers(0, 5, n))
    date = monday + weekday
    date = np.where(date > LAST_DAY, date - 7, date)
    hour = people.values["hour"][customer] + rng.normal(0.0, HOUR_NOISE, n)
    second = (np.clip(hour, FIRST_HOUR, LAST_HOUR) * 3600).astype(np.int64)
    moment: Ints = (date * 86_400 + second) * MICROS_PER_SECOND
    return moment


def draw_items(people: People, customer: Ints, rng: np.random.Generator) -> Goods:
    """Draw what is in each order.

    Parameters
    ----------
    people : People
        The shoppers.
    customer : ndarray of shape (n_orders,)
        Whose order it is.
    rng : numpy.random.Generator
        Source of the draws.
    """
    values, n_people = people.values, len(people.values["rate"])
    price = catalogue_prices(rng)
    order = np.repeat(np.arange(len(customer)), _item_counts(len(customer), rng))
    who, n = customer[order], len(order)
    # Every shopper goes through the categories in an order of its own: steps of 1, 5,
    # 7 or 11 visit all 12 before one comes twice.
    offset = rng.integers(0, len(CATEGORIES), n_people)
    step = np.array([1, 5, 7, 11])[rng.integers(0, 4, n_people)]
    place = (values["breadth"][who] * rng.random(n)).astype(np.int64)
    category = (offset[who] + place * step[who]) % len(CATEGORIES)
    own_shelf = values["shelf"][who].astype(np.int64)
    is_own = (own_shelf >= 0) & (rng.random(n) < OWN_SHELF)
    shelf = np.where(is_own, own_shelf, rng.choice(N_SHELVES, n, p=SHELF_SHARES))
    taste = rng.integers(0, N_SHELVES * N_SLOTS, n_people)
    favourite = (taste[who] + 7 * place) % N_SLOTS
    is_favourite = rng.random(n) < values["favourite"][who]
    slot = np.where(is_favourite, favourite, rng.integers(0, N_SLOTS, n))
    # A favourite is one product, so it has one shelf.
    kept_shelf = np.where(own_shelf >= 0, own_shelf, taste[who] // N_SLOTS)
    shelf = np.where(is_favourite, kept_shelf, shelf)
    product = (category * N_SHELVES + shelf) * N_SLOTS + slot
    # One row per product of an order, as a till writes it; drawn twice is two units.
    key, n_drawn = np.unique(order * N_PRODUCTS + product, return_counts=True)
    order, product = np.divmod(key, N_PRODUCTS)
    who = customer[order]
    return Goods(
        order=order,
        product=product,
        quantity=n_drawn + rng.poisson(n_drawn * values["more_units"][who]),
        price=price[product],
        is_refunded=rng.random(len(order)) < values["refund"][who],
    )


def _item_counts(n_orders: int, rng: np.random.Generator) -> Ints:
    """Return how many item rows each order has, at least one."""
    return 1 + rng.poisson(ITEMS_BEYOND_ONE, n_orders)


def catalogue_prices(rng: np.random.Generator) -> Floats:
    """Return a price to the cent for each product, by its shelf."""
    shelf = np.arange(N_PRODUCTS) // N_SLOTS % N_SHELVES
    price = np.array(SHELF_PRICES)[shelf] * rng.lognormal(0.0, 0.25, N_PRODUCTS)
    return np.round(price, 2)


def draw_discounts(
    people: People, customer: Ints, gross: Floats, rng: np.random.Generator
) -> Floats:
    """Return the discount of each order, to the cent; 0 for most.

    Parameters
    ----------
    people : People
        The shoppers.
    customer, gross : ndarray of shape (n_orders,)
        Whose order it is, and what its goods cost.
    rng : numpy.random.Generator
        Source of the draws.
    """
    n = len(customer)
    is_discounted = rng.random(n) < people.values["discount_chance"][customer]
    depth = people.values["discount_depth"][customer] * rng.lognormal(0.0, 0.3, n)
    discount = gross * np.minimum(depth, DEEPEST_DISCOUNT) * is_discounted
    return np.round(discount, 2)


def draw_channels(people: People, customer: Ints, rng: np.random.Generator) -> Ints:
    """Return the channel of each order, as its place in `CHANNELS`.

    Parameters
    ----------
    people : People
        The shoppers.
    customer : ndarray of shape (n_orders,)
        Whose order it is.
    rng : numpy.random.Generator
        Source of the draws.
    """
    n = len(customer)
    main = people.values["main"][customer].astype(np.int64)
    is_main = (main >= 0) & (rng.random(n) < people.values["faithful"][customer])
    other = rng.choice(len(CHANNEL_SHARES), n, p=CHANNEL_SHARES)
    return np.where(is_main, main, other)


Structure = Literal["archetypes", "none"]


@dataclass(frozen=True)
class Shoppers:
    """Generated orders and items, and what they were generated from.

    Attributes
    ----------
    orders : polars.DataFrame
        `customer_id`, `order_id` (String), `order_date` (Datetime, microseconds),
        `total_price`, `discount_amount` (Float64, to the cent) and `source`; sorted by
        customer and date.
    items : polars.DataFrame
        `order_id`, `customer_id`, `product_id`, `category` (String), `quantity`
        (Float64, whole), `price` (Float64, of one unit) and `refund_amount` (Float64).
    truth : polars.DataFrame
        One row per customer, for evaluation only: `customer_id` and a column per trait
        of `core.axes.sample.TRAITS` with the name of the customer's type (null
        with `structure="none"`).
    """

    orders: pl.DataFrame
    items: pl.DataFrame
    truth: pl.DataFrame


def generate_shoppers(
    n_customers: int,
    seed: int,
    *,
    mean_orders: float = 10.7,
    structure: Structure = "archetypes",
) -> Shoppers:
    """Generate orders and items with known types of behaviour, or without any.

    Parameters
    ----------
    n_customers : int
        Customers, at least 1; each has at least one order.
    seed : int
        Seed, at least 0. The same arguments give the same rows.
    mean_orders : float
        Expected orders per customer, above 1.
    structure : str
        ``archetypes`` (planted types), or ``none``: one population in which every
        value has one hump. What is a yes or a no stays one: of shoppers who seldom
        return anything, some never do.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    if n_customers < 1 or mean_orders <= 1:
        raise ConfigError(
            f"{n_customers:,} customers with {mean_orders} orders in the mean cannot "
            "be generated; expected at least 1 customer and more than 1 order."
        )
    # A stream per stage: a change in one leaves the draws of the others alone.
    crowd, times, baskets, money = np.random.default_rng(seed).spawn(4)
    people = draw_people(n_customers, crowd, has_types=structure == "archetypes")
    orders = draw_orders(people, mean_orders, times)
    goods = draw_items(people, orders.customer, baskets)
    customer_id = identifiers("C", n_customers, width=6)
    order_id = identifiers("O", len(orders.customer), width=7)
    owner = customer_id.gather(orders.customer)
    item_table = _item_table(goods).with_columns(
        order_id=order_id.gather(goods.order), customer_id=owner.gather(goods.order)
    )
    gross = np.bincount(goods.order, goods.price * goods.quantity).astype(np.float64)
    discount = draw_discounts(people, orders.customer, gross, money)
    channel = draw_channels(people, orders.customer, money)
    order_table = pl.DataFrame(
        {
            "customer_id": owner,
            "order_id": order_id,
            "order_date": pl.Series(orders.moment).cast(pl.Datetime("us")),
            "total_price": np.round(gross - discount, 2),
            "discount_amount": discount,
            "source": pl.Series(CHANNELS).gather(channel),
        }
    )
    return Shoppers(order_table, item_table, _truth_table(people, customer_id))


def order_lines(made: Shoppers) -> pl.DataFrame:
    """Return the same purchases as one table of order lines, as a shop exports them.

    Columns `Order_ID, Customer_ID, Date, Sales` (what was paid for the line), `Title,
    Category, QTY, TotalDiscount, Refunds, Channel`. The discount of an order is spread
    over its lines to the cent.
    """
    lines = made.items.join(
        made.orders, on=["customer_id", "order_id"], how="left", maintain_order="left"
    )
    gross = pl.col("price") * pl.col("quantity")
    so_far = pl.col("discount_amount") * (gross.cum_sum() / gross.sum())
    part = so_far.round(2) - so_far.round(2).shift(1, fill_value=0.0)
    discount = part.over("order_id").round(2)
    return lines.select(
        Order_ID="order_id",
        Customer_ID="customer_id",
        Date="order_date",
        Sales=(gross - discount).round(2),
        Title="product_id",
        Category="category",
        QTY=pl.col("quantity").cast(pl.Int64),
        TotalDiscount=discount,
        Refunds="refund_amount",
        Channel="source",
    )


def _item_table(goods: Goods) -> pl.DataFrame:
    """Put the items into a table with names instead of positions."""
    refund = np.where(goods.is_refunded, goods.price * goods.quantity, 0.0)
    of_product = np.arange(N_PRODUCTS) * len(CATEGORIES) // N_PRODUCTS
    category = pl.Series(CATEGORIES).gather(of_product)
    return pl.DataFrame(
        {
            "product_id": identifiers("P", N_PRODUCTS, width=4).gather(goods.product),
            "category": category.gather(goods.product),
            "quantity": goods.quantity.astype(np.float64),
            "price": goods.price,
            "refund_amount": np.round(refund, 2),
        }
    )


def _truth_table(people: People, customer_id: pl.Series) -> pl.DataFrame:
    """Tell of every customer what it was generated from."""
    names = {
        trait: pl.Series([kind.name for kind in kinds])
        for trait, kinds in TRAITS.items()
    }
    columns = {
        trait: name.gather(people.types[trait])
        if trait in people.types
        else pl.Series([None], dtype=pl.String).new_from_index(0, len(customer_id))
        for trait, name in names.items()
    }
    return pl.DataFrame({"customer_id": customer_id, **columns})
