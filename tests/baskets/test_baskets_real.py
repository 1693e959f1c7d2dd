"""Baskets of real grocery and wholesale orders, through the whole run.

Each data set gets the mapping and the fewest orders that fit it; nothing else is chosen
for it. The study is small in one and left out in the other.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from core.artifacts.manifest import read_manifest, verify
from core.baskets.files import ARMS, BASKET_SEGMENTS, DOCUMENTS, EXPERIMENT, MONITORING
from core.baskets.run import run_baskets
from core.config import Config

pytestmark = pytest.mark.shared_data
FOUR = {"Champions", "Frequent Explorers", "Loyal Occasionals", "At Risk"}


def run(artifacts: Path, folder: Path, **options):
    tables = {name: str(folder / f"{name}.parquet") for name in ("orders", "items")}
    chosen = {**tables, "order_columns": {"order_time": "order_ts"}, **options}
    done = run_baskets(
        Config.model_validate({"artifacts": str(artifacts), "baskets": chosen})
    )
    manifest = read_manifest(done.folder, BASKET_SEGMENTS)
    verify(done.folder, manifest)
    assert {*DOCUMENTS, ARMS, EXPERIMENT, MONITORING, "baskets.html"} <= {
        *manifest.files
    }
    segments = pl.read_parquet(done.folder / "segments.parquet")
    left = pl.read_parquet(done.folder / "customers_left_out.parquet")
    assert set(segments["segment"]) == FOUR
    arms = pl.read_parquet(done.folder / ARMS)
    assert arms["customer_id"].sort().equals(segments["customer_id"].sort())
    for table in ("orders", "items"):
        told = done.facts["account"][table]
        assert told["rows_read"] == told["rows_kept"] + told["rows_set_aside"]
    rejected = pl.read_parquet(done.folder / "rejected_rows.parquet")
    assert rejected.height == done.facts["n_rejected"]
    return done, segments, left


def test_households_of_a_grocery_chain_run_to_the_end(shared_data, tmp_path):
    folder = shared_data / "complete_journey_sample"
    done, segments, left = run(
        tmp_path,
        folder,
        products=str(folder / "products.parquet"),
        product_columns={"aisle": "category"},
        timezone="America/New_York",
        study=False,
        cuts=1,
    )
    account = done.facts["account"]
    assert account["orders"]["rows_read"] == 56_625
    assert account["items"]["rows_read"] == 100_000
    # One household has only returns.
    assert segments.height + left.height in {2_404, 2_405}
    assert segments.height == pytest.approx(2_049, abs=5)
    features = pl.read_parquet(done.folder / "customer_features.parquet")
    assert "aisle_BREAD" in features.columns
    assert features["aisle_entropy"].null_count() < 10
    after = pl.read_csv(done.folder / "out_of_time.csv")
    assert {"orders", "churn"} <= set(after["outcome"])
    assert done.facts["monitoring"]["learnt"] == "2017-12"


def test_customers_of_a_wholesaler_run_to_the_end(shared_data, tmp_path):
    done, segments, left = run(
        tmp_path,
        shared_data / "online_retail",
        min_orders=3,
        study_customers=200,
        cuts=0,
    )
    orders = done.facts["account"]["orders"]
    assert orders["rows_read"] == 25_900
    assert orders["faults"]["missing_customer"] == 3_710
    assert segments.height == 2_010
    assert set(left["reason"]) == {"fewer than 3 orders"}
    # Nothing is known of aisles: no shares, and what is made of them is null.
    features = pl.read_parquet(done.folder / "customer_features.parquet")
    assert features["aisle_entropy"].null_count() == features.height
    assert (done.folder / "out_of_time.csv").exists() is False
    plan = pl.read_csv(done.folder / EXPERIMENT)
    assert plan.filter("can_be_tested").height < 4
    assert date.fromisoformat(done.facts["reference_date"][:10]) == date(2011, 12, 10)
