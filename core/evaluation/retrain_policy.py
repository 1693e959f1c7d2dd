"""When to retrain: a state machine that is fed one drift report a month.

::

                   a month with an alert              the same kind of alert
                   (or a cycle that lost lift)        `months_running` months running
       +--------+ ------------------------> +----------+ --------------> +-------------+
       | steady |                           | watching |                 | recalibrate |
       +--------+ <------------------------ +----------+ <-------------- +-------------+
            ^       a month without any            another kind alerts, this one not  |
            |                                                                         |
            +-------------------------------------------------------------------------+
                     a month without any, or a new model has been published

Kinds of alerts are *drift* (features, reconstruction error, share of the unassigned:
the model knows this data less well) and *share* (the size of a segment). A run is
counted per kind. With `months_running` = 1 a single month leads from steady to
recalibrate.

Lift is read out in cycles of its own (experiments), so a month without a readout
neither adds to the run of a segment nor ends it; `LIFT_SEGMENTS` segments that each
lost theirs in `LIFT_CYCLES` readouts running lead to recalibrate, too.

``recalibrate`` is a recommendation: it stands as long as its reason does. A month seen
before changes nothing, so that a refresh can be repeated, and a gap between months ends
the runs of alerts: nobody knows what was in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core.errors import ModelError
from core.evaluation.drift import DriftReport
from core.months import month_index

AlertKind = Literal["drift", "share"]
StateName = Literal["steady", "watching", "recalibrate"]
LIFT_CYCLES = 2
LIFT_SEGMENTS = 2
MONTHS_KEPT = 24
_MONTH = r"^\d{4}-(0[1-9]|1[0-2])$"
_KINDS: dict[str, AlertKind] = {
    "feature": "drift",
    "reconstruction": "drift",
    "unassigned": "drift",
    "share": "share",
}


class AlertMonth(BaseModel):
    """Kinds of alerts in one month.

    Attributes
    ----------
    month : str
        ``YYYY-MM``.
    kinds : tuple of {'drift', 'share'}
    alerts : tuple of str
        In words, as the drift report has them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    month: str = Field(pattern=_MONTH)
    kinds: tuple[AlertKind, ...]
    alerts: tuple[str, ...]


class TriggerState(BaseModel):
    """State of the retrain policy, stored from month to month as JSON.

    Attributes
    ----------
    state : {'steady', 'watching', 'recalibrate'}
    month : str or None
        Last month looked at; None before the first.
    since : str or None
        Month in which `state` was entered.
    months_running : dict of {'drift', 'share'} to int
        Months running up to `month` with that kind of alert; a kind without is absent.
    lift_cycles : dict of int to int
        Readouts running in which a segment lost its lift; one that did not is absent.
    reasons : tuple of str
        Why retraining is recommended, in words; empty in the other states.
    history : tuple of AlertMonth
        The months with alerts, oldest first, at most the last 24.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    state: StateName = "steady"
    month: str | None = Field(None, pattern=_MONTH)
    since: str | None = Field(None, pattern=_MONTH)
    months_running: dict[AlertKind, int] = Field(default_factory=dict)
    lift_cycles: dict[int, int] = Field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    history: tuple[AlertMonth, ...] = ()

    @property
    def is_due(self) -> bool:
        """Whether retraining is recommended."""
        return self.state == "recalibrate"


def step(
    state: TriggerState,
    month: str,
    report: DriftReport,
    months_running: int = 2,
    lift_lost: Mapping[int, bool] | None = None,
    names: Mapping[int, str] | None = None,
) -> TriggerState:
    """Return the state after one more month.

    Parameters
    ----------
    state : TriggerState
        After the month before; ``TriggerState()`` at the start.
    month : str
        ``YYYY-MM``.
    report : DriftReport
        Of this month.
    months_running : int, default 2
        Months with the same kind of alert after which retraining is recommended.
    lift_lost : mapping of int to bool, optional
        By segment, whether a readout of this month found the KPI's lift lost. Segments
        that are not named had no readout.
    names : mapping of int to str, optional
        Names of segments by id, for the reasons; where there is none, the id.

    Returns
    -------
    TriggerState
        The same where `month` was the last one looked at.

    Raises
    ------
    ModelError
        If `month` is none, or lies before the last one looked at.
    """
    if month == state.month:
        return state
    gap = _months_since(state.month, month)
    kinds = alert_kinds(report)
    runs = {k: 1 + (state.months_running.get(k, 0) if gap == 1 else 0) for k in kinds}
    lift = lift_cycles(state.lift_cycles, lift_lost or {})
    reasons = _reasons(runs, lift, months_running, names or {})
    name: StateName = (
        "recalibrate" if reasons else "watching" if runs or lift else "steady"
    )
    found = AlertMonth(month=month, kinds=tuple(kinds), alerts=tuple(report.alerts))
    history = (*state.history, found) if kinds else state.history
    return TriggerState(
        state=name,
        month=month,
        since=state.since if name == state.state and state.since else month,
        months_running=runs,
        lift_cycles=lift,
        reasons=reasons,
        history=history[-MONTHS_KEPT:],
    )


def after_publishing(state: TriggerState, month: str) -> TriggerState:
    """Start again with a model that was published in `month`.

    Its own training month is its reference: that month is not looked at again.

    Parameters
    ----------
    state : TriggerState
        As `step` has left it.
    month : str
        ``YYYY-MM``, the last month looked at or a later one.

    Raises
    ------
    ModelError
        If `month` is none, or lies before the last one looked at.
    """
    if month != state.month:
        _months_since(state.month, month)
    return TriggerState(month=month, since=month, history=state.history)


def alert_kinds(report: DriftReport) -> list[AlertKind]:
    """Return which kinds of alert, *drift* and *share*, a report has."""
    found = {_KINDS[kind] for kind in report.alert_kinds}
    return sorted(found)


def _months_since(last: str | None, month: str) -> int:
    """Return how many months have passed; 1 where none was looked at before."""
    if not re.match(_MONTH, month):
        raise ModelError(f"the month is `{month}`; expected YYYY-MM, such as 2024-05.")
    if last is None:
        return 1
    gap = month_index(month) - month_index(last)
    if gap < 0:
        raise ModelError(
            f"the month {month} comes after {last}, which was looked at already; "
            "months must ascend. Refresh with a later month."
        )
    return gap


def lift_cycles(runs: Mapping[int, int], lost: Mapping[int, bool]) -> dict[int, int]:
    """Return the readouts running without lift by segment, after one more cycle.

    Parameters
    ----------
    runs : mapping of int to int
        Those before it; a segment that did not lose its lift is absent.
    lost : mapping of int to bool
        Of the segments that the cycle read out.
    """
    merged = dict(runs) | {
        i: runs.get(i, 0) + 1 for i, is_lost in lost.items() if is_lost
    }
    regained = {i for i, is_lost in lost.items() if not is_lost}
    return {i: merged[i] for i in sorted(merged) if i not in regained}


def _reasons(
    runs: Mapping[AlertKind, int],
    lift: Mapping[int, int],
    months_running: int,
    names: Mapping[int, str],
) -> tuple[str, ...]:
    """Return in words what recommends retraining."""
    what = {
        "drift": "the data has moved away from the training month",
        "share": "the sizes of segments have shifted",
    }
    reasons = [
        f"{what[kind]}: {n} month{'s' if n > 1 else ''} running"
        for kind, n in runs.items()
        if n >= months_running
    ]
    lost = [names.get(i, str(i)) for i, n in lift.items() if n >= LIFT_CYCLES]
    if len(lost) >= LIFT_SEGMENTS:
        reasons.append(
            f"the lift of segments {', '.join(lost)} was lost in {LIFT_CYCLES} or more "
            "readouts running"
        )
    return tuple(reasons)


def why_retrain(retrain: str, trigger: TriggerState) -> str | None:
    """Return the reason to retrain, as a sentence; None where there is none."""
    if retrain == "never" or (retrain == "policy" and not trigger.is_due):
        return None
    if retrain == "policy":
        reasons = "; ".join(trigger.reasons)
        return f"Retraining was due: {reasons}."
    return "Retraining was requested."
