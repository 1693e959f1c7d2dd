"""The list of entities: what its address asks for, and the addresses of its links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from core.store.browsing import SORTS, EntityQuery, Sort

ENTITIES = "/dashboard/entities"
_MAX_SEARCH = 200
_MAX_PAGE = 1_000_000
_DEFAULT: Sort = "value"
# Names are sorted upwards first, figures downwards.
_IS_DESCENDING: Mapping[Sort, bool] = {"id": False, "value": True, "strength": True}


@dataclass(frozen=True)
class Listing:
    """The list that an address asks for.

    Attributes
    ----------
    query : EntityQuery
    """

    query: EntityQuery = field(
        default_factory=lambda: EntityQuery(sort=_DEFAULT, is_descending=True)
    )

    @classmethod
    def of(cls, asked: QueryParams) -> Listing:
        """Return what an address asks for; what it says wrongly is left out.

        ``q`` is a part of the id, ``in`` an axis and a segment (``state:active``), once
        or more often, ``sort`` one of `SORTS`, ``order`` `up` or `down`, ``page`` a
        number from 1.
        """
        told = [text.partition(":") for text in asked.getlist("in")]
        sort = next((known for known in SORTS if known == asked.get("sort")), _DEFAULT)
        order, page = asked.get("order"), asked.get("page", "")
        is_number = page.isascii() and page.isdigit() and len(page) < 8
        return cls(
            EntityQuery(
                asked.get("q", "").strip()[:_MAX_SEARCH],
                {axis: segment for axis, _, segment in told if segment},
                sort,
                order == "down" if order in {"up", "down"} else _IS_DESCENDING[sort],
                min(max(int(page), 1), _MAX_PAGE) if is_number else 1,
            )
        )

    @property
    def address(self) -> str:
        """Address of the list, without what is the default."""
        query = self.query
        told = [("q", query.search)] if query.search else []
        told += [("in", f"{axis}:{name}") for axis, name in query.segments.items()]
        if query.sort != _DEFAULT:
            told.append(("sort", query.sort))
        if query.is_descending != _IS_DESCENDING[query.sort]:
            told.append(("order", "down" if query.is_descending else "up"))
        if query.page > 1:
            told.append(("page", str(query.page)))
        return f"{ENTITIES}?{urlencode(told)}" if told else ENTITIES

    def on_page(self, page: int) -> str:
        """Return the address of another page."""
        return Listing(replace(self.query, page=page)).address

    def sorted_by(self, sort: Sort) -> str:
        """Return the address sorted by a column, the other way round if it is so."""
        query = self.query
        down = not query.is_descending if sort == query.sort else _IS_DESCENDING[sort]
        return Listing(replace(query, sort=sort, is_descending=down, page=1)).address


def address_of(axis: str, segment: str) -> str:
    """Return the address of the list of those in a segment."""
    query = replace(Listing().query, segments={axis: segment})
    return Listing(query).address


class Choice(NamedTuple):
    """An axis that the list can be filtered by, with its segments and their sizes."""

    name: str
    title: str
    segments: list[tuple[str, int]]


def choices(
    distribution: Mapping[str, Mapping[str, int]], titles: Mapping[str, str]
) -> list[Choice]:
    """Return what the list can be filtered by.

    Parameters
    ----------
    distribution : mapping of axis to mapping of segment to int
        As `core.store.store.store_statistics` has it.
    titles : mapping of axis to str
        For people, in the order wanted.
    """
    names = dict.fromkeys([*titles, *distribution])
    return [
        Choice(
            name,
            titles.get(name) or in_words(name),
            sorted(distribution[name].items(), key=lambda item: (-item[1], item[0])),
        )
        for name in names
        if name in distribution
    ]


def in_words(name: str) -> str:
    """Return a name of ours for people.

    >>> in_words("sub_segment")
    'Sub segment'
    """
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]
