"""All axes of a run: fitting, placing, ids and names over refits, saved state."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from core.axes.features.catalog import AxisFeatures
from core.axes.fit import AxesOptions, fit_axes, tier_sample
from core.axes.output import axis_overlap
from core.errors import ArtifactError, ConfigError, FeatureMismatchError
from core.segments.axes import AxesModel

AVAILABLE = {
    "purchase_value": AxisFeatures(
        "purchase_value", ("lifetime_value", "avg_order_value"), {}
    ),
    "purchase_frequency": AxisFeatures("purchase_frequency", ("orders_per_month",), {}),
    "price_sensitivity": AxisFeatures(
        "price_sensitivity", ("discount_rate", "avg_discount_pct"), {}
    ),
    "return_behavior": AxisFeatures(
        "return_behavior", (), {"refund_rate": "there are no items"}
    ),
}


def shoppers(n=2000, seed=0, shares=(0.6, 0.3, 0.1)):
    """Return features: 3 kinds of spender, 2 of bargain hunter, 1 of frequency.

    Every fiftieth customer has no known discounts.
    """
    rng = np.random.default_rng(seed)
    spender = rng.choice(len(shares), n, p=shares)
    is_hunter = rng.random(n) < 0.35
    value = np.array([3.0, 5.0, 7.0])[spender] + rng.normal(0, 0.3, n)
    rate = np.where(is_hunter, 0.8, 0.1) + rng.normal(0, 0.05, n)
    return pl.DataFrame(
        {
            "customer_id": [f"C{i:05d}" for i in range(n)],
            "lifetime_value": np.exp(value),
            "avg_order_value": np.exp(value - 2 + rng.normal(0, 0.3, n)),
            "orders_per_month": rng.lognormal(0, 0.7, n),
            "discount_rate": rate,
            "avg_discount_pct": rate / 3 + rng.normal(0, 0.02, n),
            "spender": spender,
        }
    ).with_columns(
        pl.when(pl.int_range(n) % 50 != 49).then("discount_rate").alias("discount_rate")
    )


def placements(model, customers):
    """Return one row per axis and customer."""
    return pl.concat(
        pl.DataFrame(
            {
                "customer_id": customers["customer_id"],
                "axis": [axis] * customers.height,
                "segment_id": placed.labels,
                "segment": [model.names[axis][i] for i in placed.labels.tolist()],
                "strength": placed.strength,
                "runner_up_id": placed.runner_up,
            }
        )
        for axis, placed in model.assign(customers).items()
    )


CUSTOMERS = shoppers()
VALUE = {"purchase_value": AVAILABLE["purchase_value"]}


@pytest.fixture(scope="module")
def model():
    return fit_axes(CUSTOMERS, AVAILABLE, context={"channels": ["web"], "absent": []})


def report_of(model, axis):
    return next(row for row in model.report if row["axis"] == axis)


def test_planted_groups_are_found_and_named_and_the_rest_left_whole(model):
    names = model.names
    assert names["purchase_value"] == {
        0: "small_spender",
        1: "high_value",
        2: "whale",
        -1: "not_enough_orders",
    }
    assert names["price_sensitivity"][0] == "full_price"
    assert names["price_sensitivity"][1] == "deal_hunter"
    assert names["purchase_frequency"] == {0: "everyone", -1: "not_enough_orders"}
    placed = model.assign(CUSTOMERS)
    right = placed["purchase_value"].labels == CUSTOMERS["spender"].to_numpy()
    assert right.mean() > 0.99
    assert list(placed) == ["purchase_value", "purchase_frequency", "price_sensitivity"]


def test_an_unknown_feature_leaves_a_customer_out_of_that_axis_only(model):
    placed = model.assign(CUSTOMERS)
    assert (placed["price_sensitivity"].labels[49::50] == -1).all()
    assert (placed["price_sensitivity"].labels >= 0).sum() == 1960
    assert (placed["purchase_value"].labels >= 0).all()
    lost = model.segments.filter(axis="price_sensitivity", id=-1).row(0, named=True)
    assert (lost["size"], lost["share"]) == (40, 0.02)


def test_the_report_says_what_each_axis_rests_on(model):
    row = report_of(model, "purchase_value")
    assert (row["kind"], row["n_segments"]) == ("natural", 3)
    assert row["silhouette"] > row["null_silhouette"] + 0.2
    assert row["stability"] > 0.95
    assert row["smallest_share"] == pytest.approx(0.1, abs=0.02)
    single = report_of(model, "purchase_frequency")
    assert (single["kind"], single["n_segments"]) == ("single", 1)
    assert "no segments here" in single["verdict"]
    skipped = report_of(model, "return_behavior")
    assert skipped["skipped"] == {"refund_rate": "there are no items"}
    assert skipped["kind"] == "skipped"


def test_sizes_are_those_of_the_placements(model):
    table = placements(model, CUSTOMERS)
    assert table.height == 3 * CUSTOMERS.height
    counted = table.group_by("axis", id="segment_id").len("counted")
    sizes = model.segments.filter(pl.col("size") > 0)
    both = sizes.join(counted, on=["axis", "id"])
    assert both.height == sizes.height == counted.height
    assert (both["size"] == both["counted"]).all()


def test_a_runner_up_is_another_segment_where_there_is_one(model):
    table = placements(model, CUSTOMERS)
    single = table.filter(axis="purchase_frequency")
    assert single["segment"].unique().to_list() == ["everyone"]
    assert (single["runner_up_id"] == -1).all()
    lost = table.filter(pl.col("segment_id") == -1)
    assert lost["segment"].unique().to_list() == ["not_enough_orders"]
    assert (lost["strength"] == 0).all()
    assert (lost["runner_up_id"] == -1).all()
    value = table.filter(axis="purchase_value")
    assert (value["runner_up_id"] != -1).all()
    assert (value["segment_id"] != value["runner_up_id"]).all()


def test_order_of_rows_and_other_columns_do_not_count(model):
    shuffled = CUSTOMERS.sample(fraction=1.0, shuffle=True, seed=3)
    columns = shuffled.columns[::-1]
    again = placements(model, shuffled.select(columns))
    key = ["axis", "customer_id"]
    assert again.sort(key).equals(placements(model, CUSTOMERS).sort(key))


def test_a_single_customer_is_placed_as_in_the_batch(model):
    batch = placements(model, CUSTOMERS)
    for i in (0, 49, 1234):
        alone = placements(model, CUSTOMERS[i])
        among = batch.filter(customer_id=CUSTOMERS["customer_id"][i])
        assert alone.equals(among)


def test_one_customer_in_plain_numbers_is_placed_to_the_last_bit(model):
    batch = model.assign(CUSTOMERS)
    rows = CUSTOMERS.select(pl.col(model.features).fill_null(np.nan))
    for i, row in enumerate(rows.iter_rows(named=True)):
        alone = model.assign_one(row)
        assert alone == {
            axis: (own.labels[i], own.strength[i], own.runner_up[i])
            for axis, own in batch.items()
        }


def test_a_saved_model_places_and_tells_the_same(model):
    arrays, meta = model.get_state()
    restored = AxesModel.from_state(arrays, json.loads(json.dumps(meta)))
    assert placements(restored, CUSTOMERS).equals(placements(model, CUSTOMERS))
    assert restored.segments.equals(model.segments)
    assert restored.report == model.report
    assert restored.context == {"channels": ["web"], "absent": []}
    again = restored.get_state()
    assert again[1] == meta


def test_a_damaged_state_is_refused(model):
    arrays, meta = model.get_state()
    with pytest.raises(ArtifactError, match="format is 9"):
        AxesModel.from_state(arrays, {**meta, "format": 9})
    with pytest.raises(ArtifactError, match="missing `centres`"):
        AxesModel.from_state(
            {k: v for k, v in arrays.items() if k != "purchase_value/centres"}, meta
        )
    fewer = arrays["purchase_value/centres"][:2]
    with pytest.raises(ArtifactError, match="do not fit its centres"):
        AxesModel.from_state({**arrays, "purchase_value/centres": fewer}, meta)
    with pytest.raises(ArtifactError, match="KeyError"):
        AxesModel.from_state(arrays, {"format": 1})


def test_missing_features_are_named(model):
    with pytest.raises(FeatureMismatchError, match="lacks `avg_order_value`"):
        model.assign(CUSTOMERS.drop("avg_order_value"))


def test_ids_and_names_survive_a_refit_on_other_customers(model):
    later = shoppers(n=2500, seed=1, shares=(0.2, 0.5, 0.3))
    refitted = fit_axes(later, AVAILABLE, previous=model)
    placed = refitted.assign(later)["purchase_value"]
    # The large ones of today were the second before: ids stay, sizes do not matter.
    assert (placed.labels == later["spender"].to_numpy()).mean() > 0.99
    assert refitted.names == model.names
    events = refitted.events["purchase_value"]
    assert [(e.kind, e.old, e.new) for e in events] == [
        ("survived", (i,), (i,)) for i in range(3)
    ]


def test_a_refit_on_the_same_customers_changes_nothing(model):
    again = fit_axes(CUSTOMERS, AVAILABLE, previous=model)
    columns = ["customer_id", "axis", "segment_id", "segment"]
    before = placements(model, CUSTOMERS).select(columns)
    assert placements(again, CUSTOMERS).select(columns).equals(before)


def test_two_fits_are_equal_to_the_last_bit(model):
    again = fit_axes(CUSTOMERS, AVAILABLE, context=model.context)
    arrays, meta = model.get_state()
    others, other_meta = again.get_state()
    assert meta == other_meta
    assert {k: v.tobytes() for k, v in arrays.items()} == {
        k: v.tobytes() for k, v in others.items()
    }


def test_a_name_a_user_gave_stays_over_a_refit(model):
    named = model.renamed("purchase_value", 2, "Großkunden")
    assert model.names["purchase_value"][2] == "whale"
    refitted = fit_axes(shoppers(seed=5), VALUE, previous=named)
    assert refitted.names["purchase_value"][2] == "Großkunden"
    row = refitted.segments.filter(axis="purchase_value", id=2).row(0, named=True)
    assert (row["is_edited"], row["rule_name"]) == (True, "whale")


@pytest.mark.parametrize(
    ("axis", "segment", "name", "message"),
    [
        ("purchase_valu", 0, "x", "Did you mean `purchase_value`"),
        (
            "purchase_value",
            7,
            "x",
            "no segment has the id 7; the published ones are 0, 1",
        ),
        ("purchase_value", 0, "Whale", "a name that no other segment has"),
        ("purchase_value", 0, "  ", "is no name for a segment"),
    ],
)
def test_an_impossible_name_is_refused(model, axis, segment, name, message):
    with pytest.raises(ConfigError, match=message):
        model.renamed(axis, segment, name)


def test_a_segment_that_appears_has_a_new_id_and_the_name_of_all_is_given_up():
    small = shoppers(shares=(1.0,))
    before = fit_axes(small, VALUE)
    assert before.names["purchase_value"][0] == "everyone"
    later = fit_axes(CUSTOMERS, VALUE, previous=before)
    names = later.names["purchase_value"]
    assert "everyone" not in names.values()
    assert len(names) == 4
    back = fit_axes(small, VALUE, previous=later)
    gone = [e for e in back.events["purchase_value"] if e.kind == "died"]
    assert gone
    assert max(back.names["purchase_value"]) < 3
    again = fit_axes(CUSTOMERS, VALUE, previous=back)
    assert max(again.names["purchase_value"]) >= 3


def test_an_axis_skipped_for_once_gives_no_id_out_twice(model):
    less = {"purchase_value": AxisFeatures("purchase_value", (), {})}
    skipped = fit_axes(CUSTOMERS, less, previous=model)
    assert "purchase_value" not in skipped.assign(CUSTOMERS)
    back = fit_axes(CUSTOMERS, VALUE, previous=skipped)
    assert sorted(back.names["purchase_value"]) == [-1, 3, 4, 5]


def test_tiers_that_a_user_asks_for_are_called_a_cut(model):
    tiers = fit_axes(CUSTOMERS, AVAILABLE, AxesOptions(min_segments=3))
    row = report_of(tiers, "purchase_frequency")
    assert (row["kind"], row["n_segments"]) == ("cut", 3)
    kinds = tiers.segments.filter(axis="purchase_frequency")["kind"].unique().to_list()
    assert kinds == ["cut"]
    assert report_of(tiers, "purchase_value")["kind"] == "natural"


def test_never_more_segments_than_a_user_allows():
    few = fit_axes(CUSTOMERS, AVAILABLE, AxesOptions(max_segments=2))
    assert all(row["n_segments"] <= 2 for row in few.report)
    one = fit_axes(CUSTOMERS, AVAILABLE, AxesOptions(max_segments=1))
    assert [row["n_segments"] for row in one.report] == [1, 1, 1, 0]


def test_an_axis_nobody_can_be_placed_on_is_skipped():
    empty = CUSTOMERS.with_columns(pl.lit(None, pl.Float64).alias("orders_per_month"))
    found = fit_axes(empty, AVAILABLE)
    assert "purchase_frequency" not in found.names
    row = report_of(found, "purchase_frequency")
    assert row["skipped"] == {
        "orders_per_month": "no customer has all features of the axis"
    }


@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_handful_of_customers_is_one_segment(n):
    found = fit_axes(CUSTOMERS[:n], AVAILABLE)
    assert [row["n_segments"] for row in found.report] == [1, 1, 1, 0]
    assert found.assign(CUSTOMERS[:n])["purchase_value"].labels.tolist() == [0] * n


def test_equal_customers_are_one_segment():
    same = pl.concat([CUSTOMERS[:1]] * 200)
    found = fit_axes(same, AVAILABLE, AxesOptions(min_segments=2))
    assert [row["n_segments"] for row in found.report] == [1, 1, 1, 0]


def test_a_draw_by_value_tier_finds_the_segments_of_everybody(model):
    drawn = fit_axes(CUSTOMERS, AVAILABLE, AxesOptions(fit_customers=1000))
    for axis, placed in drawn.assign(CUSTOMERS).items():
        whole = model.assign(CUSTOMERS)[axis].labels
        assert (placed.labels == whole).mean() > 0.97
    assert report_of(drawn, "purchase_value")["n_customers"] == 2000


def test_the_draw_takes_the_reference_s_tiers_and_weighs_them_back():
    values = np.arange(1000.0)
    rows, weights = tier_sample(values, 100, seed=0)
    tiers = np.searchsorted([500, 800, 950], rows, side="right")
    assert np.bincount(tiers).tolist() == [20, 30, 30, 20]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_allclose(np.bincount(tiers, weights), [500, 300, 150, 50])
    assert set(weights[rows >= 950]) == {2.5}


def test_axes_that_say_the_same_overlap_by_1_and_unrelated_ones_by_0():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 3, 3000)
    same = np.array([2, 0, 1])[one]
    other = rng.integers(0, 2, 3000)
    other[:100] = -1
    labels = {"a": one, "b": same, "c": other, "d": np.zeros(3000, int)}
    table = axis_overlap(labels)
    found = {(a, b): (ami, n) for a, b, ami, n in table.iter_rows()}
    assert found["a", "b"] == (pytest.approx(1.0), 3000)
    assert found["a", "c"] == (pytest.approx(0.0, abs=0.01), 2900)
    assert found["a", "d"] == (None, 3000)
    assert len(found) == 6


def test_placing_waits_for_neither_scikit_learn_nor_tensorflow():
    code = (
        "import sys, core.segments.axes\n"
        "print({'sklearn', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


def test_options_come_from_the_configuration():
    from core.config import Config

    config = Config.model_validate({"seed": 7, "axes": {"max_segments": 4}})
    assert AxesOptions.of(config) == AxesOptions(max_segments=4, seed=7)
