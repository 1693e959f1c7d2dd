"""Runs of the channels on features made before, for the tests of what a run leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from core.artifacts.folder import Artifacts
from core.channels.files import CHANNEL_SEGMENTS, channels_folder
from core.channels.run import run_channels
from core.config import Config

RULES = """
name: guests
features:
  ownapp_order_count: {type: integer, from: 0}
  Weekend_flag: {type: flag}
segments:
  - {name: few, when: ownapp_order_count < 4}
  - {name: weekend, when: ownapp_order_count >= 4 and Weekend_flag}
  - {name: workday, when: ownapp_order_count >= 4 and not Weekend_flag}
"""
# `workday` is asked for otherwise and stays the same; `weekend` ends, `brunch` is new.
OTHER_RULES = RULES.replace("name: weekend", "name: brunch").replace("4", "5")
ITEM = "regulars"
PLAN = [
    {
        "name": ITEM,
        "source_segments": ["weekend", "workday"],
        "features": ["Breakfast_order_count", "Dinner_order_count"],
        "k": 2,
    }
]
N = 300


def guests(n: int = N, *, later: bool = False) -> pl.DataFrame:
    """Return features of guests; `later` some have ordered more, two are others."""
    rng = np.random.default_rng(7)
    orders = rng.integers(1, 9, n)
    is_early = rng.random(n) < 0.5
    many, few = rng.poisson(9, n), rng.poisson(1, n)
    if later:
        orders[:20] = 8
        is_early[20:30] = ~is_early[20:30]
    ids = [f"G{i:03}" for i in range(n)]
    if later:
        ids[-2:] = ["X1", "X2"]
    return pl.DataFrame(
        {
            "customer_id": ids,
            "ownapp_order_count": orders,
            "omnichannel_order_count": orders,
            "omnichannel_average_order_value": np.full(n, 20.0),
            "omnichannel_Weekend_order_count": rng.integers(0, 2, n),
            "omnichannel_Breakfast_order_count": np.where(is_early, many, few),
            "omnichannel_Dinner_order_count": np.where(is_early, few, many),
            "unique_dri_category_count": np.ones(n, dtype=int),
        }
    )


def config(folder: Path, table: pl.DataFrame | None = None, **channels: object):
    """Return a configuration; the table and the rules are written beside."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, rules = folder / "guests.parquet", folder / "rules.yaml"
    if table is not None:
        table.write_parquet(rows)
    if not rules.exists():
        rules.write_text(RULES, encoding="utf-8")
    chosen = {
        "features": str(rows),
        "rules": str(rules),
        "micro": PLAN,
        "run_date": "2025-06-01",
        **channels,
    }
    return Config.model_validate({"artifacts": str(folder), "channels": chosen})


def run(folder: Path, table: pl.DataFrame, *, refit: bool = True, **channels: object):
    return run_channels(config(folder, table, **channels), refit=refit)


def published(folder: Path):
    return Artifacts(channels_folder(folder), CHANNEL_SEGMENTS).published()


def profiles(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(published(folder).path("customer_profiles.parquet"))
