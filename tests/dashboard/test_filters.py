"""Addresses of the list: what they ask for, and back."""

from __future__ import annotations

from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from core.dashboard.filters import Listing, address_of, choices
from core.store.browsing import SORTS, EntityQuery

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
axes = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
queries = st.builds(
    EntityQuery,
    names.map(str.strip),
    st.dictionaries(axes, names, max_size=3),
    st.sampled_from(SORTS),
    st.booleans(),
    st.integers(1, 999_999),
)


@given(queries)
def test_an_address_asks_for_what_it_was_made_from(query):
    address = Listing(query).address
    assert address.isascii()
    assert Listing.of(QueryParams(urlsplit(address).query)).query == query


def test_sorting_by_a_column_again_turns_it_round():
    listing = Listing.of(QueryParams("page=3&q=a"))
    assert listing.sorted_by("id") == "/dashboard/entities?q=a&sort=id"
    assert listing.sorted_by("value") == "/dashboard/entities?q=a&order=up"
    assert listing.on_page(1) == "/dashboard/entities?q=a"


def test_a_segment_has_an_address():
    address = address_of("segment", "A: b&c")
    assert address == "/dashboard/entities?in=segment%3AA%3A+b%26c"


def test_what_can_be_chosen_comes_in_the_order_of_the_board():
    found = choices(
        {"state": {"new": 1, "active": 5}, "extra_axis": {"x": 1}, "segment": {"A": 2}},
        {"segment": "Segment", "sub_segment": "Sub-segment", "state": "State"},
    )
    assert [(choice.name, choice.title) for choice in found] == [
        ("segment", "Segment"),
        ("state", "State"),
        ("extra_axis", "Extra axis"),
    ]
    assert found[1].segments == [("active", 5), ("new", 1)]
