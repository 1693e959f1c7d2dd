"""Tables of the channels, the terms under which they are read, and what reading gives.

Columns and faults are listed in ``channels.yaml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl

from core.config import ChannelsConfig, Config
from core.errors import ConfigError, did_you_mean, listed
from core.tables.cells import FIRST_YEAR, LAST_YEAR
from core.tables.columns import TableSpec, read_specs
from core.tables.times import time_zone

SPECS = read_specs("channels.yaml", "core.channels")
# Of each channel, and of all of them.
TABLES = ("orders", "items", "customers")
MAPS = ("catalog", "stores")
EPOCH = date(1970, 1, 1)
CUSTOMER_MONTHS = 12
# Sums of dayparts have at most as many parts.
MOST_PARTS = 5
# Of one order, as intake hands it on.
ORDER_COLUMNS = {
    "order_id": pl.String(),
    "customer_id": pl.String(),
    "order_time": pl.Datetime("us"),
    "order_day": pl.Int32(),
    "order_hour": pl.Int32(),
    "total_price": pl.Float64(),
    "discount_amount": pl.Float64(),
    "promo_amount": pl.Float64(),
    "promo_items": pl.Float64(),
    "delivery_minutes": pl.Float64(),
    "has_query": pl.Boolean(),
    "store_id": pl.String(),
}
ITEM_COLUMNS = (
    "order_id", "item_id", "quantity", "price", "driver_category", "base_category",
    "is_veg", "is_customised",
)  # fmt: skip


@dataclass(frozen=True)
class Categories:
    """Categories of the catalogue, by which there are columns; ascending.

    Attributes
    ----------
    driver, base : tuple of str
        In lower case, with `_` for whatever is neither letter nor digit.
    """

    driver: tuple[str, ...] = ()
    base: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChannelData:
    """Orders and items of every channel that count, and what became of the others.

    Attributes
    ----------
    orders : dict of str to polars.LazyFrame
        Per channel a scan of `paths`: `ORDER_COLUMNS`, and the details of the store. A
        row per order, of customers by their central id. `order_time` is local, without
        a zone; `order_day` its day, counted from 1970-01-01, `order_hour` its hour.
        Nothing is null but what the channel does not tell: the hour, amounts
        (currency), minutes, the query, the store.
    items : dict of str to polars.LazyFrame
        Per channel those of `ITEM_COLUMNS` that are known: the lines of these orders
        that count, with nothing null but prices. Without a catalogue there are neither
        categories nor `is_veg`.
    paths : dict of str to dict of str to Path
        Per channel the Parquet files of ``orders`` and ``items``.
    categories : Categories
    account : dict
        The account, JSON-able; `core.channels.intake.account_lines` tells it.
    rejected : Path
        Parquet of the rows set aside: `channel`, `table`, `source_row` (from 1),
        `reason`, and the mapped cells as received, as text.
    terms : Terms
        What decided, with both dates; `customer_features` goes by them, too.
    fingerprint : str
        SHA-256 that is equal when the same content is read with the same options.
    """

    orders: dict[str, pl.LazyFrame]
    items: dict[str, pl.LazyFrame]
    paths: dict[str, dict[str, Path]]
    categories: Categories
    account: dict[str, Any]
    rejected: Path
    terms: Terms
    fingerprint: str


@dataclass(frozen=True)
class Terms:
    """What `channels` says of all channels together, checked.

    Attributes
    ----------
    channels : tuple of str
        In their order.
    home : str
        The channel whose customers are looked at.
    zones : dict of str to str
        Per channel the zone of times without an offset.
    zone : str
        The local zone.
    run_date, cutoff_date : date or None
        First day after the orders, and first day of the customer features; None until
        the newest order is known, see `settled`.
    months : int
        Months of orders before `run_date`.
    prices : tuple of (str, float, float)
        Price buckets: name, least and the bound below which it lies.
    dayparts : tuple of (str, int)
        Names and first hours, ascending; before the first hour it is the last one.
    excluded : tuple of str
        Central ids of customers that are left out.
    """

    channels: tuple[str, ...]
    home: str
    zones: dict[str, str]
    zone: str
    run_date: date | None
    cutoff_date: date | None
    months: int
    prices: tuple[tuple[str, float, float], ...]
    dayparts: tuple[tuple[str, int], ...]
    excluded: tuple[str, ...]

    @classmethod
    def of(cls, config: Config) -> Terms:
        """Return the terms of a configuration.

        Raises
        ------
        ConfigError
            If an option names a channel, zone or date that does not exist.
        """
        options = config.channels
        if not options.sources:
            raise ConfigError(
                "`channels.sources` is empty; expected at least one channel, with its "
                "`orders` and `items`."
            )
        home = options.home or next(iter(options.sources))
        if home not in options.sources:
            raise ConfigError(
                f"`channels.home` is `{home}`, which is none of `channels.sources`: "
                f"{listed(list(options.sources)) or 'none'}."
                f"{did_you_mean(home, options.sources)}"
            )
        zones = {
            name: time_zone(source.timezone, f"channels.sources.{name}.timezone")
            for name, source in options.sources.items()
            if source.timezone is not None
        }
        local = time_zone(options.timezone, "channels.timezone")
        dayparts = sorted(options.dayparts.items(), key=lambda part: part[1])
        _check_names(home, options)
        return cls(
            channels=tuple(options.sources),
            home=home,
            zones={name: zones.get(name, local) for name in options.sources},
            zone=local,
            run_date=_day(options.run_date, "channels.run_date"),
            cutoff_date=_day(options.cutoff_date, "channels.cutoff_date"),
            months=options.months_offset,
            prices=_prices(options),
            dayparts=tuple(dayparts),
            excluded=tuple(config.data.exclude_ids),
        )

    def settled(self, newest: date | None) -> Terms:
        """Return terms with both dates, `newest` being the day of the newest order.

        Raises
        ------
        ConfigError
            If the customers' window is empty, or begins before that of the orders.
        """
        run = self.run_date or date.fromordinal((newest or EPOCH).toordinal() + 1)
        first = months_before(run, self.months)
        usual = max(first, months_before(run, CUSTOMER_MONTHS))
        cutoff = self.cutoff_date or usual
        if cutoff >= run:
            raise ConfigError(
                f"`channels.cutoff_date` is {cutoff}, and `run_date` {run}; the first "
                "day looked at must lie before it. Set an earlier `cutoff_date`."
            )
        if cutoff < first:
            raise ConfigError(
                f"`channels.cutoff_date` is {cutoff}, but orders are read from {first} "
                f"on only, {self.months} months before {run}. Set a greater "
                "`channels.months_offset`, or a later `cutoff_date`."
            )
        return replace(self, run_date=run, cutoff_date=cutoff)

    @property
    def dates(self) -> tuple[date, date, date]:
        """First day of the orders, `cutoff_date` and `run_date`, which are settled."""
        assert self.cutoff_date is not None
        assert self.run_date is not None
        first = months_before(self.run_date, self.months)
        return first, self.cutoff_date, self.run_date

    @property
    def days(self) -> tuple[int, int]:
        """The last two, as `order_day` counts."""
        _, *days = self.dates
        cutoff, run = (day.toordinal() - EPOCH.toordinal() for day in days)
        return cutoff, run


def daypart_sums(dayparts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every two to five dayparts, whose orders are counted together."""
    most = min(len(dayparts), MOST_PARTS)
    return [parts for n in range(2, most + 1) for parts in combinations(dayparts, n)]


def counted_as(dayparts: Sequence[str], prices: Sequence[str]) -> list[str]:
    """Return what orders of a customer are counted by, as columns call it.

    Kinds of day, dayparts, price buckets, and sums of dayparts.
    """
    names = ["Weekend", "Weekday", *dayparts, *(f"{price}_price" for price in prices)]
    return names + ["_".join(parts) for parts in daypart_sums(dayparts)]


def _check_names(home: str, options: ChannelsConfig) -> None:
    """Refuse names by which two features would be one column."""
    names = counted_as(list(options.dayparts), options.price_labels)
    of_home = {f"{home}_{name}" for name in names}
    for name in (*names, *(of_home & set(options.sources))):
        if name in of_home or names.count(name) > 1:
            raise ConfigError(
                f"`{name}_order_count` would be two features. Rename one of "
                "`channels.dayparts`, `channels.price_labels` or `channels.sources`."
            )


def months_before(day: date, months: int) -> date:
    """Return the same day some months earlier, or the last one of a shorter month.

    >>> months_before(date(2025, 3, 31), 1)
    datetime.date(2025, 2, 28)
    """
    index = day.year * 12 + day.month - 1 - months
    year, month = index // 12, index % 12 + 1
    following = date(year + month // 12, month % 12 + 1, 1)
    last = date.fromordinal(following.toordinal() - 1)
    return min(date(year, month, 1).replace(day=min(day.day, last.day)), last)


def spec_of(table: str, channel: str = "") -> TableSpec:
    """Return the specification of a table, naming the options of its channel."""
    spec = SPECS[table]
    if not channel:
        return spec
    path = f"channels.sources.{channel}.{spec.option}"
    return replace(spec, option=path, flag=f"--set {path}.")


def _prices(options: ChannelsConfig) -> tuple[tuple[str, float, float], ...]:
    bounds = [*options.price_bins, float("inf")]
    return tuple(zip(options.price_labels, bounds[:-1], bounds[1:], strict=True))


def _day(text: str | None, key: str) -> date | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        day = date.min
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ConfigError(
            f"`{key}` is `{text}`; expected a day in ISO 8601, such as `2025-07-01`."
        )
    return day
