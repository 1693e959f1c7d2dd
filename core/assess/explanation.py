"""One shop of a run, explained from the saved artifacts alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from core.artifacts import Artifacts, ArtifactSet
from core.errors import ArtifactError, ConfigError, did_you_mean
from core.inference import Model, feature_matrix
from core.segments.explain import Explanation, explain

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

    def facts(self) -> dict[str, str | None]:
        """Return plain values, ready for JSON."""
        return {"shop_id": self.shop_id, "segment": None, "reason": self.reason}

    def lines(self) -> list[str]:
        """Return a sentence for people."""
        return [
            f"Shop {self.shop_id} has no segment: it was not eligible ({self.reason})."
        ]


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
    published = Artifacts(artifacts).serving()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{artifacts}` holds no complete run. Run the four pipelines first."
        )
    shop = shop_id.strip()
    model = Model.from_set(published)
    everyone = pl.scan_parquet(published.path("features.parquet"))
    row = everyone.filter(pl.col("shop_id") == shop).collect()
    if row.is_empty():
        return _not_eligible(published, shop, everyone)
    table = pl.concat([row, _sample(everyone, shop, model.config.seed)])
    start = feature_matrix(row, model.features)[0]
    segments = model.assign(table)["segment"].cast(pl.Int64).to_numpy()
    return explain(
        shop,
        start,
        model.assign(row).row(0, named=True),
        feature_matrix(table, model.features),
        segments,
        model.features,
        model.segments.published.names,
        assigner(model),
    )


def assigner(model: Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return the model's own assigner, from features (n_rows, n_features) to labels."""

    def assign(X: np.ndarray) -> np.ndarray:
        shop = pl.DataFrame({"shop_id": pl.repeat("", len(X), eager=True)})
        features = pl.DataFrame(X, schema=model.features, orient="row")
        labels = model.assign(shop.hstack(features))["segment"]
        return labels.cast(pl.Int64).to_numpy()

    return assign


def _sample(everyone: pl.LazyFrame, shop: str, seed: int) -> pl.DataFrame:
    """Return the other shops, or as many of them as a range is taken from."""
    others = everyone.filter(pl.col("shop_id") != shop).collect()
    if others.height <= MAX_COMPARED:
        return others
    return others.sample(MAX_COMPARED, seed=seed)


def _not_eligible(
    published: ArtifactSet, shop: str, everyone: pl.LazyFrame
) -> NotEligible:
    """Return why a shop has no features, or say that there is no such shop."""
    schema = {"shop_id": pl.String, "reason": pl.String}
    exclusions = pl.read_csv(
        published.path("exclusions.csv"), columns=list(schema), schema_overrides=schema
    )
    found = exclusions.filter(pl.col("shop_id") == shop)
    if not found.is_empty():
        return NotEligible(shop, found["reason"][0])
    eligible = everyone.select("shop_id").collect()["shop_id"]
    known = pl.concat([eligible, exclusions["shop_id"]]).head(MAX_IDS)
    raise ConfigError(
        f"no shop `{shop}` in `{published.folder}`, which knows "
        f"{len(eligible) + exclusions.height:,} shops."
        f"{did_you_mean(shop, known)} `features.parquet` and `exclusions.csv` list "
        "them all."
    )
