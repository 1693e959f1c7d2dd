"""Sub-segments keep their letters and names as long as their segment lives."""

import numpy as np
import pytest
from pydantic import ValidationError

from core.segments.published import (
    PublishedSegments,
    Segment,
    SegmentTable,
    first_version,
    next_version,
    reserve_ids,
    restore_version,
)
from core.segments.within import (
    Division,
    division,
    letters,
    letters_number,
    matched_letters,
    relettered,
)

VERDICT = {"kind": "reproducible", "is_certified": False, "basis": {}}
SHARES = 0.7, 0.3


def labels_of(*runs):
    """Return an array of labels from (label, number of rows)."""
    return np.concatenate([np.full(n, label) for label, n in runs])


def divided(parent, labels, *names):
    given = dict(enumerate(names))
    return division(parent, "rules", labels, 100, given, method="tree", reason="so")


def parts_of(found):
    return {part.id: part.name for part in found.segments}


OLD = labels_of((0, 30), (1, 20))
GROWING = divided(2, OLD, "Growing", "Steady")


def after(before, old, new, *names):
    """Divide the same segment by another model."""
    numbers = matched_letters(before, old, new, *SHARES)
    kept = {part.number: part.name for part in before.segments}
    called = {p: kept.get(n, names[p]) for p, n in numbers.items()}
    return relettered(divided(2, new, *names), 2, before, numbers, called)


def test_letters_go_on_after_z():
    assert [letters(n) for n in (0, 25, 26, 701, 702)] == ["a", "z", "aa", "zz", "aaa"]
    assert all(letters_number(letters(n)) == n for n in range(1_000))


def test_parts_have_letters_by_size_and_shares_of_all():
    assert parts_of(GROWING) == {"2a": "Growing", "2b": "Steady"}
    assert [part.share for part in GROWING.segments] == [0.3, 0.2]
    assert (GROWING.kind, GROWING.next_letter) == ("rules", 2)


def test_a_part_that_continues_keeps_letter_and_name_and_no_letter_comes_twice():
    # The larger one splits in three, none of which is it; the smaller one stays.
    new = labels_of((1, 10), (2, 10), (3, 10), (0, 20))
    second = after(GROWING, OLD, new, "a", "b", "c", "d")
    assert parts_of(second)["2b"] == "Steady"
    assert len(parts_of(second)) == 4
    # All of it is gone but one part: the letters of the others are not used again.
    numbers = {part.cluster: part.number for part in second.segments}
    labels = np.array([numbers[cluster] for cluster in new])
    third = after(second, labels, labels_of((2, 15), (1, 15), (0, 20)), "x", "y", "z")
    assert parts_of(third)["2b"] == "Steady"
    fresh = set(parts_of(third)) - set(parts_of(second))
    assert all(letters_number(i[1:]) >= second.next_letter for i in fresh)
    assert third.next_letter >= second.next_letter


def published(*divisions):
    """Return a first version of segments of 50 with these divisions."""
    segments = [
        Segment(id=i, name=f"Name {i}", kind="partition", size=50, share=0.5,
                cluster=i, division=found)
        for i, found in enumerate(divisions)
    ]  # fmt: skip
    table = SegmentTable(kind="partition", segments=segments)
    return first_version(table, VERDICT, "0123456789ab")


def test_a_segment_that_is_left_whole_for_a_time_gives_out_no_letter_twice():
    from core.segments.identity import Identity

    first = published(divided(0, OLD, "Growing", "Steady"), None)
    table = published(None, None)
    same = Identity({0: 0, 1: 1}, (), 2)
    whole = next_version(first, table, same, first.names, first.verdict)
    assert whole.segments[0].parts == ()
    kept = whole.segments[0].division
    assert kept.next_letter == 2
    again = after(kept, labels_of((-1, 50)), OLD, "Up", "Down")
    assert parts_of(again) == {"2c": "Up", "2d": "Down"}
    # Where its segment is gone, nothing is kept: ids of segments are not reused.
    other = Identity({0: 2, 1: 1}, (), 3)
    born = next_version(first, table, other, {0: "New", 1: "Name 1"}, first.verdict)
    assert [s.division for s in born.segments] == [None, None]


def test_going_back_keeps_names_given_since_and_letters_used():
    first = published(divided(0, OLD, "Growing", "Steady"), None)
    part = (
        first.segments[0]
        .parts[1]
        .model_copy(update={"name": "Growing", "is_edited": True})
    )
    later = first.segments[0].division.model_copy(
        update={"segments": (part,), "next_letter": 9}
    )
    now = first.model_copy(
        update={
            "segments": (
                first.segments[0].model_copy(update={"division": later}),
                first.segments[1],
            )
        }
    )
    back = restore_version(first, now)
    assert parts_of(back.segments[0].division) == {"0a": "Growing 2", "0b": "Growing"}
    assert back.segments[0].division.next_letter == 9
    assert reserve_ids(first, [now]).segments[0].division.next_letter == 9
    assert PublishedSegments.model_validate_json(back.model_dump_json()) == back


def test_files_of_before_sub_segments_are_read():
    found = published(None, None)
    values = found.model_dump(mode="json")
    for segment in values["segments"]:
        del segment["division"]
    assert PublishedSegments.model_validate(values) == found
    assert found.parts == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"next_letter": 1}, "letters must ascend, below the next one"),
        ({"segments": GROWING.segments[::-1]}, "letters must ascend"),
        ({"segments": GROWING.segments[:1] * 2}, "letters must ascend"),
        ({"segments": GROWING.segments[1:]}, "numbered from 0"),
    ],
)
def test_what_is_no_division_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Division.model_validate({**GROWING.model_dump(), **changes})


def test_a_part_of_another_segment_is_refused():
    with pytest.raises(ValidationError, match="has the id of another segment"):
        published(GROWING, None)
