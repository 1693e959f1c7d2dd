"""Shops to look at after a refresh: moved, changing, lapsed, back or new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from core.retailers.refresh.month import ScoredMonth
from core.segments.published import UNASSIGNED
from core.segments.states import LAPSED
from core.segments.transitions import moved, moved_within

CHANGES: Final = (
    *("moved", "changing", "sells less", "sells more"),
    *("lapsed", "came back", "new"),
)
_WAYS: Final = {"segment": "changing", "down": "sells less", "up": "sells more"}
WORKLIST_SCHEMA: Final = pl.Schema(
    {
        "shop_id": pl.String,
        "change": pl.String,
        "from": pl.String,
        "to": pl.String,
        "since": pl.String,
        "sales_12_months": pl.Float64,
        "against_past": pl.Float64,
        "evidence": pl.Float64,
    }
)
"""Columns of `shops_to_see`.

``change``
    `moved`: into another segment or sub-segment, confirmed in this month. `changing`:
    its last months follow another segment, in which it is not confirmed yet. `sells
    less`, `sells more`: lastingly, than its own past foretells. `lapsed`, `came back`:
    since the month before, by its own rhythm. `new`: has a place in the ledger for the
    first time.
``from``, ``to``
    Ids as text, `-1` for the unassigned; null where there is none.
``since``
    First month of a change, YYYY-MM; of a lapsed shop its last month with a sale.
``sales_12_months``
    Units of the last 12 months.
``against_past``, ``evidence``
    As `core.retailers.refresh.changing.changing_shops` tells them; null where a label
    alone has moved the shop, and of other changes.
"""


def moves_of(blocks: Sequence[pl.DataFrame], confirm_months: int) -> pl.DataFrame:
    """Return who has moved to another segment or sub-segment, as confirmed now.

    Parameters
    ----------
    blocks : sequence of DataFrame
        Of the ledger, in the order in which they were added.
    confirm_months : int
        Months running that confirm a move to another sub-segment.

    Returns
    -------
    DataFrame
        ``entity``, ``from``, ``to`` (ids as text), ``month``.
    """
    now = blocks[-1]
    before = _month_before(blocks)
    over = moved(now if before is None else before, now, "entity", "settled").select(
        "entity",
        pl.col("old").cast(pl.String).alias("from"),
        pl.col("new").cast(pl.String).alias("to"),
    )
    return pl.concat([over, moved_within(blocks, confirm_months)]).with_columns(
        month=pl.lit(now["month"][0])
    )


def shops_to_see(
    scored: ScoredMonth,
    blocks: Sequence[pl.DataFrame],
    changing: pl.DataFrame | None,
    confirm_months: int,
) -> pl.DataFrame:
    """Return the shops that somebody should look at.

    Parameters
    ----------
    scored : ScoredMonth
        By the model that served when the month came.
    blocks : sequence of DataFrame
        Of the ledger, up to the one of that model in this month: what a new model
        changes is no doing of the shops.
    changing : DataFrame or None
        `core.retailers.refresh.changing.changing_shops`.
    confirm_months : int
        As for `moves_of`.

    Returns
    -------
    DataFrame
        `WORKLIST_SCHEMA`, a row per shop and change, in the order of `CHANGES`, the
        largest sales first. Nobody has moved or is new in the first month of a ledger.
    """
    found = [
        _moved(moves_of(blocks, confirm_months), changing),
        _changing(changing),
        _lapsed_and_back(scored, blocks),
        _new(scored, blocks),
    ]
    rows = pl.concat([table for table in found if table is not None], how="diagonal")
    columns = [
        pl.col(name).cast(dtype)
        if name in rows.columns
        else pl.lit(None, dtype).alias(name)
        for name, dtype in WORKLIST_SCHEMA.items()
        if name != "sales_12_months"
    ]
    return (
        rows.select(columns)
        .join(scored.sales, on="shop_id", how="left")
        .with_columns(pl.col("sales_12_months").fill_null(0.0))
        .select(list(WORKLIST_SCHEMA))
        .sort(
            pl.col("change").cast(pl.Enum(CHANGES)),
            *("sales_12_months", "shop_id"),
            descending=[False, True, False],
        )
    )


def _month_before(blocks: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
    """Return the last block of the month before the last one."""
    month = blocks[-1]["month"][0]
    earlier = [block for block in blocks if block["month"][0] < month]
    return earlier[-1] if earlier else None


def _moved(moves: pl.DataFrame, changing: pl.DataFrame | None) -> pl.DataFrame:
    """Return who has moved between segments, with the evidence where that moved it."""
    none = str(UNASSIGNED)
    rows = moves.filter((pl.col("from") != none) & (pl.col("to") != none)).select(
        "from", "to", shop_id="entity", change=pl.lit("moved")
    )
    if changing is None:
        return rows
    clear = changing.filter("has_moved").select(
        "since", "against_past", "evidence", shop_id="entity"
    )
    return rows.join(clear, on="shop_id", how="left")


def _changing(changing: pl.DataFrame | None) -> pl.DataFrame | None:
    """Return who is changing and has not been moved for it."""
    if changing is None:
        return None
    return changing.filter(~pl.col("has_moved")).select(
        "since",
        "against_past",
        "evidence",
        pl.col("entity").alias("shop_id"),
        pl.col("changing")
        .replace_strict(_WAYS, return_dtype=pl.String)
        .alias("change"),
        pl.col("segment").cast(pl.String).alias("from"),
        pl.col("candidate").cast(pl.String).alias("to"),
    )


def _lapsed_and_back(
    scored: ScoredMonth, blocks: Sequence[pl.DataFrame]
) -> pl.DataFrame:
    """Return who has lapsed since the month before, and who came back."""
    before = _month_before(blocks)
    homes = blocks[-1].clear() if before is None else before
    then = scored.states_before.select("shop_id", then="state")
    both = scored.states.select("shop_id", now="state").join(then, on="shop_id")
    is_then, is_now = pl.col("then") == LAPSED, pl.col("now") == LAPSED
    lapses = pl.when(is_now & ~is_then).then(pl.lit("lapsed"))
    change = lapses.when(is_then & ~is_now).then(pl.lit("came back"))
    rows = both.select("shop_id", change=change).drop_nulls("change")
    last_sale = scored.exclusions.select("shop_id", since="last_month")
    lapsed = (
        rows.filter(change="lapsed")
        .join(_places(homes, "from"), on="shop_id", how="left")
        .join(last_sale, on="shop_id", how="left")
    )
    back = rows.filter(change="came back").join(
        _places(blocks[-1], "to"), on="shop_id", how="left"
    )
    return pl.concat([lapsed, back], how="diagonal")


def _new(scored: ScoredMonth, blocks: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
    """Return who is in the ledger now, was not the month before, and never lapsed."""
    before = _month_before(blocks)
    if before is None:
        return None
    lapsed = scored.states_before.filter(state=LAPSED).select("shop_id")
    return (
        _places(blocks[-1], "to")
        .join(before.select(shop_id="entity"), on="shop_id", how="anti")
        .join(lapsed, on="shop_id", how="anti")
        .with_columns(change=pl.lit("new"))
    )


def _places(block: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the segment of every shop: the settled one, or else its label."""
    settled = pl.col("settled")
    place = pl.when(settled == UNASSIGNED).then("segment").otherwise(settled)
    return block.select(place.cast(pl.String).alias(name), shop_id="entity")
