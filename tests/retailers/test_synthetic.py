"""The built-in generator keeps what it promises about its rows and its truth."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from core.config import EligibilityConfig, SampleConfig
from core.errors import ConfigError
from core.resolve import build_config
from core.retailers.archetypes import (
    FAMILIES,
    Archetype,
    ArchetypeFamily,
    Jitter,
    Peak,
    draw_population,
)
from core.retailers.sample import (
    DIFFICULTIES,
    EARLY_EXIT_SHARE,
    LATE_ENTRY_SHARE,
    SyntheticSales,
    generate_sales,
    share_out,
)

ROWS_SCHEMA = {
    "shop_id": pl.String,
    "product_id": pl.String,
    "year": pl.Int32,
    "month": pl.Int32,
    "sales_qty": pl.Float64,
}
TRUTH_SCHEMA = {
    "shop_id": pl.String,
    "kind": pl.String,
    "archetype": pl.String,
    "weight": pl.Float64,
    "first_month": pl.String,
    "last_month": pl.String,
    "monthly_level": pl.Float64,
}
KEY = ["shop_id", "product_id", "year", "month"]


@pytest.fixture(scope="module")
def made() -> SyntheticSales:
    return generate_sales(SampleConfig(n_shops=3000), seed=11)


@pytest.fixture(scope="module")
def structureless() -> SyntheticSales:
    return generate_sales(SampleConfig(n_shops=2000, structure="none"), seed=11)


def monthly(made: SyntheticSales) -> pl.DataFrame:
    """Return units and distinct products per shop and active month, with the truth."""
    return (
        made.rows.group_by("shop_id", "year", "month")
        .agg(units=pl.col("sales_qty").sum(), n_products=pl.len())
        .join(made.truth, on="shop_id")
    )


def per_archetype(made: SyntheticSales, value: pl.Expr) -> dict[str, float]:
    """Return an expression over the shop-months of each archetype's shops."""
    shops = monthly(made).filter(pl.col("kind") == "archetype")
    return dict(shops.group_by("archetype").agg(value).iter_rows())


def is_eligible(made: SyntheticSales) -> pl.DataFrame:
    """Return, per shop, whether the default rule admits it."""
    rule = EligibilityConfig()
    months = monthly(made).group_by("shop_id", "year").len("n_months")
    n_months, per_year = pl.col("n_months").sum(), pl.col("n_months").mean()
    return months.group_by("shop_id").agg(
        is_eligible=(n_months >= 12 * rule.min_tenure_years)
        & (per_year >= rule.min_avg_active_months_per_year)
    )


def test_rows_and_truth_have_exactly_the_promised_columns(made, structureless):
    for sales in (made, structureless):
        assert dict(sales.rows.schema) == ROWS_SCHEMA
        assert dict(sales.truth.schema) == TRUTH_SCHEMA


def test_each_key_occurs_once_without_nulls_in_whole_units(made):
    assert made.rows.select(KEY).is_duplicated().sum() == 0
    assert sum(made.rows.null_count().row(0)) == 0
    assert made.rows["sales_qty"].min() >= 1.0
    assert (made.rows["sales_qty"] % 1.0 == 0.0).all()


def test_every_shop_of_the_truth_sells_and_no_other(made):
    assert made.truth["shop_id"].is_unique().all()
    assert set(made.rows["shop_id"]) == set(made.truth["shop_id"])
    assert made.truth["shop_id"][0] == "S000000"
    assert made.rows["product_id"].str.contains(r"^P\d{4}$").all()


def test_equal_seeds_give_equal_sales_and_other_seeds_others():
    sample = SampleConfig(n_shops=80)
    one, same, other = (generate_sales(sample, seed=seed) for seed in (3, 3, 4))
    assert_frame_equal(one.rows, same.rows)
    assert_frame_equal(one.truth, same.truth)
    assert not one.rows.equals(other.rows)


def test_number_of_polars_threads_does_not_change_the_sales(tmp_path):
    code = (
        "import sys; from core.config import SampleConfig;"
        "from core.retailers.sample import generate_sales;"
        "made = generate_sales(SampleConfig(n_shops=60), seed=5);"
        "made.rows.write_parquet(sys.argv[1])"
    )
    path = tmp_path / "rows.parquet"
    subprocess.run(
        [sys.executable, "-c", code, str(path)],
        check=True,
        env={**os.environ, "POLARS_MAX_THREADS": "4"},
    )
    here = generate_sales(SampleConfig(n_shops=60), seed=5).rows
    assert_frame_equal(pl.read_parquet(path), here)


def test_truth_tells_first_and_last_month_with_sales(made):
    label = pl.format(
        "{}-{}", pl.col("year"), pl.col("month").cast(pl.String).str.zfill(2)
    )
    seen = made.rows.group_by("shop_id").agg(
        first_month=label.min(), last_month=label.max()
    )
    told = made.truth.select("shop_id", "first_month", "last_month")
    assert_frame_equal(seen.sort("shop_id"), told.sort("shop_id"))


def test_months_run_over_the_turn_of_the_year():
    sample = SampleConfig(n_shops=40, n_months=3, first_month="2019-11")
    rows = generate_sales(sample, seed=1).rows
    months = rows.select("year", "month").unique().sort("year", "month").rows()
    assert months == [(2019, 11), (2019, 12), (2020, 1)]


def test_shops_enter_late_and_leave_early_in_the_documented_shares(made):
    steady = made.truth.filter(pl.col("archetype") != "intermittent")
    # A month or two at the edge may be idle by chance.
    is_late = (steady["first_month"] > "2022-03").mean()
    has_left = (steady["last_month"] < "2024-10").mean()
    assert abs(is_late - LATE_ENTRY_SHARE * 33 / 35) < 0.03
    assert abs(has_left - EARLY_EXIT_SHARE * 33 / 35) < 0.03


def test_most_shops_of_every_archetype_are_eligible_and_some_shops_are_not(made):
    rule = is_eligible(made).join(made.truth, on="shop_id")
    shares = rule.filter(kind="archetype").group_by("archetype")
    assert shares.agg(pl.col("is_eligible").mean())["is_eligible"].min() > 0.8
    assert 0.02 < 1.0 - rule["is_eligible"].mean() < 0.12


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_share_of_in_between_shops_follows_the_difficulty(difficulty):
    sample = SampleConfig(n_shops=4000, n_months=2, difficulty=difficulty)
    truth = generate_sales(sample, seed=2).truth
    share = (truth["kind"] == "between").mean()
    assert abs(share - DIFFICULTIES[difficulty].between_share) < 0.02


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_monthly_noise_has_the_documented_coefficient_of_variation(difficulty):
    sample = SampleConfig(n_shops=3000, difficulty=difficulty, products_per_month=2)
    steady = monthly(generate_sales(sample, seed=6)).filter(archetype="steady")
    big = steady.filter(pl.col("monthly_level") > 300.0)
    # The same calendar month a year apart: the season cancels, the noise stays twice.
    later = big.with_columns(year=pl.col("year") - 1)
    pairs = big.join(later, on=["shop_id", "year", "month"], suffix="_later")
    ratio = np.log(pairs["units_later"] / pairs["units"])
    cv = np.sqrt(np.expm1(ratio.var() / 2.0))
    assert cv == pytest.approx(DIFFICULTIES[difficulty].noise_cv, rel=0.05)


def test_archetypes_have_the_proportions_of_their_table(made):
    family = FAMILIES["fmcg"]
    drawn = made.truth.filter(kind="archetype")["archetype"]
    for archetype, share in zip(family.archetypes, family.shares, strict=True):
        assert abs((drawn == archetype.name).mean() - share) < 0.03


def test_in_between_shops_name_two_parents_and_stay_away_from_both(made):
    between = made.truth.filter(kind="between")
    names = {archetype.name for archetype in FAMILIES["fmcg"].archetypes}
    for parents in between["archetype"]:
        first, second = parents.split(" + ")
        assert first != second
        assert {first, second} <= names
    assert between["weight"].is_between(0.3, 0.7).all()
    assert made.truth.filter(kind="archetype")["weight"].is_null().all()


def test_seasonal_archetypes_sell_most_in_their_season(made):
    def share_of(*months: int) -> dict[str, float]:
        in_season = pl.col("units").filter(pl.col("month").is_in(months))
        relative = in_season.sum() / pl.col("units").sum()
        return per_archetype(made, relative.alias("share"))

    summer, december = share_of(6, 7, 8), share_of(12)
    spring_and_autumn = share_of(4, 10)
    assert summer["summer_peak"] > 0.4
    assert max(summer, key=summer.get) == "summer_peak"
    assert max(december, key=december.get) == "festive_peak"
    assert max(spring_and_autumn, key=spring_and_autumn.get) == "double_peak"
    assert abs(summer["steady"] - 0.25) < 0.03


def test_growing_shops_broaden_and_declining_shops_narrow(made):
    def last_over_first(column: str) -> dict[str, float]:
        year = pl.col("year")
        log_mean = pl.col(column).log()
        change = (
            log_mean.filter(year == 2024).mean() - log_mean.filter(year == 2022).mean()
        )
        whole = made.truth.filter(
            pl.col("first_month") <= "2022-03", pl.col("last_month") >= "2024-10"
        )
        return per_archetype(replace(made, truth=whole), change.alias("change"))

    units, products = last_over_first("units"), last_over_first("n_products")
    assert units["growing"] == pytest.approx(2 * 0.45, abs=0.15)
    assert units["declining"] == pytest.approx(-2 * 0.45, abs=0.15)
    assert abs(units["steady"]) < 0.1
    assert products["growing"] > 0.5
    assert products["declining"] < -0.5
    assert abs(products["steady"]) < 0.1


def test_intermittent_shops_skip_months_and_specialists_buy_few_products(made):
    whole = made.truth.filter(
        pl.col("first_month") <= "2022-03", pl.col("last_month") >= "2024-10"
    )
    months = pl.struct("shop_id", "year", "month").n_unique()
    active = per_archetype(
        replace(made, truth=whole), months / pl.col("shop_id").n_unique()
    )
    breadth = per_archetype(made, pl.col("n_products").mean())
    assert active["intermittent"] == pytest.approx(0.68 * 36, abs=1.5)
    assert active["steady"] > 34
    assert breadth["specialist"] < 0.5 * breadth["steady"]


def test_levels_span_orders_of_magnitude_whatever_the_archetype(made):
    levels = made.truth["monthly_level"].log10()
    assert levels.max() - levels.min() > 3.0
    shops = made.truth.filter(kind="archetype").with_columns(
        log_level=pl.col("monthly_level").log10()
    )
    means = shops.group_by("archetype").agg(pl.col("log_level").mean())["log_level"]
    assert means.max() - means.min() < 0.25


@pytest.mark.parametrize("products", [1.0, 3.0, 12.0])
def test_products_per_month_is_the_mean_number_of_distinct_products(products):
    sample = SampleConfig(n_shops=600, products_per_month=products)
    mean = monthly(generate_sales(sample, seed=9))["n_products"].mean()
    assert mean == pytest.approx(products, rel=0.05)


def test_structureless_shops_carry_no_archetype(structureless):
    truth = structureless.truth
    assert truth["kind"].unique().to_list() == ["structureless"]
    assert truth["archetype"].is_null().all()
    assert truth["weight"].is_null().all()


def test_structureless_behaviour_is_one_cloud_with_the_moments_of_the_archetypes():
    rng = np.random.default_rng(0)
    family = FAMILIES["fmcg"]
    cloud = draw_population(family, "none", 0.15, 30_000, rng).parameters
    model = draw_population(family, "archetypes", 0.15, 30_000, rng).parameters
    spread = model.std(axis=0)
    assert np.abs(cloud.mean(axis=0) - model.mean(axis=0)).max() < 0.05
    np.testing.assert_allclose(cloud.std(axis=0), spread, rtol=0.05)
    # Normal marginals: neither the tails nor the modes that mixtures have.
    standard = (cloud - cloud.mean(axis=0)) / cloud.std(axis=0)
    assert np.abs((standard**3).mean(axis=0)).max() < 0.1
    assert np.abs((standard**4).mean(axis=0) - 3.0).max() < 0.2
    july = (model[:, 6] - model[:, 6].mean()) / spread[6]
    assert abs((july**3).mean()) > 0.5


def test_structureless_levels_entry_and_exit_are_those_of_the_archetypes(
    made, structureless
):
    for sales in (made, structureless):
        log_level = sales.truth["monthly_level"].log()
        assert log_level.mean() == pytest.approx(np.log(600.0), abs=0.1)
        assert log_level.std() == pytest.approx(1.32, abs=0.08)
    is_late = [
        (sales.truth["first_month"] > "2022-03").mean()
        for sales in (made, structureless)
    ]
    assert is_late[0] == pytest.approx(is_late[1], abs=0.03)


@settings(max_examples=25)
@given(
    n_shops=st.integers(1, 30),
    n_months=st.integers(1, 50),
    products=st.sampled_from([0.5, 1.0, 4.0, 200.0]),
    structure=st.sampled_from(["archetypes", "none"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_valid_sample_gives_sound_rows(
    n_shops, n_months, products, structure, seed
):
    sample = SampleConfig(
        n_shops=n_shops,
        n_months=n_months,
        products_per_month=products,
        structure=structure,
    )
    made = generate_sales(sample, seed)
    assert dict(made.rows.schema) == ROWS_SCHEMA
    assert made.truth.height == n_shops
    assert made.rows["shop_id"].n_unique() == n_shops
    assert made.rows.select(KEY).is_duplicated().sum() == 0
    assert made.rows["sales_qty"].min() >= 1.0
    assert made.rows.select(pl.struct("year", "month").n_unique()).item() <= n_months


@given(data=st.data(), n_events=st.integers(1, 8))
def test_units_of_a_month_are_shared_out_to_the_last_unit(data, n_events):
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=n_events, max_size=n_events))
    spare = data.draw(
        st.lists(st.integers(0, 10_000), min_size=n_events, max_size=n_events)
    )
    weights = data.draw(
        st.lists(st.floats(1e-3, 1.0), min_size=sum(sizes), max_size=sum(sizes))
    )
    units = np.array(sizes) + np.array(spare)
    event = np.repeat(np.arange(n_events), sizes)
    parts = share_out(units, event, np.array(weights))
    assert parts.min() >= 1.0
    np.testing.assert_array_equal(np.bincount(event, weights=parts), units)


def test_share_out_gives_the_heavier_product_more():
    parts = share_out(np.array([10]), np.array([0, 0]), np.array([3.0, 1.0]))
    assert parts.tolist() == [7.0, 3.0]


def test_a_family_is_a_table_and_needs_no_code():
    family = ArchetypeFamily(
        archetypes=(
            Archetype("ski_resort", share=1.0, peaks=(Peak(1.0, 2.0, 4.0),)),
            Archetype("school_canteen", share=3.0, peaks=(Peak(7.5, -2.0, 4.0),)),
        ),
        jitter=Jitter(peak_month=0.0),
    )
    rng = np.random.default_rng(0)
    drawn = draw_population(family, "archetypes", 0.0, 2000, rng)
    assert (drawn.first == 1).mean() == pytest.approx(0.75, abs=0.03)
    assert drawn.log_season[drawn.first == 0].mean(axis=0).argmax() == 0
    assert drawn.log_season[drawn.first == 1].mean(axis=0).argmin() in (6, 7)


def test_an_unknown_family_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean `fmcg`"):
        generate_sales(SampleConfig(family="fmcgs"), seed=0)


@pytest.mark.parametrize("first_month", ["1899-12", "2199-06"])
def test_months_outside_the_readable_years_are_refused(first_month):
    with pytest.raises(ConfigError, match=r"`sample.first_month`.*1900 to 2199"):
        generate_sales(SampleConfig(first_month=first_month), seed=0)


def test_products_per_month_beyond_reason_is_refused():
    with pytest.raises(ConfigError, match="products_per_month"):
        build_config({"sample": {"products_per_month": 1e6}})
