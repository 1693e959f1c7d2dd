"""Whether to retrain, and whether what comes of it may be published."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from core.artifacts import ArtifactSet, StageWriter
from core.errors import ContractError, SegmentsError
from core.evaluation.triggers import TriggerState
from core.inference import Model
from core.logging import get_logger, progress
from core.pipelines.judging import GateResult, Ground, hold_gate
from core.refresh.challenger import Search, note_gate, train_challenger
from core.reporting.decision import Decision
from core.segments.contract import Contract
from core.segments.identity import IdentityEvent


@dataclass(frozen=True)
class Refit:
    """What became of retraining.

    Attributes
    ----------
    decision : str
        ``kept`` (nothing to publish), ``refused`` or ``published``.
    reason : str
        Why it was tried, and why it ended so.
    gate : GateResult or None
        None where it did not come that far.
    exit_code : int
        Of the error that it ended in; 0 where it ended well, or by the gate.
    challenger : ArtifactSet or None
        What was published.
    """

    decision: Decision
    reason: str
    gate: GateResult | None = None
    exit_code: int = 0
    challenger: ArtifactSet | None = None

    @property
    def version(self) -> int | None:
        """The version published, if any."""
        return None if self.challenger is None else self.challenger.manifest.version

    @property
    def events(self) -> list[IdentityEvent]:
        """What became of the segments, if a version was published."""
        if self.challenger is None:
            return []
        return list(Model.from_set(self.challenger).segments.published.events)


@dataclass(frozen=True)
class Terms:
    """What a refit is held to.

    Attributes
    ----------
    n_refits : int
        Of the gate.
    contract : Contract or None
    today : date
        For terms that expire.
    """

    n_refits: int
    contract: Contract | None
    today: date = field(kw_only=True)


def why_retrain(retrain: str, trigger: TriggerState) -> str | None:
    """Return the reason to retrain, as a sentence; None where there is none."""
    if retrain == "never" or (retrain == "policy" and not trigger.is_due):
        return None
    if retrain == "policy":
        reasons = "; ".join(trigger.reasons)
        return f"Retraining was due: {reasons}."
    if retrain == "noise":
        return "New segments were looked for among the unassigned, as asked."
    return "Retraining was asked for."


def try_challenger(why: str, search: Search, terms: Terms, *, only_new: bool) -> Refit:
    """Learn a challenger, and hold it to the gate.

    An error of the user's kind, such as too few shops, ends the refit, not the refresh:
    the month is recorded all the same.
    """
    get_logger().info("%s", why)
    try:
        made = train_challenger(search, only_new=only_new)
        if made is None:
            return Refit("kept", f"{why} No new group stands out.")
        gate = _gate(search.champion, made, terms)
        if gate.decision.is_passed:
            made = note_gate(made, gate, search.champion)
    except SegmentsError as error:
        reason = f"{why} It failed: {type(error).__name__}: {error}"
        return Refit("refused", reason, exit_code=error.exit_code)
    reason = f"{why} {gate.decision.reason}"
    if gate.decision.is_passed:
        return Refit("published", reason, gate, challenger=made)
    code = ContractError.exit_code if gate.breaches else 0
    return Refit("refused", reason, gate, code)


def _gate(champion: Model, made: ArtifactSet, terms: Terms) -> GateResult:
    """Judge the model that serves and its challenger on the challenger's rows."""
    n = terms.n_refits
    with progress(f"Learning everything anew for the gate, {n} times") as report:
        return hold_gate(
            champion,
            Model.from_set(made),
            Ground.of(made),
            n,
            terms.contract,
            terms.today,
            on_step=report,
        )


def adopt(out: StageWriter, refit: Refit) -> None:
    """Let a challenger take the model's place when the refresh is published."""
    made = refit.challenger
    assert made is not None  # it was published
    own, learnt = out.config, made.manifest.config
    features = learnt.features.model_copy(update={"as_of": own.features.as_of})
    update = {
        "artifacts": own.artifacts,
        "refresh": own.refresh,
        "eligibility": own.eligibility,
        "features": features,
    }
    out.adopted = made
    out.config = learnt.model_copy(update=update)
