"""Segments keep their ids: matched by members, never by numbers or order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ModelError
from core.segments.identity import match_names, match_segments
from core.segments.published import (
    PublishedSegments,
    Segment,
    SegmentTable,
    first_version,
    kept_names,
    next_version,
    restore_version,
)

SIZES = (120, 90, 60, 40)
UNASSIGNED = 50


def labels_of(*parts):
    """Return labels from (label, number of rows) pairs, in this order."""
    return np.concatenate([np.full(n, label) for label, n in parts]).astype(np.int64)


def matched(old, new, **options):
    options = {"next_id": int(old.max(initial=-1)) + 1, **options}
    return match_segments(old, new, **options)


def told(identity, kind):
    return [(e.old, e.new) for e in identity.events if e.kind == kind]


def kinds(identity):
    return [event.kind for event in identity.events]


def test_a_segment_that_kept_most_of_its_members_survives():
    old = labels_of((3, 100), (5, 60))
    new = labels_of((1, 80), (0, 20), (0, 60))
    identity = matched(old, new, next_id=9)
    assert identity.ids == {0: 5, 1: 3}
    assert identity.next_id == 9
    assert kinds(identity) == ["survived", "survived"]
    event = identity.events[0]
    assert (event.old, event.new) == ((3,), (3,))
    assert (event.n_old, event.n_new, event.n_shared) == (100, 80, 80)
    assert event.jaccard == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (labels_of((4, 40), (-1, 60)), labels_of((0, 100))),
        (labels_of((4, 100)), labels_of((0, 40), (-1, 60))),
    ],
    ids=["grew into the unassigned", "withdrew from them"],
)
def test_the_unassigned_neither_make_nor_end_a_segment(old, new):
    identity = matched(old, new)
    assert identity.ids == {0: 4}
    assert kinds(identity) == ["survived"]


def test_a_segment_that_shares_next_to_nothing_of_all_rows_is_another_one():
    old = labels_of((0, 20), (-1, 80))
    identity = matched(old, labels_of((0, 100)))
    assert identity.ids == {0: 1}
    assert told(identity, "born") == [((-1,), (1,))]
    assert told(identity, "died") == [((0,), (1,))]


def test_the_largest_part_of_a_split_segment_keeps_the_id():
    old = labels_of((2, 100), (7, 50))
    new = labels_of((1, 40), (0, 60), (2, 50))
    identity = matched(old, new)
    assert identity.ids == {0: 2, 1: 8, 2: 7}
    assert told(identity, "split") == [((2,), (2, 8))]
    assert told(identity, "survived") == [((7,), (7,))]
    assert len(identity.events) == 2


def test_a_merged_segment_keeps_the_id_of_its_largest_contributor():
    old = labels_of((0, 50), (6, 70), (3, 40))
    new = labels_of((0, 120), (1, 40))
    identity = matched(old, new)
    assert identity.ids == {0: 6, 1: 3}
    assert told(identity, "merged") == [((6, 0), (6,))]
    event = identity.events[1]
    assert (event.n_old, event.n_new, event.n_shared) == (120, 120, 120)
    assert event.jaccard == 1.0


def test_a_small_segment_that_is_swallowed_was_merged_too():
    old = labels_of((0, 100), (1, 10))
    identity = matched(old, labels_of((0, 110)))
    assert told(identity, "merged") == [((0, 1), (0,))]
    assert kinds(identity) == ["merged"]


def test_what_is_left_of_a_segment_that_has_gone_is_not_swallowed():
    old = labels_of((0, 100), (1, 10))
    new = labels_of((0, 110))
    gone = matched(old, new, trained={0: 95, 1: 60, -1: 5})
    assert gone.ids == {0: 0}
    assert kinds(gone) == ["survived", "died"]
    died = gone.events[1]
    assert (died.old, died.new) == ((1,), (0,))
    assert (died.n_old, died.n_shared) == (10, 10)
    small = matched(old, new, trained={0: 95, 1: 15, -1: 0})
    assert told(small, "merged") == [((0, 1), (0,))]


def test_a_smaller_sample_of_everybody_kills_no_segment():
    old = labels_of((0, 100), (1, 10))
    sizes = {0: 1000, 1: 100, -1: 0}
    assert kinds(matched(old, labels_of((0, 110)), trained=sizes)) == ["merged"]


def test_one_that_has_shrunk_and_still_stands_survives():
    old = labels_of((0, 100), (1, 10))
    identity = matched(old, old, trained={0: 100, 1: 100, -1: 0})
    assert kinds(identity) == ["survived", "survived"]


def test_one_that_has_shrunk_and_makes_up_much_of_a_new_one_was_merged():
    # As large as what the other gives: without it, nobody would continue either.
    old = labels_of((0, 40), (1, 40), (2, 900))
    sizes = {0: 40, 1: 400, 2: 500, -1: 0}
    identity = matched(old, labels_of((1, 80), (0, 900)), trained=sizes)
    assert told(identity, "merged") == [((0, 1), (0,))]


def test_one_that_gives_many_away_and_lives_on_was_not_merged():
    old = labels_of((0, 60), (1, 400))
    new = labels_of((1, 60), (1, 35), (0, 365))
    identity = matched(old, new)
    assert kinds(identity) == ["survived", "born", "died"]
    assert told(identity, "survived") == [((1,), (1,))]


def test_swallowed_remains_of_a_new_segment_do_not_name_it():
    old = labels_of((0, 10), (1, 10), (-1, 900))
    identity = matched(old, labels_of((0, 920)))
    assert identity.ids == {0: 2}
    assert sorted(kinds(identity)) == ["born", "died", "died"]


def test_births_and_deaths_tell_where_most_members_are():
    old = labels_of((0, 100), (1, 50), (-1, 30))
    new = labels_of((0, 100), (-1, 45), (1, 5), (1, 30))
    identity = matched(old, new)
    assert told(identity, "born") == [((-1,), (2,))]
    assert told(identity, "died") == [((1,), (-1,))]
    born, died = identity.events[1:]
    assert (born.n_new, born.n_shared, born.jaccard) == (35, 30, None)
    assert (died.n_old, died.n_shared, died.jaccard) == (50, 45, None)


def test_an_old_segment_without_any_row_died():
    identity = matched(labels_of((0, 20)), labels_of((0, 20)), next_id=5, known=[0, 4])
    assert told(identity, "died") == [((4,), ())]
    assert identity.next_id == 5


def test_an_id_is_never_given_out_twice():
    old = labels_of((0, 50), (1, 50))
    new = labels_of((0, 50), (1, 25), (2, 25))
    identity = matched(old, new, next_id=12)
    assert sorted(identity.ids.values()) == [0, 1, 12]
    assert identity.next_id == 13


def test_exactly_equal_halves_go_by_what_they_are_not_where_they_stand():
    old = labels_of((0, 40))
    new = labels_of((0, 20), (1, 20))
    shops = [f"shop {number:02}" for number in range(40)]
    expected = {0: 0, 1: 1}
    assert matched(old, new, entities=shops).ids == expected
    assert matched(old, 1 - new, entities=shops).ids == {1: 0, 0: 1}
    back = slice(None, None, -1)
    assert matched(old, new[back], entities=shops[back]).ids == expected


@pytest.mark.parametrize(
    ("old", "new", "next_id", "message"),
    [
        (labels_of((0, 5)), labels_of((0, 4)), 1, "expected the same rows"),
        (labels_of((3, 5)), labels_of((0, 5)), 3, "expected at least 4"),
    ],
)
def test_labels_that_cannot_be_matched_are_refused(old, new, next_id, message):
    with pytest.raises(ModelError, match=message):
        match_segments(old, new, next_id=next_id)


@pytest.mark.parametrize("seed", range(20))
def test_noise_shuffles_and_numbers_rename_nothing(seed):
    rng = np.random.default_rng(seed)
    ids = (0, 2, 5, 11)
    old = labels_of(*zip(ids, SIZES, strict=True), (-1, UNASSIGNED))
    numbers = rng.permutation(len(ids))
    new = old.copy()
    for id_, number in zip(ids, numbers, strict=True):
        new[old == id_] = number
    is_moved = rng.random(len(new)) < 0.1
    new[is_moved] = rng.integers(-1, len(ids), is_moved.sum())
    order = rng.permutation(len(old))
    identity = matched(old[order], new[order])
    assert identity.ids == dict(sorted(zip(numbers.tolist(), ids, strict=True)))
    assert kinds(identity) == ["survived"] * len(ids)
    assert identity.next_id == 12


cells = st.lists(
    st.tuples(st.integers(-1, 4), st.integers(-1, 4), st.integers(1, 12)),
    min_size=1,
    max_size=14,
)
shares = st.tuples(st.floats(0.51, 1.0), st.floats(0.01, 0.49))


sizes = st.dictionaries(st.integers(-1, 4), st.integers(0, 90), max_size=6)


@given(cells, shares, sizes, st.randoms(use_true_random=False))
def test_members_alone_decide(cells, shares, sizes, random):
    old = labels_of(*((old, n) for old, _, n in cells))
    new = labels_of(*((new, n) for _, new, n in cells))
    # A model numbers its clusters without gaps.
    present = sorted({int(label) for label in new} - {-1})
    new = np.array([present.index(x) if x >= 0 else -1 for x in new])
    shops = np.array([f"{number:04}" for number in range(len(old))])
    survived, part = shares
    options = {"next_id": 9, "survived": survived, "part": part, "trained": sizes}
    identity = match_segments(old, new, entities=shops, **options)

    numbers = list(range(len(present)))
    random.shuffle(numbers)
    order = list(range(len(old)))
    random.shuffle(order)
    renumbered = np.array([*numbers, -1])[new]
    again = match_segments(
        old[order], renumbered[order], entities=shops[order], **options
    )
    assert {c: again.ids[numbers[c]] for c in identity.ids} == identity.ids
    assert again.events == identity.events

    given_out = list(identity.ids.values())
    assert len(set(given_out)) == len(given_out) == len(present)
    fresh = sorted(i for i in given_out if i >= 9)
    assert fresh == list(range(9, identity.next_id))
    assert {i for i in given_out if i < 9} <= set(old.tolist())
    before = {i for e in identity.events if e.kind != "born" for i in e.old}
    after = {i for e in identity.events if e.kind != "died" for i in e.new}
    assert before == {int(i) for i in old} - {-1}
    assert after == set(given_out)
    for event in identity.events:
        assert event.n_shared <= min(event.n_old, event.n_new)


def table_of(*names, kind="partition", sizes=None):
    """Return the table of a model on its own; ids are clusters."""
    sizes = sizes or [10] * len(names)
    segments = [
        Segment(id=i, name=name, kind=kind, size=n, share=n / sum(sizes), cluster=i)
        for i, (name, n) in enumerate(zip(names, sizes, strict=True))
    ]
    return SegmentTable(kind=kind, segments=segments)


def edited(published, segment, name):
    segments = tuple(
        s.model_copy(update={"name": name, "is_edited": True}) if s.id == segment else s
        for s in published.segments
    )
    return published.model_copy(update={"segments": segments})


VERDICT = {"kind": "reproducible", "is_certified": False, "basis": {}}
FIRST = first_version(table_of("Steady", "Growing", "Summer"), VERDICT, "0123456789ab")


def after(before, old, new, *names):
    """Publish a model with such clusters after another one."""
    known = [s.id for s in before.segments]
    identity = matched(old, new, next_id=before.next_id, known=known)
    kept = kept_names(before, identity)
    given = {cluster: kept.get(cluster, name) for cluster, name in enumerate(names)}
    return next_version(before, table_of(*names), identity, given, VERDICT)


def test_names_follow_their_segments_through_model_after_model():
    old = labels_of((0, 40), (1, 40), (2, 40))
    before = edited(FIRST, 1, "Ours")
    split = labels_of((2, 40), (0, 40), (1, 25), (3, 15))
    second = after(before, old, split, "a", "b", "c", "d")
    assert second.names == {0: "Steady", 1: "Ours", 2: "Summer", 3: "d"}
    assert second.ids == {2: 0, 0: 1, 1: 2, 3: 3}
    assert (second.version, second.latest, second.next_id) == (2, 2, 4)
    assert [s.id for s in second.segments if s.is_edited] == [1]
    gone = labels_of((0, 40), (2, 40), (1, 25), (1, 15))
    third = after(second, second.ids_of(split), gone, "e", "f", "g")
    assert third.names == {0: "Steady", 1: "Ours", 2: "Summer"}
    born = labels_of((0, 40), (1, 40), (2, 20), (3, 20))
    fourth = after(third, third.ids_of(gone), born, "h", "i", "j", "k")
    assert sorted(fourth.names) == [0, 1, 2, 4]
    assert fourth.version == 4
    assert {s.lineage for s in (second, third, fourth)} == {FIRST.lineage}


def test_ids_of_clusters_leave_none_none():
    clusters = np.array([1, -1, 0, 2])
    moved = [s.model_copy(update={"id": 9 - 2 * s.cluster}) for s in FIRST.segments]
    table = SegmentTable(kind="partition", segments=moved[::-1])
    assert table.ids_of(clusters).tolist() == [7, -1, 9, 5]


def test_going_back_undoes_neither_ids_nor_names_given_since():
    later = FIRST.model_copy(update={"version": 3, "latest": 3, "next_id": 8})
    back = restore_version(FIRST, edited(later, 0, "Growing"))
    assert back.names == {0: "Growing", 1: "Growing 2", 2: "Summer"}
    assert (back.version, back.latest, back.next_id) == (1, 3, 8)
    assert PublishedSegments.model_validate(back.model_dump()) == back
    stranger = later.model_copy(update={"lineage": "f" * 12})
    assert restore_version(FIRST, stranger) == FIRST


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"next_id": 2}, "the next id must be above all others"),
        ({"version": 2}, "the latest version is before this one"),
        ({"lineage": "no digits"}, "lineage"),
        ({"segments": FIRST.segments[::-1]}, "the ids must ascend"),
        ({"segments": FIRST.segments[1:]}, "the clusters must be numbered from 0"),
    ],
)
def test_publications_that_no_run_leaves_are_refused(changes, message):
    content = {**FIRST.model_dump(), **changes}
    with pytest.raises(ValueError, match=message):
        PublishedSegments.model_validate(content)


def test_segments_of_rules_follow_their_names_whoever_is_in_them():
    old = labels_of((4, 30), (7, 30))
    new = labels_of((1, 20), (2, 40))
    identity = match_names(
        old, new, names=("c", "a", "b"), known={"a": 4, "z": 7}, next_id=9
    )
    assert identity.ids == {0: 9, 1: 4, 2: 10}
    assert identity.next_id == 11
    assert told(identity, "survived") == [((4,), (4,))]
    assert told(identity, "died") == [((7,), (10,))], "where most of them went"
    assert told(identity, "born") == [((), (9,)), ((7,), (10,))], "c has nobody"
