"""The built-in sample of shoppers: orders and items whose makers are known.

The model, for shopper c with the values of its types (`core.data.shoppers_types`)::

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

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from core.data.shoppers_draws import (
    Goods,
    People,
    draw_channels,
    draw_discounts,
    draw_items,
    draw_orders,
    draw_people,
)
from core.data.shoppers_types import CATEGORIES, CHANNELS, N_PRODUCTS, TRAITS
from core.data.synthetic import identifiers
from core.errors import ConfigError

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
        of `core.data.shoppers_types.TRAITS` with the name of the customer's type (null
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
