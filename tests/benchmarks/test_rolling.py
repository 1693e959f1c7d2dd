"""The rolling generator: what happens, and that it happens in the month it says."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from rolling import RollingOptions, RollingSales, generate_rolling

from core.config import Config
from core.errors import ConfigError
from core.retailers.prepare import prepare

WINDOW = {
    "features": {"history_months": 12},
    "eligibility": {"max_inactive_months": 6},
    "states": {"thresholds": {"lapsed_below": 0}},
}


@pytest.fixture(scope="module")
def made() -> RollingSales:
    return generate_rolling(RollingOptions(n_shops=800), seed=3)


@pytest.fixture(scope="module")
def calm() -> RollingSales:
    return generate_rolling(RollingOptions(n_shops=800, has_events=False), seed=3)


def label() -> pl.Expr:
    return pl.format("{}-{}", "year", pl.col("month").cast(pl.String).str.zfill(2))


def units(sales: RollingSales) -> pl.DataFrame:
    """Return units per shop and active month."""
    return sales.rows.group_by("shop_id", t=label()).agg(pl.col("sales_qty").sum())


def features_at(sales: RollingSales, month: str, folder) -> pl.DataFrame:
    """Return the features of the shops that are eligible at a month, with the truth."""
    features = WINDOW["features"] | {"as_of": month}
    config = Config.model_validate(WINDOW | {"features": features})
    rows = sales.rows.filter(label() <= month)
    folder.mkdir()
    table = pl.concat(prepare(config, folder, rows).batches(5000))
    return table.join(sales.truth.filter(month=month), on="shop_id", how="left")


def event(sales: RollingSales, kind: str):
    (found,) = (event for event in sales.events if event.kind == kind)
    return found


def before(month: str) -> str:
    return f"{month[:5]}{int(month[5:]) - 1:02}"


def test_events_come_once_each_at_least_two_months_apart(made, calm):
    assert [event.kind for event in made.events] == ["split", "birth", "merge", "death"]
    months = [int(event.month[5:]) for event in made.events]
    assert np.diff(months).min() >= 2
    assert calm.events == []


def test_months_of_warm_up_end_with_a_december():
    options = RollingOptions(n_warm_months=30, n_refreshes=3)
    assert options.months[0] == "2021-07"
    assert options.refreshes == ["2024-01", "2024-02", "2024-03"]
    assert [event.kind for event in options.events] == ["split"]


def test_equal_seeds_give_equal_sales_and_other_seeds_others():
    options = RollingOptions(n_shops=60)
    one, same, other = (generate_rolling(options, seed) for seed in (1, 1, 2))
    assert_frame_equal(one.rows, same.rows)
    assert_frame_equal(one.truth, same.truth)
    assert not one.rows.equals(other.rows)


def test_units_before_an_event_are_those_without_it(made, calm):
    newborn = made.truth.filter(archetype="kiosk")["shop_id"]
    first = pl.col("t") < made.events[0].month
    with_events = units(made).filter(first, ~pl.col("shop_id").is_in(newborn.implode()))
    without = units(calm).filter(first)
    assert_frame_equal(with_events.sort("shop_id", "t"), without.sort("shop_id", "t"))


def test_truth_has_a_row_for_every_open_shop_and_month(made):
    assert dict(made.truth.schema) == {
        "month": pl.String,
        "shop_id": pl.String,
        "archetype": pl.String,
        "is_changed": pl.Boolean,
    }
    assert_frame_equal(made.truth, made.truth.sort("month", "shop_id"))
    assert made.truth.select("month", "shop_id").is_duplicated().sum() == 0
    assert made.truth["month"].unique().sort()[0] == "2023-12"
    spans = units(made).group_by("shop_id").agg(a=pl.min("t"), z=pl.max("t"))
    inside = made.truth.join(spans, on="shop_id", how="left")
    assert inside.select(pl.col("month").is_between("a", "z").all()).item()
    n_open = sum(
        spans.filter(pl.lit(month).is_between("a", "z")).height
        for month in made.truth["month"].unique()
    )
    assert n_open == made.truth.height


def test_shops_enter_and_leave_during_the_refreshes(calm):
    first, last = (calm.truth.filter(month=month) for month in ("2023-12", "2024-11"))
    both = len(set(first["shop_id"]) & set(last["shop_id"]))
    assert 0.005 < 1 - both / first.height < 0.06
    assert 0.01 < 1 - both / last.height < 0.08


def test_only_shops_of_events_are_ever_changed(made, calm):
    assert not calm.truth["is_changed"].any()
    changed = made.truth.filter("is_changed")
    new = {"full_range_with_march", "festive_any_august", "kiosk"}
    assert set(changed["archetype"]) == new
    later = pl.col("month") >= event(made, "birth").month
    concerned = made.truth.filter(pl.col("archetype").is_in(new), later)
    assert concerned["is_changed"].all()
    firsts = changed.group_by("archetype").agg(pl.col("month").min())
    assert dict(firsts.iter_rows()) == {
        "full_range_with_march": event(made, "split").month,
        "festive_any_august": event(made, "merge").month,
        "kiosk": event(made, "birth").month,
    }


def test_nearly_half_of_an_archetype_splits_off_in_the_month_of_its_new_season(
    made, tmp_path
):
    month = event(made, "split").month
    shops = features_at(made, month, tmp_path / "after")
    season = shops.group_by("archetype").agg(
        pl.len(), high=pl.col("log_season_month_3").median()
    )
    found = {row["archetype"]: row for row in season.to_dicts()}
    old, new = found["full_range"], found["full_range_with_march"]
    assert old["len"] == pytest.approx(new["len"], rel=0.5)
    assert new["high"] > old["high"] + 1.0
    later = features_at(made, before(month), tmp_path / "before")
    split_off = shops.filter(archetype="full_range_with_march")["shop_id"].implode()
    march = later.filter(archetype="full_range").group_by(
        pl.col("shop_id").is_in(split_off)
    )
    medians = march.agg(pl.col("log_season_month_3").median())["log_season_month_3"]
    assert abs(medians[0] - medians[1]) < 0.15


def test_a_merge_fills_the_gap_between_two_archetypes(made, tmp_path):
    month = event(made, "merge").month
    shops = features_at(made, month, tmp_path / "after")
    earlier = features_at(made, before(month), tmp_path / "before")
    both = earlier.filter(pl.col("archetype").is_in(event(made, "merge").old))
    merged = shops.filter(archetype="festive_any_august")
    assert set(both["shop_id"]) >= set(merged["shop_id"])
    is_between = pl.col("log_season_month_8").is_between(0.25, 0.85)
    assert both.select(is_between.mean()).item() < 0.1
    assert merged.select(is_between.mean()).item() > 0.3


def test_a_cohort_becomes_eligible_in_one_month_and_in_none_before(made, tmp_path):
    month = event(made, "birth").month
    early = features_at(made, before(month), tmp_path / "before")
    there = features_at(made, month, tmp_path / "after")
    assert early.filter(archetype="kiosk").height == 0
    assert there.filter(archetype="kiosk").height == round(0.06 * 800)


def test_an_archetype_is_gone_in_one_month_and_whole_the_month_before(made, tmp_path):
    month = event(made, "death").month
    april = features_at(made, "2024-04", tmp_path / "april")
    sold = april.filter(archetype="harvest")["shop_id"]
    known = features_at(made, before(month), tmp_path / "before")["shop_id"]
    gone = features_at(made, month, tmp_path / "after")["shop_id"]
    assert made.truth.filter(archetype="harvest")["month"].max() == "2024-04"
    assert len(sold) > 50
    assert sold.is_in(known.implode()).all()
    assert not sold.is_in(gone.implode()).any()


@pytest.mark.parametrize("shift", ["level", "noise", "pauses", "mix"])
def test_a_shift_shows_from_its_month_on_and_not_before(calm, shift):
    options = RollingOptions(n_shops=800, has_events=False, shift=shift)
    shifted = generate_rolling(options, seed=3)
    month, old = options.refreshes[3], set(calm.truth["shop_id"])
    ours = units(shifted).filter(pl.col("shop_id").is_in(old))
    both = ours.join(units(calm), on=["shop_id", "t"], how="full", suffix="_calm")
    both = both.with_columns(
        t=pl.coalesce("t", "t_calm"),
        ratio=(pl.col("sales_qty") / pl.col("sales_qty_calm")).log(),
    )
    earlier, later = (
        both.filter(pl.col("t") < month),
        both.filter(pl.col("t") >= month),
    )
    assert (earlier["ratio"] == 0.0).all()
    if shift == "level":
        assert later["ratio"].median() == pytest.approx(np.log(0.6), abs=0.01)
    elif shift == "noise":
        assert later["ratio"].std() == pytest.approx(0.8, rel=0.1)
    elif shift == "pauses":
        assert later["ratio"].is_null().mean() == pytest.approx(0.25, abs=0.03)
    else:
        opened = shifted.truth.filter(~pl.col("shop_id").is_in(old))
        assert set(opened["archetype"]) == {"everyday"}
        assert opened["shop_id"].n_unique() == round(0.15 * 800)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_warm_months": 11}, "`n_warm_months` is 11; expected at least 12"),
        ({"n_refreshes": 0}, "`n_refreshes` is 0; expected at least 1"),
        ({"shift": "price"}, "`shift` is `price`; expected one of"),
        ({"difficulty": "trivial"}, "`difficulty` is `trivial`"),
        ({"shift": "level", "shift_refresh": 13}, "expected a refresh from 1 to 12"),
    ],
)
def test_what_cannot_be_generated_is_refused_with_its_name(values, words):
    with pytest.raises(ConfigError, match=words):
        RollingOptions(**values)
