"""Small restaurant chains, row by row, so that every number can be checked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from core.channels.features.customers import customer_features
from core.channels.features.orders import order_features
from core.channels.intake import read_channels
from core.channels.schema import ChannelData
from core.resolve import build_config

CATALOG = {
    "item_id": ["burger", "wrap", "fries", "cola", "meal", "bag"],
    "driver_category": ["Mains", "Mains", "Sides", "Drinks", "Mains", "Exclude"],
    "base_category": ["Burger", "Veg Wrap", "Fries", "Cola", "Meal", "Bags"],
    "is_veg": [False, True, True, True, False, True],
}
RUN_DATE = "2025-07-01"


def order(order_id: str, time: str, customer: str = "c1", total: float = 100.0, **more):
    """Return a row of an order."""
    row = {"order_id": order_id, "customer_id": customer, "order_time": time}
    return {**row, "total_price": total, **more}


def item(order_id: str, item_id: str, quantity: float = 1.0, **more):
    """Return a row of an item."""
    return {"order_id": order_id, "item_id": item_id, "quantity": quantity, **more}


def frame(rows: Any) -> pl.DataFrame:
    """Return rows as a frame, whichever of them has a column."""
    return (
        pl.from_dicts(rows, infer_schema_length=None)
        if isinstance(rows, list)
        else (pl.DataFrame(rows))
    )


def write(folder: Path, name: str, rows: Any) -> str:
    """Write a table, or nothing for one that is a path already; return where it is."""
    if isinstance(rows, str):
        return rows
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    frame(rows).write_parquet(path)
    return str(path)


def chain(
    folder: Path, channels: dict[str, dict[str, Any]], catalog: Any = CATALOG, **options
) -> ChannelData:
    """Read channels whose tables are given as rows.

    A channel is its `orders`, `items` and perhaps `customers`, and further options.
    """
    sources = {
        name: {
            key: write(folder, f"{name}_{key}", value)
            if key in ("orders", "items", "customers")
            else value
            for key, value in given.items()
        }
        for name, given in channels.items()
    }
    section: dict[str, Any] = {"run_date": RUN_DATE, "sources": sources}
    if catalog is not None:
        section["catalog"] = write(folder, "catalog", catalog)
    if "stores" in options:
        options["stores"] = write(folder, "stores", options["stores"])
    data = options.pop("data", {})
    config = build_config({"channels": section | options, "data": data})
    return read_channels(config, folder / "work")


def one_channel(folder: Path, orders: Any, items: Any, **options) -> ChannelData:
    """Read a chain with a single channel, `app`."""
    return chain(folder, {"app": {"orders": orders, "items": items}}, **options)


def reasons(data: ChannelData, channel: str = "app") -> dict[str, dict[str, int]]:
    """Return how many rows were set aside, by table and reason."""
    return {
        table: {name: n for name, n in account["faults"].items() if n}
        for table, account in data.account["channels"][channel].items()
    }


def repairs(data: ChannelData, table: str, channel: str = "app") -> dict[str, int]:
    """Return how many rows were mended, by what."""
    found = data.account["channels"][channel][table]["repairs"]
    return {name: n for name, n in found.items() if n}


def orders_of(data: ChannelData, channel: str = "app") -> pl.DataFrame:
    """Return the orders that count."""
    return data.orders[channel].sort("order_id").collect()


def items_of(data: ChannelData, channel: str = "app") -> pl.DataFrame:
    """Return the items that count."""
    return data.items[channel].sort("order_id", "item_id", "quantity").collect()


def of_orders(data: ChannelData, channel: str = "app") -> pl.DataFrame:
    """Return the features of orders."""
    return order_features(data)[channel].sort("order_id").collect()


def of_customers(data: ChannelData) -> pl.DataFrame:
    """Return the features of customers."""
    features = customer_features(order_features(data), data.terms)
    return features.sort("customer_id").collect()
