"""What a refresh has to tell, gathered for its page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from core.evaluation.triggers import TriggerState
from core.inference import Model
from core.refresh.retraining import Refit
from core.refresh.scoring import ScoredMonth
from core.reporting.decision import Decision, RefreshFacts
from core.segments.movement import transitions
from core.segments.published import UNASSIGNED


def facts_of_month(
    scored: ScoredMonth,
    version: int,
    refit: Refit | None,
    trigger: TriggerState,
    alerts: Sequence[str],
    blocks: Sequence[pl.DataFrame],
    names: Mapping[str, str],
) -> RefreshFacts:
    """Put together what is told of a month.

    Parameters
    ----------
    scored : ScoredMonth
        By the model that served when it came.
    version : int
        Of that model.
    refit : Refit or None
        None where nothing was learnt.
    trigger : TriggerState
        After the month.
    alerts : sequence of str
        Of its drift.
    blocks : sequence of DataFrame
        Of the ledger, this month's and the ones before.
    names : mapping of str to str
        Of all segments before and after, by id.
    """
    n_unassigned = int((scored.labels["segment"] == UNASSIGNED).sum())
    moved, entered, left = moves_in(scored.month, blocks)
    decision: Decision = "recommended" if trigger.is_due else "kept"
    reason = " ".join(f"{text[:1].upper()}{text[1:]}." for text in trigger.reasons)
    gate = None
    if refit is not None:
        decision, reason, gate = refit.decision, refit.reason, refit.gate
    return RefreshFacts(
        month=scored.month,
        decision=decision,
        reason=reason,
        version=version,
        published=refit.version if refit is not None else None,
        n_assigned=scored.labels.height - n_unassigned,
        n_unassigned=n_unassigned,
        n_not_eligible=scored.exclusions.height,
        n_moved=moved,
        n_entered=entered,
        n_left=left,
        state=trigger.state,
        alerts=list(alerts),
        events=[e.model_dump() for e in refit.events] if refit is not None else [],
        gate=[row.model_dump() for row in gate.decision.rows] if gate else [],
        breaches=[breach.message for breach in gate.breaches] if gate else [],
        names=names,
    )


def unchanged_facts(
    month: str, version: int, reason: str, trigger: TriggerState
) -> RefreshFacts:
    """Put together what is told where no month was new."""
    return RefreshFacts(
        month=month,
        decision="unchanged",
        reason=reason,
        version=version,
        published=None,
        n_assigned=0,
        n_unassigned=0,
        n_not_eligible=0,
        n_moved=None,
        n_entered=None,
        n_left=None,
        state=trigger.state,
        alerts=[],
        events=[],
        gate=[],
        breaches=[],
        names={},
    )


def names_of(models: Sequence[Model]) -> dict[str, str]:
    """Return the names of the segments of models by id, the last model's first."""
    return {
        str(segment.id): segment.name
        for model in models
        for segment in model.segments.published.segments
        if segment.id != UNASSIGNED
    }


def moves_in(
    month: str, blocks: Sequence[pl.DataFrame]
) -> tuple[int | None, int | None, int | None]:
    """Return how many shops moved, entered and left in a month; None in the first."""
    months = [block["month"][0] for block in blocks]
    before = [b for b, at in zip(blocks, months, strict=True) if at < month]
    if not before or month not in months:
        return None, None, None
    table = transitions(before[-1], blocks[months.index(month)])
    both = table.drop_nulls(["from", "to"]).filter(pl.col("from") != UNASSIGNED)
    moved = both.filter(pl.col("from") != pl.col("to"))["n_settled"].sum()
    entered = table.filter(pl.col("from").is_null())["n"].sum()
    left = table.filter(pl.col("to").is_null())["n"].sum()
    return int(moved), int(entered), int(left)
