"""The pages: what each shows, and the templates that it fills."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from core.dashboard import charts
from core.dashboard.filters import Choice, Listing, address_of, choices, in_words
from core.dashboard.session import Transport
from core.errors import PROGRAM
from core.reporting.board import Board, BoardAxis, BoardSegment
from core.reporting.page import Templates
from core.reporting.text import MISSING, count, decimal, plural, share
from core.store.browsing import EntityPage, StoredEntity

# Nothing of a customer is kept by the browser, and no error stays unseen.
_HTMX = json.dumps(
    {
        "allowEval": False,
        "allowScriptTags": False,
        "historyCacheSize": 0,
        "includeIndicatorStyles": False,
        "refreshOnHistoryMiss": True,
        "selfRequestsOnly": True,
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "[23]..", "swap": True},
            {
                "code": "[45]..",
                "swap": True,
                "error": True,
                "target": "main",
                "select": "main",
                "swapOverride": "outerHTML",
            },
        ],
    }
)
_HERE = Path(__file__).parent
_TEMPLATES = Templates(_HERE / "templates")

NO_PAGE = "There is no such page."
STALE_FORM = "This form is no longer valid. Please try again."
WRONG_KEY = "This key is wrong, or it has been revoked."
OUTAGE = "The database is away. Reload the page in a moment."
LAYOUT_FAULT = (
    "The tables of the database are not those of this version. The log of the service "
    "says what is missing."
)
STATE, SUB = "state", "sub_segment"
# Above this many axes the overview names them, and their pages show how they move.
MAX_AXES_IN_FULL = 3
_MAX_COLUMNS = 4
_FIRST_FILTERS = 4
_PERIODS_OFFERED = 24
# What the number is that entities are sorted by; the store calls it `lifetime_value`.
_VALUE_TITLES = {"retailers": "Sales, last 12 months"}


@dataclass(frozen=True)
class Viewer:
    """Who is looking, and at what.

    Attributes
    ----------
    store_id : str
        That the key opens.
    token : str
        For the form to sign out.
    board : Board or None
        None where nothing was published, or without one.
    distribution : mapping of axis to mapping of segment to int
        How many entities are in each.
    """

    store_id: str
    token: str
    board: Board | None
    distribution: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def entity(self) -> str:
        """One of those that are segmented."""
        return self.board.entity if self.board else "customer"

    @property
    def entities(self) -> str:
        """Many of them."""
        return f"{self.entity}s"

    @property
    def value_title(self) -> str:
        """What the store's `lifetime_value` is of these."""
        system = self.board.system if self.board else ""
        return _VALUE_TITLES.get(system, "Lifetime value")

    @property
    def facts(self) -> list[str]:
        """What stands below every page."""
        board, told = self.board, []
        if board is not None:
            told += [board.title, f"data until {board.as_of}"]
            told += [f"run of {board.created[:10]}"] if board.created else []
        return [*told, f"store {self.store_id}"] if self.store_id else told

    @property
    def titles(self) -> dict[str, str]:
        """What each axis is called, those with segments first; the state last."""
        axes = self.board.axes if self.board else []
        # As many have one group only on most axes, which says nothing of anybody.
        ordered = sorted(axes, key=lambda axis: _n_groups(axis) <= 1)
        titles = {axis.name: axis.title for axis in ordered}
        return {**titles, SUB: "Sub-segment", STATE: "State"}


class Assets(NamedTuple):
    """The files beside the pages, by names that change with what is in them.

    Attributes
    ----------
    css, js, icon : str
        Names.
    files : mapping of str to (str, bytes)
        Media type and content by name.
    styles : str
        The style sheet, for a page that stands alone.
    """

    css: str
    js: str
    icon: str
    files: Mapping[str, tuple[str, bytes]]
    styles: str


@functools.cache
def assets() -> Assets:
    """Return the files that the pages need."""
    styles = _TEMPLATES.page("dashboard.css")
    content = {
        "dashboard.css": ("text/css; charset=utf-8", styles.encode()),
        "htmx.min.js": (
            "text/javascript; charset=utf-8",
            (_HERE / "static" / "htmx.min.js").read_bytes(),
        ),
        "icon.svg": ("image/svg+xml", (_HERE / "static" / "icon.svg").read_bytes()),
    }
    names = {
        name: f"{hashlib.sha256(data).hexdigest()[:12]}-{name}"
        for name, (_, data) in content.items()
    }
    files = {names[name]: told for name, told in content.items()}
    css, js, icon = names.values()
    return Assets(css, js, icon, files, styles)


def _filled(template: str, viewer: Viewer | None, **values: Any) -> str:
    """Fill a page's template; `charts` and addresses are at hand in all of them."""
    return _TEMPLATES.page(
        template,
        viewer=viewer,
        assets=assets(),
        address_of=address_of,
        place_of=place_of,
        line=charts.line,
        in_words=in_words,
        amount=amount,
        htmx_config=_HTMX,
        **{"is_file": False, **values},
    )


def place_of(axis: BoardAxis, segment: BoardSegment) -> tuple[str, str]:
    """Return by which axis and name the store knows those in a segment."""
    if segment.parent is None:
        return axis.name, segment.name
    return SUB, f"{segment.id} {segment.name}"


def login(token: str, said: str, transport: Transport) -> str:
    """Return the form to sign in, with what was wrong the time before."""
    return _filled(
        "login.html.j2",
        None,
        token=token,
        said=said,
        transport=transport,
        program=PROGRAM,
    )


def problem(said: str) -> str:
    """Return a page that says what went wrong."""
    return _filled("problem.html.j2", None, said=said)


def once_more(address: str) -> str:
    """Return a page that asks for another one of ours."""
    return _filled("once_more.html.j2", None, address=address)


@dataclass(frozen=True)
class Movement:
    """How the segments of one axis, or the states, grow, shrink and exchange.

    Attributes
    ----------
    name, title : str
        Of the axis.
    periods : list of str
        That tell sizes.
    sizes : list of Columns
    chart : Flows or None
        Of the period that was asked for, or the newest.
    offered : list of str
        Periods that tell flows, the newest first.
    """

    name: str
    title: str
    periods: list[str]
    sizes: list[charts.Columns]
    chart: charts.Flows | None
    offered: list[str]


def movement(board: Board, name: str, title: str, period: str) -> Movement | None:
    """Return how an axis moves; None where there is nothing to tell.

    Parameters
    ----------
    board : Board
    name, title : str
        Of the axis; ``state`` for the life cycle.
    period : str
        Whose flows are wanted; any other text: the newest's.
    """
    offered = charts.flow_periods(board.flows, name)
    shown = period if period in offered else "".join(offered[:1])
    chart = charts.flow_chart(board.flows, name, shown, f"{board.entity}s")
    sizes = charts.sizes_over_time(board.periods, name)
    periods = charts.periods_of(board.periods, name)
    # One period is what the table of the segments says already.
    if len(periods) < 2:
        sizes = []
    if not sizes and chart is None:
        return None
    return Movement(name, title, periods, sizes, chart, offered[:_PERIODS_OFFERED])


def overview(viewer: Viewer, period: str = "") -> str:
    """Return the first page."""
    if viewer.board is None:
        return _filled("empty.html.j2", viewer, program=PROGRAM, here="overview")
    return _filled(
        "overview.html.j2",
        viewer,
        board=viewer.board,
        movements=_movements(viewer.board, period),
        is_brief=len(viewer.board.axes) > MAX_AXES_IN_FULL,
        moved=_moved(viewer.board),
        divided=[axis for axis in viewer.board.axes if _n_groups(axis) > 1],
        undivided=[axis for axis in viewer.board.axes if _n_groups(axis) <= 1],
        here="overview",
    )


def _n_groups(axis: BoardAxis) -> int:
    """Return how many groups an axis tells apart; who is not placed is none."""
    return sum(s.parent is None and s.id != "-1" for s in axis.segments)


def _moved(board: Board) -> dict[str, str]:
    """Return how many entities moved on each axis in its newest period."""
    told = {}
    for axis in board.axes:
        for period in charts.flow_periods(board.flows, axis.name)[:1]:
            n = charts.n_moved(board.flows, axis.name, period)
            told[axis.name] = f"{period}: {plural(n, board.entity)} moved"
    return told


def exported(board: Board) -> str:
    """Return the overview with all axes as one page that stands alone."""
    return _filled(
        "overview.html.j2",
        Viewer("", "", board),
        board=board,
        movements=_movements(board, "", everything=True),
        is_brief=False,
        here="overview",
        is_file=True,
    )


def _movements(
    board: Board, period: str, *, everything: bool = False
) -> list[Movement]:
    is_brief = len(board.axes) > MAX_AXES_IN_FULL and not everything
    axes = {} if is_brief else {axis.name: axis.title for axis in board.axes}
    named = {**axes, STATE: "State"}
    found = (movement(board, name, title, period) for name, title in named.items())
    return [moved for moved in found if moved is not None]


def axis(viewer: Viewer, shown: BoardAxis, period: str) -> str:
    """Return the page of one axis."""
    board = viewer.board
    assert board is not None  # the axis is of it
    return _filled(
        "axis.html.j2",
        viewer,
        axis=shown,
        rules=[rule for rule in board.rules if rule[0] in _names(shown.segments)],
        movements=[
            moved
            for moved in [movement(board, shown.name, shown.title, period)]
            if moved is not None
        ],
        here=f"axis {shown.name}",
    )


def _names(segments: Sequence[BoardSegment]) -> set[str]:
    return {segment.name for segment in segments}


def entities(viewer: Viewer, listing: Listing, found: EntityPage) -> str:
    """Return a page of the list of entities that was asked for."""
    filters = choices(viewer.distribution, viewer.titles)
    known = {choice.name: choice.title for choice in filters}
    wanted = listing.query.segments
    columns = dict.fromkeys([*(axis for axis in wanted if axis in known)])
    columns |= dict.fromkeys(_common(filters))
    return _filled(
        "entities.html.j2",
        viewer,
        listing=listing,
        query=listing.query,
        found=found,
        filters=filters[:_FIRST_FILTERS],
        more=filters[_FIRST_FILTERS:],
        is_more_chosen=any(
            choice.name in wanted for choice in filters[_FIRST_FILTERS:]
        ),
        columns={name: known[name] for name in list(columns)[:_MAX_COLUMNS]},
        here="entities",
    )


def _common(filters: Sequence[Choice]) -> list[str]:
    """Return the axes that have something to say of half of all entities or more."""
    sizes = {choice.name: sum(n for _, n in choice.segments) for choice in filters}
    most = max(sizes.values(), default=0)
    return [name for name, n in sizes.items() if 2 * n >= most]


def entity(viewer: Viewer, found: StoredEntity) -> str:
    """Return the page of one entity."""
    titles, profile = viewer.titles, found.profile
    places = [
        Place(
            axis,
            titles.get(axis) or in_words(axis),
            segment,
            found.strengths.get(axis),
            found.runner_ups.get(axis, ""),
        )
        for axis, segment in found.segments.items()
    ]
    places.sort(key=lambda place: [*titles, place.axis].index(place.axis))
    figures = {
        viewer.value_title: amount(profile.lifetime_value),
        "Orders": count(profile.total_orders),
        "Average order": amount(profile.avg_order_value),
        "Days since the last": count(profile.days_since_last_purchase),
        "Days since the first": count(profile.customer_tenure_days),
        "Risk of leaving": share(profile.churn_risk_score),
    }
    return _filled(
        "entity.html.j2",
        viewer,
        found=found,
        places=places,
        figures=[(name, text) for name, text in figures.items() if text != MISSING],
        actions=_actions(viewer.board, found.segments),
        titles=titles,
        here="entities",
    )


class Place(NamedTuple):
    """Where an entity is on one axis."""

    axis: str
    title: str
    segment: str
    strength: float | None
    runner_up: str


def _actions(board: Board | None, segments: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the first suggestion of each segment that an entity is in."""
    return [
        (segment.name, segment.actions[0])
        for axis in (board.axes if board else [])
        for segment in axis.segments
        if segment.actions and place_of(axis, segment) in segments.items()
    ]


def amount(value: float | None) -> str:
    """Return an amount, whole from 100 on.

    >>> amount(1234.5), amount(7.5)
    ('1,234', '7.50')
    """
    if value is None or abs(value) < 100:
        return decimal(value)
    return count(value)
