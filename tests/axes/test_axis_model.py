"""Placing customers on one axis: the nearest centre, and how clearly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.errors import ArtifactError, ModelError
from core.models.centroids import CentroidModel, Scaling


def scaling(n, is_log=False, low=-1e9, high=1e9):
    """Return a scaling that leaves values within bounds as they are."""
    whole = np.ones(n)
    return Scaling(
        np.full(n, is_log), low * whole, high * whole, 0 * whole, whole.copy()
    )


# Orders a month and items an order: few of both, many orders, many items.
VISITS = CentroidModel(np.array([[1.0, 2.0], [9.0, 2.0], [1.0, 8.0]]), scaling(2))


def test_hand_checked_customers_get_segment_runner_up_and_strength():
    placed = VISITS.assign(np.array([[1.0, 2.0], [3.0, 2.0], [1.0, 6.5], [20.0, 2.0]]))
    assert placed.labels.tolist() == [0, 0, 2, 1]
    assert placed.runner_up.tolist() == [2, 1, 0, 0]
    # At the centre 1; half way from the border (5, 2) to it; from (1, 5) to (1, 8) half
    # the way; beyond the centre never more than 1.
    np.testing.assert_allclose(placed.strength, [1.0, 0.5, 0.5, 1.0])


def test_strength_is_0_on_the_border_and_does_not_see_what_both_segments_share():
    placed = VISITS.assign(np.array([[5.0, 2.0], [5.0, 0.0], [3.0, 0.0]]))
    np.testing.assert_allclose(placed.strength, [0.0, 0.0, 0.5])


def test_a_customer_with_an_unknown_feature_is_not_placed():
    placed = VISITS.assign(np.array([[np.nan, 2.0], [1.0, np.inf], [9.0, 2.0]]))
    assert placed.labels.tolist() == [-1, -1, 1]
    assert placed.runner_up.tolist() == [-1, -1, 0]
    assert placed.strength.tolist() == [0.0, 0.0, 1.0]


def test_everyone_is_in_the_only_segment_without_a_runner_up():
    placed = CentroidModel(np.array([[4.0]]), scaling(1)).assign(
        np.array([[1.0], [99.0]])
    )
    assert placed.labels.tolist() == [0, 0]
    assert placed.runner_up.tolist() == [-1, -1]
    assert placed.strength.tolist() == [1.0, 1.0]


def test_amounts_are_compared_as_logarithms_within_the_bounds():
    same = scaling(1, is_log=True, low=0.0, high=np.log(101))
    np.testing.assert_allclose(
        same.columns(np.array([[0.0], [9.0], [1e9]])), np.log([[1.0, 10.0, 101.0]])
    )
    np.testing.assert_allclose(same.in_units(np.log([[10.0]])), [[9.0]])
    np.testing.assert_allclose(
        scaling(1, is_log=True).in_units(np.array([[-np.log(10.0)]])), [[-9.0]]
    )


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 9), st.just(3)),
        elements=st.floats(-1e6, 1e6) | st.just(np.nan),
    )
)
@settings(max_examples=60, deadline=None)
def test_a_customer_alone_is_placed_to_the_last_bit_as_among_others(rows):
    rng = np.random.default_rng(0)
    model = CentroidModel(
        rng.normal(size=(4, 3)),
        Scaling(
            np.array([True, False, True]),
            np.array([-5.0, -1e5, -2.0]),
            np.array([9.0, 1e5, 12.0]),
            rng.normal(size=3),
            rng.uniform(0.1, 3.0, 3),
        ),
    )
    crowd = np.vstack([rows, rng.normal(size=(5000, 3)) * 9])
    together = model.assign(crowd)
    for i, row in enumerate(rows):
        alone = model.assign(row[None])
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_[i])
    assert ((together.strength >= 0) & (together.strength <= 1)).all()


def test_no_customers_are_placed_as_none():
    assert [len(part) for part in VISITS.assign(np.empty((0, 2)))] == [0] * 5


def test_a_table_of_another_width_is_refused():
    with pytest.raises(ModelError, match=r"shape \(1, 3\); expected \(n_rows, 2\)"):
        VISITS.assign(np.zeros((1, 3)))


def test_a_restored_model_places_as_before():
    restored = CentroidModel.from_state(*VISITS.get_state())
    rows = np.random.default_rng(0).normal(size=(50, 2)) * 5
    for one, other in zip(restored.assign(rows), VISITS.assign(rows), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "value", "finding"),
    [
        ("centres", None, "missing `centres`"),
        ("centres", np.empty((0, 2)), r"shape \(0, 2\)"),
        ("scale", np.array([1.0, 0.0]), "not above 0"),
        ("lower", np.array([1.0]), r"shape \(1,\), not \(2,\)"),
        ("upper", np.array([1.0, np.nan]), "`upper` holds other values"),
        ("is_log", np.array([0.0, 1.0]), "`is_log` holds other values"),
    ],
)
def test_a_damaged_state_is_refused(name, value, finding):
    given_arrays, meta = VISITS.get_state()
    given_arrays[name] = value
    if value is None:
        del given_arrays[name]
    with pytest.raises(ArtifactError, match=finding):
        CentroidModel.from_state(given_arrays, meta)


def test_a_state_of_another_format_is_refused():
    with pytest.raises(ArtifactError, match="format is 99"):
        CentroidModel.from_state(VISITS.get_state()[0], {"format": 99})
