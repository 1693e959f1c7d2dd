"""Micro-segments are found where there are some, and everybody is placed."""

from __future__ import annotations

import guest_runs as chain
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from core.artifacts.arrays import pack_arrays, save_arrays, unpack_arrays
from core.channels.micro import (
    MicroModel,
    check_plan,
    fit_micro,
    order_shares,
    usual_features,
)
from core.config import MicroPlanItem
from core.errors import ArtifactError, ConfigError, FeatureMismatchError, ModelError
from core.models.centroids import CentroidModel, Scaling

N = 1200
RULES = ["Seg1_5_1", "Seg1_5_2", "Seg15_plus_1"]
GUESTS = np.array([[2, 7, 1], [2, 1, 7], [10, 2, 2]], dtype=float)


def item(name="early", sources=("Seg1_5_1",), **options):
    return MicroPlanItem(name=name, source_segments=list(sources), **options)


def guests(seed, *, kinds=True, n=N):
    """Return features of guests of three kinds, or of one, and the kind of each."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    rates = GUESTS[kind] if kinds else np.full((n, 3), 3.0)
    orders = rng.poisson(rates)
    features = pl.DataFrame(
        {
            "customer_id": [f"G{i}" for i in range(n)],
            "Lunch_order_count": orders[:, 0],
            "Breakfast_order_count": orders[:, 1],
            "Late_Night_order_count": orders[:, 2],
            "average_order_value": rng.lognormal(5, 0.4, n),
            "days_between_orders": np.where(
                rng.random(n) < 0.2, np.nan, rng.exponential(20, n)
            ),
            "ownapp_order_count": rng.integers(1, 6, n),
        }
    )
    return features, kind


def fitted(features, plan=(), segments=None, **options):
    """Fit one item, of everybody unless `segments` says who is where."""
    if segments is None:
        segments = ["Seg1_5_1"] * features.height
    plan = plan or [item()]
    known = {"target": "ownapp_order_count", **options}
    return fit_micro(features, pl.Series(segments, dtype=pl.String), plan, 42, **known)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_planted_micro_segments_are_found_and_told_by_what_was_planted(seed):
    features, kind = guests(seed)
    found = fitted(features)["early"]
    labels = found.assign(features).labels
    assert adjusted_rand_score(kind, labels) > 0.75
    assert [name.partition(", few")[0] for name in found.names] == [
        *("many breakfast orders", "many late night orders", "many lunch orders")
    ]
    assert all("(the others: " in why for why in found.why)


@pytest.mark.parametrize("seed", range(6))
def test_guests_of_one_kind_are_not_divided(seed):
    found = fitted(guests(seed, kinds=False)[0])["early"]
    assert found.report["n_segments"] == 1
    assert found.report["verdict"].startswith("no micro-segments here")
    assert found.names == ("everyone",)


def test_a_number_that_is_given_is_a_cut_and_called_so():
    found = fitted(guests(0, kinds=False)[0], [item(k=4)])["early"]
    assert found.report["kind"] == "cut"
    assert found.report["n_segments"] == len(set(found.names)) == 4
    assert "as `k` asks" in found.report["verdict"]


def test_fewer_customers_than_the_number_asked_for_are_told():
    features = guests(0, n=3)[0].with_columns(days_between_orders=pl.lit(None))
    found = fitted(features, [item(k=5)])["early"]
    assert found.assign(features).labels.max() == found.report["n_segments"] - 1 == 2
    assert found.report["verdict"].startswith("5 were requested, 3 found")


def test_an_item_takes_the_customers_of_its_rule_segments_only():
    features, _ = guests(0)
    segments = [RULES[i % 3] if i % 4 else None for i in range(N)]
    plan = [item("one"), item("both", RULES[:2]), item("off", enabled=False)]
    found = fitted(features, plan, segments)
    assert list(found) == ["one", "both"]
    n = [segments.count(name) for name in RULES[:2]]
    assert found["one"].report["n_customers"] == n[0]
    assert found["both"].report["n_customers"] == sum(n)


def test_no_customers_are_no_error_in_the_fit_and_in_the_assignment():
    features, _ = guests(0)
    nobody = fitted(features, [item(sources=["Seg15_plus_1"])])["early"]
    assert nobody.report["verdict"] == "no customers"
    assert nobody.assign(features).labels.tolist() == [-1] * N
    assert not len(fitted(features)["early"].assign(features.clear()).labels)


def test_columns_that_tell_nobody_apart_are_left_out_with_the_reason():
    features, _ = guests(0)
    features = features.with_columns(
        one=pl.lit(1.0), never=pl.lit(None, pl.Float64), off=pl.lit(value=False)
    )
    found = fitted(features)["early"]
    assert found.skipped == {
        "one": "the same for all: 1",
        "never": "not known of any customer",
        "off": "the same for all: 0",
    }
    assert not {"customer_id", "ownapp_order_count", *found.skipped} & {*found.features}


def test_customers_who_are_all_alike_are_one_micro_segment():
    features = pl.DataFrame({"a": [1.0] * 80, "b": [2.0] * 80})
    found = fitted(features)["early"]
    assert found.assign(features).labels.tolist() == [0] * 80


def test_an_unknown_value_stands_for_the_median_of_training():
    features, _ = guests(0)
    found = fitted(features)["early"]
    median = features["days_between_orders"].drop_nans().median()
    known = features.with_columns(pl.col("days_between_orders").fill_nan(median))
    unknown = features.with_columns(pl.col("days_between_orders").fill_nan(None))
    for one, other in zip(found.assign(unknown), found.assign(known), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.assign(unknown).labels.min() == 0


def test_limits_are_those_of_training_whoever_is_scored():
    features, _ = guests(0)
    found = fitted(features, [item(features=["average_order_value"], k=2)])["early"]
    top = features["average_order_value"].quantile(0.99, "linear")
    absurd = pl.DataFrame({"average_order_value": [top, 1e9]})
    alone = found.assign(absurd.tail(1))
    at_limit = found.assign(absurd.head(1))
    assert alone.distances[0] == pytest.approx(at_limit.distances[0], rel=1e-9)
    wild = fitted(features, [item(features=["average_order_value"], k=2, cap=False)])
    assert wild["early"].assign(absurd).distances[1] > 10


def test_the_number_of_orders_is_taken_by_name_only_and_never_capped():
    features, _ = guests(0)
    asked = item(features=["ownapp_order_count", "Lunch_order_count"], k=2)
    scaling = fitted(features, [asked])["early"].centroids.scaling
    assert scaling.upper[0] > 1e300
    assert scaling.upper[1] < 100


def test_all_features_that_are_missing_are_named_at_once():
    features, _ = guests(0)
    found = fitted(features)["early"]
    lacking = features.drop("Lunch_order_count", "average_order_value")
    with pytest.raises(FeatureMismatchError, match=r"Lunch_order.*`average_order"):
        found.assign(lacking)
    with pytest.raises(ModelError, match="`customer_id` is String"):
        fitted(features, [item(features=["customer_id"])])


def test_a_saved_model_places_customers_alike_and_a_changed_one_is_refused():
    features, _ = guests(1)
    found = fitted(features)["early"]
    arrays, meta = unpack_arrays(pack_arrays(*found.get_state()))
    loaded = MicroModel.from_state(arrays, meta)
    for one, other in zip(found.assign(features), loaded.assign(features), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.names == found.names
    meta["features"] = meta["features"][1:]
    with pytest.raises(ArtifactError, match="do not fit"):
        MicroModel.from_state(arrays, meta)


def test_the_order_of_the_customers_changes_nothing():
    features, _ = guests(0)
    order = np.random.default_rng(5).permutation(N)
    one, other = fitted(features)["early"], fitted(features[order])["early"]
    first, second = one.assign(features), other.assign(features)
    assert adjusted_rand_score(first.labels, second.labels) > 0.98


def test_a_refit_keeps_the_number_while_the_data_nearly_allow_it():
    before = fitted(guests(1)[0])
    fewer, _ = guests(9, n=500)
    assert fitted(fewer)["early"].report["n_segments"] == 1
    again = fitted(fewer, previous=before)["early"]
    assert again.report["n_segments"] == before["early"].report["n_segments"] == 3


def test_orders_of_every_kind_become_shares_of_all_orders():
    names = {
        "order_count": 4,
        "Lunch_order_count": 3,
        "Dinner_order_count": 1,
        "Late_Night_order_count": 0,
        "Lunch_Dinner_order_count": 4,
        "web_order_count": 2,
        "web_Lunch_order_count": 1,
        "categ_dri_sides_count": 1,
        "categ_base_product_fries_count": 1,
        "average_order_value": 9.5,
    }
    table = pl.DataFrame(names)
    shares = order_shares({name: pl.col(name) for name in names})
    assert table.select(**shares).row(0, named=True) == {
        "Lunch_order_share": 0.75,
        "Dinner_order_share": 0.25,
        "Late_Night_order_share": 0.0,
        "web_order_share": 0.5,
        "categ_dri_sides_share": 0.25,
    }
    none = table.with_columns(order_count=pl.lit(0))
    assert none.select(**shares).row(0) == (None,) * 5
    assert order_shares({"Lunch_order_count": pl.col("Lunch_order_count")}) == {}
    assert usual_features([*names, *shares]) == [
        *("average_order_value", "Lunch_order_share", "Dinner_order_share"),
        *("Late_Night_order_share", "web_order_share", "categ_dri_sides_share"),
    ]


def test_everything_that_is_wrong_with_a_plan_is_said_at_once():
    plan = [
        item("one", ["Seg1_5_1", "Seg1_5_1"]),
        item("one", ["Seg1_5_9"]),
        item("two", features=["Lunch_order_cuont"]),
        item("three", model="nowhere.safetensors", k=3),
        item("off", features=["unknown"], enabled=False),
    ]
    with pytest.raises(ConfigError) as error:
        check_plan(plan, RULES, ["Lunch_order_count"])
    said = str(error.value)
    for part in (
        "the name `one` appears 2 times",
        "the source segment `Seg1_5_1` appears 2 times",
        "no segment `Seg1_5_9`. Did you mean",
        "`Lunch_order_cuont`",
        "Did you mean `Lunch_order_count`?",
        "`features` and `k` go without `model`",
        "`nowhere.safetensors`, which is not there",
    ):
        assert part in said
    assert "unknown" not in said
    with pytest.raises(ConfigError, match=r"`nowhere\.safetensors`") as error:
        check_plan(plan, RULES)
    assert "Lunch" not in str(error.value)
    check_plan([item("one"), item("two", RULES)], RULES, [])


def test_a_pickle_is_no_model_of_a_plan(tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(ConfigError, match="import-models` makes such files"):
        check_plan([item(model=str(path))], RULES)


def converted(tmp_path):
    """Save a model as `import-models` does: two centres of two features."""
    limit = np.full(2, np.finfo(float).max)
    mean, scale = np.array([10.0, 200.0]), np.array([5.0, 80.0])
    scaling = Scaling(np.zeros(2, bool), -limit, limit, mean, scale)
    centres = CentroidModel(np.array([[-1.0, 0.0], [1.0, 0.0]]), scaling, fill=mean)
    names = ("ownapp_order_count", "average_order_value")
    made = MicroModel("m", (), names, centres, names=("0", "1"), why=("", ""))
    path = tmp_path / "m.safetensors"
    save_arrays(path, *made.get_state())
    return str(path)


def test_a_converted_model_learns_limits_once_and_keeps_its_centres(tmp_path):
    features, _ = guests(0)
    plan = [item(model=converted(tmp_path), cap=True)]
    check_plan(plan, RULES, features.columns)
    first = fitted(features, plan)
    scaling = first["early"].centroids.scaling
    column = features["average_order_value"]
    assert scaling.upper[1] == pytest.approx(column.quantile(0.99, "linear"))
    assert scaling.lower[1] == pytest.approx(column.quantile(0.01, "linear"))
    assert scaling.upper[0] > 1e300
    dearer = features.with_columns(pl.col("average_order_value") * 9)
    again = fitted(dearer, plan, previous=first)["early"].centroids
    np.testing.assert_array_equal(again.scaling.upper, scaling.upper)
    np.testing.assert_array_equal(again.centres, [[-1.0, 0.0], [1.0, 0.0]])


def test_micro_segments_keep_their_ids_when_the_smaller_one_becomes_the_larger(
    tmp_path,
):
    first = chain.guests()
    chain.run(tmp_path, first)
    before = micro_ids(tmp_path)
    rarer = min(set(before.values()), key=list(before.values()).count)
    more = first.filter(
        pl.col("customer_id").is_in([c for c, i in before.items() if i == rarer])
    )
    others = [
        more.with_columns(pl.col("customer_id") + f"-{copy}") for copy in range(2)
    ]
    chain.run(tmp_path, pl.concat([first, *others]))
    after = micro_ids(tmp_path)
    assert list(after.values()).count(rarer) > len(after) / 2
    kept = [after[customer] == before[customer] for customer in before]
    assert np.mean(kept) > 0.97


def micro_ids(folder):
    table = pl.read_parquet(chain.published(folder).path("micro_segments.parquet"))
    return dict(table.select("customer_id", "microcluster").iter_rows())
