"""What is watched from month to month, and when the thresholds are to be learnt anew.

Alerts are those of `core.evaluation.axes_drift`, at its limits: PSI and
Kolmogorov-Smirnov of the features that the rules divide by, and the share of every
segment, against the customers that the thresholds were learnt from; beside them the
share against the month before, unless it goes back to where it was. What follows from
alerts that hold, and from lift that experiments find lost, is the project's policy
(`core.evaluation.retrain_policy`). Its state is among the facts of every run, so a run
goes on from the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from itertools import groupby
from typing import Any, Final

import polars as pl

from core.artifacts.reading import ArtifactSet
from core.artifacts.runs import PROFILES
from core.baskets.files import FILES, HISTORY
from core.errors import listed
from core.evaluation.axes_drift import FEATURES, SHARE_SHIFT, share_limit
from core.evaluation.drift import DRIFT_ROWS, FLOORS, DriftReport
from core.evaluation.experiment_readout import read_lifts
from core.evaluation.retrain_policy import (
    LIFT_CYCLES,
    LIFT_SEGMENTS,
    TriggerState,
    after_publishing,
    lift_cycles,
    step,
)
from core.segments.rule_axis import SEGMENT

MONTHS_RUNNING: Final = 2
TRIGGERS: dict[str, Any] = {
    "trigger": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "months_running": pl.Int64,
    "status": pl.String,
    "action": pl.String,
}
_STATISTICS = {"psi": "PSI", "ks": "Kolmogorov-Smirnov"}


@dataclass(frozen=True)
class Shares:
    """How customers divided into segments in a run.

    Attributes
    ----------
    shares : dict of str to float
        By the name of the segment.
    n : int
        Customers.
    """

    shares: dict[str, float]
    n: int

    @classmethod
    def of(cls, profiles: pl.DataFrame, names: Mapping[int, str]) -> Shares:
        """Return those of a run's profiles."""
        ids = profiles["segment_ids"].struct.field(SEGMENT)
        counts = dict(ids.value_counts(normalize=True).iter_rows())
        return cls({name: counts.get(i, 0.0) for i, name in names.items()}, len(ids))


@dataclass(frozen=True)
class Monitoring:
    """What one month has shown.

    Attributes
    ----------
    month : str
        YYYY-MM.
    table : DataFrame
        Columns `TRIGGERS`. `status`: ``steady``, ``alert``, ``recalibrate``, or ``not
        known`` where there is nothing to compare with.
    state : TriggerState
    learnt : str
        Month in which the thresholds were learnt.
    lines : list of str
    """

    month: str
    table: pl.DataFrame
    state: TriggerState
    learnt: str
    lines: list[str]

    @property
    def facts(self) -> dict[str, Any]:
        """What the next run goes on from, ready for JSON."""
        return {"trigger": self.state.model_dump(mode="json"), "learnt": self.learnt}

    def history(self, before: ArtifactSet | None) -> pl.DataFrame:
        """Return this month's triggers below those of the months before.

        Parameters
        ----------
        before : ArtifactSet, optional
            The set of the run before; a user may have deleted its history.
        """
        own = self.table.select(pl.lit(self.month).alias("month"), *TRIGGERS)
        path = None if before is None else before.output(HISTORY)
        if path is None:
            return own
        earlier = pl.read_csv(path, schema=own.schema, glob=False)
        return pl.concat([earlier.filter(pl.col("month") < self.month), own])


def month_of(reference_date: datetime) -> str:
    """Return the month that ends with a moment, which is not in it any more."""
    return f"{reference_date - timedelta(microseconds=1):%Y-%m}"


def monitor(
    drift: pl.DataFrame,
    month: str,
    now: Shares,
    before: Shares | None = None,
    known: Mapping[str, Any] | None = None,
    lifts: pl.DataFrame | None = None,
    names: Mapping[int, str] | None = None,
    *,
    is_learnt: bool = False,
) -> Monitoring:
    """Compare a month with the one before, and say whether to learn anew.

    Parameters
    ----------
    drift : DataFrame
        Columns `core.evaluation.axes_drift.AXES_DRIFT_ROWS`, of the model that stood
        when the month came; without rows where there was none.
    month : str
        YYYY-MM.
    now, before : Shares
        Of that model, in this month and in the run before.
    known : mapping, optional
        `Monitoring.facts` of the run before.
    lifts : DataFrame, optional
        See `core.evaluation.experiment_readout.read_lifts`. Cycles since the thresholds
        were learnt count, up to this month.
    names : mapping of int to str, optional
        Names of segments by id.
    is_learnt : bool
        Whether this run has learnt the thresholds anew, so that nothing runs on.
    """
    state = TriggerState.model_validate((known or {}).get("trigger", {}))
    learnt = (known or {}).get("learnt", month)
    is_earlier = state.month is not None and month < state.month
    if is_earlier or known is None:
        state, learnt = TriggerState(), month
    rows = _drift_rows(drift, now, before)
    cycles = _lost(lifts, learnt, month, names or {})
    if month != state.month and rows.height:
        runs = reduce(lift_cycles, cycles[:-1], dict[int, int]())
        state = step(
            state.model_copy(update={"lift_cycles": runs}),
            month,
            DriftReport(rows, _alerts(rows), {}, now.n),
            MONTHS_RUNNING,
            cycles[-1] if cycles else None,
            names,
        )
    table = _table(rows, state)
    lines = [_verdict(state, is_learnt, has_before=bool(rows.height)), *_alerts(rows)]
    called = {*(names or {}).values()}
    if lifts is not None and (strange := {*lifts["segment"]} - called):
        lines.append(
            f"The lifts of {listed(sorted(strange))} are not counted: no segment is "
            "called so."
        )
    if is_earlier:
        lines.append(f"{month} is earlier than the run before: nothing runs on.")
    if is_learnt:
        state, learnt = after_publishing(state, month), month
    return Monitoring(month, table, state, learnt, [*lines, *_plan()])


def monitor_run(
    profiles: pl.DataFrame,
    drift: pl.DataFrame,
    facts: Mapping[str, Any],
    base: ArtifactSet | None,
    names: Mapping[int, str],
    lifts: str | None,
) -> Monitoring:
    """Monitor a run of `core.lifecycle.run`.

    Parameters
    ----------
    profiles, drift : DataFrame
        Of the run.
    facts : mapping
        Of the run.
    base : ArtifactSet, optional
        The set of the run before.
    names : mapping of int to str
        Of the run's segments.
    lifts : str, optional
        Path of the table of lifts.

    Raises
    ------
    SourceError, SchemaError
        If the lifts cannot be used.
    """
    now, before, known = Shares.of(profiles, names), None, None
    if base is not None and drift.height:
        known = FILES.facts(base).get("monitoring")
        old = {int(i): name for i, name in facts["names_before"][SEGMENT].items()}
        before = Shares.of(base.table(PROFILES), old)
        # Where the model is a new one, the drift alone knows what the old one says.
        own = drift.filter(axis=SEGMENT).select("name", "now")
        now = Shares(dict(own.iter_rows()), profiles.height)
    return monitor(
        drift,
        month_of(datetime.fromisoformat(facts["reference_date"])),
        now,
        before,
        known,
        None if lifts is None else read_lifts(lifts),
        names,
        is_learnt=facts["is_learnt"],
    )


def recalibration_is_due(base: ArtifactSet | None) -> bool:
    """Whether the published run says to learn the thresholds anew, or nothing of it."""
    known = None if base is None else FILES.facts(base).get("monitoring")
    return known is None or TriggerState.model_validate(known["trigger"]).is_due


def _drift_rows(
    drift: pl.DataFrame, now: Shares, before: Shares | None
) -> pl.DataFrame:
    """Return the drift of driver features and shares, and steps from the run before."""
    own = drift.filter(pl.col("axis").is_in([FEATURES, SEGMENT])).select(*DRIFT_ROWS)
    if before is None or own.is_empty():
        return own
    learnt = dict(drift.filter(axis=SEGMENT).select("name", "before").iter_rows())
    steps = []
    for name in sorted({*now.shares, *before.shares}):
        share, was = now.shares.get(name, 0.0), before.shares.get(name, 0.0)
        usual = learnt.get(name, was)
        limit = share_limit(was, before.n, now.n, len(before.shares))
        is_back = abs(share - usual) < abs(was - usual)
        value = abs(share - was)
        is_alert = value > limit and not is_back
        steps.append(("share", name, "step", value, limit, is_alert))
    return pl.concat([own, pl.DataFrame(steps, DRIFT_ROWS, orient="row")])


def _alerts(rows: pl.DataFrame) -> list[str]:
    """Return the alerts in words."""
    said = []
    for row in rows.filter("is_alert").iter_rows(named=True):
        value, limit = row["value"], row["threshold"]
        if row["kind"] == "share":
            since = "the month before" if row["statistic"] == "step" else "learning"
            said.append(
                f"`{row['name']}`: its share is {100 * value:.1f} points off that of "
                f"{since} (threshold {100 * limit:.1f})."
            )
        else:
            moved = f"{_STATISTICS[row['statistic']]} {value:.2g}"
            said.append(f"`{row['name']}` has moved: {moved} (threshold {limit:.2g}).")
    return said


def _lost(
    lifts: pl.DataFrame | None, since: str, until: str, names: Mapping[int, str]
) -> list[dict[int, bool]]:
    """Return by cycle, oldest first, which segments have lost their lift."""
    if lifts is None:
        return []
    ids = {name: i for i, name in names.items()}
    counted = lifts.filter(
        pl.col("cycle").is_between(pl.lit(since), pl.lit(until)),
        pl.col("segment").is_in(list(ids)),
    )
    return [
        {ids[row["segment"]]: row["low"] <= 0 for row in rows}
        for _, rows in groupby(counted.iter_rows(named=True), lambda row: row["cycle"])
    ]


def _table(rows: pl.DataFrame, state: TriggerState) -> pl.DataFrame:
    """Return a row per trigger, `TRIGGERS`."""
    found: list[dict[str, Any]] = []
    shares = {"step": "month over month", "difference": "since learning"}
    for statistic, since in shares.items():
        own = rows.filter(kind="share", statistic=statistic)
        largest = own.sort(pl.col("value") / pl.col("threshold")).tail(1)
        title = f"share of a segment, {since}"
        found.append(_trigger(title, largest, "share", SHARE_SHIFT, state))
    features = rows.filter(kind="feature")
    names = features["name"].unique(maintain_order=True).to_list()
    for name in names or ["the features of the rules"]:
        for statistic, said in _STATISTICS.items():
            own = features.filter(name=name, statistic=statistic)
            title = f"{said} of {name}"
            found.append(_trigger(title, own, "drift", FLOORS[statistic], state))
    lost = [i for i, n in state.lift_cycles.items() if n >= LIFT_CYCLES]
    status = "recalibrate" if len(lost) >= LIFT_SEGMENTS else "steady"
    if status == "steady" and state.lift_cycles:
        status = "alert"
    found.append(
        {
            "trigger": f"segments whose lift is lost in {LIFT_CYCLES} cycles running",
            "value": len(lost),
            "threshold": LIFT_SEGMENTS,
            "months_running": max(state.lift_cycles.values(), default=0),
            "status": status,
            "action": _ACTIONS[status],
        }
    )
    return pl.DataFrame(found, TRIGGERS)


_ACTIONS = {
    "steady": "none",
    "alert": "watch: look into it, and recalibrate if it holds next month",
    "recalibrate": "learn the thresholds again",
    "not known": "none: there is nothing to compare with yet",
}


def _trigger(
    title: str, own: pl.DataFrame, kind: Any, floor: float, state: TriggerState
) -> dict[str, Any]:
    """Return one trigger of drift: of no row, one row, or the largest of some."""
    row = own.row(0, named=True) if own.height else {}
    running = state.months_running.get(kind, 0) if row.get("is_alert") else 0
    status = "not known" if not row else "alert" if row["is_alert"] else "steady"
    if running >= MONTHS_RUNNING:
        status = "recalibrate"
    return {
        "trigger": title,
        "value": row.get("value"),
        "threshold": row.get("threshold", floor),
        "months_running": running,
        "status": status,
        "action": _ACTIONS[status],
    }


def _verdict(state: TriggerState, is_learnt: bool, *, has_before: bool) -> str:
    if not has_before:
        return "Nothing to compare with yet: this is the first month."
    why = f": {'; '.join(state.reasons)}" if state.is_due else ""
    if is_learnt:
        return f"The thresholds were learnt again in this run{why}."
    if state.is_due:
        return f"Learn the thresholds again{why}."
    runs = [f"{kind} for {n} month(s)" for kind, n in state.months_running.items()]
    if state.lift_cycles:
        runs.append("lift lost")
    return "Keep the thresholds: " + (
        f"alerts do not hold long enough ({', '.join(runs)})." if runs else "no alert."
    )


def _plan() -> list[str]:
    points = f"{100 * SHARE_SHIFT:.0f} points"
    return [
        f"Alerts: the share of a segment is over {points} off that of the month "
        "before, or of the customers that the thresholds were learnt from; PSI of a "
        f"feature of the rules is over {FLOORS['psi']}, or Kolmogorov-Smirnov over "
        f"{FLOORS['ks']}. For few customers limits are higher.",
        "The thresholds should be learnt again when alerts of shares, or of features, "
        f"hold {MONTHS_RUNNING} months running, or {LIFT_SEGMENTS} segments have lost "
        f"the lift of their KPI in {LIFT_CYCLES} cycles running.",
    ]
