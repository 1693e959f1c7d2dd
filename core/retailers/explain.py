"""One shop explained: why it is in its segment, and what would move it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.artifacts.folder import Artifacts
from core.errors import ConfigError, did_you_mean
from core.models.scaling import feature_matrix
from core.retailers.files import RETAILERS
from core.retailers.model import Model, exclusions_of, features_of
from core.retailers.names import feature_label
from core.retailers.report.evidence import report_lines
from core.segments.explain import Explanation, explain
from core.segments.published import UNASSIGNED

# Shops that a typical range is taken from; more would not move it.
MAX_COMPARED = 20_000
# Ids that are searched for one that looks like the one asked for.
MAX_IDS = 100_000


@dataclass(frozen=True)
class NotEligible:
    """A shop that has no segment because it was not eligible.

    Attributes
    ----------
    shop_id, reason : str
    """

    shop_id: str
    reason: str


def explain_shop(artifacts: str | Path, shop_id: str) -> Explanation | NotEligible:
    """Explain where a shop of the training data stands, and why.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    shop_id : str

    Raises
    ------
    ArtifactError
        If there is no complete run.
    ConfigError
        If the run knows no such shop; the message names one that looks like it.
    """
    found = Artifacts(artifacts, RETAILERS)
    model, everyone, exclusions = found.read_complete(
        lambda base: (Model.from_set(base), features_of(base), exclusions_of(base))
    )
    shop = shop_id.strip()
    row = everyone.filter(pl.col("shop_id") == shop)
    if row.is_empty():
        return _not_eligible(found.root, shop, everyone["shop_id"], exclusions)
    table = pl.concat([row, _sample(everyone, shop, model.config.seed)])
    start = feature_matrix(row, model.columns)[0]
    return explain(
        shop,
        start,
        model.assign(row).row(0, named=True),
        feature_matrix(table, model.columns),
        model.segments_of(table),
        model.columns,
        model.segments.published.names,
        assigner(model),
    )


def explanation_facts(found: Explanation | NotEligible) -> dict[str, Any]:
    """Return what is said of one shop as plain values, ready for JSON."""
    if isinstance(found, NotEligible):
        return {"shop_id": found.shop_id, "segment": None, "reason": found.reason}
    facts = found.facts()
    return {"shop_id": facts.pop("entity_id"), **facts}


def explanation_lines(found: Explanation | NotEligible) -> list[str]:
    """Return what is said of one shop as sentences for people."""
    if isinstance(found, NotEligible):
        return [
            f"Shop {found.shop_id} has no segment: it was not eligible "
            f"({found.reason})."
        ]
    return report_lines(
        "explanation",
        **vars(found),
        label=feature_label,
        unassigned=UNASSIGNED,
    )


def assigner(model: Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return the model's own assigner, from features (n_rows, n_features) to labels."""

    def assign(X: np.ndarray) -> np.ndarray:
        return model.segments_of(pl.DataFrame(X, schema=model.columns, orient="row"))

    return assign


def _sample(everyone: pl.DataFrame, shop: str, seed: int) -> pl.DataFrame:
    """Return the other shops, or as many of them as a range is taken from."""
    others = everyone.filter(pl.col("shop_id") != shop)
    if others.height <= MAX_COMPARED:
        return others
    return others.sample(MAX_COMPARED, seed=seed)


def _not_eligible(
    folder: Path, shop: str, eligible: pl.Series, exclusions: pl.DataFrame
) -> NotEligible:
    """Return why a shop has no features, or say that there is no such shop."""
    found = exclusions.filter(pl.col("shop_id") == shop)
    if not found.is_empty():
        return NotEligible(shop, found["reason"][0])
    known = pl.concat([eligible, exclusions["shop_id"]]).head(MAX_IDS)
    raise ConfigError(
        f"no shop `{shop}` in `{folder}`, which knows "
        f"{len(eligible) + exclusions.height:,} shops."
        f"{did_you_mean(shop, known)} `features.parquet` and `exclusions.csv` list "
        "them all."
    )
