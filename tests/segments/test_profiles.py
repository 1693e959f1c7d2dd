"""Insights and contrasts of clusters."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from core.errors import SchemaError
from core.segments.profiles import cluster_contrasts, cluster_insights

SPACES = {"latent": "latent_cluster", "raw": "raw_cluster"}


@pytest.fixture
def shops() -> pl.DataFrame:
    """Seven shops: two latent clusters, one noise shop, one that is not eligible."""
    return pl.DataFrame(
        {
            "shop_id": ["kiosk", "cafe", "deli", "mart", "depot", "stall", "new"],
            "trend": [1.0, 2.0, 6.0, 10.0, 14.0, 100.0, 7.0],
            "gaps": [0, 0, 0, 1, 1, 0, 1],
            "latent_cluster": [0, 0, 0, 1, 1, -1, None],
            "raw_cluster": [-1, -1, -1, -1, -1, -1, None],
        }
    )


def test_insights_of_seven_shops_match_figures_worked_out_by_hand(shops):
    insights = cluster_insights(shops, SPACES, ["trend", "gaps"])
    assert insights.columns == [
        "space", "cluster", "size", "share",
        "trend_mean", "trend_median", "trend_std",
        "gaps_mean", "gaps_median", "gaps_std",
    ]  # fmt: skip
    assert insights["space"].to_list() == ["latent"] * 3 + ["raw"]
    assert insights["cluster"].to_list() == [0, 1, -1, -1]
    assert insights["size"].to_list() == [3, 2, 1, 6]
    assert insights["share"].to_list() == [0.5, pytest.approx(1 / 3), 1 / 6, 1.0]
    assert insights["trend_mean"].to_list()[:3] == [3.0, 12.0, 100.0]
    assert insights["trend_median"].to_list() == [2.0, 12.0, 100.0, 8.0]
    assert insights["trend_std"][0] == pytest.approx(7**0.5)
    assert insights["trend_std"][2] is None, "one shop has no spread"
    assert insights["gaps_mean"].to_list() == [0.0, 1.0, 0.0, pytest.approx(1 / 3)]


def test_missing_values_are_left_out_of_their_column_only(shops):
    holed = shops.with_columns(
        trend=pl.Series([1.0, float("nan"), None, None, None, 100.0, 7.0])
    )
    insights = cluster_insights(holed, {"latent": "latent_cluster"}, ["trend", "gaps"])
    assert insights["trend_mean"].to_list() == [1.0, None, 100.0]
    assert insights["size"].to_list() == [3, 2, 1]
    contrasts = cluster_contrasts(holed, "latent_cluster", ["trend"])
    assert contrasts["median"].to_list() == [1.0, None]
    assert contrasts["effect"][1] is None


def test_a_parquet_scan_and_a_frame_give_the_same_insights(shops, tmp_path):
    shops.write_parquet(tmp_path / "shops.parquet")
    scan = pl.scan_parquet(tmp_path / "shops.parquet")
    features = ["trend", "gaps"]
    assert_frame_equal(
        cluster_insights(scan, SPACES, features),
        cluster_insights(shops, SPACES, features),
    )
    assert_frame_equal(
        cluster_contrasts(scan, "latent_cluster", features),
        cluster_contrasts(shops, "latent_cluster", features),
    )


def test_no_space_and_no_feature_still_give_a_table_of_the_same_form(shops):
    empty = cluster_insights(shops, {}, ["trend"])
    assert empty.is_empty()
    assert empty.columns[-1] == "trend_std"
    sizes = cluster_insights(shops, SPACES, [])
    assert sizes.columns == ["space", "cluster", "size", "share"]
    assert cluster_contrasts(shops, "raw_cluster", ["trend"]).is_empty()


def test_contrasts_compare_with_every_other_shop_noise_included(shops):
    contrasts = cluster_contrasts(shops, "latent_cluster", ["trend", "gaps"])
    trend = contrasts.filter(pl.col("feature") == "trend")
    assert trend["cluster"].to_list() == [0, 1]
    assert trend["median"].to_list() == [2.0, 12.0]
    assert trend["rest_median"].to_list() == [14.0, 4.0]
    assert trend["effect"][0] < 0 < trend["effect"][1]


def test_an_effect_is_measured_in_standard_deviations_of_a_normal_feature():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20_000)
    shops = pl.DataFrame(
        {"growth": rng.normal(10, 3, 40_000) + 0.3 * labels, "cluster": labels}
    )
    effects = cluster_contrasts(shops, "cluster", ["growth"])["effect"].to_list()
    assert effects == [pytest.approx(-0.1, abs=0.03), pytest.approx(0.1, abs=0.03)]


def test_a_mostly_zero_feature_does_not_get_enormous_effects():
    # The quartiles are 0 and 0: divided by them, any difference would be infinite.
    gaps = [0.0] * 90 + [5.0] * 10
    shops = pl.DataFrame({"gaps": gaps, "cluster": [0] * 90 + [1] * 10})
    effects = cluster_contrasts(shops, "cluster", ["gaps"])["effect"].to_list()
    assert effects == [pytest.approx(-10 / 3), pytest.approx(10 / 3)]


def test_a_constant_feature_has_no_effect(shops):
    flat = shops.with_columns(flat=pl.lit(3.0))
    found = cluster_contrasts(flat, "latent_cluster", ["flat", "trend"])
    assert found["cluster"].unique().sort().to_list() == [0, 1]
    is_flat = pl.col("feature") == "flat"
    assert found.filter(is_flat)["effect"].null_count() == 2
    assert found.filter(~is_flat)["effect"].is_finite().all()


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.integers(-5, 5)), min_size=1, max_size=60)
)
def test_medians_of_cluster_and_rest_are_those_of_numpy(rows):
    labels = np.array([row[0] for row in rows])
    values = np.array([row[1] for row in rows], dtype=float)
    frame = pl.DataFrame({"cluster": labels, "x": values})
    for row in cluster_contrasts(frame, "cluster", ["x"]).iter_rows(named=True):
        own, rest = values[labels == row["cluster"]], values[labels != row["cluster"]]
        assert row["median"] == np.median(own)
        assert row["rest_median"] == (np.median(rest) if len(rest) else None)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["tren"], "no column `tren`.*Did you mean `trend`"),
        (["trend", "trend"], "named twice: `trend`"),
        (["shop_id"], "`shop_id` is String"),
    ],
)
def test_unusable_columns_are_refused_by_name(shops, features, message):
    with pytest.raises(SchemaError, match=message):
        cluster_insights(shops, SPACES, features)
