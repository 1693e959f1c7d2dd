"""What is kept for looking back: the past as it was known then."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from core.config import Config
from core.months import month_index
from core.retailers.features import feature_set
from core.retailers.history import HISTORY, LATER, MONTHLY, STATE_HISTORY, write_history
from core.retailers.prepare import HAS_LAPSED, prepare

OPTIONS = {"sample": {"n_shops": 300}, "seed": 3}


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return the folder of a small sample's past, and its cuts."""
    folder = tmp_path_factory.mktemp("past")
    (folder / "work").mkdir()
    prepared = prepare(Config.model_validate(OPTIONS), folder / "work")
    cuts = write_history(prepared, folder)
    return folder, cuts


def test_features_at_a_cut_are_those_of_a_run_that_ended_there(
    past: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, cuts = past
    config = Config.model_validate(OPTIONS | {"features": {"as_of": cuts[-1]}})
    then = pl.concat(prepare(config, tmp_path).batches(1000))
    history = pl.read_parquet(folder / HISTORY).filter(pl.col("as_of") == cuts[-1])
    kept = history.drop("as_of").sort("shop_id")
    assert kept.height == then.height > 100
    assert kept.equals(then.cast(dict(kept.schema)))


def test_cuts_leave_a_horizon_and_lie_three_months_apart(
    past: tuple[Path, list[str]],
) -> None:
    _, cuts = past
    assert cuts == ["2024-06", "2024-03", "2023-12"]


def test_later_features_know_nothing_of_before_the_oldest_cut(
    past: tuple[Path, list[str]],
) -> None:
    folder, cuts = past
    later = pl.read_parquet(folder / LATER)
    months = pl.read_parquet(folder / MONTHLY).filter(
        pl.col("t") > month_index(cuts[-1])
    )
    sums = months.group_by("shop_id").agg(pl.col("quantity").sum()).sort("shop_id")
    assert later["sales_qty_total"].to_list() == pytest.approx(sums["quantity"])


def test_shops_that_later_lapse_stay_in_the_past(tmp_path: Path) -> None:
    months = [(y, m) for y in (2021, 2022, 2023, 2024) for m in range(1, 13)]
    rows = [
        {"shop_id": shop, "product_id": "tea", "year": y, "month": m, "sales_qty": 5.0}
        for shop in ("stays", "leaves")
        for y, m in months
        if shop == "stays" or y < 2024
    ]
    work = tmp_path / "work"
    work.mkdir()
    prepared = prepare(Config(), work, pl.DataFrame(rows))
    left_out = prepared.exclusions.select("shop_id", "state", "reason").collect()
    assert left_out.rows() == [("leaves", "lapsed", HAS_LAPSED)]
    write_history(prepared, tmp_path)
    past = pl.read_parquet(tmp_path / HISTORY).filter(pl.col("shop_id") == "leaves")
    assert "2023-12" in past["as_of"]
    states = pl.read_parquet(tmp_path / STATE_HISTORY).filter(shop_id="leaves")
    assert states.filter(as_of="2023-12")["state"].to_list() == ["active"]
    assert states.filter(as_of="2024-06")["state"].to_list() == ["lapsed"]


def test_data_too_short_for_any_cut_leaves_tables_without_rows(tmp_path: Path) -> None:
    rows = [
        {
            "shop_id": "one",
            "product_id": "tea",
            "year": 2024,
            "month": m,
            "sales_qty": 1,
        }
        for m in range(1, 13)
    ]
    work = tmp_path / "work"
    work.mkdir()
    prepared = prepare(Config(), work, pl.DataFrame(rows))
    assert write_history(prepared, tmp_path) == []
    past = pl.read_parquet(tmp_path / HISTORY)
    assert past.is_empty()
    assert set(feature_set("behaviour").names) < set(past.columns)
