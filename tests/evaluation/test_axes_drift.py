"""Drift of customers: chance does not alert, a change that matters does, in words."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.artifacts.arrays import save_arrays
from core.errors import ArtifactError
from core.evaluation.axes_drift import AxesDrift
from core.segments.axes import OUTSIDE

NAMES = {"purchase_value": {0: "regular", 1: "whale"}}


def customers(seed, n=1000, shift=0.0, whales=0.2):
    """Draw customers with two features, of which `shift` moves one."""
    rng = np.random.default_rng(seed)
    table = pl.DataFrame(
        {
            "lifetime_value": rng.lognormal(5 + shift, 1, n),
            "total_orders": rng.poisson(8, n).astype(float),
        }
    )
    return table, {"purchase_value": (rng.random(n) < whales).astype(np.int64)}


@pytest.fixture(scope="module")
def reference():
    table, labels = customers(0)
    return AxesDrift.of(table, table.columns, labels, seed=0)


def measured(reference, *drawn):
    return reference.measure(*drawn, NAMES, seed=0)


def test_other_customers_of_the_same_kind_alert_in_one_run_of_twenty_at_most(reference):
    alerts = [measured(reference, *customers(seed))[1] for seed in range(1, 41)]
    assert sum(map(bool, alerts)) <= 4, alerts


def test_a_shift_of_a_feature_is_named(reference):
    rows, alerts = measured(reference, *customers(1, shift=0.5))
    assert [alert.split(" differs")[0] for alert in alerts] == ["`lifetime_value`"]
    assert set(rows.filter("is_alert")["name"]) == {"lifetime_value"}


def test_a_segment_that_grows_is_named_with_both_shares(reference):
    rows, alerts = measured(reference, *customers(1, whales=0.35))
    assert len(alerts) == 2
    whale = next(alert for alert in alerts if "`whale`" in alert)
    assert whale.startswith("purchase_value: `whale` holds 3")
    share = rows.filter(axis="purchase_value", name="whale").row(0, named=True)
    assert share["before"] == pytest.approx(reference.shares["purchase_value"][1])
    assert share["value"] == pytest.approx(share["now"] - share["before"])


def test_few_customers_need_a_larger_change_to_alert(reference):
    many, _ = measured(reference, *customers(1, n=4000))
    few, _ = measured(reference, *customers(1, n=40))
    limit = pl.col("threshold").max()
    assert many.filter(kind="share").select(limit).item() == 0.05
    assert few.filter(kind="share").select(limit).item() > 0.1


def test_a_saved_reference_measures_the_same(reference, tmp_path):
    reference.save(tmp_path / "drift.safetensors")
    loaded = AxesDrift.load(tmp_path / "drift.safetensors")
    drawn = customers(1, shift=0.2)
    assert measured(loaded, *drawn)[0].equals(measured(reference, *drawn)[0])


def test_another_file_is_refused_as_a_reference(tmp_path):
    save_arrays(tmp_path / "drift.safetensors", {"X": np.zeros(1)}, {})
    with pytest.raises(ArtifactError, match="what the drift is measured from"):
        AxesDrift.load(tmp_path / "drift.safetensors")


def test_values_may_be_unknown_on_both_sides():
    def some_unknown(seed):
        table, labels = customers(seed)
        is_known = pl.int_range(pl.len()) % 10 > 0
        orders = pl.when(is_known).then("total_orders").alias("total_orders")
        return table.with_columns(orders), labels

    table, labels = some_unknown(0)
    reference = AxesDrift.of(table, table.columns, labels, seed=0)
    assert measured(reference, *some_unknown(1))[1] == []
    assert measured(reference, *customers(1))[1] != [], "unknown values have gone"


def test_shares_are_of_those_whom_an_axis_looks_at(tmp_path):
    """Most customers are outside; who is inside is divided as before."""
    table, labels = customers(0)
    inside = np.arange(table.height) % 4 == 0
    few = {"purchase_value": np.where(inside, labels["purchase_value"], OUTSIDE)}
    reference = AxesDrift.of(table, table.columns, few, seed=0)
    assert sum(reference.shares["purchase_value"].values()) == pytest.approx(1.0)
    assert set(reference.shares["purchase_value"]) == {0, 1}
    reference.save(tmp_path / "drift.safetensors")
    loaded = AxesDrift.load(tmp_path / "drift.safetensors")
    rows, alerts = loaded.measure(table, labels, NAMES, seed=0)
    assert alerts == []
    of_few = rows.filter(kind="share").select(pl.col("threshold").max()).item()
    of_all, _ = AxesDrift.of(table, table.columns, labels, seed=0).measure(
        table, labels, NAMES, seed=0
    )
    assert of_few > of_all.filter(kind="share")["threshold"].max()
