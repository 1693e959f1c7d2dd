"""The movement ledger: per entity and month its segment, strength and model version.

One *block* holds one month as one model labels it. Every month begins with the block of
the model that serves when the month comes (role *serving*); a model published in that
month adds a block of its own on the same rows (role *published*). Blocks are only ever
added, and movement is read off them (`core.segments.transitions`).

Entities near a border change sides from month to month. Beside the raw ``segment`` a
block therefore carries a *settled* one, which lags on purpose:

- an entity settles in the first segment that holds it, at once;
- it moves when the same other segment holds it `confirm_months` months running;
- a month in which no segment holds it, a month at home or a month in a third segment
  breaks the run, and none of them moves it.

A segment *holds* those whom the model assigns to it with `confirm_strength` at least:
the others are as good as unassigned here.

A label looks at years, so it is late for an entity that takes up the behaviour of
another segment for good. Where its recent months show that beyond doubt
(`core.segments.changing`), it moves at once, and is remembered as moved by evidence:
labels of the segment that it left do not pull it back. The memory ends

- when a label agrees, or a third segment holds it for as long as a move takes;
- when the evidence turns, within the months that it looks at: then it goes back;
- after `MEMORY_MONTHS`, when labels have seen enough of the new behaviour.

A new model moves nobody by itself, but for entities whose settled segment it does not
have any more (merged into another, or died): these follow at once, to the segment that
holds them, else to the one that took over.

Months are those of the ledger: one that was never refreshed does not break a run. An
entity that is missing from a month starts anew when it comes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import polars as pl

from core.errors import ModelError, SchemaError, listed
from core.months import month_index
from core.segments.changing import RECENT_MONTHS
from core.segments.identity import IdentityEvent
from core.segments.published import UNASSIGNED

Role = Literal["serving", "published"]

LEDGER_SCHEMA: Final = pl.Schema(
    {
        "month": pl.String,
        "entity": pl.String,
        "segment": pl.Int32,
        "strength": pl.Float64,
        "version": pl.Int32,
        "role": pl.String,
        "settled": pl.Int32,
        "settled_since": pl.String,
        "candidate": pl.Int32,
        "candidate_months": pl.Int32,
        "sub_segment": pl.String,
        "state": pl.String,
        "changing": pl.String,
        "changing_to": pl.Int32,
        "changing_since": pl.String,
        "evidence_from": pl.Int32,
    }
)
"""Columns of a block, sorted by ``entity``.

``month``
    YYYY-MM.
``segment``, ``strength``
    What the model says: permanent id, -1 for none; 0 to 1.
``version``, ``role``
    Number of the model; ``serving`` or ``published``.
``settled``, ``settled_since``
    Confirmed segment, -1 while none ever held the entity, and the month of its
    confirmation (null with -1).
``candidate``, ``candidate_months``
    Another segment that is not confirmed yet, and its months running; -1 and 0 if none.
``sub_segment``, ``state``
    Within the segment that the model says, and in the life cycle; null where there is
    none.
``changing``, ``changing_to``, ``changing_since``
    What the entity is changing in (``segment``, ``up`` or ``down``), the segment that
    it goes to (with ``segment`` only) and the first month of it; null where it is not.
``evidence_from``
    Segment that it was taken out of by evidence rather than by labels; null where
    labels have settled it.
"""

MEMORY_MONTHS: Final = 24
"""Months for which a move by evidence is remembered."""

_ASSIGNED: Final = ("entity", "segment", "strength")
_TOLD: Final = ("sub_segment", "state")
# What blocks of earlier versions do not have.
_LATER: Final = tuple(LEDGER_SCHEMA)[10:]
_ROLES: Final = ("serving", "published")
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


def is_month(text: str) -> bool:
    """Return whether a text is a month as the ledger writes it, YYYY-MM."""
    return _MONTH.fullmatch(text) is not None


def complete_block(block: pl.DataFrame) -> pl.DataFrame:
    """Return a block that an earlier version wrote with all columns, null where new."""
    return _with_nulls(block, _LATER)


def _with_nulls(table: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return a table with columns that it does not have as nulls."""
    missing = [name for name in names if name not in table.columns]
    nulls = (pl.lit(None, dtype=LEDGER_SCHEMA[name]).alias(name) for name in missing)
    return table.with_columns(nulls)


def require_block(block: pl.DataFrame) -> pl.DataFrame:
    """Return a block with its columns in order, or say why it is none.

    Raises
    ------
    SchemaError
        If columns are missing, unknown or of another type, the block is empty or of
        several months, versions or roles, or an entity is in it twice.
    """
    wrong = [
        name for name, dtype in LEDGER_SCHEMA.items() if block.schema.get(name) != dtype
    ] + [name for name in block.columns if name not in LEDGER_SCHEMA]
    if wrong:
        raise SchemaError(
            "a ledger block has missing, unknown or differently typed columns: "
            f"{listed(wrong)}. Expected those of "
            "`core.segments.ledger.LEDGER_SCHEMA`, as `serving_block` writes them."
        )
    heads = block.select("month", "version", "role").unique()
    if heads.height != 1:
        raise SchemaError(
            f"a ledger block holds {heads.height:,} combinations of month, version and "
            "role; expected one. Give the blocks one by one."
        )
    head = heads.row(0, named=True)
    if not is_month(head["month"] or "") or head["role"] not in _ROLES:
        raise SchemaError(
            f"a ledger block is of the month `{head['month']}` and has the role "
            f"`{head['role']}`; expected YYYY-MM, and `serving` or `published`."
        )
    where = f"the rows of {head['month']}, version {head['version']},"
    _require_entities(block, where)
    return block.select(list(LEDGER_SCHEMA))


def assigned_rows(assigned: pl.DataFrame, month: str) -> pl.DataFrame:
    """Return ``entity``, ``segment``, ``strength`` and what goes with them.

    ``sub_segment`` and ``state`` may be missing, and are null then. The types are the
    ledger's.

    Raises
    ------
    SchemaError
        If one is missing, of an unfit type or null, there are no rows, an entity is in
        them twice, a segment is below -1 or a strength is not within 0 to 1.
    """
    missing = [name for name in _ASSIGNED if name not in assigned.columns]
    if missing:
        raise SchemaError(
            f"the assignments of {month} have no {listed(missing)}; expected the "
            f"columns {listed(_ASSIGNED)}. Rename the columns."
        )
    table = _with_nulls(assigned, _TOLD).select(*_ASSIGNED, *_TOLD)
    found = table.schema
    is_fit = (
        found["entity"] == pl.String
        and found["segment"].is_integer()
        and found["strength"].is_numeric()
        and all(found[name] in (pl.String, pl.Null) for name in _TOLD)
    )
    if not is_fit:
        types = ", ".join(f"`{name}`: {dtype}" for name, dtype in found.items())
        raise SchemaError(
            f"the assignments of {month} have the types {types}; expected text, whole "
            "numbers, numbers and text. Cast the columns."
        )
    _require_entities(table, f"the assignments of {month}")
    rows = table.cast({name: LEDGER_SCHEMA[name] for name in table.columns})
    strange = rows.filter(~pl.col("strength").is_between(0.0, 1.0))["strength"]
    if len(strange):
        raise SchemaError(
            f"the assignments of {month} have the strength {strange[0]} in "
            f"{len(strange):,} rows; expected 0 to 1. Give the model's own strengths."
        )
    return rows


def _require_entities(table: pl.DataFrame, where: str) -> None:
    """Raise unless every row is one entity's, with a segment and a strength."""
    if table.is_empty():
        raise SchemaError(f"{where} hold no entities; expected at least one.")
    for name in _ASSIGNED:
        n_null = table[name].null_count()
        if n_null:
            raise SchemaError(
                f"{where} have no `{name}` in {n_null:,} of {table.height:,} rows. "
                "Leave such rows out; the segment of the unassigned is -1."
            )
    twice = table.filter(pl.col("entity").is_duplicated())["entity"].unique().sort()
    if len(twice):
        raise SchemaError(
            f"{where} hold {len(twice):,} entities more than once: "
            f"{listed(twice.head(9).to_list(), limit=8)}. Keep one row of each."
        )
    strange = table.filter(pl.col("segment") < UNASSIGNED)["segment"]
    if len(strange):
        raise SchemaError(
            f"{where} have the segment {strange[0]} in {len(strange):,} rows; expected "
            "ids from 0, and -1 for the unassigned."
        )


def require_same_entities(one: pl.DataFrame, other: pl.DataFrame, month: str) -> None:
    """Raise unless two tables of one month are of the same entities.

    Raises
    ------
    SchemaError
        Naming entities that are in one of them only.
    """
    apart = set(one["entity"]) ^ set(other["entity"])
    if apart:
        raise SchemaError(
            f"{len(apart):,} entities are in one of two blocks of {month} only: "
            f"{listed(sorted(apart))}. Both models must label the same rows."
        )


_CHANGE: Final = ("changing", "changing_to", "changing_since")
_STATE: Final = (
    *("settled", "settled_since", "candidate", "candidate_months", "evidence_from"),
)


def known_by(
    assigned: pl.DataFrame, previous: pl.DataFrame | None, version: int
) -> pl.DataFrame:
    """Return the segment whose behaviour an entity is known to have had.

    Parameters
    ----------
    assigned, previous, version
        As for `serving_block`.

    Returns
    -------
    DataFrame
        ``entity``, in the order of `assigned`, and ``segment``: the one that it left
        where evidence has moved it, else the settled one, else that of its label; -1
        for none.
    """
    if previous is None:
        return assigned.select("entity", "segment")
    before = _block_before(previous, version)
    settled = pl.when(pl.col("settled") != UNASSIGNED).then("settled")
    left = before.select("entity", known=pl.coalesce("evidence_from", settled))
    return assigned.join(left, on="entity", how="left", maintain_order="left").select(
        "entity", segment=pl.coalesce("known", "segment")
    )


def serving_block(
    assigned: pl.DataFrame,
    month: str,
    version: int,
    previous: pl.DataFrame | None,
    confirm_months: int,
    confirm_strength: float = 0.0,
    changes: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Write down a new month as the serving model labels it.

    Parameters
    ----------
    assigned : DataFrame
        ``entity`` (once each), ``segment`` (permanent id, -1 for none) and ``strength``
        (0 to 1) of this month's entities, in any order; ``sub_segment`` and ``state``
        where they are known.
    month : str
        YYYY-MM.
    version : int
        Number of the serving model, from 1.
    previous : DataFrame or None
        The block, or all blocks, of the ledger's month before; None for a first month.
        Of several, the one of this `version` is gone on from, else the one published.
    confirm_months : int
        Months running in the same other segment after which an entity has moved; 1
        lets every assigned month decide.
    confirm_strength : float
        Strength, 0 to 1, from which a segment holds an entity.
    changes : DataFrame, optional
        ``entity`` (once each), ``changing``, ``changing_to`` and ``changing_since`` as
        the ledger has them; ``evidence``, the logarithm of the odds of the change, and
        ``is_clear``, whether it moves an entity by itself.

    Returns
    -------
    DataFrame
        With the columns of `LEDGER_SCHEMA`, sorted by ``entity``.

    Raises
    ------
    SchemaError
        If `assigned` or `previous` does not fit, or `previous` is not of an earlier
        month.
    ModelError
        If `month`, `version` or `confirm_months` cannot be.
    """
    _require_options(month, version, confirm_months)
    rows = assigned_rows(assigned, month)
    known = _state_before(previous, month, version)
    states = rows.join(known, on="entity", how="left").with_columns(
        pl.col("settled", "candidate").fill_null(UNASSIGNED),
        pl.col("candidate_months").fill_null(0),
    )
    if changes is not None:
        states = _follow_evidence(states.join(changes, on="entity", how="left"), month)
    confirm = confirm_months, confirm_strength
    settled = _settle(states, month, *confirm, counted=1)
    return _finished(settled, month, version, "serving")


def published_block(
    assigned: pl.DataFrame,
    serving: pl.DataFrame,
    version: int,
    ids: Mapping[int, int],
    confirm_months: int,
    confirm_strength: float = 0.0,
) -> pl.DataFrame:
    """Write down the same rows as a newly published model labels them.

    The month counts once: a candidate of the serving model that the new one has too
    keeps its months. An entity whose settled segment has ended goes to the segment
    of the new model that holds it, else to the one that took its own over.

    Parameters
    ----------
    assigned : DataFrame
        As for `serving_block`, of exactly the entities of `serving`.
    serving : DataFrame
        The block of the model before, of the same month.
    version : int
        Number of the published model; another than that of `serving`.
    ids : mapping of int to int
        Segments that have ended, with the one each was merged into, or -1 where it
        died; see `ended_ids`. All others live on.
    confirm_months : int
    confirm_strength : float
        As for `serving_block`.

    Returns
    -------
    DataFrame
        With the columns of `LEDGER_SCHEMA`, sorted by ``entity``.

    Raises
    ------
    SchemaError
        If a table does not fit or the entities differ.
    ModelError
        If an ended segment is one of the new model's, or an option cannot be.
    """
    before = require_block(serving)
    month = str(before["month"][0])
    _require_options(month, version, confirm_months)
    rows = assigned_rows(assigned, month)
    _require_other_model(before, rows, version)
    alive = {*rows["segment"].unique().to_list(), *ids.values()}
    revived = [str(old) for old in sorted(ids) if old in alive]
    if revived:
        raise ModelError(
            f"`ids` says that segment(s) {listed(revived)} ended, but version "
            f"{version} has them. Leave out of `ids` what lives on."
        )
    known = rows.join(before.select("entity", *_STATE, *_CHANGE), on="entity")
    states = _follow_identity(known, month, ids, confirm_strength)
    confirm = confirm_months, confirm_strength
    settled = _settle(states, month, *confirm, counted=0)
    return _finished(settled, month, version, "published")


def ended_ids(events: Iterable[IdentityEvent]) -> dict[int, int]:
    """Return the segments that ended with a change of the model, and who took over.

    Parameters
    ----------
    events : iterable of IdentityEvent
        Of one change of the model, as `core.segments.identity.match_segments` tells it:
        every segment of the new model is in one of them.

    Returns
    -------
    dict of int to int
        By ended id, ascending: the segment it was merged into (or the largest part of
        what it was split into, where that has another id), and -1 where it died.
    """
    told = [event for event in events if event.kind != "born"]
    heirs: dict[int, int] = {}
    for event in told:
        heir = UNASSIGNED if event.kind == "died" else event.new[0]
        for old in event.old:
            heirs.setdefault(old, heir)
    alive = {new for event in told if event.kind != "died" for new in event.new}
    return {old: heirs[old] for old in sorted(heirs) if old not in alive}


def _require_options(month: str, version: int, confirm_months: int) -> None:
    """Raise unless month, version and months of confirmation can be."""
    if not is_month(month):
        raise ModelError(f"the month is `{month}`; expected YYYY-MM, such as 2024-05.")
    for name, value in (("version", version), ("confirm_months", confirm_months)):
        if value < 1:
            raise ModelError(f"`{name}` is {value}; expected at least 1.")


def _state_before(
    previous: pl.DataFrame | None, month: str, version: int
) -> pl.DataFrame:
    """Return what was settled in the month before, by ``entity``."""
    if previous is None:
        return pl.DataFrame(schema={n: LEDGER_SCHEMA[n] for n in ("entity", *_STATE)})
    before = _block_before(previous, version)
    if before["month"][0] >= month:
        raise SchemaError(
            f"the ledger's previous block is of {before['month'][0]}, and the new one "
            f"of {month}; expected an earlier month. Give the last block before "
            f"{month}, and write no month twice."
        )
    return before.select("entity", *_STATE)


def _block_before(previous: pl.DataFrame, version: int) -> pl.DataFrame:
    """Return the block to go on from: this version's own, else what was published.

    After a rollback the version that serves again has a block in the month before, and
    the runs in it are its own.
    """
    keys = [name for name in ("version", "role") if name in previous.columns]
    if not keys or previous.is_empty():
        return require_block(previous)
    blocks = [
        require_block(block)
        for block in previous.partition_by(keys, maintain_order=True)
    ]
    months = {str(block["month"][0]) for block in blocks}
    if len(months) > 1:
        raise SchemaError(
            f"the previous blocks are of {listed(sorted(months))}; expected one month. "
            "Give the blocks of the last month only."
        )
    own = [block for block in blocks if block["version"][0] == version]
    published = [block for block in blocks if block["role"][0] == "published"]
    return (own or published or blocks)[-1]


def _require_other_model(
    before: pl.DataFrame, rows: pl.DataFrame, version: int
) -> None:
    """Raise unless another version labels exactly the entities of a block."""
    month = str(before["month"][0])
    if before["version"][0] == version:
        raise SchemaError(
            f"{month} is in the ledger with version {version} already; expected "
            "another version. Publish a model under a number of its own."
        )
    require_same_entities(before, rows, month)


def _holding(confirm_strength: float) -> pl.Expr:
    """Return the segment that holds an entity, -1 for none."""
    is_held = pl.col("strength") >= confirm_strength
    return pl.when(is_held).then(pl.col("segment")).otherwise(UNASSIGNED)


def _follow_identity(
    states: pl.DataFrame, month: str, ids: Mapping[int, int], confirm_strength: float
) -> pl.DataFrame:
    """Take entities out of segments that have ended, and rename their candidates."""
    ended, heirs = list(ids), [ids[old] for old in ids]
    label, settled = _holding(confirm_strength), pl.col("settled")
    heir = settled.replace(ended, heirs)
    home = (
        pl.when(~settled.is_in(ended))
        .then(settled)
        .when(label != UNASSIGNED)
        .then(label)
        .otherwise(heir)
    )
    return states.with_columns(
        settled=home,
        settled_since=_since(home, month),
        candidate=pl.col("candidate").replace(ended, heirs),
        evidence_from=_living("evidence_from", ended, heirs),
        changing_to=_living("changing_to", ended, heirs),
    )


def _living(column: str, ended: list[int], heirs: list[int]) -> pl.Expr:
    """Return the segments of a column, or who took them over; null for nobody."""
    living = pl.col(column).replace(ended, heirs)
    return pl.when(living != UNASSIGNED).then(living)


def _follow_evidence(states: pl.DataFrame, month: str) -> pl.DataFrame:
    """Move those whose change is beyond doubt, and back those whose evidence turns."""
    settled, left = pl.col("settled"), pl.col("evidence_from")
    is_moving = (
        pl.col("is_clear")
        & (settled != UNASSIGNED)
        & (settled != pl.col("changing_to"))
    ).fill_null(value=False)
    is_fresh = _months_settled(month) < RECENT_MONTHS
    is_back = (left.is_not_null() & (pl.col("evidence") < 0) & is_fresh).fill_null(
        value=False
    )
    home = (
        pl.when(is_moving)
        .then(pl.col("changing_to"))
        .when(is_back)
        .then(left)
        .otherwise(settled)
    )
    return states.with_columns(
        settled=home,
        settled_since=_since(home, month),
        evidence_from=pl.when(is_moving)
        .then(pl.coalesce(left, settled))
        .when(~is_back)
        .then(left),
    )


def _months_settled(month: str) -> pl.Expr:
    """Return for how many months an entity has been settled where it is."""
    since = pl.col("settled_since")
    year, number = (since.str.slice(*part).cast(pl.Int64) for part in ((0, 4), (5, 2)))
    return month_index(month) - (year * 12 + number - 1)


def _settle(
    states: pl.DataFrame,
    month: str,
    confirm_months: int,
    confirm_strength: float,
    counted: int,
) -> pl.DataFrame:
    """Apply one month's label to what was settled before.

    `counted` is what a label adds to the run of a candidate that is the same: 1 month,
    or 0 where the month has been counted.
    """
    said, settled = _holding(confirm_strength), pl.col("settled")
    is_remembered = _months_settled(month) < MEMORY_MONTHS
    left = pl.when(is_remembered).then("evidence_from")
    label = pl.when(said.eq_missing(left)).then(UNASSIGNED).otherwise(said)
    is_away = (label != UNASSIGNED) & (settled != UNASSIGNED) & (label != settled)
    is_same = label == pl.col("candidate")
    running = pl.when(is_same).then(pl.col("candidate_months") + counted).otherwise(1)
    is_first = (settled == UNASSIGNED) & (label != UNASSIGNED)
    is_waiting = is_away & (running < confirm_months)
    home = pl.when(is_first | (is_away & ~is_waiting)).then(label).otherwise(settled)
    return states.with_columns(
        settled=home,
        settled_since=_since(home, month),
        candidate=pl.when(is_waiting).then(label).otherwise(UNASSIGNED),
        candidate_months=pl.when(is_waiting).then(running).otherwise(0),
        evidence_from=pl.when((label != home) & (home == settled)).then(left),
    )


def _since(home: pl.Expr, month: str) -> pl.Expr:
    """Return since when an entity is settled where it is now, null for nowhere."""
    return (
        pl.when(home == UNASSIGNED)
        .then(pl.lit(None, dtype=pl.String))
        .when(home == pl.col("settled"))
        .then(pl.col("settled_since"))
        .otherwise(pl.lit(month))
    )


def _finished(
    states: pl.DataFrame, month: str, version: int, role: Role
) -> pl.DataFrame:
    """Return a block in the ledger's columns, types and order."""
    heads = {"month": month, "version": version, "role": role}
    return (
        complete_block(states)
        .with_columns(pl.lit(value).alias(name) for name, value in heads.items())
        .select(list(LEDGER_SCHEMA))
        .cast(LEDGER_SCHEMA)
        .sort("entity")
    )
