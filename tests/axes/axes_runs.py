"""Runs of the axes on a small sample, for the tests of what a run leaves."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl

from core.artifacts.folder import Artifacts
from core.axes.files import CUSTOMER_AXES, axes_folder
from core.axes.run import run_axes
from core.axes.sample import generate_shoppers
from core.config import Config

MADE = generate_shoppers(300, seed=5)
MAY, JUNE = dt.datetime(2025, 11, 1), dt.datetime(2025, 12, 1)


def until(moment: dt.datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the orders and items that were known at a moment."""
    orders = MADE.orders.filter(pl.col("order_date") < moment)
    return orders, MADE.items.join(orders, on="order_id", how="semi")


def config(folder: Path, **axes: object) -> Config:
    # Trying more than three segments takes most of the time, and is tested elsewhere.
    chosen = {"max_segments": 3, **axes}
    return Config.model_validate({"artifacts": str(folder), "axes": chosen})


def run(folder: Path, tables, *, refit: bool = True, **axes: object):
    chosen = config(folder, **axes)
    return run_axes(chosen, *tables, refit=refit)


def published(folder: Path):
    return Artifacts(axes_folder(folder), CUSTOMER_AXES).published()


def profiles(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(published(folder).path("customer_profiles.parquet"))
