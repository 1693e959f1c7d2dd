"""One month, as one model sees it: features, segments, and how it differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from core.artifacts import ArtifactSet
from core.config import Config, RefreshConfig
from core.data.sources import Sales
from core.evaluation.drift import (
    DriftOptions,
    DriftReference,
    DriftReport,
    MonthRows,
    measure_drift,
    usual_months,
)
from core.features.history import HISTORY
from core.features.preparation import prepare
from core.inference import PREDICTION_SCHEMA, Model, feature_matrix
from core.months import month_index

# A shop that sold nothing for half a year has closed, whatever its last segment was.
MAX_INACTIVE_MONTHS = 6
SHORTEST_WINDOW = 12
# Fewer shops say little of what is usual.
FEWEST_SHOPS = 50


@dataclass(frozen=True)
class ScoredMonth:
    """The shops of a month, and where a model has them.

    Attributes
    ----------
    month : str
        YYYY-MM.
    features : DataFrame
        ``shop_id``, features and volume of the eligible shops.
    labels : DataFrame
        `core.inference.Model.assign` of them, row by row.
    exclusions : DataFrame
        The other shops, with their reasons.
    """

    month: str
    features: pl.DataFrame
    labels: pl.DataFrame
    exclusions: pl.DataFrame

    @property
    def assigned(self) -> pl.DataFrame:
        """What the ledger takes: ``entity, segment, strength``.

        The strength is that of the latent cluster; in a partition everyone belongs.
        """
        is_partition = pl.col("segment_kind") == "partition"
        strength = pl.when(is_partition).then(1.0).otherwise("latent_cluster_strength")
        return self.labels.select(
            pl.col("shop_id").alias("entity"), "segment", strength=strength
        )


def window_months(base: ArtifactSet) -> int:
    """Return the months that the features of a model look back over.

    Features of a longer past are drawn less to the average, so a model that learnt from
    two years would see all its shops move as a third one comes in. It goes on looking
    at two, and so do its refits.
    """
    facts = base.manifest.facts("prepare")
    wanted = base.manifest.config.features.history_months
    oldest = facts["intake"]["oldest_month"]
    span = month_index(facts["as_of"]) - month_index(oldest) + 1
    return max(min(wanted, span), SHORTEST_WINDOW)


def monthly_config(base: ArtifactSet, month: str) -> Config:
    """Return a model's configuration for the features of a later month."""
    config = base.manifest.config
    features = config.features.model_copy(
        update={"as_of": month, "history_months": window_months(base)}
    )
    silent = config.eligibility.max_inactive_months or MAX_INACTIVE_MONTHS
    eligibility = config.eligibility.model_copy(update={"max_inactive_months": silent})
    return config.model_copy(update={"features": features, "eligibility": eligibility})


def score_month(model: Model, sales: Sales, config: Config, work: Path) -> ScoredMonth:
    """Compute the features of a month, and place its shops.

    Parameters
    ----------
    model : Model
    sales : Sales
        From the archive.
    config : Config
        `monthly_config` of the month.
    work : Path
        Folder for interim files; deleted by the caller.
    """
    assert config.features.as_of is not None  # `monthly_config` names it
    prepared = prepare(config, work, sales)
    parts = list(model.score(prepared))
    if parts:
        features, labels = (pl.concat(tables) for tables in zip(*parts, strict=True))
    else:
        features = pl.DataFrame({"shop_id": []}, schema={"shop_id": pl.String})
        labels = pl.DataFrame(schema=PREDICTION_SCHEMA)
    return ScoredMonth(config.features.as_of, features, labels, prepared.exclusions)


def drift_of(
    reference: DriftReference,
    model: Model,
    scored: ScoredMonth,
    previous_shares: dict[int, float] | None,
    options: RefreshConfig,
) -> DriftReport:
    """Measure how a month differs from the training month."""
    X, segments, errors = drift_inputs(model, scored.features)
    return measure_drift(
        reference,
        X,
        segments,
        errors,
        previous_shares=previous_shares,
        names=model.segments.published.names,
        options=DriftOptions(options.drift_thresholds, options.share_shift),
        seed=model.config.seed,
    )


def drift_inputs(
    model: Model, features: pl.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, segments and reconstruction errors of a month's shops."""
    X = feature_matrix(features, model.features)
    errors = model.encoder.reconstruction_error(model.scaler.transform(X))
    segments = model.assign(features)["segment"].to_numpy().astype(np.int64)
    return X, segments, errors


def reference_of(
    base: ArtifactSet, model: Model, training: ScoredMonth
) -> DriftReference:
    """Return what later months are compared with.

    Features of a short window move as the window does: the earlier months that a
    training run keeps say how much of that is usual.
    """
    X, segments, errors = drift_inputs(model, training.features)
    history = pl.read_parquet(base.path(HISTORY), memory_map=False)
    usual = usual_months(
        history["as_of"].unique().to_list(),
        base.manifest.facts("prepare")["intake"]["oldest_month"],
        model.as_of,
        window_months(base),
    )
    past = [history.filter(as_of=month).drop("as_of") for month in usual]
    return DriftReference.of(
        X,
        model.features,
        segments,
        errors,
        past=[
            MonthRows(*drift_inputs(model, month))
            for month in past
            if month.height >= FEWEST_SHOPS
        ],
        seed=model.config.seed,
    )
