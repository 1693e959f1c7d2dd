"""Distances to density segments: to the nearest of the shops that stand for them."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import ArtifactError
from core.models.density_assigner import MOST, Exemplars, choose_exemplars

# Shops on one street, at their house number: two clusters and one on its own.
STREET = np.array([1.0, 2.0, 3.0, 20.0, 21.0, 22.0, 23.0, 60.0])[:, None]
LABELS = np.array([1, 1, 1, 0, 0, 0, 0, -1])
STRENGTHS = np.array([0.5, 1.0, 0.9, 0.2, 1.0, 0.8, 0.3, 0.0])


def test_exemplars_are_the_denser_half_of_each_segment():
    chosen = choose_exemplars(STREET, LABELS, STRENGTHS)
    assert chosen.segment.tolist() == [0, 0, 1, 1]
    assert chosen.points.ravel().tolist() == [21.0, 22.0, 2.0, 3.0]


def test_members_get_the_other_segment_and_the_unassigned_the_nearest():
    chosen = choose_exemplars(STREET, LABELS, STRENGTHS)
    rows = np.array([[1.0], [23.0], [60.0], [5.0], [12.0]])
    nearest, distance = chosen.nearest(rows, np.array([1, 0, -1, -1, -1]))
    # 12 is 9 from 21 and from 3: of equals, the segment with the lowest number.
    assert nearest.tolist() == [0, 1, 0, 1, 0]
    assert distance.tolist() == [20.0, 20.0, 38.0, 2.0, 9.0]


def test_a_single_segment_is_nearest_to_nobody_but_the_unassigned():
    chosen = choose_exemplars(STREET, np.where(LABELS == 0, 0, -1), STRENGTHS)
    nearest, distance = chosen.nearest(STREET, np.where(LABELS == 0, 0, -1))
    is_member = LABELS == 0
    assert (nearest[is_member] == -1).all()
    assert np.isnan(distance[is_member]).all()
    assert (nearest[~is_member] == 0).all()


def test_without_any_segment_nothing_is_near():
    nobody = np.full(len(STREET), -1)
    nearest, distance = choose_exemplars(STREET, nobody, STRENGTHS).nearest(
        STREET, nobody
    )
    assert (nearest == -1).all()
    assert np.isnan(distance).all()


def shops(n=4000, n_segments=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, n_segments, n)
    rows = rng.normal(size=(n, 4)) + 3 * rng.normal(size=(n_segments + 1, 4))[labels]
    return rows, labels, rng.random(n) * (labels >= 0)


def test_distances_are_those_of_every_pair():
    rows, labels, strengths = shops()
    chosen = choose_exemplars(rows, labels, strengths)
    nearest, distance = chosen.nearest(rows, labels)
    gaps = np.linalg.norm(rows[:, None] - chosen.points[None], axis=2)
    gaps[labels[:, None] == chosen.segment[None]] = np.inf
    np.testing.assert_allclose(distance, gaps.min(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(nearest, chosen.segment[gaps.argmin(axis=1)])


def test_a_row_gets_the_same_alone_and_among_others():
    rows, labels, strengths = shops()
    chosen = choose_exemplars(rows, labels, strengths)
    nearest, distance = chosen.nearest(rows, labels)
    for place in (0, 17, 3999):
        part = slice(place, place + 1)
        alone = chosen.nearest(rows[part], labels[part])
        assert alone[0][0] == nearest[place]
        assert alone[1][0] == distance[place]


def test_a_long_segment_is_represented_from_end_to_end_by_few():
    street = np.linspace(0, 1000, 5000)[:, None]
    strengths = np.linspace(0.6, 1.0, 5000)
    strengths[::2] = 0.1
    chosen = choose_exemplars(street, np.zeros(5000, dtype=np.int64), strengths)
    assert len(chosen.points) == MOST
    assert len(np.unique(chosen.points)) == MOST
    assert set(chosen.points.ravel()) <= set(street[1::2].ravel())
    assert np.diff(np.sort(chosen.points.ravel())).max() < 40
    assert chosen.points.min() < 1
    assert chosen.points.max() > 999


def test_equal_members_need_one_exemplar():
    rows = np.ones((50, 3))
    chosen = choose_exemplars(rows, np.zeros(50, dtype=np.int64), np.ones(50))
    assert len(chosen.points) == 1


def test_saved_and_loaded_exemplars_measure_alike():
    rows, labels, strengths = shops()
    chosen = choose_exemplars(rows, labels, strengths)
    loaded = Exemplars.from_state(chosen.get_state()[0])
    for one, two in zip(
        chosen.nearest(rows, labels), loaded.nearest(rows, labels), strict=True
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("points"),
        lambda a: a.update(points=a["points"] * np.nan),
        lambda a: a.update(segment=a["segment"][1:]),
        lambda a: a.update(segment=a["segment"] + 1),
        lambda a: a.update(segment=a["segment"].astype(float)),
    ],
)
def test_a_state_that_cannot_be_is_refused(change):
    arrays, _ = choose_exemplars(STREET, LABELS, STRENGTHS).get_state()
    change(arrays)
    with pytest.raises(ArtifactError, match="exemplars are unusable"):
        Exemplars.from_state(arrays)
