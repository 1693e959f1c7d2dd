"""A model and the one before it: whom it follows, and who in it is still who."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from core.artifacts import Artifacts, ArtifactSet
from core.config import RefreshConfig
from core.errors import ArtifactError
from core.inference import SEGMENTS, Model, feature_matrix
from core.logging import get_logger
from core.segments.identity import Identity, match_segments
from core.segments.naming import name_segments
from core.segments.profiles import cluster_contrasts
from core.segments.published import (
    UNASSIGNED,
    PublishedSegments,
    SegmentKind,
    SegmentTable,
    segment_table,
)
from core.segments.succession import followed, kept_names, raised, turned

# Of the smaller population, the share that another one must hold to be the same one.
SAME_SHOPS = 0.5


def lineage_of(shops: pl.DataFrame, labels: np.ndarray) -> str:
    """Return the name of a lineage: twelve digits of what its first model grouped.

    Parameters
    ----------
    shops : DataFrame
        With ``shop_id``; the order of rows does not count.
    labels : ndarray of int, shape (n_shops,)
        The segments that it publishes.
    """
    pairs = sorted(zip(shops["shop_id"].to_list(), labels.tolist(), strict=True))
    text = json.dumps([shops.columns, pairs])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def named_table(
    shops: pl.DataFrame, kind: SegmentKind, labels: np.ndarray, features: list[str]
) -> SegmentTable:
    """Name and count the segments of one kind by the model alone: ids are clusters."""
    names = name_segments(_contrasts(shops, labels, features))
    return segment_table(kind, labels, names)


def standing_predecessor(artifacts: Artifacts) -> Model | None:
    """Return the published model as one to follow; None without a complete run.

    Its next id and next version are those that no version kept in the folder has used:
    after going back, later ones are there.

    Raises
    ------
    ArtifactError
        If its files are unusable.
    """
    published = artifacts.published()
    return None if published is None else _to_follow(artifacts, published)


def _to_follow(artifacts: Artifacts, published: ArtifactSet) -> Model | None:
    """Return the model of a complete run, above all versions that are kept."""
    if not published.manifest.is_complete:
        return None
    model = Model.from_set(published)
    kept = [
        PublishedSegments.read(artifacts.versions_folder / name / SEGMENTS)
        for name, manifest in artifacts.versions().items()
        if SEGMENTS in manifest.files
    ]
    marked = raised(model.segments.published, kept)
    return replace(model, segments=replace(model.segments, published=marked))


def found_predecessor(
    artifacts: Artifacts, shops: pl.DataFrame, features: list[str]
) -> Model | None:
    """Return the model in a folder that a training run there follows, if any.

    It is the published one of a complete run, if it has the same features and its shops
    and these are the same population: at least half of the smaller one is in both. One
    that cannot be read is not followed; a warning says so.

    Parameters
    ----------
    artifacts : Artifacts
    shops : DataFrame
        With ``shop_id``: what the new model is trained on.
    features : list of str
    """
    try:
        published = artifacts.published()
        model = None if published is None else _to_follow(artifacts, published)
        if published is None or model is None or model.features != features:
            return None
        return model if _is_same_population(published, shops) else None
    except ArtifactError as error:
        get_logger().warning("Ids and names start anew: %s", error)
        return None


def _is_same_population(published: ArtifactSet, shops: pl.DataFrame) -> bool:
    """Whether half of the smaller of two populations is in both."""
    before = pl.scan_parquet(published.path("features.parquet")).select("shop_id")
    known = before.collect()
    n_shared = known.join(shops.select("shop_id"), on="shop_id", how="semi").height
    return n_shared >= SAME_SHOPS * min(known.height, shops.height)


def follow(
    predecessor: Model,
    shops: pl.DataFrame,
    features: list[str],
    labels: np.ndarray,
    table: SegmentTable,
    verdict: Mapping[str, Any],
    options: RefreshConfig,
) -> PublishedSegments:
    """Publish a new model after an earlier one, which labels the same shops.

    Parameters
    ----------
    predecessor : Model
    shops : DataFrame
        The shops that the new model is trained on, with their features.
    features : list of str
    labels : ndarray of int, shape (n_shops,)
        The segments that the new model publishes, as clusters.
    table : SegmentTable
        Of these, by the new model alone.
    verdict : mapping
    options : RefreshConfig
        With the shares from which a segment counts as the same one.
    """
    before = predecessor.segments.published
    old = predecessor.assign(shops)["segment"].cast(pl.Int64).to_numpy()
    identity = _matched(before, old, labels, shops, options)
    names = _names(before, identity, shops, labels, features)
    return followed(before, table, identity, names, verdict)


def turn(
    model: Model,
    shops: pl.DataFrame,
    table: SegmentTable,
    verdict: Mapping[str, Any],
    options: RefreshConfig,
) -> PublishedSegments:
    """Publish a model's segments of the other kind, matched with those published.

    Parameters
    ----------
    model : Model
    shops : DataFrame
        The shops that it was trained on, with their features.
    table, verdict, options
        As for `follow`; the table is of the other kind.
    """
    before = model.segments.published
    old = model.assign(shops)["segment"].cast(pl.Int64).to_numpy()
    labels = clusters_of(model, table.kind, shops)
    identity = _matched(before, old, labels, shops, options)
    names = _names(before, identity, shops, labels, model.features)
    return turned(before, table, identity, names, verdict)


def clusters_of(model: Model, kind: SegmentKind, shops: pl.DataFrame) -> np.ndarray:
    """Return the clusters of shops of one kind, published or not, shape (n_shops,)."""
    X = feature_matrix(shops, model.features)
    if kind == "density":
        return model.latent_labels(X)
    return model.segments.partition.assign(model.scaler.transform(X)).labels


def _matched(
    before: PublishedSegments,
    old: np.ndarray,
    labels: np.ndarray,
    shops: pl.DataFrame,
    options: RefreshConfig,
) -> Identity:
    """Match what is published with new clusters of the same shops."""
    return match_segments(
        old,
        labels,
        next_id=before.next_id,
        survived=options.survived,
        part=options.part,
        known=[s.id for s in before.segments if s.id != UNASSIGNED],
        entities=shops["shop_id"].to_list(),
        trained={s.id: s.size for s in before.segments},
    )


def _names(
    before: PublishedSegments,
    identity: Identity,
    shops: pl.DataFrame,
    labels: np.ndarray,
    features: list[str],
) -> dict[int, str]:
    """Return names by cluster: kept ones, and by the rules those of what is new."""
    kept = kept_names(before, identity)
    return name_segments(_contrasts(shops, labels, features), kept)


def _contrasts(
    shops: pl.DataFrame, labels: np.ndarray, features: list[str]
) -> pl.DataFrame:
    """Return what sets each cluster apart."""
    labelled = shops.with_columns(pl.Series("segment", labels))
    return cluster_contrasts(labelled, "segment", features)
