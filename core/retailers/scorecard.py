"""What published segments and states tell of later months, in every run.

The published model labels the shops of every earlier cut by what was known of them
then; what they did in the months after says what its labels are worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.reading import ArtifactSet
from core.config import Config
from core.errors import EligibilityError
from core.evaluation.out_of_time import MIN_ENTITIES_AT_CUT, Cut, backtest_cuts
from core.evaluation.outcomes import (
    Followed,
    IntArray,
    everyone,
    still_selling,
)
from core.evaluation.scorecard import ALL, OnStep, Scorer, answer
from core.months import month_index
from core.retailers.features import MOMENTUM, SHOP
from core.retailers.history import HISTORY, MONTHLY, STATE_HISTORY
from core.retailers.model import Model
from core.segments.split import Split
from core.segments.states import LAPSED

SCORECARD_TABLE = "scorecard.csv"
SELLING = "still selling"
POPULATIONS: Mapping[str, Followed] = {ALL: everyone, SELLING: still_selling}
"""Shops that are followed: all at the cut, and those that sold in both last months."""
SEGMENTS, SUB_SEGMENTS, STATES = "segments", "sub_segments", "states"
SEGMENTS_AND_STATES = "segments and states"


@dataclass(frozen=True)
class Past:
    """The earlier months that a run can be judged by.

    Attributes
    ----------
    cuts : mapping of population to list of Cut
        Oldest first; the same shops in the same order, other outcomes. Shops that were
        eligible at the cut, and those that would have been if they had not lapsed: of
        these, features are unknown.
    table : DataFrame
        Of the eligible shops: ``as_of``, ids and features at each cut, and their
        ``state``, null in a run from before there were states; cut by cut, by id.
    monthly : DataFrame
        Their active months.
    """

    cuts: Mapping[str, list[Cut]]
    table: pl.DataFrame
    monthly: pl.DataFrame

    @property
    def months(self) -> list[str]:
        """The cuts, ``YYYY-MM``."""
        return [cut.as_of for cut in self.cuts[ALL]]

    def everyone(self, labels: Any) -> list[IntArray]:
        """Return labels of all shops at every cut.

        Parameters
        ----------
        labels : array or Series, shape (n_rows,)
            Of the rows of `table`.

        Returns
        -------
        list of ndarray of int
            In the order of each cut; the label of a lapsed shop is its state.
        """
        known = self.table.select(*_KEYS, pl.Series("label", labels, pl.String))
        asked = pl.concat(
            [
                cut.ids.to_frame().select(pl.lit(cut.as_of).alias("as_of"), pl.all())
                for cut in self.cuts[ALL]
            ]
        )
        found = asked.join(known, on=_KEYS, how="left", maintain_order="left")
        codes = found["label"].fill_null(LAPSED).rank("dense").cast(pl.Int64).to_numpy()
        ends = np.cumsum([len(cut.ids) for cut in self.cuts[ALL]])
        return np.split(codes, ends[:-1])


def past_of(base: ArtifactSet) -> Past:
    """Return the cuts of a run's history.

    Raises
    ------
    EligibilityError
        If it has none; the message says how many months it takes.
    """
    config, facts = base.manifest.config, base.manifest.facts("prepare")
    eligible, monthly = base.table(HISTORY).sort(_KEYS), base.table(MONTHLY)
    states = _states_of(base)
    lapsed = states.join(eligible, on=_KEYS, how="anti").select(_KEYS)
    history = pl.concat([eligible, lapsed], how="diagonal_relaxed")
    needed = max(MIN_ENTITIES_AT_CUT, config.clustering.n_needed)
    options = (facts["features"], config.evaluation.horizon_months, SHOP, needed)
    cuts = {
        name: backtest_cuts(history, monthly, *options, followed)
        for name, followed in POPULATIONS.items()
    }
    months = [cut.as_of for cut in cuts[ALL]]
    known = eligible.filter(pl.col("as_of").is_in(months))
    if known.is_empty():
        raise EligibilityError(_too_short(config, facts["as_of"], monthly, needed))
    table = known.join(states, on=_KEYS, how="left", maintain_order="left")
    return Past(cuts, table, monthly)


_KEYS = ["as_of", SHOP.id_column]


def _states_of(base: ArtifactSet) -> pl.DataFrame:
    """Return the states of shops at the cuts; none in a run of an earlier version."""
    if STATE_HISTORY in base.manifest.files:
        return base.table(STATE_HISTORY)
    return pl.DataFrame(schema=dict.fromkeys([*_KEYS, "state"], pl.String))


def _too_short(config: Config, as_of: str, monthly: pl.DataFrame, n_shops: int) -> str:
    """Say how much history there is, and how much a past date needs."""
    first = monthly["t"].min()
    found = 0 if monthly.is_empty() else month_index(as_of) - int(str(first)) + 1
    options = config.evaluation
    before = round(12 * config.eligibility.min_tenure_years)
    one = before + options.horizon_months
    every = one + (options.n_cuts - 1) * options.cut_step_months
    return (
        f"{found} months of sales (up to {as_of}) are too few: {n_shops:,} shops need "
        f"about {before} months of sales before a past date, and "
        f"{options.horizon_months} after it. Give at least {one} months ({every} for "
        f"all {options.n_cuts} dates), or prepare again with a smaller "
        "`evaluation.horizon_months`."
    )


def published_labels(model: Model, past: Past) -> dict[str, list[IntArray]]:
    """Return what a model's labels are at every cut, by their name.

    Returns
    -------
    dict
        ``segments``, ``sub_segments`` if any segment is divided, ``states`` if they are
        known, and with them "segments and states": each pair of the finest segment
        and the state a label of its own.
    """
    segments = model.segments_of(past.table)
    root = pl.Series("leaf", segments).cast(pl.String)
    rules = model.segments.rules
    if model.segments.published.kind == "rules" and rules is not None:
        rows = np.arange(len(segments))
        root = pl.Series("leaf", _unseen(rules, model, past, rows), pl.String)
    found, leaves = {SEGMENTS: past.everyone(root)}, root
    if model.segments.published.parts:
        leaves = root + _parts_of(model, past, segments)
        found[SUB_SEGMENTS] = past.everyone(leaves)
    states = past.table["state"]
    if states.null_count():
        return found
    both = past.everyone(leaves + " " + states)
    return found | {STATES: past.everyone(states), SEGMENTS_AND_STATES: both}


def _parts_of(model: Model, past: Past, segments: IntArray) -> pl.Series:
    """Return the part of its segment of every row, as text; "" where it is whole."""
    parts = np.full(len(segments), "", dtype=object)
    for segment in model.segments.published.segments:
        rows = np.flatnonzero(segments == segment.id)
        if segment.parts and len(rows):
            split = model.segments.split_of(segment)
            parts[rows] = [f".{part}" for part in _unseen(split, model, past, rows)]
    return pl.Series(parts.tolist(), dtype=pl.String)


def _unseen(split: Split, model: Model, past: Past, rows: IntArray) -> list[str]:
    """Return the part of rows by a split that has not seen their outcomes."""
    from core.evaluation.splits import unseen_parts

    columns = [*model.features, *(n for n in MOMENTUM if n in past.table.columns)]
    given = (past.table[rows], past.monthly, columns, model.config, SHOP)
    return unseen_parts(split, *given, seed=model.config.seed)


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
    model: Model, past: Past, table: pl.DataFrame, shown: str, n_permutations: int = 0
) -> dict[str, Any]:
    """Return what a scorecard says as plain values.

    Parameters
    ----------
    model, past
    table : DataFrame
        `score_labels` of the published labels.
    shown : str
        The set of labels that the answers are of.
    n_permutations : int, default 0

    Returns
    -------
    dict
        ``kind`` of segments, ``why_not`` (None), ``n_permutations`` (0: by a run, not
        by the verb ``scorecard``), ``cuts``, ``horizon_months``,
        ``labels`` (those shown) and ``outcomes``: averages over the cuts, a row per
        population and outcome with its ``answer``.
    """
    rows = table.filter(pl.col("labels") == shown, pl.col("cut") == ALL).to_dicts()
    return {
        "kind": model.segments.published.kind,
        "why_not": None,
        "n_permutations": n_permutations,
        "cuts": past.months,
        "horizon_months": model.config.evaluation.horizon_months,
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
    try:
        past = past_of(out.base)
    except EligibilityError as error:
        out.facts["scorecard"] = {"kind": kind, "why_not": str(error)}
        return
    labels = published_labels(model, past)
    table = score_labels(past, labels, model.config)
    table.write_csv(out.path(SCORECARD_TABLE))
    out.facts["scorecard"] = scorecard_facts(model, past, table, [*labels][-1])
