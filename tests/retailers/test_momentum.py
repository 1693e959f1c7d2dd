"""Momentum against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.months import month_index
from core.retailers.features import MOMENTUM
from core.retailers.momentum import momentum_features
from core.retailers.monthly import ShopSeries

CHRISTMAS = [1.0] * 11 + [9.0]


def momentum(*quantities):
    """Return the momentum of shops, by column, as of December."""
    values = np.array(quantities, dtype=float)
    t = np.arange(values.shape[1]) + month_index("2024-01") - values.shape[1]
    products = (values > 0).astype(float)
    ids = np.array([f"kiosk {place}" for place in range(len(values))])
    return momentum_features(ShopSeries(ids, t, values, products, np.ones(len(ids))))


def test_a_year_that_doubles_is_told_with_an_average_month_on_either_side():
    found = momentum([10.0] * 24 + [20.0] * 12)
    # The last 24 months average 15, and the largest of them is not alone.
    assert found["yoy_12"][0] == pytest.approx(math.log((15 + 240) / (15 + 120)))
    assert found["yoy_6"][0] == pytest.approx(math.log((15 + 120) / (15 + 60)))
    assert found["yoy_3"][0] == pytest.approx(math.log((15 + 60) / (15 + 30)))
    assert found["trend_break"][0] == pytest.approx(0.0, abs=0.05)
    assert found["activity_change"][0] == 0.0


def test_a_season_is_no_momentum():
    found = momentum(CHRISTMAS * 3, [5.0, 0, 0, 0, 0, 0] * 6)
    for name in MOMENTUM:
        assert found[name] == pytest.approx([0.0, 0.0], abs=1e-12), name


def test_who_stops_falls_and_who_picks_up_speed_breaks_upwards():
    stopped = momentum([10.0] * 33 + [0.0] * 3)
    # 21 months of 10 in the last 24.
    assert stopped["yoy_3"][0] == pytest.approx(math.log(8.75 / (8.75 + 30)))
    # Half of the last 6 months, all of the 12 before: (12 + 2 x 0.5) / 14.
    assert stopped["activity_change"][0] == pytest.approx(0.5 - 13 / 14)
    faster = momentum([10.0] * 30 + [20.0] * 6)
    # 10 a month until then: no change half a year before.
    assert faster["trend_break"][0] == pytest.approx(faster["yoy_6"][0])
    assert faster["yoy_6"][0] > faster["yoy_12"][0] > 0


def test_one_extreme_month_is_hardly_seen():
    plain, slip = momentum([10.0] * 36), momentum([10.0] * 35 + [10_000.0])
    for name in MOMENTUM:
        assert slip[name] == plain[name]


def test_the_opening_of_a_shop_is_no_growth():
    opened = momentum([0.0] * 20 + [10.0] * 16)
    for name in ("yoy_12", "yoy_6", "yoy_3", "activity_change"):
        assert opened[name][0] == pytest.approx(0.0, abs=1e-12), name
    assert np.isnan(opened["trend_break"][0])  # 18 months would be needed


def test_months_before_the_first_are_not_known():
    young = momentum([10.0] * 12)
    assert np.isnan([young[name][0] for name in ("yoy_12", "yoy_6", "yoy_3")]).all()
    assert young["activity_change"][0] == 0.0
    assert np.isnan(momentum([10.0] * 6)["activity_change"][0])
    assert momentum([10.0] * 13)["yoy_3"][0] == 0.0
    # Silent for two years: nothing to compare.
    assert np.isnan(momentum([10.0] + [0.0] * 24)["yoy_12"][0])


@given(
    arrays(float, (3, 40), elements=st.sampled_from([0.0, 0.5, 1.0, 3.0, 1e6])),
    st.sampled_from([1.0, 7.0, 1000.0]),
)
def test_momentum_is_bounded_knows_no_size_and_no_other_shop(quantities, scale):
    found, scaled = momentum(*quantities), momentum(*(quantities * scale))
    for name in MOMENTUM:
        told = found[name][~np.isnan(found[name])]
        assert (np.abs(told) <= 2 * math.log(25) + 1e-12).all(), name
        np.testing.assert_allclose(scaled[name], found[name], atol=1e-9)
        alone = momentum(quantities[1])[name][0]
        np.testing.assert_equal(alone, found[name][1])
