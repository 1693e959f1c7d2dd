"""The built-in sample: rows of a restaurant chain as its tills and apps write them.

What guests of known kinds order (`core.channels.guests`) comes out with what has to be
taken out again: promoted items, choices that stand as own lines, items outside the
catalogue, and accounts and invoices that belong to nobody. Guests are drawn in blocks,
so that memory does not grow with their number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import yaml

from core.channels.guests import (
    CHANNELS,
    FIRST_DAY,
    N_DAYS,
    Guests,
    Ints,
    Visits,
    draw_guests,
    draw_lines,
    draw_visits,
    menu,
    settings,
)
from core.config import ChannelsConfig, Config
from core.errors import ConfigError
from core.tables.frames import write_blocks
from core.yaml_text import YamlDumper

_MONEY = ("total_price", "discount_amount", "promo_amount")
# What each channel writes of an order.
COLUMNS = {
    "ownapp": (
        "order_id", "customer_id", "store_id", "order_time", *_MONEY,
        "dispatched_time", "delivered_time", "has_query",
    ),
    "aggregator": (
        "order_id", "customer_id", "store_id", "order_time", *_MONEY,
        "delivery_minutes", "has_query",
    ),
    "instore": ("order_id", "store_id", "order_time", *_MONEY),
}  # fmt: skip
# First letter of the ids of accounts, and the share of accounts (in-store: of
# invoices) that nobody knows the guest of.
ACCOUNTS = {"ownapp": "U", "aggregator": "X"}
UNMAPPED = {"ownapp": 0.02, "aggregator": 0.1, "instore": 0.2}
# The zone that times are written in; null: the chain's own.
ZONES = {"ownapp": "UTC", "aggregator": "UTC", "instore": None}
BLOCK = 10_000
# Ids of a block's orders; more than any block has.
ORDERS_PER_BLOCK = 10_000_000
SECOND_ACCOUNT, UNLISTED_STORE, PICKED_UP, DEEPEST_DISCOUNT = 0.04, 0.01, 0.2, 0.4


@dataclass(frozen=True)
class RestaurantSample:
    """Rows of the chain as its channels write them.

    Attributes
    ----------
    orders : dict of str to polars.DataFrame
        Per channel `order_id`, `customer_id` (the channel's own; not in-store, whose
        invoices are mapped), `store_id`, `order_time` (Datetime without zone, in the
        channel's zone), `total_price`, `discount_amount`, `promo_amount`,
        and what the channel knows of delivery: `dispatched_time` and `delivered_time`
        (own app) or `delivery_minutes` (aggregator), and `has_query`.
    items : dict of str to polars.DataFrame
        Per channel `order_id`, `item_id`, `quantity`, `price` (of one), `is_promo`,
        `header_item_id` (the meal that the row is a choice of; null: a line of its
        own) and `is_customised`.
    customers : dict of str to polars.DataFrame
        Per channel `customer_id`, or in-store `order_id`, and its `central_id`; some
        are missing.
    catalog : polars.DataFrame
        `item_id`, `item_name`, `driver_category`, `base_category` (null: unmapped) and
        `is_veg`.
    stores : polars.DataFrame
        `store_id`, `city`, `format`; some stores are missing.
    truth : polars.DataFrame
        `central_id` and the planted `kind` of every guest; for evaluation only.
    """

    orders: dict[str, pl.DataFrame]
    items: dict[str, pl.DataFrame]
    customers: dict[str, pl.DataFrame]
    catalog: pl.DataFrame
    stores: pl.DataFrame
    truth: pl.DataFrame


def generate_restaurant(customers: int, seed: int) -> RestaurantSample:
    """Generate the rows of a number of guests, in memory.

    Parameters
    ----------
    customers : int
        Guests, at least 1; each has at least one order. About 23 orders each.
    seed : int
        Seed, at least 0. The same arguments give the same rows.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    blocks = list(restaurant_blocks(customers, seed))
    first = blocks[0]
    joined = {
        name: {
            channel: pl.concat([getattr(block, name)[channel] for block in blocks])
            for channel in CHANNELS
        }
        for name in ("orders", "items", "customers")
    }
    truth = pl.concat([block.truth for block in blocks])
    return RestaurantSample(
        **joined, catalog=first.catalog, stores=first.stores, truth=truth
    )


def restaurant_blocks(customers: int, seed: int) -> Iterator[RestaurantSample]:
    """Yield the same rows in blocks of `BLOCK` guests; catalogue and stores in each.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    if customers < 1 or seed < 0:
        raise ConfigError(
            f"{customers:,} customers with seed {seed} cannot be generated; expected "
            "at least 1 customer and a seed of at least 0."
        )
    catalog, stores = _catalog(), _stores()
    for number, start in enumerate(range(0, customers, BLOCK)):
        n = min(BLOCK, customers - start)
        rng = np.random.default_rng([seed, number])
        yield _block(start, n, number, rng, catalog, stores)


def _block(
    start: int,
    n: int,
    number: int,
    rng: np.random.Generator,
    catalog: pl.DataFrame,
    stores: pl.DataFrame,
) -> RestaurantSample:
    # A stream per stage: a change in one leaves the draws of the others alone.
    crowd, times, baskets, tills, maps = rng.spawn(5)
    guests = draw_guests(n, crowd)
    visits = draw_visits(guests, times)
    lines = draw_lines(guests, visits, baskets)
    number_of = number * ORDERS_PER_BLOCK + np.arange(len(visits.guest))
    order_id = _ids("R", number_of, 9)
    central_id = _ids("G", start + np.arange(n), 7)
    rows = _order_table(guests, visits, lines, tills).with_columns(
        order_id=order_id,
        account=_accounts(start, visits, tills),
        central_id=central_id.gather(visits.guest),
    )
    goods = _item_table(lines, order_id)
    is_of = [visits.channel == channel for channel in range(len(CHANNELS))]
    orders = {
        name: _as_written(rows.filter(is_of[channel]), name)
        for channel, name in enumerate(CHANNELS)
    }
    position = lines["order"].to_numpy()
    return RestaurantSample(
        orders={name: table.select(COLUMNS[name]) for name, table in orders.items()},
        items={
            name: goods.filter(is_of[channel][position])
            for channel, name in enumerate(CHANNELS)
        },
        customers={name: _map(table, name, maps) for name, table in orders.items()},
        catalog=catalog,
        stores=stores,
        truth=pl.DataFrame(
            {
                "central_id": central_id,
                "kind": pl.Series(list(settings()["kinds"])).gather(guests.kind),
            }
        ),
    )


def _ids(prefix: str, number: Ints, width: int) -> pl.Series:
    """Return ids such as ``R000000007``."""
    return prefix + pl.Series("order_id", number).cast(pl.String).str.zfill(width)


def _item_ids() -> pl.Series:
    return _ids("M", 100 + np.arange(len(menu().price)), 3)


def _catalog() -> pl.DataFrame:
    """Return the item map, which lacks some items and some categories."""
    sold, tree = menu(), settings()["catalog"]
    drivers = list(tree)
    bases = [base for driver in tree.values() for base in driver]
    n_dishes = int(sold.number.sum())
    base = [bases[b] for b in sold.base[:n_dishes]]
    driver = [drivers[sold.driver[b]] for b in sold.base[:n_dishes]]
    # One is excluded by both categories, one by either; two are listed without any.
    driver += ["Exclude", "Exclude", "sides", None, None]
    base += ["Exclude", "bags", "Exclude", None, None]
    listed = np.r_[: n_dishes + len(settings()["excluded"]), -2:0]
    vegetarian = settings()["vegetarian"]
    names = pl.Series(sold.names).gather(listed)
    return pl.DataFrame(
        {
            "item_id": _item_ids().gather(listed),
            "item_name": names,
            "driver_category": driver,
            "base_category": base,
            "is_veg": names.str.starts_with("veg") | pl.Series(base).is_in(vegetarian),
        }
    )


def _stores() -> pl.DataFrame:
    """Return the details of the stores."""
    options = settings()["stores"]
    store = np.arange(options["number"])
    cities, formats = pl.Series(options["cities"]), pl.Series(options["formats"])
    return pl.DataFrame(
        {
            "store_id": _ids("S", 1 + store, 3),
            "city": cities.gather(store % len(cities)),
            "format": formats.gather(store * 7 % len(formats)),
        }
    )


def _item_table(lines: pl.DataFrame, order_id: pl.Series) -> pl.DataFrame:
    """Put the lines into a table with ids instead of positions."""
    item_id = _item_ids()
    return lines.select(
        order_id=order_id.gather(lines["order"]),
        item_id=item_id.gather(lines["item"]),
        quantity="quantity",
        price="price",
        is_promo="is_promo",
        header_item_id=item_id.gather(lines["header"].replace(-1, None)),
        is_customised="is_customised",
    )


def _order_table(
    guests: Guests, visits: Visits, lines: pl.DataFrame, rng: np.random.Generator
) -> pl.DataFrame:
    """Return what every channel knows of an order; times in UTC, with their zone."""
    n = len(visits.guest)
    order = lines["order"].to_numpy()
    gross = np.bincount(order, lines["price"] * lines["quantity"], n)
    worth = np.where(lines["is_promo"], menu().price[lines["item"].to_numpy()], 0.0)
    is_cheaper = rng.random(n) < guests.values["discount"][visits.guest]
    share = is_cheaper * np.minimum(rng.gamma(4.0, 0.05, n), DEEPEST_DISCOUNT)
    discount = np.round(gross * share, 2)
    home = guests.kind[visits.guest] + visits.guest
    n_stores = settings()["stores"]["number"]
    store = 1 + (home + (rng.random(n) < 0.2) * rng.integers(0, 9, n)) % n_stores
    store = np.where(rng.random(n) < UNLISTED_STORE, n_stores + 5, store)
    midnight = pl.Series(FIRST_DAY + visits.day).cast(pl.Datetime("us"))
    local = midnight.dt.replace_time_zone(settings()["options"]["timezone"])
    # Time that has passed since midnight: no clock change makes it wrong.
    time = local.dt.convert_time_zone("UTC") + pl.Series(
        visits.second * 1_000_000
    ).cast(pl.Duration("us"))
    minutes = np.round(rng.gamma(9.0, 3.5, n) + 4.0, 1)
    minutes = np.where(rng.random(n) < PICKED_UP, np.nan, minutes)
    dispatched = pl.col("order_time") + pl.duration(minutes=7)
    on_the_road = pl.duration(seconds=(pl.col("delivery_minutes") * 60).round())
    return pl.DataFrame(
        {
            "store_id": _ids("S", store, 3),
            "order_time": time,
            "total_price": np.round(gross - discount, 2),
            "discount_amount": discount,
            "promo_amount": np.round(np.bincount(order, worth, n), 2),
            "delivery_minutes": pl.Series(minutes).fill_nan(None),
            "has_query": rng.random(n) < guests.values["query"][visits.guest],
        }
    ).with_columns(
        dispatched_time=pl.when(pl.col("delivery_minutes").is_not_null()).then(
            dispatched
        ),
        delivered_time=dispatched + on_the_road,
    )


def _accounts(start: int, visits: Visits, rng: np.random.Generator) -> Ints:
    """Return the account of each order; some guests open a second one some day."""
    n = int(visits.guest[-1]) + 1
    has_second = rng.random(n) < SECOND_ACCOUNT
    opened = np.where(has_second, rng.integers(1, N_DAYS, n), N_DAYS)
    return 2 * (start + visits.guest) + (visits.day >= opened[visits.guest])


def _as_written(orders: pl.DataFrame, channel: str) -> pl.DataFrame:
    """Return the orders of a channel with its columns, and times in its zone."""
    zone = ZONES[channel] or settings()["options"]["timezone"]
    times = pl.col(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    written = orders.with_columns(times.dt.replace_time_zone(None))
    if channel in ACCOUNTS:
        number = orders["account"].to_numpy()
        account = _ids(ACCOUNTS[channel], number, 8).alias("customer_id")
        written = written.with_columns(account)
    return written


def _map(orders: pl.DataFrame, channel: str, rng: np.random.Generator) -> pl.DataFrame:
    """Return whose an account is, or an invoice; of some nobody knows."""
    key = COLUMNS[channel][0 if channel == "instore" else 1]
    known = orders.select(key, "central_id").unique(maintain_order=True)
    return known.filter(pl.Series(rng.random(known.height) >= UNMAPPED[channel]))


def sample_options(folder: Path, suffix: str) -> dict[str, Any]:
    """Return the section `channels` of a configuration for files in a folder."""
    place = folder.as_posix()
    tables = ("orders", "items", "customers")
    sources: dict[str, dict[str, Any]] = {
        name: {table: f"{place}/{name}_{table}.{suffix}" for table in tables}
        for name in CHANNELS
    }
    for name, zone in ZONES.items():
        sources[name]["timezone"] = zone
    return {
        "sources": sources,
        "catalog": f"{place}/catalog.{suffix}",
        "stores": f"{place}/stores.{suffix}",
        # A copy, which YAML writes out in full where the same list stands twice.
        **json.loads(json.dumps(settings()["options"])),
    }


def write_sample(
    folder: Path, customers: int, seed: int, suffix: Literal["csv", "parquet"] = "csv"
) -> dict[str, int]:
    """Write the sample's rows and a ``channels.yaml`` to run them with.

    Guests are written as they are drawn, so that memory does not grow with them.

    Parameters
    ----------
    folder : Path
        Where to; made if it is not there.
    customers, seed : int
        As of `generate_restaurant`.
    suffix : str
        Kind of the files.

    Returns
    -------
    dict of str to int
        Rows by name of the file.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    blocks = restaurant_blocks(customers, seed)
    tables = (
        _tables(block, is_first=number == 0) for number, block in enumerate(blocks)
    )
    rows = write_blocks(folder, tables, suffix)
    options = {"channels": sample_options(folder, suffix)}
    text = yaml.dump(options, Dumper=YamlDumper, sort_keys=False, allow_unicode=True)
    (folder / "channels.yaml").write_text(text, encoding="utf-8")
    return rows


def with_sample(config: Config, work: Path) -> Config:
    """Return a configuration for the built-in sample, whose rows are written to disk.

    Parameters
    ----------
    config : Config
        Options; those of `channels` that are as by default become the sample's, such as
        its time zone and its plan of micro-segments.
    work : Path
        Folder for intermediate files; the rows go into ``sample`` in it, as Parquet.
    """
    folder = work / "sample"
    write_sample(folder, config.channels.sample_customers, config.seed, "parquet")
    tree = config.model_dump()
    by_default = ChannelsConfig().model_dump()
    tree["channels"] |= {
        key: value
        for key, value in sample_options(folder, "parquet").items()
        if tree["channels"][key] == by_default[key]
    }
    return Config.model_validate(tree)


def _tables(block: RestaurantSample, *, is_first: bool) -> dict[str, pl.DataFrame]:
    """Return a block's tables by the names of their files."""
    tables = {
        f"{channel}_{name}": getattr(block, name)[channel]
        for channel in CHANNELS
        for name in ("orders", "items", "customers")
    }
    tables["truth"] = block.truth
    if is_first:
        tables |= {"catalog": block.catalog, "stores": block.stores}
    return tables
