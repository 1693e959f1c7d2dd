import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import RobustScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from core.errors import ArtifactError, ConfigError, ModelError
from core.models.preprocessing import FeatureScaler
from core.models.scaling import FeatureScaling

LIMIT = np.sqrt(0.99 / 0.01)


@parametrize_with_checks(
    [FeatureScaler(), FeatureScaler(method="robust"), FeatureScaler(tail_share=0.0)]
)
def test_scaler_keeps_the_estimator_contract(estimator, check):
    check(estimator)


def shops_with_sales(n_shops: int, n_selling: int, seed: int = 0) -> np.ndarray:
    """One column: nothing for most shops, graded sales for `n_selling` of them."""
    column = np.zeros(n_shops)
    column[:n_selling] = np.random.default_rng(seed).lognormal(3.0, 1.0, n_selling)
    return column[:, None]


def test_hand_checked_column_is_clipped_centred_and_divided():
    quantity = np.arange(101.0)[:, None]
    quantity[100] = 1e6
    scaled = FeatureScaler(tail_share=0.01).fit_transform(quantity).ravel()
    clipped = np.clip(np.arange(101.0), 1.0, 99.0)
    expected = (clipped - clipped.mean()) / clipped.std()
    np.testing.assert_allclose(scaled, expected, rtol=1e-12)


def test_robust_is_exactly_the_reference_scaler():
    features = np.random.default_rng(1).lognormal(size=(500, 6))
    features[:, 3] = 4.0
    features[:480, 4] = 0.0
    scaler = FeatureScaler(method="robust").fit(features)
    expected = RobustScaler().fit_transform(features)
    assert np.array_equal(scaler.transform(features), expected)


def test_unknown_values_become_the_median_seen_in_fit():
    trend = np.array([[1.0], [2.0], [np.nan], [3.0], [10.0]])
    scaler = FeatureScaler(tail_share=0.0).fit(trend)
    assert scaler.scaling_.fill.tolist() == [2.5]
    assert scaler.transform([[np.nan]]) == scaler.transform([[2.5]])
    assert FeatureScaler(method="robust").fit_transform(trend)[2, 0] == 0.0


def test_constant_and_wholly_unknown_columns_become_zero():
    features = np.column_stack([np.full(50, 7.0), np.full(50, np.nan)])
    scaler = FeatureScaler().fit(features)
    assert scaler.scaling_.scale.tolist() == [1.0, 1.0]
    assert not scaler.transform(features).any()
    assert not scaler.transform([[9.0, 3.0]]).any()


def test_rounding_noise_of_an_engine_is_no_variation():
    share = 0.1 + np.random.default_rng(2).integers(-3, 4, (200, 1)) * 1.4e-17
    assert len(np.unique(share)) > 1
    assert not FeatureScaler().fit_transform(share).any()


@pytest.mark.parametrize("n_selling", [1, 5, 25, 49, 50, 51, 100, 250])
def test_zero_inflated_column_keeps_its_variation_and_does_not_explode(n_selling):
    scaled = FeatureScaler().fit_transform(shops_with_sales(5000, n_selling)).ravel()
    assert scaled[:n_selling].min() > scaled[n_selling:].max()
    assert np.abs(scaled).max() <= LIMIT * (1 + 1e-12)
    assert scaled.std() <= 1.0 + 1e-12


def test_rare_sales_stay_graded_not_a_mere_flag():
    scaled = FeatureScaler().fit_transform(shops_with_sales(5000, 25)).ravel()
    assert len(np.unique(scaled[:25])) >= 23


columns = arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.just(3)),
    elements=st.one_of(
        st.just(0.0), st.floats(-1e29, 1e29, allow_nan=False), st.just(np.nan)
    ),
)


@given(columns, st.sampled_from([0.01, 0.05, 0.25]))
def test_no_input_gives_more_than_the_limit_or_anything_unknown(features, tail_share):
    scaled = FeatureScaler(tail_share=tail_share).fit_transform(features)
    assert np.isfinite(scaled).all()
    limit = np.sqrt((1 - tail_share) / tail_share)
    assert np.abs(scaled).max() <= limit * (1 + 1e-9)


@given(columns, st.randoms(use_true_random=False))
def test_order_of_the_shops_changes_no_bit(features, random):
    order = list(range(len(features)))
    random.shuffle(order)
    first = FeatureScaler().fit(features)
    second = FeatureScaler().fit(features[order])
    for name, values in first.get_state()[0].items():
        assert values.tobytes() == second.get_state()[0][name].tobytes(), name


@pytest.mark.parametrize("method", ["winsorised", "robust"])
def test_state_through_json_transforms_bit_for_bit(method):
    table = np.random.default_rng(3).lognormal(size=(300, 4))
    frame = pd.DataFrame(table, columns=["trend", "cv", "entropy", "recency"])
    scaler = FeatureScaler(method=method).fit(frame)
    state, meta = scaler.get_state()
    loaded = FeatureScaling.from_state(state, json.loads(json.dumps(meta)))
    assert loaded.transform(table).tobytes() == scaler.transform(frame).tobytes()
    assert loaded.feature_names == tuple(frame.columns)
    assert vars(loaded).items() >= scaler.get_params().items()


def test_one_shop_scales_as_in_the_batch():
    features = np.random.default_rng(4).normal(size=(100, 5))
    scaler = FeatureScaler().fit(features)
    batch = scaler.transform(features)
    assert all(
        np.array_equal(scaler.transform(features[[i]])[0], batch[i]) for i in (0, 99)
    )


def test_inverse_transform_returns_the_features_within_the_bounds():
    features = np.random.default_rng(5).lognormal(size=(400, 3))
    scaler = FeatureScaler().fit(features)
    restored = scaler.inverse_transform(scaler.transform(features))
    bounded = np.clip(features, scaler.scaling_.lower, scaler.scaling_.upper)
    np.testing.assert_allclose(restored, bounded, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "winsorized"}, "Did you mean `winsorised`"),
        ({"tail_share": 0.5}, "tail_share"),
        ({"tail_share": -0.1}, "tail_share"),
    ],
)
def test_wrong_option_is_refused_with_the_cure(options, message):
    with pytest.raises(ConfigError, match=message):
        FeatureScaler(**options).fit(np.eye(3))


def test_infinite_values_are_refused_with_the_column():
    frame = pd.DataFrame({"trend": [1.0, np.inf, 2.0], "cv": [1.0, 2.0, 3.0]})
    with pytest.raises(ModelError, match=r"1 of 6 values .*`trend`"):
        FeatureScaler().fit(frame)


def test_another_width_is_refused():
    scaler = FeatureScaler().fit(np.eye(3))
    with pytest.raises(ModelError, match="expecting 3 features"):
        scaler.transform(np.eye(4))
    with pytest.raises(ModelError, match=r"expected \(n_rows, 3\)"):
        scaler.inverse_transform(np.eye(4))


def test_incomplete_state_is_refused_by_name():
    state, meta = FeatureScaler().fit(np.eye(3)).get_state()
    with pytest.raises(ArtifactError, match="`centre`"):
        FeatureScaling.from_state({k: state[k] for k in state if k != "centre"}, meta)
    with pytest.raises(ArtifactError, match="shapes"):
        FeatureScaling.from_state(state | {"fill": np.zeros(2)}, meta)
