"""What published segments and states tell of later months, in every run.

The published model labels the shops of every earlier cut by what was known of them
then; what they did in the months after says what its labels are worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.reading import ArtifactSet
from core.config import Config
from core.errors import EligibilityError
from core.evaluation.out_of_time import MIN_ENTITIES_AT_CUT, Cut, backtest_cuts
from core.evaluation.outcomes import Followed, IntArray, everyone, still_selling
from core.evaluation.scorecard import ALL, OnStep, Scorer, answer
from core.months import month_index
from core.retailers.features import SHOP
from core.retailers.model import Model
from core.retailers.prepare import HISTORY, MONTHLY

SCORECARD_TABLE = "scorecard.csv"
SELLING = "still selling"
POPULATIONS: Mapping[str, Followed] = {ALL: everyone, SELLING: still_selling}
"""Shops that are followed: all at the cut, and those that sold in both last months."""
SEGMENTS = "segments"


@dataclass(frozen=True)
class Past:
    """The earlier months that a run can be judged by.

    Attributes
    ----------
    cuts : mapping of population to list of Cut
        Oldest first; the same shops in the same order, other outcomes.
    tables : list of DataFrame
        Their features at each cut.
    """

    cuts: Mapping[str, list[Cut]]
    tables: list[pl.DataFrame]

    @property
    def months(self) -> list[str]:
        """The cuts, ``YYYY-MM``."""
        return [cut.as_of for cut in self.cuts[ALL]]


def past_of(base: ArtifactSet) -> Past:
    """Return the cuts of a run's history.

    Raises
    ------
    EligibilityError
        If it has none; the message says how many months it takes.
    """
    config, facts = base.manifest.config, base.manifest.facts("prepare")
    history, monthly = base.table(HISTORY), base.table(MONTHLY)
    needed = max(MIN_ENTITIES_AT_CUT, config.clustering.n_needed)
    options = (facts["features"], config.evaluation.horizon_months, SHOP, needed)
    cuts = {
        name: backtest_cuts(history, monthly, *options, followed)
        for name, followed in POPULATIONS.items()
    }
    if not cuts[ALL]:
        raise EligibilityError(_too_short(config, facts["as_of"], monthly, needed))
    tables = [
        history.filter(as_of=cut.as_of).sort(SHOP.id_column).drop("as_of")
        for cut in cuts[ALL]
    ]
    return Past(cuts, tables)


def _too_short(config: Config, as_of: str, monthly: pl.DataFrame, n_shops: int) -> str:
    """Say how much history there is, and how much a look back needs."""
    first = monthly["t"].min()
    found = 0 if monthly.is_empty() else month_index(as_of) - int(str(first)) + 1
    options = config.evaluation
    before = round(12 * config.eligibility.min_tenure_years)
    one = before + options.horizon_months
    every = one + (options.n_cuts - 1) * options.cut_step_months
    return (
        f"{found} months of sales up to {as_of} leave no month at which {n_shops:,} "
        f"shops were eligible. It takes {before} active months up to such a month and "
        f"{options.horizon_months} after it, so at least {one} months of history, and "
        f"{every} for all {options.n_cuts} cuts. Give more months, or prepare again "
        "with a smaller `evaluation.horizon_months`."
    )


def published_labels(model: Model, past: Past) -> dict[str, list[IntArray]]:
    """Return what a model's labels are at every cut, by their name."""
    labels = [_labels_at(model, table) for table in past.tables]
    return {name: [_codes(own[name]) for own in labels] for name in labels[0].columns}


def _labels_at(model: Model, table: pl.DataFrame) -> pl.DataFrame:
    """Return labels of shops as text, a column per set of labels."""
    placed = model.assign(table)
    return placed.select(pl.col("segment").cast(pl.String).alias(SEGMENTS))


def _codes(labels: pl.Series) -> IntArray:
    codes: IntArray = labels.rank("dense").cast(pl.Int64).to_numpy()
    return codes


def score_labels(
    past: Past,
    labels: Mapping[str, Sequence[IntArray]],
    config: Config,
    n_permutations: int = 0,
    on_step: OnStep | None = None,
) -> pl.DataFrame:
    """Score sets of labels in every population.

    Returns
    -------
    DataFrame
        ``labels``, ``population`` ("all" or "still selling"), then as of
        `core.evaluation.scorecard.Scorer.score`, shops under ``n_shops``.
    """
    tables = []
    for population, cuts in past.cuts.items():
        scorer = Scorer(cuts, config.seed, n_permutations)
        for name, own in labels.items():
            tables.append(_named(scorer.score(own, on_step), name, population))
    return pl.concat(tables)


def score_decay(
    past: Past, labels: Mapping[str, Sequence[IntArray]], config: Config
) -> pl.DataFrame:
    """Score sets of labels month by month, among all shops.

    Returns
    -------
    DataFrame
        ``labels, population``, then as of `core.evaluation.scorecard.Scorer.decay`.
    """
    scorer = Scorer(past.cuts[ALL], config.seed)
    return pl.concat(
        [_named(scorer.decay(own), name, ALL) for name, own in labels.items()]
    )


def _named(table: pl.DataFrame, labels: str, population: str) -> pl.DataFrame:
    first = (pl.lit(labels).alias("labels"), pl.lit(population).alias("population"))
    return SHOP.named_table(table).select(*first, pl.all())


def scorecard_facts(
    kind: str, past: Past, table: pl.DataFrame, config: Config, n_permutations: int = 0
) -> dict[str, Any]:
    """Return what a scorecard says as plain values.

    Returns
    -------
    dict
        ``kind`` of segments, ``why_not`` (None), ``n_permutations`` (0: by a run, not
        by the verb ``scorecard``), ``cuts``, ``horizon_months``,
        ``labels`` (the set that the answers are of: segments and states where both are
        there) and ``outcomes``: averages over the cuts, a row per population and
        outcome with its ``answer``.
    """
    shown = table["labels"].unique(maintain_order=True)[-1]
    rows = table.filter(pl.col("labels") == shown, pl.col("cut") == ALL).to_dicts()
    return {
        "kind": kind,
        "why_not": None,
        "n_permutations": n_permutations,
        "cuts": past.months,
        "horizon_months": config.evaluation.horizon_months,
        "labels": shown,
        "outcomes": [{**row, "answer": answer(row)} for row in rows],
    }


def write_scorecard(out: StageWriter, model: Model) -> None:
    """Score what a model publishes, and write ``scorecard.csv`` and the facts.

    One that stands for the same kind of segments is kept: the same model labels the
    same shops. Where the past is too short, the facts say why.
    """
    assert out.base is not None  # `model` was read from it
    kind = model.segments.published.kind
    if out.facts.get("scorecard", {}).get("kind") == kind:
        return
    config = out.base.manifest.config
    try:
        past = past_of(out.base)
    except EligibilityError as error:
        out.facts["scorecard"] = {"kind": kind, "why_not": str(error)}
        return
    table = score_labels(past, published_labels(model, past), config)
    table.write_csv(out.path(SCORECARD_TABLE))
    out.facts["scorecard"] = scorecard_facts(kind, past, table, config)
