"""Both feature sets against numbers worked out by hand, on both engines."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from core.config import FeaturesConfig
from core.errors import ConfigError, FeatureMismatchError
from core.months import month_index, month_label
from core.retailers.features import (
    FEATURE_SETS,
    MOMENTUM_FEATURES,
    UNCLUSTERED,
    baseline_features,
    behaviour_features,
    check_features,
    compute_features,
    feature_set,
    write_concentration,
    write_monthly,
)
from core.retailers.monthly import ShopSeries, grid_start
from core.tables.parts import split_by


def rows(*lines):
    """Return sales rows of (shop, product, year, month, quantity)."""
    names = ("shop_id", "product_id", "year", "month", "sales_qty")
    types = (pl.String, pl.String, pl.Int32, pl.Int32, pl.Float64)
    schema = dict(zip(names, types, strict=True))
    return pl.DataFrame(lines, schema=schema, orient="row")


def features_of(
    sales,
    folder,
    as_of,
    name="behaviour",
    engine="polars",
    unique=False,
    n_parts=1,
):
    """Run the whole way from rows to features."""
    folder.mkdir(exist_ok=True)
    config = FeaturesConfig(name=name, engine=engine)
    path = folder / "sales.parquet"
    sales.write_parquet(path)
    rows_at_once = -(-sales.height // n_parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.tables.parts.ROWS_AT_ONCE", rows_at_once)
        split = split_by(sales.lazy(), "shop_id", sales.height, folder / "parts")
    parts = split or [path]
    assert len(parts) == n_parts
    tables = (folder / "monthly", folder / "concentration")
    write_monthly(parts, tables[0], config, unique)
    as_of_t = month_index(as_of)
    write_concentration(parts, tables[1], config, as_of_t)
    shops = sales["shop_id"].unique()
    oldest = pl.scan_parquet(tables[0], glob=False).select(pl.col("t").min())
    span = grid_start(oldest.collect().item(), as_of_t), as_of_t
    return pl.concat(compute_features(*tables, shops, span, config, batch_size=7))


def series(quantity, first="2022-01", n_products=None, concentration=1.0):
    """Return the history of one shop, or of several."""
    values = np.atleast_2d(np.asarray(quantity, dtype=float))
    start = month_index(first)
    products = np.where(values > 0, 1.0, 0.0) if n_products is None else n_products
    return ShopSeries(
        shop_id=np.array([f"kiosk {place}" for place in range(len(values))]),
        t=np.arange(start, start + values.shape[1]),
        quantity=values,
        n_products=np.atleast_2d(np.asarray(products, dtype=float)),
        concentration=np.full(len(values), concentration),
    )


@pytest.fixture
def kiosk():
    # 2022: January 10 of tea and 2 of milk, March 6 of tea. 2023: January 20 of tea.
    return rows(
        ("kiosk", "tea", 2022, 1, 10),
        ("kiosk", "milk", 2022, 1, 2),
        ("kiosk", "tea", 2022, 3, 6),
        ("kiosk", "tea", 2023, 1, 20),
    )


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_the_29_baseline_features_match_a_hand_count(kiosk, tmp_path, engine):
    found = features_of(kiosk, tmp_path, "2023-12", "baseline", engine).row(
        0, named=True
    )
    expected = {
        "avg_sales_qty_month_1": (12 + 20) / 2,
        "avg_sales_qty_month_3": 6.0,
        "avg_unique_products_month_1": (2 + 1) / 2,
        "avg_unique_products_month_3": 1.0,
        # months 12, 6, 20: mean 38/3, sample variance 148/3
        "cv_monthly_sales_qty": math.sqrt(148 / 3) / (38 / 3),
        # products 2, 1, 1: mean 4/3, sample variance 1/3
        "cv_monthly_unique_products": math.sqrt(1 / 3) / (4 / 3),
        # two distinct calendar months: January, March
        "monthly_sales_entropy": -sum(q / 38 * math.log(q / 38) for q in (12, 6, 20))
        / math.log(2),
        "median_yoy_sales_growth": 20 / 18 - 1,
        "median_yoy_spread_growth": 1 / 1.5 - 1,
    }
    for name in feature_set("baseline").names:
        assert found[name] == pytest.approx(expected.get(name, 0.0), abs=1e-12), name
    assert len(feature_set("baseline").names) == 29


def test_growth_skips_a_year_without_sales_and_takes_the_median():
    quantity = [5.0] * 12 + [0.0] * 12 + [10.0] * 12 + [15.0] * 12
    found = baseline_features(series(quantity, "2019-01"))
    # 2021 over 2019 is +100%, 2022 over 2021 is +50%
    assert found["median_yoy_sales_growth"][0] == pytest.approx(0.75)
    assert found["median_yoy_spread_growth"][0] == 0.0


def test_returns_are_netted_and_a_month_without_net_sales_is_not_active(tmp_path):
    sales = rows(
        ("kiosk", "tea", 2022, 1, 10),
        ("kiosk", "tea", 2022, 1, -4),
        ("kiosk", "tea", 2022, 2, 3),
        ("kiosk", "tea", 2022, 2, -3),
        ("kiosk", "milk", 2022, 3, -1),
        ("kiosk", "tea", 2022, 3, 2),
    )
    found = features_of(sales, tmp_path, "2022-12", "baseline").row(0, named=True)
    assert found["avg_sales_qty_month_1"] == 6.0
    assert found["avg_sales_qty_month_2"] == 0.0
    assert found["avg_sales_qty_month_3"] == 1.0
    assert found["avg_unique_products_month_3"] == 1.0  # milk only came back
    assert found["active_months"] == 2


def test_behaviour_says_how_a_shop_sells_not_how_much(tmp_path):
    rng = np.random.default_rng(3)
    lines = [
        (shop, product, 2022 + m // 12, m % 12 + 1, scale * q)
        for m in range(36)
        for product, q in enumerate(rng.integers(1, 40, 3))
        for shop, scale in (("small", 1), ("large", 1000))
    ]
    sales = rows(*[(s, f"p{p}", y, m, q) for s, p, y, m, q in lines])
    found = features_of(sales, tmp_path, "2024-12").sort("shop_id")
    for name in feature_set("behaviour").names:
        large, small = found[name].to_list()
        assert large == pytest.approx(small, rel=1e-12), name
    assert found["sales_qty_total"][0] == pytest.approx(
        1000 * found["sales_qty_total"][1]
    )


def test_an_even_shop_has_an_even_year_and_nothing_else():
    found = behaviour_features(series([7.0] * 36), history_months=36)
    for month in range(1, 13):
        assert found[f"log_season_month_{month}"][0] == pytest.approx(0.0, abs=1e-12)
    assert found["sales_trend_per_year"][0] == pytest.approx(0.0, abs=1e-12)
    assert found["sales_irregularity"][0] == pytest.approx(0.0, abs=1e-7)
    assert found["inactive_month_share"][0] == 0


def test_season_is_not_taken_for_trend_nor_trend_for_season():
    t = np.arange(36)
    season = np.where(t % 12 == 6, 5.0, 1.0)
    found = behaviour_features(series(season), history_months=36)
    assert found["sales_trend_per_year"][0] == pytest.approx(0.0, abs=0.005)
    # Three Julys at ln 5 above the rest: a weight of 3 / 0.5^2 against 1 / 0.7^2.
    kept = (3 / 0.25) / (3 / 0.25 + 1 / 0.49)
    july = found["log_season_month_7"][0]
    january = found["log_season_month_1"][0]
    assert july - january == pytest.approx(kept * math.log(5), rel=0.01)
    months = [found[f"log_season_month_{m}"][0] for m in range(1, 13)]
    assert sum(months) == pytest.approx(0.0, abs=1e-9)

    growing = behaviour_features(series(100 * np.exp(0.02 * t)), history_months=36)
    trend = growing["sales_trend_per_year"][0]
    assert 0.9 * 0.24 < trend < 0.24
    months = [growing[f"log_season_month_{m}"][0] for m in range(1, 13)]
    assert max(months) - min(months) < 0.04


def test_the_decomposition_is_that_of_the_normal_equations():
    rng = np.random.default_rng(5)
    quantity = rng.lognormal(3.0, 0.6, 30)
    quantity[[4, 17]] = 0.0
    found = behaviour_features(series(quantity), history_months=36)
    t = np.flatnonzero(quantity)
    seen = series(quantity).t[t]
    design = np.zeros((len(t), 13))
    design[np.arange(len(t)), seen % 12] = 1
    design[:, 12] = (seen - series(quantity).t.mean()) / 12
    # Level out by demeaning; what is left is a ridge regression with unequal ridges.
    centred = design - design.mean(axis=0)
    logs = np.log(quantity[t]) - np.log(quantity[t]).mean()
    ridge = 0.25 * np.diag([1 / 0.49] * 12 + [1 / 0.25])
    effects = np.linalg.solve(centred.T @ centred + ridge, centred.T @ logs)
    assert found["sales_trend_per_year"][0] == pytest.approx(effects[12], rel=1e-5)


def test_a_short_history_is_drawn_to_an_even_year_and_no_trend():
    found = behaviour_features(series([4.0, 8.0, 4.0, 8.0, 4.0]), history_months=36)
    assert abs(found["sales_trend_per_year"][0]) < 0.1
    assert abs(found["assortment_trend_per_year"][0]) < 1e-9
    january, february = (found[f"log_season_month_{m}"][0] for m in (1, 2))
    assert january < 0 < february
    assert february - january < math.log(2)
    assert found["log_season_month_12"][0] == pytest.approx(
        found["log_season_month_6"][0]
    )
    assert found["sales_irregularity"][0] > 0


def test_a_month_in_which_a_shop_closes_is_low_in_its_year():
    # A beach kiosk: the same sales from May to September, nothing else for three years.
    t = np.arange(36)
    open_months = np.isin(t % 12, range(4, 9))
    found = behaviour_features(series(np.where(open_months, 50.0, 0.0)), 36)
    summer = [found[f"log_season_month_{m}"][0] for m in range(5, 10)]
    winter = [found[f"log_season_month_{m}"][0] for m in (1, 2, 3)]
    assert min(summer) - max(winter) > 0.7


def test_one_extreme_month_hardly_moves_the_season():
    quantity = np.full(36, 10.0)
    quantity[6] = 1000.0
    found = behaviour_features(series(quantity), history_months=36)
    # The mean of three Julys would be 34 times the others, ln 34 = 3.5.
    assert found["log_season_month_7"][0] < 1.5


def test_fewer_than_three_months_give_null_not_a_number_for_irregularity():
    found = behaviour_features(series([0.0] * 5 + [3.0] + [0.0] * 6), history_months=36)
    assert np.isnan(found["sales_irregularity"][0])
    assert found["sales_trend_per_year"][0] == 0
    assert found["inactive_month_share"][0] == 0


def test_a_shops_features_do_not_depend_on_the_shops_beside_it():
    rng = np.random.default_rng(9)
    quantity = rng.lognormal(2.0, 1.0, (40, 36)) * (rng.random((40, 36)) < 0.8)
    many = behaviour_features(series(quantity), history_months=36)
    for place in (0, 17, 39):
        alone = behaviour_features(series(quantity[place]), history_months=36)
        for name, values in alone.items():
            assert values[0] == many[name][place], name


def test_gaps_count_between_first_and_last_sale_only():
    quantity = [0.0, 0.0, 5.0, 0.0, 5.0, 5.0, 0.0, 5.0, 0.0, 0.0]
    found = behaviour_features(series(quantity), history_months=36)
    assert found["inactive_month_share"][0] == pytest.approx(2 / 6)


def test_breadth_and_concentration_match_a_hand_count(kiosk, tmp_path):
    found = features_of(kiosk, tmp_path, "2023-12").row(0, named=True)
    assert found["assortment_breadth"] == pytest.approx(math.log(4 / 3))
    assert found["product_concentration"] == pytest.approx(
        (36 / 38) ** 2 + (2 / 38) ** 2
    )
    assert found["recency_months"] == 11
    assert found["tenure_months"] == 24
    assert found["sales_qty_last_12_months"] == 20


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(11)
    n = 6000
    return pl.DataFrame(
        {
            "shop_id": [f"S{i}" for i in rng.integers(0, 40, n)],
            "product_id": [f"P{i}" for i in rng.integers(0, 25, n)],
            "year": rng.integers(2021, 2024, n).astype(np.int32),
            "month": rng.integers(1, 13, n).astype(np.int32),
            "sales_qty": np.round(rng.lognormal(3, 1, n) - 4, 3),
        }
    )


@pytest.mark.parametrize("name", list(FEATURE_SETS))
def test_polars_and_duckdb_give_equal_features(market, tmp_path, name):
    polars = features_of(market, tmp_path / "a", "2023-12", name)
    duckdb = features_of(market, tmp_path / "b", "2023-12", name, engine="duckdb")
    assert polars.columns == duckdb.columns
    assert polars["shop_id"].equals(duckdb["shop_id"])
    for column in polars.columns[1:]:
        one, other = polars[column].to_numpy(), duckdb[column].to_numpy()
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9, err_msg=column)


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
@pytest.mark.parametrize("name", list(FEATURE_SETS))
def test_without_products_their_features_are_null_and_no_others_change(
    market, tmp_path, name, engine
):
    nameless = market.with_columns(product_id=pl.lit(None, pl.String))
    found = features_of(nameless, tmp_path / "a", "2023-12", name, engine=engine)
    known = features_of(market, tmp_path / "b", "2023-12", name, engine=engine)
    of_products = [f.name for f in FEATURE_SETS[name].features if f.needs_products]
    assert len(of_products) == {"behaviour": 3, "baseline": 14}[name]
    assert found.select(of_products).null_count().row(0) == (40,) * len(of_products)
    assert found.drop(of_products).equals(known.drop(of_products))
    assert known.select(of_products).null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize("name", list(FEATURE_SETS))
def test_order_of_rows_does_not_change_one_bit(market, tmp_path, name):
    shuffled = market.sample(fraction=1.0, shuffle=True, seed=5)
    one = features_of(market, tmp_path / "a", "2023-12", name)
    other = features_of(shuffled, tmp_path / "b", "2023-12", name)
    assert one.equals(other)


def test_unique_keys_skip_a_grouping_and_change_nothing(kiosk, tmp_path):
    plain = features_of(kiosk, tmp_path / "a", "2023-12")
    assert plain.equals(features_of(kiosk, tmp_path / "b", "2023-12", unique=True))


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_shops_in_parts_change_nothing(market, tmp_path, engine):
    whole = features_of(market, tmp_path / "a", "2023-12", engine=engine)
    parts = features_of(market, tmp_path / "b", "2023-12", engine=engine, n_parts=3)
    assert parts.equals(whole)


def test_months_after_as_of_are_not_looked_at(kiosk, tmp_path):
    found = features_of(kiosk, tmp_path, "2022-12", "baseline").row(0, named=True)
    assert found["avg_sales_qty_month_1"] == 12
    assert found["sales_qty_total"] == 18


def test_a_16_bit_year_does_not_overflow(kiosk, tmp_path):
    narrow = kiosk.with_columns(pl.col("year", "month").cast(pl.Int16))
    found = features_of(narrow, tmp_path / "a", "2023-12", engine="duckdb")
    expected = features_of(kiosk, tmp_path / "b", "2023-12", engine="duckdb")
    assert found.equals(expected)


def test_every_feature_is_documented_and_computed_in_its_order(kiosk, tmp_path):
    for chosen in FEATURE_SETS.values():
        folder = tmp_path / chosen.name
        columns = features_of(kiosk, folder, "2023-12", chosen.name).columns
        assert columns == ["shop_id", *chosen.names, *UNCLUSTERED]
        documented = (*chosen.features, *MOMENTUM_FEATURES)
        assert all(f.unit and f.formula and f.null for f in documented)


def test_different_features_are_refused_with_a_diff():
    expected = ["trend", "season", "recency"]
    check_features(expected, expected)
    with pytest.raises(FeatureMismatchError, match=r"missing `recency`.*`weight`"):
        check_features(["trend", "season", "weight"], expected)
    with pytest.raises(FeatureMismatchError, match="column 2 is `recency`"):
        check_features(["trend", "recency", "season"], expected)


def test_unknown_feature_set_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean `behaviour`"):
        feature_set("behavior")


def test_month_labels_round_trip():
    assert month_label(month_index("1999-12") + 1) == "2000-01"
