"""Who moved, and whether they or the model did: read off the blocks of the ledger.

Two blocks differ for one of two reasons, and these are never added up unseen:

- *real movement*: the same model on the data of another month;
- *model change*: another model on the same rows.

Going from month to month, the last block of the month before is compared with the first
of the new month where both are of one model. Where they are not (a rollback), a block
of the month before that is of the new one's model stands in between, if there is one:
back to it is model change, on from it is real movement. If there is none, the two
cannot be told apart, and everything counts as model change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from core.errors import SchemaError
from core.segments.ledger import require_block, require_same_entities

TRANSITIONS_SCHEMA: Final = pl.Schema(
    {
        "from": pl.Int32,
        "to": pl.Int32,
        "n": pl.Int64,
        "n_settled": pl.Int64,
    }
)
FLOW_SCHEMA: Final = pl.Schema(
    {
        "month": pl.String,
        "version": pl.Int32,
        "segment": pl.Int32,
        "stock": pl.Int64,
        "entered": pl.Int64,
        "left": pl.Int64,
        "moved_in": pl.Int64,
        "moved_out": pl.Int64,
        "model_in": pl.Int64,
        "model_out": pl.Int64,
    }
)
_FLOWS: Final = tuple(FLOW_SCHEMA)[4:]


def transitions(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Count how many entities went from which segment to which between two blocks.

    Parameters
    ----------
    before, after : DataFrame
        Blocks of `core.segments.ledger`.

    Returns
    -------
    DataFrame
        ``from``, ``to`` (ids; -1 for the unassigned; null `from` for entities that are
        only in `after`, null `to` for those only in `before`), ``n``, the entities by
        what the models say, and ``n_settled``, by settled segments. Each of the two
        adds up to the entities of both blocks together. Pairs with neither are left
        out; sorted, nulls last.

    Raises
    ------
    SchemaError
        If one of them is no block.

    Notes
    -----
    Between two months of one model this is real movement, between the two blocks of one
    month model change. The two counts differ in time as well: an entity settles months
    after the model has moved it.
    """
    pairs = _paired(require_block(before), require_block(after))
    said = _counted(pairs, "segment", "n")
    settled = _counted(pairs, "settled", "n_settled")
    return (
        said.join(
            settled, on=["from", "to"], how="full", coalesce=True, nulls_equal=True
        )
        .with_columns(pl.col("n", "n_settled").fill_null(0))
        .select(list(TRANSITIONS_SCHEMA))
        .cast(TRANSITIONS_SCHEMA)
        .sort("from", "to", nulls_last=True)
    )


def transitions_within(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Count who went from which sub-segment to which, staying in the same segment.

    Parameters
    ----------
    before, after : DataFrame
        Blocks of `core.segments.ledger`.

    Returns
    -------
    DataFrame
        ``from``, ``to`` (ids such as "2a"), ``n``; those included who stayed. Entities
        without a sub-segment in either block are left out, and so are those that the
        models put into another segment.
    """
    both = before.select("entity", "segment", pl.col("sub_segment").alias("from")).join(
        after.select("entity", "segment", pl.col("sub_segment").alias("to")),
        on=["entity", "segment"],
    )
    counts = both.drop_nulls(["from", "to"]).group_by("from", "to")
    return counts.agg(n=pl.len().cast(pl.Int64)).sort("from", "to")


def moved_within(blocks: Sequence[pl.DataFrame], confirm_months: int) -> pl.DataFrame:
    """Return who has moved to another sub-segment of the same segment, confirmed now.

    Parameters
    ----------
    blocks : sequence of DataFrame
        Of the ledger, in the order in which they were added, up to this month.
    confirm_months : int
        Months running in the same other sub-segment after which an entity has moved.

    Returns
    -------
    DataFrame
        ``entity``, ``from``, ``to``; by entity. Nobody where the model has changed in
        these months, or there are too few of them.
    """
    months = sorted({block["month"][0] for block in blocks})[-confirm_months - 1 :]
    serving = next(block for block in blocks if block["month"][0] == months[-1])
    own = {b["month"][0]: b for b in blocks if _is_one_model(b, serving)}
    if len(months) <= confirm_months or not own.keys() >= {*months}:
        return pl.DataFrame(schema=dict.fromkeys(("entity", "from", "to"), pl.String))
    first, *later = (
        own[month].select("entity", "segment", "sub_segment") for month in months
    )
    found = first.rename({"sub_segment": "from"})
    for place, block in enumerate(later):
        found = found.join(
            block.rename({"sub_segment": f"to_{place}"}), on=["entity", "segment"]
        )
    is_same = [pl.col(f"to_{place}") == pl.col("to_0") for place in range(len(later))]
    is_moved = (pl.col("from") != pl.col("to_0")) & pl.all_horizontal(is_same)
    return (
        found.filter(is_moved)
        .select("entity", "from", pl.col("to_0").alias("to"))
        .sort("entity")
    )


def moved(
    before: pl.DataFrame, after: pl.DataFrame, key: str, segment: str
) -> pl.DataFrame:
    """Return who is in another segment than before.

    Parameters
    ----------
    before, after : DataFrame
        With the columns `key`, who it is, and `segment`, where.
    key, segment : str

    Returns
    -------
    DataFrame
        `key`, ``old``, ``new``; in the order of `after`. Who is in only one of the two
        has not moved.
    """
    then = before.select(key, pl.col(segment).alias("old"))
    both = after.join(then, on=key, maintain_order="left")
    is_elsewhere = pl.col("old") != pl.col(segment)
    return both.filter(is_elsewhere).select(key, "old", pl.col(segment).alias("new"))


def stock_and_flow(blocks: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Say month by month how many entities each segment has, and where from and to.

    Parameters
    ----------
    blocks : sequence of DataFrame
        Of the ledger, in the order in which they were added: months ascend, and within
        a month the serving model's block comes first.

    Returns
    -------
    DataFrame
        One row per month and segment (-1, the unassigned, is one), by month and
        segment: ``month``, the ``version`` it ended with, ``segment``, ``stock`` at its
        end, and the counts of entities that ``entered`` or ``left`` the ledger, that
        moved by themselves (``moved_in``, ``moved_out``) and that a change of the model
        put elsewhere (``model_in``, ``model_out``). Exactly::

            stock = stock of the month before + entered - left
                    + moved_in - moved_out + model_in - model_out

        A segment without a row in a month has neither stock nor flow in it. In the
        first month everybody has entered.

    Raises
    ------
    SchemaError
        If a block is none, they are out of order, or blocks of one month share a
        version or are not of the same entities.
    """
    months = _by_month(blocks)
    if not months:
        return pl.DataFrame(schema=FLOW_SCHEMA)
    ends = [month[-1] for month in months]
    stocks = pl.concat(
        end.group_by("month", "segment").agg(stock=pl.len().cast(pl.Int64))
        for end in ends
    )
    versions = pl.concat(end.select("month", "version").head(1) for end in ends)
    flows = pl.concat(
        [_flows(before, after, month) for before, after, month in _steps(months)],
        how="diagonal",
    )
    empty = pl.DataFrame(schema=FLOW_SCHEMA).drop("version")
    return (
        pl.concat([empty, flows, stocks], how="diagonal")
        .group_by("month", "segment")
        .agg(pl.col("stock", *_FLOWS).sum())
        .join(versions, on="month")
        .select(list(FLOW_SCHEMA))
        .cast(FLOW_SCHEMA)
        .sort("month", "segment")
    )


def comparable_block(
    earlier: Sequence[pl.DataFrame], block: pl.DataFrame
) -> pl.DataFrame | None:
    """Return the block from which a new month's first one shows real movement only.

    Parameters
    ----------
    earlier : sequence of DataFrame
        All blocks of the month before, in the order in which they were added.
    block : DataFrame
        The serving model's block of the new month.

    Returns
    -------
    DataFrame or None
        The block of `earlier` that is of the same version; None if there is none.
    """
    own = [known for known in earlier if _is_one_model(known, block)]
    return own[-1] if own else None


def _by_month(blocks: Sequence[pl.DataFrame]) -> list[list[pl.DataFrame]]:
    """Return checked blocks, those of one month together."""
    months: list[list[pl.DataFrame]] = []
    for block in map(require_block, blocks):
        month = block["month"][0]
        last = months[-1][-1]["month"][0] if months else ""
        if month < last:
            raise SchemaError(
                f"the ledger's block of {month} comes after one of {last}; expected "
                "ascending months. Sort the blocks as they were added."
            )
        if month > last:
            months.append([block])
            continue
        _require_next(months[-1], block)
        months[-1].append(block)
    return months


def _require_next(earlier: Sequence[pl.DataFrame], block: pl.DataFrame) -> None:
    """Raise unless a block may follow others of its month."""
    month, version, role = block.select("month", "version", "role").row(0)
    if any(known["version"][0] == version for known in earlier):
        raise SchemaError(
            f"{month} is in the ledger twice with version {version}; expected one "
            "block of a month and version. Give every block once."
        )
    if role != "published":
        raise SchemaError(
            f"the ledger's block of {month}, version {version}, has the role "
            f"`{role}` and is not the first of its month; expected `published`. Put "
            "the serving block first."
        )
    require_same_entities(earlier[0], block, str(month))


def _steps(
    months: Sequence[Sequence[pl.DataFrame]],
) -> Iterator[tuple[pl.DataFrame | None, pl.DataFrame, str]]:
    """Yield what is compared: block before, block after, month it counts for."""
    last: pl.DataFrame | None = None
    earlier: Sequence[pl.DataFrame] = ()
    for blocks in months:
        month = str(blocks[0]["month"][0])
        own = comparable_block(earlier, blocks[0])
        if own is not None and own is not last:
            yield last, own, month
            last = own
        for block in blocks:
            yield last, block, month
            last = block
        earlier = blocks


def _is_one_model(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    return bool(one["version"][0] == other["version"][0])


def _paired(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Return one row per entity of either block, null where it is in the other only."""
    columns = ("entity", "segment", "settled")
    return before.select(columns).join(
        after.select(columns), on="entity", how="full", suffix="_after"
    )


def _counted(pairs: pl.DataFrame, column: str, count: str) -> pl.DataFrame:
    """Count entities by segment before and after."""
    return pairs.group_by(
        pl.col(column).alias("from"), pl.col(f"{column}_after").alias("to")
    ).agg(pl.len().cast(pl.Int64).alias(count))


def _flows(
    before: pl.DataFrame | None, after: pl.DataFrame, month: str
) -> pl.DataFrame:
    """Return ``month, segment`` and counts of flows, in several rows per segment."""
    kind = "moved" if before is not None and _is_one_model(before, after) else "model"
    start = after.clear() if before is None else before
    counts = _counted(_paired(start, after), "segment", "n")
    is_new, is_gone = pl.col("from").is_null(), pl.col("to").is_null()
    has_changed = pl.col("from") != pl.col("to")
    parts = (
        (is_new, "to", "entered"),
        (is_gone, "from", "left"),
        (has_changed, "to", f"{kind}_in"),
        (has_changed, "from", f"{kind}_out"),
    )
    rows = [
        counts.filter(condition).select(
            pl.lit(month).alias("month"),
            pl.col(side).alias("segment"),
            pl.col("n").alias(flow),
        )
        for condition, side, flow in parts
    ]
    return pl.concat(rows, how="diagonal")
