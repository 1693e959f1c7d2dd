"""One refresh: what came, what it means, what is done about it.

Everything is written aside and published in one step, so a refresh that is killed has
not happened, and a month that is delivered again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from core.artifacts.folder import Artifacts, StageWriter, link
from core.artifacts.reading import ArtifactSet
from core.config import Config
from core.errors import (
    PROGRAM,
    ArtifactError,
    EligibilityError,
    SegmentsError,
    preceded_by,
)
from core.evaluation.drift import DriftReport
from core.evaluation.retrain_policy import after_publishing, step, why_retrain
from core.logging import get_logger
from core.retailers.files import RETAILERS
from core.retailers.model import Model, with_states
from core.retailers.monthly import ARCHIVE, archived_sales
from core.retailers.playbook import shop_playbook
from core.retailers.refresh import output
from core.retailers.refresh.changing import changing_shops, weigh_changes
from core.retailers.refresh.month import (
    DRIFT,
    STATE_FLOWS,
    Delivery,
    Ledger,
    MonthRecord,
    Record,
    ScoredMonth,
    drift_of,
    monthly_config,
    read_drift,
    read_state_flows,
    receive,
    reference_of,
    score_month,
)
from core.retailers.report.decision import RefreshFacts, refresh_lines
from core.retailers.report.worklist import WORKLIST
from core.retailers.states import flows_of_month, state_counts, states_lines
from core.segments.contract import Contract, read_contract
from core.segments.identity import IdentityEvent
from core.segments.ledger import (
    ended_ids,
    known_by,
    published_block,
    serving_block,
)
from core.segments.published import UNASSIGNED
from core.tables.sales import Sales

if TYPE_CHECKING:
    from core.retailers.refresh.challenger import ChallengerResult


@dataclass(frozen=True)
class RefreshResult:
    """What a refresh has done.

    Attributes
    ----------
    folder : Path
        The artifacts.
    facts : dict
        `core.retailers.report.decision.RefreshFacts` of the last month.
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
    into_store: output.LedgerPublisher | None = None,
) -> RefreshResult:
    """Take in new months: assign everyone, measure drift, retrain if that is due.

    Parameters
    ----------
    config : Config
        Of the folder's model, with the input of the new rows in its section ``data``
        and the options of ``refresh``; see `refresh_config`. Without an
        input and a `frame` nothing is read; with `retrain` a new model is then learnt
        from what is known.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        The new rows instead of an input. Months known already may be among them.
    retrain : {'policy', 'always', 'never'}, optional
        Default: ``refresh.retrain``.
    restate : bool
        Whether earlier months with other rows than recorded replace the sales kept; the
        ledger is never rewritten.
    today : date, optional
        For a contract's expiry; default: the day in UTC.
    into_store : callable, optional
        Copies the ledger into the store, if there is one: `core.store.publish`.

    Raises
    ------
    ArtifactError
        If there is no complete run, or another process writes to the folder.
    SourceError, SchemaError
        If the rows cannot be had or used, or a month is missing before them.
    EligibilityError
        If nobody is eligible in a new month.
    ConfigError
        If the contract cannot be read.
    """
    artifacts = Artifacts(config.artifacts, RETAILERS)
    serving = artifacts.complete()
    everyone = serving.manifest.facts("prepare").get("everyone")
    if everyone is not None and everyone["is_sampled"]:
        raise ArtifactError(
            f"`{artifacts.root}` was prepared on Spark and holds a sample of the "
            "shops, but a refresh goes on with everyone's sales. Prepare all rows on "
            f"Spark again: `{PROGRAM} run --engine spark`."
        )
    path = config.refresh.contract
    contract = None if path is None else read_contract(path)
    shop_playbook(config)  # a fault in it is told before the work
    today = today or datetime.now(UTC).date()
    retrain = retrain or config.refresh.retrain
    has_rows = frame is not None or config.data.input is not None
    with artifacts.stage("refresh", serving.manifest.config, is_serving=True) as out:
        assert out.base is not None  # `serving`, opened again under the lock
        saved = out.base.manifest.config
        free = ("refresh", "report", "csv_safety")
        out.config = saved.model_copy(update={n: getattr(config, n) for n in free})
        refresh = _Refresh(out, out.base)
        delivery = receive(
            out.base,
            config,
            refresh.last_month,
            out.aside,
            has_products=refresh.model.has_products,
            frame=frame,
            restate=restate,
        )
        is_asked = not has_rows and retrain == "always"
        if delivery.months or is_asked:
            source = config.data.input or "a table handed in from Python"
            result = refresh.carry_out(
                delivery, retrain, source, contract=contract, today=today
            )
        else:
            result = refresh.change_nothing(delivery)
    if into_store is not None:
        copy = partial(output.store_ledger, artifacts, config, into_store)
        result = _followed(result, "stored", copy)
    return _followed(
        result, "logged", partial(output.log_serving_version, artifacts, config)
    )


def _followed(
    result: RefreshResult, done: str, step: Callable[[], str | None]
) -> RefreshResult:
    """Carry out a step that comes after the publication, and tell what it says.

    The refresh has happened whatever becomes of the step, so an error there is told and
    no more.
    """
    try:
        told, code = step(), result.exit_code
    except SegmentsError as error:
        told = f"Not {done}: {type(error).__name__}: {error}"
        code = result.exit_code or error.exit_code
    lines = result.lines if told is None else [*result.lines, told]
    return RefreshResult(result.folder, result.facts, lines, code)


class _Refresh:
    """One refresh on its way."""

    def __init__(self, out: StageWriter, base: ArtifactSet) -> None:
        self.out, self.base = out, base
        self.model = Model.from_set(base)
        self.record = Record.of(base)
        self.ledger = Ledger(base, out, self.record)
        self.options = out.config.refresh
        self.drift = read_drift(base)
        self.flows = read_state_flows(base)
        self.report: DriftReport | None = None
        self.changes: pl.DataFrame | None = None

    @property
    def version(self) -> int:
        return self.base.manifest.version

    @property
    def last_month(self) -> str:
        """The last month recorded; the training month before the first refresh."""
        months = self.record.months
        return months[-1].month if months else self.model.as_of

    def carry_out(
        self,
        delivery: Delivery,
        retrain: str,
        source: str,
        *,
        contract: Contract | None,
        today: date,
    ) -> RefreshResult:
        """Take in what was delivered, decide, and write everything."""
        sales = archived_sales(delivery.archive, self.out.config)
        training = self._scored(sales, self.model.as_of)
        self._open_ledger(sales, training)
        scored = None
        for month in delivery.months:
            with preceded_by(delivery.lines):
                scored = self._take_in(sales, month, training)
        scored = scored or self._scored(sales, self.last_month)
        why = why_retrain(retrain, self.record.trigger)
        refit, model, served = None, self.model, scored
        if why is not None:
            refit, model, served = self._retrain(sales, scored, why, contract, today)
        if self.changes is None:
            self._weigh(scored)
        changing = changing_shops(self.changes, self.ledger.blocks(last_months=1)[0])
        facts = self._note(scored, refit, changing)
        self._write(delivery)
        told = output.write_output(
            self.out,
            model,
            served,
            self.record,
            self.ledger,
            facts,
            source,
            changing,
        )
        page = f"Page: {self.out.root / 'refresh.html'}"
        by_name = f"These shops by name: {self.out.root / WORKLIST}"
        lines = [*delivery.lines, *refresh_lines(facts, told)]
        lines += states_lines(state_counts(scored.states))
        lines += [by_name, page] if told else [page]
        code = refit.exit_code if refit is not None else 0
        return RefreshResult(self.out.root, facts, lines, code)

    def change_nothing(self, delivery: Delivery) -> RefreshResult:
        """Say that no month was new; keep restated sales, if any."""
        reason = "No later month was handed in."
        if delivery.is_changed:
            link(delivery.archive, self.out.path(ARCHIVE))
            reason = "Sales of earlier months were replaced; nothing else was done."
        else:
            self.out.is_void = True
        trigger = self.record.trigger
        facts = output.unchanged_facts(self.last_month, self.version, reason, trigger)
        lines = [*delivery.lines, *refresh_lines(facts)]
        return RefreshResult(self.out.root, facts, lines)

    def _scored(self, sales: Sales, month: str) -> ScoredMonth:
        work = self.out.aside / f"{month}-{len(list(self.out.aside.iterdir()))}"
        config = monthly_config(self.base, month)
        return score_month(self.model, sales, config, work)

    @property
    def _confirm(self) -> tuple[int, float]:
        """What it takes for a shop to have moved: months, and strength in each."""
        return self.options.confirm_months, self.options.confirm_strength

    def _open_ledger(self, sales: Sales, training: ScoredMonth) -> None:
        """See to it that the last month has a block of the model that serves."""
        blocks = self.ledger.blocks(last_months=1)
        if not blocks:
            labels, month = training.assigned, training.month
            block = serving_block(labels, month, self.version, None, *self._confirm)
            self.ledger.add(block)
        elif self.version not in {block["version"][0] for block in blocks}:
            # Trained by the scripts, or gone back to, since the last refresh.
            scored = self._scored(sales, self.last_month)
            self._add_published(self.model, self.version, scored.assigned, [])
            trigger = after_publishing(self.record.trigger, self.last_month)
            self.record.trigger = trigger

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
        self.ledger.add(published_block(complete, before, version, ids, *self._confirm))

    def _take_in(self, sales: Sales, month: str, training: ScoredMonth) -> ScoredMonth:
        """Assign everyone in one new month, and measure its drift."""
        get_logger().info("Assigning the shops of %s", month)
        scored = self._scored(sales, month)
        if scored.features.is_empty():
            raise EligibilityError(
                f"no shop is eligible in {month}; the model was trained on "
                f"{training.features.height:,}. Nothing was recorded; look at the rows "
                "that were handed in."
            )
        report = self._measure(scored, training)
        rows = report.rows.select(pl.lit(month).alias("month"), pl.all())
        self.drift = rows if self.drift is None else pl.concat([self.drift, rows])
        flows = flows_of_month(month, scored.states_before, scored.states)
        self.flows = pl.concat([self.flows, flows])
        n = self.options.months_running
        self.record.trigger = step(self.record.trigger, month, report, n)
        before, changes = self._weigh(scored)
        version = self.version
        block = serving_block(
            scored.assigned, month, version, before, *self._confirm, changes
        )
        self.ledger.add(block)
        self.record.months.append(
            MonthRecord(
                month=month, version=version, decision="kept", shares=report.shares
            )
        )
        return scored

    def _weigh(self, scored: ScoredMonth) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """Find who is changing; return what was settled before, and that."""
        before = pl.concat(self.ledger.blocks(last_months=1))
        known = known_by(scored.assigned, before, self.version)
        self.changes = weigh_changes(scored.months, known)
        return before, self.changes

    def _measure(self, scored: ScoredMonth, training: ScoredMonth) -> DriftReport:
        """Measure the drift of a month; shares also against the month before."""
        reference = reference_of(self.base, self.model, training)
        previous = reference.shares
        months = self.record.months
        if months and (months[-1].published or months[-1].version) == self.version:
            # After publishing, the training month is the month before.
            previous = months[-1].shares if not months[-1].published else previous
        self.report = drift_of(
            reference, self.model, scored, previous, self.out.config.refresh
        )
        return self.report

    def _retrain(
        self,
        sales: Sales,
        scored: ScoredMonth,
        why: str,
        contract: Contract | None,
        today: date,
    ) -> tuple[ChallengerResult, Model, ScoredMonth]:
        """Try a challenger; if it passes, let it serve from the next month on.

        Return what serves then, and the month as that has it.
        """
        # Learning takes scikit-learn and more, which most months do not wait for.
        from core.retailers.refresh import challenger

        config = monthly_config(self.base, scored.month)
        config = config.model_copy(update={"refresh": self.options})
        folder = self.out.aside / "challenger"
        search = challenger.Search(self.model, sales, config, folder)
        terms = challenger.RefitTerms(self.options.gate_refits, contract, today=today)
        refit = challenger.try_challenger(why, search, terms)
        if refit.challenger is None or refit.version is None:
            return refit, self.model, scored
        challenger.adopt(self.out, refit)
        model = Model.from_set(refit.challenger)
        labels = with_states(model.assign(scored.features), scored.states)
        again = replace(scored, labels=labels)
        self._add_published(model, refit.version, again.assigned, refit.events)
        return refit, model, again

    def _note(
        self,
        scored: ScoredMonth,
        refit: ChallengerResult | None,
        changing: pl.DataFrame | None,
    ) -> RefreshFacts:
        """Record what was decided, and return what is told of it."""
        models = [self.model]
        if refit is not None and refit.challenger is not None:
            models.append(Model.from_set(refit.challenger))
        facts = output.facts_of_month(
            scored,
            self.version,
            refit,
            self.record.trigger,
            self.report.alerts if self.report is not None else [],
            self.ledger.blocks(last_months=2),
            output.segment_names(models),
            changing,
        )
        if self.record.months:
            last = self.record.months[-1]
            last.decision, last.reason = facts["decision"], facts["reason"]
            last.published = facts["published"] or last.published
        if facts["published"] is not None:
            trigger = after_publishing(self.record.trigger, scored.month)
            self.record.trigger = trigger
        return facts

    def _write(self, delivery: Delivery) -> None:
        """Write the record, drift and flows so far, sales, and rows set aside."""
        self.record.write(self.out)
        if self.drift is not None:
            self.drift.write_parquet(self.out.path(DRIFT))
        self.flows.write_parquet(self.out.path(STATE_FLOWS))
        if delivery.is_changed and self.out.adopted is None:
            link(delivery.archive, self.out.path(ARCHIVE))
        if delivery.rejected is not None:
            path = self.out.path("refresh_rejected_rows.parquet")
            delivery.rejected.write_parquet(path)
