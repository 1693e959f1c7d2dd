"""What shops did after a cut, counted by hand."""

from __future__ import annotations

import math

import polars as pl
import pytest

from core.errors import ModelError
from core.evaluation.outcomes import (
    everyone,
    outcomes_after,
    outcomes_by_month,
    still_selling,
    usual_sales,
)
from core.months import month_index

CUT = "2023-12"
OPEN = {"2023-12": 1.0}
AFTER = ("2024-01", "2024-02", "2024-03")
BEFORE = ("2023-01", "2023-02", "2023-03")


def sales(**shops: dict[str, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"shop_id": shop, "t": month_index(month), "quantity": float(quantity)}
            for shop, months in shops.items()
            for month, quantity in months.items()
        ]
    )


def after(monthly: pl.DataFrame, shop: str, horizon: int = 3) -> dict[str, float]:
    found = outcomes_after(monthly, pl.Series("shop_id", [shop]), CUT, horizon)
    return found.row(0, named=True)


def test_outcomes_match_a_hand_count():
    kiosk = dict.fromkeys(BEFORE, 10) | {"2024-01": 30, "2024-03": 30}
    found = after(sales(kiosk=kiosk | OPEN), "kiosk")
    assert found["volume"] == pytest.approx(math.log(1 + 60 / 3))
    assert found["growth"] == pytest.approx(math.log(61 / 31))
    assert found["activity"] == pytest.approx(2 / 3)
    assert found["churn"] == 0.0


def test_a_season_is_no_growth():
    ice_cream = {"2023-01": 1, "2023-02": 2, "2023-03": 3, "2023-07": 900}
    same = {"2024-01": 1, "2024-02": 2, "2024-03": 3}
    monthly = sales(ice_cream=ice_cream | OPEN | same)
    assert after(monthly, "ice_cream")["growth"] == 0.0


def test_a_shop_that_stops_has_churned_and_shrunk():
    found = after(sales(closed=dict.fromkeys(BEFORE, 5) | OPEN), "closed")
    assert found == {
        "shop_id": "closed",
        "volume": 0.0,
        "growth": pytest.approx(-math.log(16)),
        "activity": 0.0,
        "churn": 1.0,
    }


def test_who_is_followed_is_known_at_the_cut():
    gone = {"2023-01": 5, "2023-09": 5}
    back = gone | {"2024-02": 5}
    pausing = {"2023-01": 5, "2023-10": 5}
    monthly = sales(gone=gone, back=back, pausing=pausing)
    ids = pl.Series("shop_id", ["gone", "back", "pausing", "opening"])
    monthly = sales(
        gone=gone, back=back, pausing=pausing, opening={"2024-02": 5, "2023-11": 0}
    ).filter(pl.col("quantity") > 0)
    found = outcomes_after(monthly, ids, CUT, 3)
    assert found["churn"].to_list() == [None, None, 1.0, None]
    assert found.null_count().row(0) == (0, 3, 3, 3, 3)
    all_known = outcomes_after(monthly, ids, CUT, 3, everyone)
    assert all_known["churn"].to_list() == [1.0, 0.0, 1.0, None]
    assert still_selling(monthly, ids, CUT).tolist() == [False] * 4
    months = outcomes_by_month(
        monthly, pl.Series("shop_id", ["gone", "pausing"]), CUT, 3
    )
    assert months["activity_2"].to_list() == [None, 0.0]


def test_growth_looks_only_at_months_in_which_the_shop_was_open_a_year_before():
    # Open since February: January has nothing to be compared with.
    bakery = {"2023-02": 10, "2023-03": 10, "2024-01": 99, "2024-02": 20, "2024-03": 20}
    found = after(sales(bakery=bakery | OPEN), "bakery")
    assert found["growth"] == pytest.approx(math.log(41 / 21))
    # Open since March: one month of three is not enough to tell.
    late = {"2023-03": 10} | dict.fromkeys(AFTER, 20)
    assert after(sales(late=late | OPEN), "late")["growth"] is None


def test_growth_is_limited_to_a_factor_of_twenty():
    huge = dict.fromkeys(BEFORE, 1) | dict.fromkeys(AFTER, 1e6)
    tiny = dict.fromkeys(BEFORE, 1e6) | dict.fromkeys(AFTER, 1)
    monthly = sales(huge=huge | OPEN, tiny=tiny | OPEN)
    assert after(monthly, "huge")["growth"] == 3.0
    assert after(monthly, "tiny")["growth"] == -3.0


def test_a_horizon_beyond_a_year_is_compared_with_the_last_year_known():
    months = [f"2023-{m:02d}" for m in range(1, 13)]
    later = [f"{y}-{m:02d}" for y in (2024, 2025) for m in range(1, 13)]
    steady = sales(steady=dict.fromkeys(months, 4) | dict.fromkeys(later[:18], 8))
    assert after(steady, "steady", 18)["growth"] == pytest.approx(math.log(145 / 73))


def test_what_lies_beyond_the_horizon_does_not_count():
    monthly = sales(kiosk=OPEN | {"2024-04": 50})
    assert after(monthly, "kiosk")["churn"] == 1.0
    assert after(monthly, "kiosk", 4)["churn"] == 0.0


def test_shops_come_back_in_the_order_asked_for():
    monthly = sales(b=OPEN | {"2024-01": 3}, a=OPEN)
    found = outcomes_after(monthly, pl.Series("shop_id", ["b", "never", "a"]), CUT, 3)
    assert found["shop_id"].to_list() == ["b", "never", "a"]
    assert found["churn"].to_list() == [0.0, None, 1.0]


def test_data_in_tonnes_keeps_the_steps_of_the_same_data_in_grams():
    doubling = {
        f"shop_{i}": dict.fromkeys(("2023-12", *AFTER), 50.0 * 2**i) for i in range(12)
    }
    tonnes = sales(**doubling).with_columns(pl.col("quantity") / 1e6)
    volume = outcomes_after(tonnes, pl.Series("shop_id", list(doubling)), CUT, 3)[
        "volume"
    ]
    steps = volume.diff().drop_nulls()
    assert steps.min() > 0.25, "still the logarithm: every doubling is a step"
    assert steps.max() < math.log(2)


def test_usual_sales_match_a_hand_count():
    old = dict.fromkeys([f"2022-{m:02d}" for m in range(1, 13)], 6)
    steady = old | {f"2023-{m:02d}": 6 for m in range(1, 13)}
    low_base = steady | dict.fromkeys(BEFORE, 1)
    late = {"2023-11": 8.0, "2023-12": 4.0}
    monthly = sales(steady=steady, low_base=low_base, late=late)
    ids = pl.Series("shop_id", ["steady", "low_base", "late", "never"])
    level, season = usual_sales(monthly, ids, CUT, 3)
    assert level.tolist() == [6.0, (24 * 6 - 15) / 24, 6.0, 0.0]
    assert season[:2] == pytest.approx([0.0, math.log(4) - math.log1p(3 * level[1])])
    assert season[2:].tolist() == [0.0, 0.0], "no month to compare with"


def test_months_one_by_one():
    monthly = sales(kiosk=OPEN | {"2024-01": 7, "2024-03": 1})
    months = outcomes_by_month(monthly, pl.Series("shop_id", ["kiosk"]), CUT, 3)
    assert months.select("^activity.*$").row(0) == (1.0, 0.0, 1.0)
    assert months.select("^volume.*$").row(0) == pytest.approx(
        (math.log(8), 0.0, math.log(2))
    )


def test_a_horizon_without_months_is_refused():
    with pytest.raises(ModelError, match=r"horizon_months.* is 0"):
        after(sales(kiosk={"2023-01": 1}), "kiosk", 0)
