"""One refresh: what came, what it means, what is done about it.

Everything is written aside and published in one step, so a refresh that is killed has
not happened, and a month that is delivered again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts import Artifacts, ArtifactSet, StageWriter
from core.config import Config
from core.data.sources import Sales
from core.errors import ArtifactError, ContractError, SegmentsError
from core.evaluation.drift import DriftReport
from core.evaluation.triggers import after_publishing, step
from core.features.archive import ARCHIVE, archived_sales
from core.folders import link
from core.inference import Model
from core.logging import get_logger, progress
from core.pipelines.judging import GateResult, Ground, hold_gate
from core.refresh.challenger import challenger_of
from core.refresh.delivery import Delivery, receive
from core.refresh.output import write_output
from core.refresh.record import DRIFT, Ledger, MonthRecord, Record, read_drift
from core.refresh.scoring import (
    ScoredMonth,
    drift_of,
    monthly_config,
    reference_of,
    score_month,
)
from core.reporting.decision import Decision, RefreshFacts, refresh_lines
from core.segments.contract_file import read_contract
from core.segments.identity import IdentityEvent
from core.segments.ledger import ended_ids, published_block, serving_block
from core.segments.movement import transitions
from core.segments.published import UNASSIGNED


@dataclass(frozen=True)
class RefreshResult:
    """What a refresh has done.

    Attributes
    ----------
    folder : Path
        The artifacts.
    facts : dict
        `core.reporting.decision.RefreshFacts` of the last month.
    lines : list of str
        The same for people.
    exit_code : int
        0, or that of the error that a refit ended in; a broken contract has its own.
    """

    folder: Path
    facts: RefreshFacts
    lines: list[str]
    exit_code: int = 0


def run_refresh(
    config: Config,
    frame: Any = None,
    *,
    retrain: str | None = None,
    restate: bool = False,
    today: date | None = None,
) -> RefreshResult:
    """Take in new months: assign everyone, measure drift, retrain if that is due.

    Parameters
    ----------
    config : Config
        Of the folder's model, with the input of the new rows in its section ``data``
        and the options of ``refresh``. Without an input and a `frame` nothing is read;
        with `retrain` a new model is then learnt from what is known.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        The new rows instead of an input. Months known already may be among them.
    retrain : {'policy', 'always', 'never', 'noise'}, optional
        Default: ``refresh.retrain``.
    restate : bool
        Whether earlier months with other rows than recorded replace the sales kept; the
        ledger is never rewritten.
    today : date, optional
        For a contract's expiry; default: the day in UTC.

    Raises
    ------
    ArtifactError
        If there is no complete run, or another process writes to the folder.
    SourceError, SchemaError
        If the rows cannot be had or used, or a month is missing before them.
    """
    artifacts = Artifacts(config.artifacts)
    serving = artifacts.published()
    if serving is None or not serving.manifest.is_complete:
        raise ArtifactError(
            f"`{config.artifacts}` holds no complete run. Train one first with "
            "`segments run`."
        )
    saved = serving.manifest.config
    with artifacts.stage("refresh", saved, is_serving=True) as out:
        assert out.base is not None  # `serving`, opened again under the lock
        saved = out.base.manifest.config
        out.config = saved.model_copy(update={"refresh": config.refresh})
        refresh = _Refresh(out, out.base, today or datetime.now(UTC).date())
        delivery = receive(
            out.base,
            config,
            refresh.last_month,
            out.aside,
            frame=frame,
            restate=restate,
        )
        is_asked = frame is None and config.data.input is None
        return refresh.carry_out(
            delivery, retrain or config.refresh.retrain, is_asked=is_asked
        )


@dataclass
class _Refit:
    """What became of retraining."""

    decision: Decision
    reason: str
    gate: GateResult | None = None
    exit_code: int = 0
    version: int | None = None
    events: list[IdentityEvent] = field(default_factory=list)


class _Refresh:
    """One refresh on its way."""

    def __init__(self, out: StageWriter, base: ArtifactSet, today: date) -> None:
        self.out, self.base, self.today = out, base, today
        self.model = Model.from_set(base)
        self.record = Record.of(base)
        self.ledger = Ledger(base, out, self.record)
        self.options = out.config.refresh
        self.drift = read_drift(base)
        self.reports: list[DriftReport] = []

    @property
    def version(self) -> int:
        return self.base.manifest.version

    @property
    def last_month(self) -> str:
        """The last month recorded; the training month before the first refresh."""
        months = self.record.months
        return months[-1].month if months else self.model.as_of

    def carry_out(
        self, delivery: Delivery, retrain: str, *, is_asked: bool
    ) -> RefreshResult:
        """Take in what was delivered, decide, and write everything."""
        wants_refit = is_asked and retrain in {"always", "noise"}
        if not delivery.months and not wants_refit:
            return self._unchanged(delivery)
        sales = archived_sales(delivery.archive, self.out.config)
        training = self._scored(sales, self.model.as_of)
        self._open_ledger(sales, training)
        scored = training
        for month in delivery.months:
            scored = self._take_in(sales, month, training)
        if not delivery.months:
            scored = self._scored(sales, self.last_month)
        refit = self._maybe_retrain(sales, scored, retrain)
        self._note(refit)
        facts = self._facts(scored, refit)
        self.record.write(self.out)
        if self.drift is not None:
            self.drift.write_parquet(self.out.path(DRIFT))
        if delivery.is_changed and self.out.adopted is None:
            link(delivery.archive, self.out.path(ARCHIVE))
        if delivery.rejected is not None:
            delivery.rejected.write_parquet(
                self.out.path("refresh_rejected_rows.parquet")
            )
        write_output(self.out, self.model, scored, self.record, self.ledger, facts)
        lines = [*delivery.lines, *refresh_lines(facts)]
        lines.append(f"Page: {self.out.root / 'refresh.html'}")
        code = refit.exit_code if refit is not None else 0
        return RefreshResult(self.out.root, facts, lines, code)

    def _scored(self, sales: Sales, month: str) -> ScoredMonth:
        work = self.out.aside / f"{month}-{len(list(self.out.aside.iterdir()))}"
        config = monthly_config(self.base, month)
        return score_month(self.model, sales, config, work)

    def _open_ledger(self, sales: Sales, training: ScoredMonth) -> None:
        """See to it that the last month has a block of the model that serves."""
        blocks = self.ledger.blocks(last_months=1)
        if not blocks:
            self.ledger.add(
                serving_block(
                    training.assigned,
                    training.month,
                    self.version,
                    None,
                    self.options.confirm_months,
                )
            )
        elif self.version not in {block["version"][0] for block in blocks}:
            # Trained by the scripts, or gone back to, since the last refresh.
            scored = self._scored(sales, self.last_month)
            self._add_published(self.model, self.version, scored.assigned, [])

    def _add_published(
        self,
        model: Model,
        version: int,
        assigned: pl.DataFrame,
        events: list[IdentityEvent],
    ) -> None:
        """Add how another model labels the shops of the last month."""
        before = self.ledger.blocks(last_months=1)[-1]
        everyone = before.select("entity").join(assigned, on="entity", how="left")
        complete = everyone.with_columns(
            pl.col("segment").fill_null(UNASSIGNED), pl.col("strength").fill_null(0.0)
        )
        known = {segment.id for segment in model.segments.published.segments}
        gone = set(before["settled"].unique()) - known - {UNASSIGNED}
        heirs = ended_ids(events)
        ids = {i: heirs.get(i, UNASSIGNED) for i in sorted(gone)}
        confirm = self.options.confirm_months
        self.ledger.add(published_block(complete, before, version, ids, confirm))

    def _take_in(self, sales: Sales, month: str, training: ScoredMonth) -> ScoredMonth:
        """Assign everyone in one new month, and measure its drift."""
        get_logger().info("Assigning the shops of %s", month)
        scored = self._scored(sales, month)
        if scored.features.is_empty():
            raise ArtifactError(
                f"no shop is eligible in {month}, though the model was trained on "
                f"{training.features.height:,}. Nothing was recorded; look at the rows "
                "that were handed in."
            )
        months = self.record.months
        reference = reference_of(self.model, training)
        previous = reference.shares
        if months and self._serves_since_before(months[-1]):
            previous = months[-1].shares
        report = drift_of(reference, self.model, scored, previous)
        self.reports.append(report)
        rows = report.rows.select(pl.lit(month).alias("month"), pl.all())
        self.drift = rows if self.drift is None else pl.concat([self.drift, rows])
        self.record.trigger = step(
            self.record.trigger, month, report, self.options.months_running
        )
        before = pl.concat(self.ledger.blocks(last_months=1))
        confirm = self.options.confirm_months
        self.ledger.add(
            serving_block(scored.assigned, month, self.version, before, confirm)
        )
        months.append(
            MonthRecord(
                month=month, version=self.version, decision="kept", shares=report.shares
            )
        )
        return scored

    def _serves_since_before(self, last: MonthRecord) -> bool:
        return (last.published or last.version) == self.version

    def _maybe_retrain(
        self, sales: Sales, scored: ScoredMonth, retrain: str
    ) -> _Refit | None:
        """Learn a challenger if that is due, and adopt it if it passes the gate."""
        trigger = self.record.trigger
        if retrain == "never" or (retrain == "policy" and not trigger.is_due):
            return None
        why = ["asked for"] if retrain != "policy" else list(trigger.reasons)
        get_logger().info("Retraining: %s", "; ".join(why))
        try:
            config = monthly_config(self.base, scored.month)
            config = config.model_copy(update={"refresh": self.options})
            made = challenger_of(self.out, self.model, sales, config, scored, retrain)
            if made is None:
                reason = "No new group stands out among the unassigned."
                return _Refit("kept", reason)
            gate = self._gate(made)
        except SegmentsError as error:
            reason = f"The refit failed: {type(error).__name__}: {error}"
            return _Refit("refused", reason, exit_code=error.exit_code)
        if not gate.decision.is_passed:
            code = ContractError.exit_code if gate.breaches else 0
            return _Refit("refused", gate.decision.reason, gate, code)
        return self._adopt(made, gate, scored)

    def _gate(self, made: ArtifactSet) -> GateResult:
        """Judge the model that serves and its challenger on the challenger's rows."""
        path, n = self.options.contract, self.options.gate_refits
        contract = None if path is None else read_contract(path)
        with progress(f"Learning everything anew for the gate, {n} times") as report:
            return hold_gate(
                self.model,
                Model.from_set(made),
                Ground.of(made),
                n,
                contract,
                self.today,
                on_step=report,
            )

    def _adopt(
        self, made: ArtifactSet, gate: GateResult, scored: ScoredMonth
    ) -> _Refit:
        """Let a challenger take the model's place when the refresh is published."""
        self.out.adopted = made
        learnt = made.manifest.config
        self.out.config = learnt.model_copy(
            update={
                "artifacts": self.out.config.artifacts,
                "refresh": self.options,
                "features": learnt.features.model_copy(
                    update={"as_of": self.out.config.features.as_of}
                ),
            }
        )
        model = Model.from_set(made)
        version = made.manifest.version
        events = list(model.segments.published.events)
        labels = ScoredMonth(
            scored.month,
            scored.features,
            model.assign(scored.features),
            scored.exclusions,
        )
        self._add_published(model, version, labels.assigned, events)
        self.record.trigger = after_publishing(self.record.trigger, scored.month)
        reason = gate.decision.reason
        return _Refit("published", reason, gate, 0, version, events)

    def _note(self, refit: _Refit | None) -> None:
        """Record what was decided in the last month."""
        if refit is None or not self.record.months:
            return
        last = self.record.months[-1]
        last.decision, last.reason = refit.decision, refit.reason
        last.published = refit.version

    def _facts(self, scored: ScoredMonth, refit: _Refit | None) -> RefreshFacts:
        """Put together what the refresh has to tell."""
        trigger = self.record.trigger
        segments = scored.labels["segment"]
        n_unassigned = int((segments == UNASSIGNED).sum())
        moved, entered, left = self._moves()
        gate = refit.gate if refit is not None else None
        decision: Decision = refit.decision if refit is not None else "kept"
        if refit is None and trigger.is_due:
            decision = "recommended"
        reason = refit.reason if refit is not None else " ".join(trigger.reasons)
        return RefreshFacts(
            month=scored.month,
            decision=decision,
            reason=reason,
            version=self.version,
            published=refit.version if refit is not None else None,
            n_assigned=scored.labels.height - n_unassigned,
            n_unassigned=n_unassigned,
            n_not_eligible=scored.exclusions.height,
            n_moved=moved,
            n_entered=entered,
            n_left=left,
            state=trigger.state,
            alerts=self.reports[-1].alerts if self.reports else [],
            events=[e.model_dump() for e in refit.events] if refit is not None else [],
            gate=(
                [row.model_dump() for row in gate.decision.rows]
                if gate is not None
                else []
            ),
            breaches=(
                [breach.message for breach in gate.breaches] if gate is not None else []
            ),
            names=self._names(),
        )

    def _names(self) -> dict[str, str]:
        """Return the names of all segments before and after."""
        models = [self.model]
        if self.out.adopted is not None:
            models.append(Model.from_set(self.out.adopted))
        return {
            str(segment.id): segment.name
            for model in models
            for segment in model.segments.published.segments
            if segment.id != UNASSIGNED
        }

    def _moves(self) -> tuple[int | None, int | None, int | None]:
        """Return how many shops moved, entered and left in the last month."""
        if not self.reports:
            return None, None, None
        blocks = self.ledger.blocks(last_months=2)
        now = next(b for b in blocks if b["month"][0] == self.last_month)
        before = [b for b in blocks if b["month"][0] < self.last_month][-1]
        table = transitions(before, now)
        both = table.drop_nulls(["from", "to"]).filter(pl.col("from") != UNASSIGNED)
        moved = both.filter(pl.col("from") != pl.col("to"))["n_settled"].sum()
        entered = table.filter(pl.col("from").is_null())["n"].sum()
        left = table.filter(pl.col("to").is_null())["n"].sum()
        return int(moved), int(entered), int(left)

    def _unchanged(self, delivery: Delivery) -> RefreshResult:
        """Say that no month was new; keep restated sales, if any."""
        reason = "No month after it was handed in."
        if delivery.is_changed:
            link(delivery.archive, self.out.path(ARCHIVE))
            reason = "Sales of earlier months were replaced; nothing else was done."
        else:
            self.out.is_void = True
        facts = RefreshFacts(
            month=self.last_month,
            decision="unchanged",
            reason=reason,
            version=self.version,
            published=None,
            n_assigned=0,
            n_unassigned=0,
            n_not_eligible=0,
            n_moved=None,
            n_entered=None,
            n_left=None,
            state=self.record.trigger.state,
            alerts=[],
            events=[],
            gate=[],
            breaches=[],
            names=self._names(),
        )
        lines = [*delivery.lines, *refresh_lines(facts)]
        return RefreshResult(self.out.root, facts, lines)
