"""Champion and challenger, judged on the same rows, and the segment contract."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.artifacts import ArtifactSet
from core.assess.scorecard import cuts_of
from core.config import Config
from core.errors import EligibilityError
from core.evaluation.gate import GateDecision, Judged, Kind, judge, judge_challenger
from core.evaluation.lookback import Cut
from core.evaluation.partition_choice import partition_recipe
from core.evaluation.stability import Recipe, Refit, refit, whole_pipeline
from core.inference import Model, feature_matrix
from core.logging import progress
from core.segments.contract import Breach, check_contract, facts_of
from core.segments.contract_file import read_contract


@dataclass(frozen=True)
class Judgement:
    """What the gate found.

    Attributes
    ----------
    decision : GateDecision
    breaches : list of Breach
        Of the contract by the challenger; some of them may be old.
    stability : dict of int to float
        Clusterwise Jaccard of the challenger's segments, by id.
    """

    decision: GateDecision
    breaches: list[Breach]
    stability: dict[int, float]


def judge_refit(
    champion: Model, challenger: ArtifactSet, config: Config, today: date
) -> Judgement:
    """Judge both models on the rows that the challenger learnt from.

    Parameters
    ----------
    champion : Model
        Serves now.
    challenger : ArtifactSet
        A complete run.
    config : Config
        Its section ``refresh`` names the refits and the contract.
    today : date
        For terms that expire.

    Raises
    ------
    ConfigError
        If the contract cannot be read.
    """
    rows = _Rows.of(challenger, config)
    model = Model.from_set(challenger)
    judged = {
        name: rows.judge(one)
        for name, one in (("champion", champion), ("challenger", model))
    }
    stability = judged["challenger"].jaccard
    breaches = contract_breaches(model, stability, config, today)
    decision = judge_challenger(
        judged["champion"],
        judged["challenger"],
        [breach.message for breach in breaches],
    )
    return Judgement(decision, breaches, stability)


def contract_breaches(
    model: Model, stability: dict[int, float], config: Config, today: date
) -> list[Breach]:
    """Return the terms of the contract that a model's segments break."""
    if config.refresh.contract is None:
        return []
    published = model.segments.published
    contract = read_contract(Path(config.refresh.contract))
    facts = facts_of(published, stability)
    return check_contract(contract, facts, published.unassigned_share, today)


class _Rows:
    """The rows both models are judged on, and the refits they both meet."""

    def __init__(
        self, table: pl.DataFrame, cuts: list[Cut], base: ArtifactSet, config: Config
    ) -> None:
        self.table, self.cuts, self.base, self.config = table, cuts, base, config
        self.seed = base.manifest.config.seed
        self._refits: dict[Kind, list[Refit]] = {}

    @classmethod
    def of(cls, base: ArtifactSet, config: Config) -> _Rows:
        table = pl.read_parquet(base.path("features.parquet"), memory_map=False)
        n, most = table.height, config.evaluation.certificate_max_shops
        if n > most:  # refits on a sample: their time grows with the rows
            table = table.sample(most, seed=base.manifest.config.seed).sort("shop_id")
        try:
            cuts = cuts_of(base)
        except EligibilityError:
            cuts = []  # the past is too short to look back on
        return cls(table, cuts, base, config)

    def judge(self, model: Model) -> Judged:
        """Judge one model."""
        published = model.segments.published
        labels = [_published(model, cut.X) for cut in self.cuts]
        X = feature_matrix(self.table, model.features)
        return judge(
            _published(model, X),
            self.refits(published.kind, X),
            kind=published.kind,
            verdict=published.verdict["kind"],
            cuts=self.cuts,
            cut_labels=labels,
            seed=self.seed,
        )

    def refits(self, kind: Kind, X: np.ndarray) -> list[Refit]:
        """Return the refits of one kind of segments, made once."""
        if kind not in self._refits:
            n = self.config.refresh.gate_refits
            with progress(f"Learning everything anew for the gate, {n} times") as told:
                self._refits[kind] = refit(
                    X, self._recipe(kind), self.seed, n, "subsample", told
                )
        return self._refits[kind]

    def _recipe(self, kind: Kind) -> Recipe:
        manifest = self.base.manifest
        if kind == "density":
            return whole_pipeline(manifest.config)
        chosen: dict[str, Any] = manifest.facts("clustering")["partition"]
        return partition_recipe(manifest.config, chosen["method"], chosen["n_segments"])


def _published(model: Model, X: np.ndarray) -> np.ndarray:
    """Return the published segments of rows of unscaled features."""
    scaled = model.scaler.transform(X)
    latent = model.encoder.transform(scaled)
    placed = model.segments.place(scaled, latent, model.latent_labels(X))
    return placed["segment"].to_numpy().astype(np.int64)
