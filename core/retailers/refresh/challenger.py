"""The challenger: when it is trained, how it is judged, what is promoted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl

from core.artifacts.folder import Artifacts, StageWriter
from core.artifacts.reading import ArtifactSet
from core.config import Config
from core.errors import ContractError, FeatureMismatchError, SegmentsError, listed
from core.evaluation.gate import (
    GateDecision,
    ModelScore,
    judge_challenger,
    score_model,
    with_backtests,
)
from core.evaluation.n_segments import partition_recipe
from core.evaluation.out_of_time import MIN_ENTITIES_AT_CUT, Cut, backtest_cuts
from core.evaluation.splits import relearning
from core.evaluation.stability import OnStep, Recipe, Refit, refit, whole_pipeline
from core.logging import get_logger, progress
from core.models.scaling import feature_matrix
from core.retailers.features import MOMENTUM, SHOP
from core.retailers.files import RETAILERS
from core.retailers.history import HISTORY, MONTHLY
from core.retailers.model import Model
from core.retailers.pipelines import (
    prepare_features,
    run_inference,
    train_autoencoder,
    train_clustering,
)
from core.retailers.publish import judging
from core.retailers.report.decision import Decision
from core.segments.contract import Breach, Contract, check_contract, contract_facts
from core.segments.identity import IdentityEvent
from core.tables.sales import Sales


@dataclass(frozen=True)
class GateData:
    """The rows of a new month, and what is known of the same shops before it.

    Attributes
    ----------
    table : DataFrame
        ``shop_id`` and the features, as prepared.
    history, monthly : DataFrame
        `core.retailers.history.HISTORY` and `MONTHLY`.
    """

    table: pl.DataFrame
    history: pl.DataFrame
    monthly: pl.DataFrame

    @classmethod
    def of(cls, artifact_set: ArtifactSet) -> Self:
        """Read what a set was prepared from."""
        return cls(
            *(
                artifact_set.table(name)
                for name in ("features.parquet", HISTORY, MONTHLY)
            )
        )


@dataclass(frozen=True)
class GateResult:
    """What the gate has found.

    Attributes
    ----------
    decision : GateDecision
    champion, challenger : ModelScore
        What it rests on.
    breaches : tuple of Breach
        Terms of the contract that the challenger breaks.
    """

    decision: GateDecision
    champion: ModelScore
    challenger: ModelScore
    breaches: tuple[Breach, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            **self.decision.model_dump(mode="json"),
            "champion": SHOP.named_facts(self.champion.as_dict()),
            "challenger": SHOP.named_facts(self.challenger.as_dict()),
            "breaches": [asdict(breach) for breach in self.breaches],
        }


def evaluate_gate(
    champion: Model,
    challenger: Model,
    data: GateData,
    n_refits: int,
    contract: Contract | None,
    today: date,
    *,
    on_step: OnStep | None = None,
) -> GateResult:
    """Judge both models, hold the contract against the challenger, and decide.

    Parameters
    ----------
    champion, challenger, data, n_refits, on_step
        See `score_models`.
    contract : Contract or None
        None: nothing is agreed on. The stability it asks for is that of these refits.
    today : date
        What the contract's days are compared with.

    Raises
    ------
    FeatureMismatchError, ModelError
        As `score_models`.
    """
    old, new = score_models(champion, challenger, data, n_refits, on_step=on_step)
    breaches: list[Breach] = []
    if contract is not None:
        table = challenger.segments.published
        facts = contract_facts(table, new.jaccard)
        breaches = check_contract(contract, facts, table.unassigned_share, today)
    decision = judge_challenger(old, new, SHOP, breaches)
    return GateResult(decision, old, new, tuple(breaches))


def score_models(
    champion: Model,
    challenger: Model,
    data: GateData,
    n_refits: int,
    *,
    on_step: OnStep | None = None,
) -> tuple[ModelScore, ModelScore]:
    """Judge two models on the same rows, against refits on those rows.

    Where both are made in the same way, one series of refits serves both; else each
    meets its own. The challenger's seed decides all that is drawn.

    Parameters
    ----------
    champion, challenger : Model
        With the same features, in the same order.
    data : GateData
        Of more than `evaluation.certificate_max_shops` shops (the challenger's), as
        many are drawn at random.
    n_refits : int
        At least 2; each takes as long as a training.
    on_step : callable, optional
        Called with (refits done, refits in all), anew for a second series.

    Returns
    -------
    champion, challenger : ModelScore

    Raises
    ------
    FeatureMismatchError
        If the models' features differ.
    ModelError
        For fewer than 2 refits, or too few shops for one.
    """
    if champion.features != challenger.features:
        raise FeatureMismatchError(
            f"the model in use has {len(champion.features)} features, the new one "
            f"{len(challenger.features)}: {_differing(champion, challenger)}. Prepare "
            "the new month with the configuration of the model in use."
        )
    table = _drawn(data.table, challenger)
    refits: dict[str, list[Refit]] = {}
    found = []
    for model in (champion, challenger):
        key = _made_like(model)
        if key not in refits:
            seed = challenger.config.seed
            rows, recipe = _learning(model, table, data)
            refits[key] = refit(rows, recipe, seed, n_refits, on_step=on_step)
        part = challenger.config.refresh.part
        found.append(_judged(model, table, refits[key], part))
    cuts = _cuts(data, challenger)
    labels = _at_cuts(champion, cuts), _at_cuts(challenger, cuts)
    return with_backtests(found[0], found[1], cuts, labels, challenger.config.seed)


def _judged(
    model: Model, table: pl.DataFrame, refits: Sequence[Refit], part: float
) -> ModelScore:
    """Judge one model by the new month alone."""
    published = model.segments.published
    return score_model(
        _segments(model, table),
        refits,
        kind=published.kind,
        verdict=published.verdict.kind,
        trained={segment.id: segment.size for segment in published.segments},
        part=part,
    )


def _segments(model: Model, table: pl.DataFrame) -> np.ndarray:
    """Return the published segment of every row, -1 for none."""
    return model.segments_of(table)


def _at_cuts(model: Model, cuts: Sequence[Cut]) -> list[np.ndarray]:
    """Return the published segments of the shops of earlier months."""
    return [_segments(model, _as_table(cut, model)) for cut in cuts]


def _as_table(cut: Cut, model: Model) -> pl.DataFrame:
    """Return a cut's features as `Model.assign` takes them."""
    known = cut.X[:, : len(model.columns)]
    features = pl.DataFrame(known, schema=model.columns, orient="row")
    return features.insert_column(0, cut.ids)


def _learning(
    model: Model, table: pl.DataFrame, data: GateData
) -> tuple[np.ndarray, Recipe]:
    """Return what a model's published segments are learnt from anew, and by what."""
    segments, config = model.segments, model.config
    if segments.published.kind == "rules":
        assert segments.rules is not None  # they are published
        past = data.history, data.monthly
        return relearning(segments.rules, table, *past, config, SHOP)
    X = feature_matrix(table, model.features)
    if segments.published.kind == "density":
        return X, whole_pipeline(config)
    method, n = segments.partition.method, segments.partition.n_segments
    return X, partition_recipe(config, method, n)


def _made_like(model: Model) -> str:
    """Return the same text for models that are learnt in the same way."""
    config, kind = model.config, model.segments.published.kind
    sections = {"scaling"}
    way: list[object] = [kind]
    if kind == "density":
        sections |= {"autoencoder", "clustering"}
    elif kind == "partition":
        partition = model.segments.partition
        way += [partition.method, partition.n_segments]
    elif (rules := model.segments.rules) is not None:
        way += [rules.method, rules.n_segments]
    return json.dumps([way, config.model_dump(include=sections)], sort_keys=True)


def _cuts(data: GateData, model: Model) -> list[Cut]:
    """Return the earlier months of shops that are still there.

    None where the history is too short. That a shop would leave, a model may have told;
    but it is the shops that stayed which the next one is for.
    """
    config = model.config
    return backtest_cuts(
        data.history.join(data.table, on="shop_id", how="semi"),
        data.monthly,
        [*model.features, *(n for n in MOMENTUM if n in data.history.columns)],
        config.evaluation.horizon_months,
        SHOP,
        max(MIN_ENTITIES_AT_CUT, config.clustering.n_needed),
    )


def _drawn(table: pl.DataFrame, model: Model) -> pl.DataFrame:
    """Return the shops that are judged: all, or a random part of too many.

    In an order of their own, since refits draw theirs by place.
    """
    ordered, config = table.sort("shop_id"), model.config
    most = config.evaluation.certificate_max_shops
    return ordered.sample(most, seed=config.seed) if table.height > most else ordered


def _differing(champion: Model, challenger: Model) -> str:
    old, new = champion.features, challenger.features
    only = [name for name in (*old, *new) if (name in old) != (name in new)]
    return listed(only) if only else "in another order"


class Search(NamedTuple):
    """What a challenger is looked for in.

    Attributes
    ----------
    champion : Model
        The model that serves. The challenger keeps its ids and names, and starts from
        its weights if ``refresh.is_warm``.
    sales : Sales
        From the archive.
    config : Config
        `core.retailers.refresh.month.monthly_config` of the month.
    folder : Path
        Takes the challenger's run.
    """

    champion: Model
    sales: Sales
    config: Config
    folder: Path


def train_challenger(search: Search) -> ArtifactSet:
    """Run the four pipelines on all sales up to a month, beside the serving model.

    Parameters
    ----------
    search : Search

    Returns
    -------
    ArtifactSet
        A complete run.

    Raises
    ------
    SegmentsError
        If the pipelines cannot learn from these sales.
    """
    champion = search.champion
    config = search.config.model_copy(update={"artifacts": str(search.folder)})
    prepare_features(config, search.sales)
    train_autoencoder(config, champion if config.refresh.is_warm else None)
    train_clustering(config, champion)
    run_inference(config)
    return _published(search.folder)


def note_gate(
    challenger: ArtifactSet, gate: GateResult, champion: Model
) -> ArtifactSet:
    """Write what the gate has found into a challenger's own run.

    Its stability, which the report and `contract check` read; the decision
    itself and the champion's names, of which the model card tells.
    """
    before = {str(i): name for i, name in champion.segments.published.names.items()}
    with judging(challenger.folder) as (out, _):
        gate.challenger.stability.write_csv(out.path("stability.csv"))
        out.facts |= {
            "stability": gate.challenger.stability_facts,
            "gate": gate.decision.model_dump(mode="json"),
            "names_before": before,
        }
    return _published(challenger.folder)


def _published(folder: Path) -> ArtifactSet:
    published = Artifacts(folder, RETAILERS).published()
    assert published is not None  # all four stages have run
    return published


@dataclass(frozen=True)
class ChallengerResult:
    """What became of retraining.

    Attributes
    ----------
    decision : str
        ``refused`` or ``published``.
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
class RefitTerms:
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


def try_challenger(why: str, search: Search, terms: RefitTerms) -> ChallengerResult:
    """Learn a challenger, and hold it to the gate.

    An error of the user's kind, such as too few shops, ends the refit, not the refresh:
    the month is recorded all the same.
    """
    get_logger().info("%s", why)
    try:
        made = train_challenger(search)
        gate = _gate(search.champion, made, terms)
        if gate.decision.is_passed:
            made = note_gate(made, gate, search.champion)
    except SegmentsError as error:
        reason = f"{why} It failed: {type(error).__name__}: {error}"
        return ChallengerResult("refused", reason, exit_code=error.exit_code)
    reason = f"{why} {gate.decision.reason}"
    if gate.decision.is_passed:
        return ChallengerResult("published", reason, gate, challenger=made)
    code = ContractError.exit_code if gate.breaches else 0
    return ChallengerResult("refused", reason, gate, code)


def _gate(champion: Model, made: ArtifactSet, terms: RefitTerms) -> GateResult:
    """Judge the model that serves and its challenger on the challenger's rows."""
    n = terms.n_refits
    with progress(f"Refitting everything for the gate, {n} times") as report:
        return evaluate_gate(
            champion,
            Model.from_set(made),
            GateData.of(made),
            n,
            terms.contract,
            terms.today,
            on_step=report,
        )


def adopt(out: StageWriter, refit: ChallengerResult) -> None:
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
