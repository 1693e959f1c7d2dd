"""The four pipelines on real sales, from files as their owners keep them.

Each data set gets the eligibility that fits its span; nothing else is chosen for it.
The encoder is hardly trained: how good its space is, the benchmarks say.
"""

from __future__ import annotations

import polars as pl
import pytest

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest, verify
from core.config import Config
from core.retailers.files import RETAILERS
from core.retailers.model import Model
from core.retailers.pipelines import prepare_features, run_all
from core.retailers.prepare import HAS_LAPSED
from core.retailers.refresh.month import ledger_blocks, refresh_config
from core.retailers.refresh.run import run_refresh
from core.segments.transitions import stock_and_flow

pytestmark = [pytest.mark.slow, pytest.mark.shared_data]
RAW_COLUMNS = {
    "shop_id": "CustomerID",
    "product_id": "StockCode",
    "date": "InvoiceDate",
    "sales_qty": "Quantity",
}
YEAR = {"min_tenure_years": 0.5, "min_avg_active_months_per_year": 3}


def config_of(shared_data, folder, file, eligibility, columns, encoder="denoising"):
    return Config.model_validate(
        {
            "artifacts": str(folder),
            "data": {
                "source": "input",
                "input": str(shared_data / file),
                "columns": columns or {},
            },
            "eligibility": eligibility or {},
            "autoencoder": {"epochs": 3, "architecture": encoder},
            "clustering": {"min_cluster_size": 10},
        }
    )


def run(shared_data, folder, file, eligibility=None, encoder="denoising"):
    run_all(config_of(shared_data, folder, file, eligibility, None, encoder))
    manifest = read_manifest(folder, RETAILERS)
    verify(folder, manifest)
    assert manifest.is_complete
    predictions = pl.read_csv(folder / "cluster_predictions.csv")
    assert predictions.height == manifest.facts("prepare")["n_shops"]
    assert Model.load(folder).features
    assert (folder / "report.html").stat().st_size > 100_000
    return manifest.facts("prepare")


def test_iowa_stores_run_to_the_end(shared_data, tmp_path):
    file = "iowa_dev/monthly.parquet"
    facts = run(shared_data, tmp_path, file, encoder="neighbours")
    assert facts["intake"]["rows_read"] == 615_740
    assert facts["n_shops"] == 231
    assert facts["exclusions"][HAS_LAPSED] == 188 - 170
    assert facts["n_eligible"] == 170
    assert facts["as_of"] == "2021-12"


def test_online_retail_months_run_to_the_end(shared_data, tmp_path):
    file = "online_retail/monthly.parquet"
    facts = run(shared_data, tmp_path, file, YEAR)
    assert facts["n_shops"] == 4_363
    assert facts["n_eligible"] > 300


def test_online_retail_raw_lines_are_prepared(shared_data, tmp_path):
    file = "online_retail/raw_strings.parquet"
    config = config_of(shared_data, tmp_path, file, YEAR, RAW_COLUMNS)
    result = prepare_features(config)
    facts = result.facts
    intake = facts["intake"]
    assert intake["rows_read"] == 541_909
    assert intake["faults"]["missing_id"]["set_aside"] == 135_080
    assert intake["faults"]["exact_duplicate"]["found"] == 5_268
    rejected = pl.read_parquet(tmp_path / "rejected_rows.parquet")
    assert rejected.height == intake["rows_read"] - intake["rows_kept"]
    assert facts["as_of"] == "2011-11"
    assert any("2011-12 is not complete" in line for line in result.lines)


def test_households_run_to_the_end(shared_data, tmp_path):
    file = "complete_journey_sample/monthly.parquet"
    facts = run(shared_data, tmp_path, file)
    assert facts["n_shops"] == 2_404
    assert 590 <= facts["n_eligible"] <= 608


def test_iowa_stores_keep_their_ids_from_month_to_month(shared_data, tmp_path):
    """The last months of the data, one of them with a refit; all in benchmarks/."""
    rows = pl.read_parquet(shared_data / "iowa_dev" / "monthly.parquet")
    # A fourth of the products: the stores stay.
    products = rows["product_id"].unique().sort().gather_every(4)
    rows = rows.filter(pl.col("product_id").is_in(products.implode()))
    at = rows["year"] * 12 + rows["month"]
    first = 2021 * 12 + 10
    encoder = {"architecture": "denoising", "epochs": 3}
    options = {
        "artifacts": str(tmp_path),
        "autoencoder": encoder,
        "evaluation": {"n_cuts": 1},
        "refresh": {"gate_refits": 2},
    }
    config = Config.model_validate(options)
    run_all(config, rows.filter(at < first))
    for number, retrain in enumerate(("never", "always")):
        month = rows.filter(at == first + number)
        result = run_refresh(refresh_config(str(tmp_path)), month, retrain=retrain)
        assert result.facts["decision"] in {
            "kept",
            "recommended",
            "published",
            "refused",
        }
    published = Artifacts(tmp_path, RETAILERS).published()
    blocks = ledger_blocks(published)
    assert [block["month"][0] for block in blocks][:3] == [
        "2021-09",
        "2021-10",
        "2021-11",
    ]
    everyone = set.intersection(*(set(block["entity"]) for block in blocks))
    assert len(everyone) > 150
    settled = pl.concat(block.select("entity", "settled") for block in blocks)
    settled = settled.filter(pl.col("entity").is_in(everyone))
    held = pl.col("settled").filter(pl.col("settled") != -1)
    is_kept = settled.group_by("entity").agg(held.n_unique() <= 1)["settled"]
    assert is_kept.mean() > 0.8
    flow = stock_and_flow(blocks).filter(month="2021-11")
    assert flow["stock"].sum() == blocks[-1].height
