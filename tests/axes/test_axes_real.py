"""The axes of real customers: found or not, told apart, and the same twice."""

from __future__ import annotations

import polars as pl
import pytest
from axes_runs import profiles, published

from core.axes.features.catalog import AXES
from core.axes.run import run_axes
from core.config import Config

pytestmark = pytest.mark.shared_data
ORDERS = {"order_date": "order_ts", "total_price": "amount", "source": "channel"}


def run(data, folder, **order_columns):
    axes = {
        "orders": str(data / "orders.parquet"),
        "items": str(data / "items.parquet"),
        "order_columns": ORDERS | order_columns,
        "item_columns": {"price": "unit_price"},
    }
    chosen = Config.model_validate({"artifacts": str(folder), "axes": axes})
    return run_axes(chosen)


@pytest.mark.parametrize(
    ("name", "columns", "skipped"),
    [
        (
            "complete_journey_sample",
            {"discount_amount": "discount"},
            {"return_behavior", "communication_preference"},
        ),
        ("online_retail", {}, {"price_sensitivity", "communication_preference"}),
    ],
)
def test_real_customers_are_segmented_on_what_the_data_allow(
    shared_data, tmp_path, name, columns, skipped
):
    first = run(shared_data / name, tmp_path, **columns)
    kinds = {row["axis"]: row["kind"] for row in first.facts["axes"]}
    assert list(kinds) == [axis.name for axis in AXES]
    assert {axis for axis, kind in kinds.items() if kind == "skipped"} == skipped
    table = profiles(tmp_path)
    assert table.height == first.facts["n_customers"] > 2000
    memberships = table["segment_memberships"].struct.unnest()
    assert set(memberships.columns) == set(kinds) - skipped
    assert memberships.null_count().sum_horizontal().item() == 0
    report = pl.DataFrame(first.facts["axes"], infer_schema_length=None)
    divided = report.filter(kind="natural")
    assert divided.height > 0, "nobody differs on any axis"
    assert divided["smallest_share"].min() > 0.01
    assert divided["stability"].min() > 0.5
    rejected = pl.read_parquet(published(tmp_path).path("rejected_rows.parquet"))
    assert rejected.height == first.facts["n_rejected"] > 0
    again = run(shared_data / name, tmp_path, **columns)
    assert not again.facts["is_changed"]
