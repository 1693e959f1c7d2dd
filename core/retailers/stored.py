"""What a store is told of a run: profiles of shops, their moves, and the board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, NamedTuple

import polars as pl

from core.artifacts.reading import ArtifactSet
from core.errors import PROGRAM, ArtifactError
from core.reporting.board import (
    BOARD,
    Board,
    BoardAxis,
    BoardDrift,
    BoardFlow,
    BoardPeriod,
    BoardSegment,
    drift_words,
    model_change,
)
from core.reporting.text import count, plural, rounded
from core.retailers.features import SHOP
from core.retailers.history import STATE_HISTORY
from core.retailers.model import published_segments
from core.retailers.names import feature_label
from core.retailers.refresh.month import (
    ledger_blocks,
    read_drift,
    read_state_flows,
)
from core.retailers.report.board import SEGMENT, SYSTEM
from core.retailers.shop_files import SHOPS
from core.retailers.states import flows_of_month, state_counts
from core.segments.published import (
    UNASSIGNED,
    UNASSIGNED_NAME,
    PublishedSegments,
    Segment,
)
from core.segments.states import STATES
from core.segments.transitions import moved
from core.segments.within import SubSegment

SUB_SEGMENT, STATE, REASON = "sub_segment", "state", "reason"
"""The other axes of a shop's profile."""
NOT_SEGMENTED: Final = "not segmented"
MONTHS, DRIFTS = 24, 20
"""Months whose sizes and flows are told, and rows of drift."""


class StoredRun(NamedTuple):
    """What a store takes in of a run.

    Attributes
    ----------
    version : int
    lineage : str
    profiles, moves : DataFrame
        As `core.store.store.Store.publish` takes them; moves are all that are known.
    board : Board
    axes : list of dict
        What the HTTP API tells of the segments, see `core.api.schemas.AxisOut`.
    """

    version: int
    lineage: str
    profiles: pl.DataFrame
    moves: pl.DataFrame
    board: Board
    axes: list[dict[str, Any]]


def stored_run(base: ArtifactSet) -> StoredRun:
    """Collect what a store is told of a complete run, and of its refreshes.

    Raises
    ------
    ArtifactError
        If an earlier version has made the run, or a file is missing or has changed.
    """
    if SHOPS not in base.manifest.files:
        raise ArtifactError(
            f"`{base.folder}` holds no `{SHOPS}`: an earlier version has made it. Run "
            f"`{PROGRAM} infer` to write it."
        )
    published, shops = published_segments(base), base.table(SHOPS)
    past = _Past.of(base, shops)
    moves = past.moves(published)
    return StoredRun(
        base.manifest.version,
        base.manifest.lineage,
        shop_profiles(shops, published),
        moves,
        _board(base, published, shops, past, moves),
        [_api_axis(base, published)],
    )


def shop_profiles(shops: pl.DataFrame, published: PublishedSegments) -> pl.DataFrame:
    """Return the profiles of shops, eligible or not.

    Parameters
    ----------
    shops : DataFrame
        `core.retailers.shop_files.SHOPS_SCHEMA`.
    published : PublishedSegments

    Returns
    -------
    DataFrame
        As `core.store.store.Store.publish` takes it. The axes are ``segment``,
        ``sub_segment`` (id and name), ``state`` and, of shops that were not eligible,
        ``reason``; `dominant_segments` has the ids. A segment's strength is 1 where it
        holds a shop by a partition or rules, 0 where none holds it; `lifetime_value`
        are the sales of the last 12 months.
    """
    parts = {part.id: f"{part.id} {part.name}" for part in published.parts.values()}
    segment, names = pl.col("segment"), published.names
    is_placed = segment.fill_null(UNASSIGNED) != UNASSIGNED
    strength = pl.when(is_placed).then(pl.col("strength").fill_null(1.0)).otherwise(0.0)
    part, state = pl.col("sub_segment"), pl.col("state")
    return shops.select(
        customer_id="shop_id",
        segment_memberships=pl.struct(
            _named(segment, names).fill_null(NOT_SEGMENTED).alias(SEGMENT),
            _named(part, parts).alias(SUB_SEGMENT),
            state.alias(STATE),
            pl.col("reason").alias(REASON),
        ),
        dominant_segments=pl.struct(
            segment.cast(pl.String).alias(SEGMENT),
            part.alias(SUB_SEGMENT),
            state.alias(STATE),
        ),
        membership_strengths=pl.struct(
            strength.alias(SEGMENT),
            pl.when(part.is_not_null()).then(strength).alias(SUB_SEGMENT),
        ),
        runner_up_segments=pl.struct(
            _named(pl.col("nearest_segment"), names).alias(SEGMENT)
        ),
        confidence=strength,
        lifetime_value=pl.col(SHOP.size_column),
    )


def _named(ids: pl.Expr, names: Mapping[Any, str]) -> pl.Expr:
    return ids.replace_strict(names, default=None, return_dtype=pl.String)


Month = tuple[str, pl.DataFrame]
_MOVES: Final = ("customer_id", "run", "axis", "old", "new", "cause")


@dataclass(frozen=True)
class _Past:
    """How the shops of a run came to be where they are.

    Attributes
    ----------
    blocks : list of DataFrame
        Of the ledger; none before the first refresh.
    states : list of (str, DataFrame)
        Months, ascending, and ``shop_id, state``: the looks back before the first
        refresh, then the months of the ledger with those that were eligible; of
        `month` all shops.
    flows : DataFrame
        Of states by month, `core.retailers.states.FLOWS_SCHEMA`: of all shops where
        refreshes have recorded them, else of those known at both of two looks back.
    month : str
        That the shops are told of: the last one of the ledger, or the training month
        where the training data was labelled since.
    """

    blocks: list[pl.DataFrame]
    states: list[Month]
    flows: pl.DataFrame
    month: str

    @classmethod
    def of(cls, base: ArtifactSet, shops: pl.DataFrame) -> _Past:
        """Read what a run has recorded; `shops` are all of now."""
        blocks = ledger_blocks(base)
        now = shops.select("shop_id", "state")
        flows = read_state_flows(base)
        trained: str = base.manifest.facts("prepare")["as_of"]
        if blocks:
            named = pl.col("entity").alias("shop_id")
            months = {b["month"][0]: b.select(named, "state") for b in blocks}
            is_refreshed = base.manifest.files[SHOPS].stage == "refresh"
            month = max(months) if is_refreshed else trained
            months[month] = now
            return cls(blocks, sorted(months.items()), flows, month)
        states = [*_looks_back(base), (trained, now)]
        told = [
            flows_of_month(month, before, after)
            for (_, before), (month, after) in pairwise(states)
        ]
        flows = pl.concat([flows, *told]).drop_nulls("from")
        return cls([], states, flows, trained)

    def moves(self, published: PublishedSegments) -> pl.DataFrame:
        """Return who changed segment or state in which month.

        Segments are the settled ones; states those of shops known in both of two
        months that follow each other.
        """
        names = {i: f"segment {i}" for b in self.blocks for i in b["settled"].unique()}
        names |= {UNASSIGNED: UNASSIGNED_NAME} | published.names
        found = [pl.DataFrame(schema=dict.fromkeys(_MOVES, pl.String))]
        for before, after in pairwise(self.blocks):
            over = moved(before, after, "entity", "settled").select(
                pl.col("entity").alias("shop_id"),
                *(_named(pl.col(side), names).alias(side) for side in ("old", "new")),
            )
            is_same = before["version"][0] == after["version"][0]
            cause = "behaviour" if is_same else "model"
            found.append(_rows(over, after["month"][0], SEGMENT, cause))
        for (_, then), (month, now) in pairwise(self.states):
            over = moved(then, now, "shop_id", "state")
            found.append(_rows(over, month, STATE, "behaviour"))
        return pl.concat(found)

    def periods(
        self, published: PublishedSegments, shops: pl.DataFrame
    ) -> list[BoardPeriod]:
        """Return sizes and states by month, as far as they are known."""
        versions, sizes = {self.month: published.version}, {}
        for block in self.blocks:  # the last one of a month counts
            month = block["month"][0]
            versions[month], sizes[month] = block["version"][0], block["segment"]
        sizes[self.month] = shops["segment"].drop_nulls()
        recorded = self.flows if self.blocks else self.flows.clear()
        states = {
            month: {
                state: int(own.filter(to=state)["n_shops"].sum()) for state in STATES
            }
            for (month,), own in recorded.group_by("month")
        }
        states[self.month] = state_counts(shops)
        names = published.names
        periods = []
        for month in sorted({*sizes, *states})[-MONTHS:]:
            own = (
                {
                    names.get(segment, f"segment {segment}"): n
                    for segment, n in sizes[month].value_counts(sort=True).iter_rows()
                }
                if month in sizes
                else {}
            )
            known = {SEGMENT: own} if own else {}
            periods.append(
                BoardPeriod(month, versions.get(month), known, states.get(month, {}))
            )
        return periods

    def board_flows(self, moves: pl.DataFrame) -> list[BoardFlow]:
        """Return flows between segments and between states, the last months' alone.

        As in a refresh, whom another model puts elsewhere has not moved, nor who was
        in no segment before.
        """
        over = (
            moves.filter(axis=SEGMENT, cause="behaviour")
            .filter(pl.col("old") != UNASSIGNED_NAME)
            .group_by("run", "old", "new")
            .agg(n=pl.len())
            .sort("run", "n", "old", "new", descending=[False, True, False, False])
        )
        found = [BoardFlow(SEGMENT, *row) for row in over.iter_rows()]
        changed = self.flows.filter(pl.col("from").ne_missing(pl.col("to")))
        told = changed.with_columns(pl.col("from").fill_null("")).sort("month")
        found += [BoardFlow(STATE, *row) for row in told.iter_rows()]
        shown = sorted({flow.period for flow in found})[-MONTHS:]
        return [flow for flow in found if flow.period in shown]


def _looks_back(base: ArtifactSet) -> list[Month]:
    """Return the states at the dates looked back to, if all shops were looked at."""
    facts = base.manifest.facts("prepare")
    is_whole = facts["n_shops"] <= base.manifest.config.evaluation.max_shops
    if STATE_HISTORY not in base.manifest.files or not is_whole:
        return []
    history = base.table(STATE_HISTORY)
    months = history["as_of"].unique().sort().to_list()
    return [(m, history.filter(as_of=m).select("shop_id", "state")) for m in months]


def _rows(over: pl.DataFrame, month: str, axis: str, cause: str) -> pl.DataFrame:
    """Return moves as the store takes them."""
    heads = {"run": month, "axis": axis, "cause": cause}
    named = over.rename({"shop_id": "customer_id"})
    return named.with_columns(pl.lit(v).alias(k) for k, v in heads.items()).select(
        pl.col(name).cast(pl.String) for name in _MOVES
    )


def _board(
    base: ArtifactSet,
    published: PublishedSegments,
    shops: pl.DataFrame,
    past: _Past,
    moves: pl.DataFrame,
) -> Board:
    """Return the report's board with the shops of now, and how they came there."""
    board = Board(SYSTEM, "Retailer segments", SHOP.noun, "", "", "", [])
    if BOARD in base.manifest.files:
        board = Board.from_json(base.read(BOARD))
    n_segmented = int(shops["segment"].is_not_null().sum())
    reasons = shops["reason"].drop_nulls().value_counts(sort=True)
    return replace(
        board,
        as_of=past.month,
        headline=f"{count(n_segmented)} of {plural(shops.height, SHOP.noun)} could be "
        "segmented",
        tiles=_tiles(published, shops),
        axes=[_axis(board, published, shops)],
        periods=past.periods(published, shops),
        flows=past.board_flows(moves),
        drift=_drift(read_drift(base), published),
        notes=[
            *_model_change(moves, past.month),
            *(
                f"Not segmented: {plural(n, SHOP.noun)}, {reason}."
                for reason, n in reasons.iter_rows()
            ),
        ],
    )


def _model_change(moves: pl.DataFrame, month: str) -> list[str]:
    """Say whom a new model has put elsewhere in a month, if there was one."""
    n = moves.filter(axis=SEGMENT, cause="model", run=month).height
    return [model_change(plural(n, SHOP.noun))] if n else []


def _tiles(published: PublishedSegments, shops: pl.DataFrame) -> list[tuple[str, str]]:
    """Return how many shops there are, what they sold, and where they stand."""
    states = state_counts(shops)
    return [
        (SHOP.plural.capitalize(), count(shops.height)),
        ("Segments", count(published.n_segments)),
        ("Sales of the last 12 months", rounded(float(shops[SHOP.size_column].sum()))),
        *((state.capitalize(), count(n)) for state, n in states.items() if n),
    ]


def _axis(board: Board, published: PublishedSegments, shops: pl.DataFrame) -> BoardAxis:
    """Return the segments with the shops of now, the largest first."""
    said = {own.id: own for axis in board.axes for own in axis.segments}
    sizes = {
        key: (n, value)
        for column in ("segment", "sub_segment")
        for key, n, value in shops.drop_nulls(column)
        .group_by(pl.col(column).cast(pl.String))
        .agg(pl.len(), pl.col("share_of_sales").sum())
        .iter_rows()
    }
    n_segmented = max(int(shops["segment"].count()), 1)
    is_known = shops["share_of_sales"].count() > 0

    def now(own: Segment | SubSegment, parent: str | None = None) -> BoardSegment:
        key = str(own.id)
        n, value = sizes.get(key, (0, 0.0))
        return replace(
            said.get(key, BoardSegment(key, own.name, 0, 0.0, parent, own.kind)),
            n=n,
            share=n / n_segmented,
            value_share=float(value) if is_known else None,
        )

    groups = [
        [now(own), *(now(part, str(own.id)) for part in own.parts)]
        for own in published.segments
    ]
    groups.sort(key=lambda group: (group[0].id == str(UNASSIGNED), -group[0].n))
    segments = [own for group in groups for own in group]
    if board.axes:
        return replace(board.axes[0], segments=segments)
    return BoardAxis(SEGMENT, "Segments", segments)


def _drift(
    drift: pl.DataFrame | None, published: PublishedSegments
) -> list[BoardDrift]:
    """Return the largest changes of the last month, alerts first."""
    if drift is None:
        return []
    order = (pl.col("value") / pl.col("threshold")).fill_nan(0)
    shown = drift.filter(month=pl.col("month").max()).sort(
        "is_alert", order, descending=True, nulls_last=True
    )
    return [
        BoardDrift(
            what=_what(row, published.names),
            value=rounded(row["value"]),
            words=drift_words(row["threshold"], is_alert=row["is_alert"]),
            is_alert=row["is_alert"],
        )
        for row in shown.head(DRIFTS).to_dicts()
    ]


def _what(row: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """Return what a row of drift is about."""
    if row["kind"] == "feature":
        return f"{feature_label(row['name']).name} ({row['statistic'].upper()})"
    if row["kind"] != "share":
        return str(row["name"])
    since = {"difference": "training", "step": "the month before"}[row["statistic"]]
    segment = names.get(int(row["name"]), f"segment {row['name']}")
    return f"Share of {segment} since {since}"


def _api_axis(base: ArtifactSet, published: PublishedSegments) -> dict[str, Any]:
    """Return the segments as the API tells of an axis."""
    return {
        "name": SEGMENT,
        "group": published.kind,
        "description": published.verdict.meaning(SHOP),
        "features": base.manifest.facts("prepare")["features"],
        "skipped_features": {},
        "segments": [
            {"id": own.id, "name": own.name, "share": own.share}
            for own in published.segments
        ],
    }
