"""Training: what the stages share, predecessors, both kinds of segments."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from core.artifacts.arrays import save_arrays
from core.artifacts.folder import Artifacts, StageWriter
from core.artifacts.manifest import Manifest
from core.artifacts.reading import ArtifactSet
from core.config import Config, RefreshConfig
from core.errors import PROGRAM, ArtifactError
from core.evaluation.certificate import REPRODUCIBLE_ARI, derive_verdict
from core.evaluation.n_segments import (
    N_REFITS,
    PartitionChoice,
    choose_partition,
    partition_recipe,
    partition_stability,
)
from core.evaluation.null import StructureCheck
from core.evaluation.quality import label_summary, project_2d
from core.evaluation.splits import FEWEST_EFFECTIVE, choose_rules, relearning
from core.evaluation.stability import Recipe, agreement, refit
from core.logging import get_logger, progress
from core.models.density import DensityClusterer
from core.models.density_assigner import choose_exemplars
from core.models.partition import Partition
from core.models.scaling import feature_matrix
from core.retailers.features import MOMENTUM, SHOP
from core.retailers.files import RETAILERS
from core.retailers.history import HISTORY, MONTHLY
from core.retailers.inside import Past, continued_divisions, look_inside, named_by_rules
from core.retailers.model import (
    SEGMENT_STATE,
    SEGMENTS,
    Model,
    SegmentAssigner,
    Splits,
    features_scan,
    load_encoder,
    published_segments,
)
from core.retailers.names import name_segments
from core.segments.identity import Identity, match_segments
from core.segments.profiles import cluster_contrasts
from core.segments.published import (
    FEWEST_NATURAL,
    UNASSIGNED,
    PublishedSegments,
    SegmentKind,
    SegmentTable,
    Verdict,
    first_version,
    kept_names,
    next_version,
    publishable,
    reserve_ids,
    segment_table,
    switch_kind,
)
from core.segments.split import Split
from core.tables.ids import drawn_by_hash
from core.tables.parts import slices

# Ids whose hashes are compared at once.
IDS_AT_ONCE = 500_000


def training_table(out: StageWriter) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the features of the shops that a stage learns from, as table and matrix.

    Row by row the same shops in every stage, see `fit_sample`.
    """
    if out.base is None:
        raise ArtifactError(
            "there are no features yet. Run "
            f"`{PROGRAM} {RETAILERS.stages['prepare']}` first."
        )
    facts = out.base.manifest.facts("prepare")
    table = fit_sample(features_scan(out.base), out.config)
    return table, feature_matrix(table, facts["features"])


def fit_sample(shops: pl.LazyFrame, config: Config) -> pl.DataFrame:
    """Return the shops that a model is learnt from: at most `clustering.fit_shops`.

    Those with the smallest hash of their id: the same ones on every engine, in any
    order of rows, and month after month. In many columns neighbours are found by
    comparing all with all, so four times the shops would take sixteen times as long;
    what learning from a part costs, ``benchmarks/scale.py --parts sample`` measures
    (docs/scale.md).
    """
    n_wanted = config.clustering.fit_shops
    drawn, n_shops = pl.DataFrame(schema={"shop_id": pl.String}), 0
    for ids in slices(shops.select("shop_id"), IDS_AT_ONCE):
        n_shops += ids.height
        drawn = drawn.vstack(ids)
        drawn = drawn.filter(drawn_by_hash(drawn["shop_id"], n_wanted))
    if drawn.height < n_shops:
        only = drawn.lazy()
        shops = shops.join(only, on="shop_id", how="semi", maintain_order="left")
    return shops.collect(engine="streaming")


def write_pickle(value: Any, path: Path) -> None:
    """Write a pickle for notebooks; nothing here ever reads one."""
    with path.open("wb") as stream:
        pickle.dump(value, stream)


def draw_segments(
    folder: Path,
    published: PublishedSegments,
    labels: Mapping[SegmentKind, np.ndarray],
    spaces: Mapping[SegmentKind, np.ndarray],
) -> None:
    """Draw the maps of some kinds.

    Parameters
    ----------
    folder : Path
        Gets ``latent-space.png``, ``partition-space.png`` or ``rules-space.png``, by
        kind.
    published : PublishedSegments
        The kind whose groups are drawn under their ids.
    labels : mapping of kind to ndarray of int, shape (n_shops,)
        Clusters; -1 is none.
    spaces : mapping of kind to ndarray of float, shape (n_shops, n_dimensions)
        Where each kind was found.
    """
    from core.retailers.report.plots import draw_map

    shown = dict(labels)
    shown[published.kind] = published.ids_of(labels[published.kind])
    noun = "segment" if published.kind == "density" else "cluster"
    for kind, own in shown.items():
        said = noun if kind == "density" else "segment"
        draw_map(folder, kind, project_2d(spaces[kind]), own, said)


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
    shops: pl.DataFrame,
    kind: SegmentKind,
    labels: np.ndarray,
    features: list[str],
    rules: Split | None = None,
) -> SegmentTable:
    """Name and count the segments of one kind by the model alone: ids are clusters.

    Those of kind ``rules`` by a rule set at hand have the names of its rules.
    """
    names = name_segments(_contrasts(shops, labels, features))
    names = named_by_rules(names, rules if kind == "rules" else None, {})
    return segment_table(kind, labels, names)


def _to_follow(artifacts: Artifacts, published: ArtifactSet) -> Model | None:
    """Return the model of a complete run, to be followed; None for another run.

    Its next id and next version are those that no version kept in the folder has used:
    after going back, later ones are there.
    """
    if not published.manifest.is_complete:
        return None
    model = Model.from_set(published)
    kept = [
        published_segments(ArtifactSet(artifacts.versions_folder / name, manifest))
        for name, manifest in artifacts.versions().items()
        if SEGMENTS in manifest.files
    ]
    marked = reserve_ids(model.segments.published, kept)
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
        get_logger().warning("Ids and names start from scratch: %s", error)
        return None


def _is_same_population(published: ArtifactSet, shops: pl.DataFrame) -> bool:
    """Whether half of the smaller of two populations is in both."""
    known = features_scan(published).select("shop_id")
    n_known = known.select(pl.len()).collect().item()
    shared = known.join(shops.lazy().select("shop_id"), on="shop_id", how="semi")
    n_shared = shared.select(pl.len()).collect(engine="streaming").item()
    return bool(n_shared >= SAME_SHOPS * min(n_known, shops.height))


def publish_successor(
    predecessor: Model,
    shops: pl.DataFrame,
    features: list[str],
    labels: np.ndarray,
    table: SegmentTable,
    verdict: Verdict,
    options: RefreshConfig,
    splits: Mapping[int, Split] = MappingProxyType({}),
    rules: Split | None = None,
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
    verdict : Verdict
    options : RefreshConfig
        With the shares from which a segment counts as the same one.
    splits : mapping of int to Split
        What divides them, by cluster.
    rules : Split, optional
        What makes them, if they are of kind ``rules``.
    """
    before = predecessor.segments.published
    placed = predecessor.assign(shops)
    identity = _matched(before, placed, labels, shops, options)
    made_by = rules if table.kind == "rules" else None
    names = _names(before, identity, shops, labels, features, made_by)
    made = table, identity, labels, splits, shops, features, options
    divisions = continued_divisions(before, placed, *made)
    return next_version(before, table, identity, names, verdict, divisions)


def publish_other_kind(
    model: Model,
    shops: pl.DataFrame,
    table: SegmentTable,
    verdict: Verdict,
    options: RefreshConfig,
) -> PublishedSegments:
    """Publish a model's segments of the other kind, matched with those published.

    Parameters
    ----------
    model : Model
    shops : DataFrame
        The shops that it was trained on, with their features.
    table, verdict, options
        As for `publish_successor`; the table is of the other kind.
    """
    before = model.segments.published
    placed = model.assign(shops)
    labels = clusters_of(model, table.kind, shops)
    identity = _matched(before, placed, labels, shops, options)
    made_by = model.segments.rules if table.kind == "rules" else None
    names = _names(before, identity, shops, labels, model.features, made_by)
    splits = model.segments.splits.get(table.kind, {})
    made = table, identity, labels, splits, shops, model.features, options
    divisions = continued_divisions(before, placed, *made)
    return switch_kind(before, table, identity, names, verdict, divisions)


def clusters_of(model: Model, kind: SegmentKind, shops: pl.DataFrame) -> np.ndarray:
    """Return the clusters of shops of one kind, published or not, shape (n_shops,)."""
    X = feature_matrix(shops, model.features)
    if kind == "density":
        return model.latent_labels(X)
    if kind == "rules":
        return model.segments.by_rules(shops)
    return model.segments.partition.assign(model.scaler.transform(X)).labels


def _matched(
    before: PublishedSegments,
    placed: pl.DataFrame,
    labels: np.ndarray,
    shops: pl.DataFrame,
    options: RefreshConfig,
) -> Identity:
    """Match what is published with new clusters of the same shops."""
    return match_segments(
        placed["segment"].cast(pl.Int64).to_numpy(),
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
    rules: Split | None,
) -> dict[int, str]:
    """Return names by cluster: kept ones, and by the rules those of what is new."""
    kept = kept_names(before, identity)
    names = name_segments(_contrasts(shops, labels, features), kept)
    return named_by_rules(names, rules, kept)


def _contrasts(
    shops: pl.DataFrame, labels: np.ndarray, features: list[str]
) -> pl.DataFrame:
    """Return what sets each cluster apart, by momentum too where it is known."""
    labelled = shops.with_columns(pl.Series("segment", labels))
    told = [*features, *(name for name in MOMENTUM if name in shops.columns)]
    return cluster_contrasts(labelled, "segment", told)


@dataclass(frozen=True)
class TrainingShops:
    """The shops that a run learns from, row by row the same.

    Attributes
    ----------
    table : DataFrame
        Their features.
    features : list of str
        Those that are clustered.
    X : ndarray of float64, shape (n_shops, n_features)
        The same, unscaled; NaN where unknown.
    scaled, latent : ndarray of float64, shape (n_shops, n_dimensions)
        The shops in both spaces.
    """

    table: pl.DataFrame
    features: list[str]
    X: np.ndarray
    scaled: np.ndarray
    latent: np.ndarray

    @property
    def spaces(self) -> dict[SegmentKind, np.ndarray]:
        """Where segments of each kind are found."""
        return {"density": self.latent, "partition": self.scaled, "rules": self.scaled}


def learn_segments(
    out: StageWriter,
    shops: TrainingShops,
    clusterer: DensityClusterer,
    check: StructureCheck,
    predecessor: Model | None = None,
) -> PublishedSegments:
    """Learn the partition, derive the provisional verdict, look inside, and write all.

    Writes ``segment-state.safetensors``, ``segments.json`` and the pictures of the
    segments; the facts get ``partition`` (`PartitionChoice`, and its stability),
    ``rules`` (why there are any, or none, where they were tried), ``verdict``,
    ``lineage``, ``version`` and ``events``.

    Parameters
    ----------
    out : StageWriter
        Of ``clustering``.
    shops : TrainingShops
    clusterer : DensityClusterer
        Fitted on the latent space.
    check : StructureCheck
        Of the run's shops.
    predecessor : Model, optional
        The model whose ids and names live on in this one. None: a new lineage begins.
    """
    assert out.base is not None  # `shops` were read from it
    config = out.config
    choice = _choose(out.base, shops, config, predecessor)
    partition = Partition(choice.method, choice.n_segments, config.seed)
    partition.fit(shops.scaled, start=_partition_before(shops, predecessor))
    stability = partition_stability(shops.X, partition.labels_, choice, config)
    rules = _rules(out, shops, choice, partition.labels_, stability, predecessor)
    verdict = provisional_verdict(
        check, clusterer.n_clusters_, choice, stability, rules_ari(out.facts)
    )
    labels: dict[SegmentKind, np.ndarray] = {
        "density": clusterer.labels_,
        "partition": partition.labels_,
    }
    if rules is not None:
        labels["rules"] = rules.assign(shops.table)
    tables = {
        kind: named_table(shops.table, kind, own, shops.features, rules)
        for kind, own in labels.items()
    }
    placing = _placing(out.base, clusterer, partition, rules)
    made = tables, labels, placing, predecessor
    tables, splits = _looked_into(out, shops, *made)
    exemplars = choose_exemplars(shops.latent, clusterer.labels_, clusterer.strengths_)
    learnt = shops, labels, tables, splits, rules
    published = _published(*learnt, verdict, predecessor, config)
    write_segments(
        out,
        SegmentAssigner(partition.model_, exemplars, tables, published, splits, rules),
    )
    drawn: set[SegmentKind] = {"density", published.kind}
    shown = {kind: labels[kind] for kind in sorted(drawn)}
    draw_segments(out.folder, published, shown, shops.spaces)
    out.facts |= {
        "partition": choice.as_dict() | {"stability": SHOP.named_facts(stability)},
        "verdict": verdict.model_dump(),
    }
    return published


Placing = Mapping[SegmentKind, Callable[[pl.DataFrame], np.ndarray]]


def _rules(
    out: StageWriter,
    shops: TrainingShops,
    choice: PartitionChoice,
    labels: np.ndarray,
    stability: dict[str, Any],
    predecessor: Model | None,
) -> Split | None:
    """Return rules for everyone that tell more than a partition that is weak.

    Weak is one that does not come out the same, or that hardly divides.
    """
    assert out.base is not None  # `shops` were read from it
    n_effective = label_summary(labels).effective_clusters
    if n_effective >= FEWEST_EFFECTIVE and stability["ari"] >= REPRODUCIBLE_ARI:
        return None
    history, monthly = (out.base.table(name) for name in (HISTORY, MONTHLY))
    momentum = [name for name in MOMENTUM if name in history.columns]
    given = (shops.table, shops.features, history, monthly, out.config, SHOP)
    get_logger().info("Comparing rules with the partition by what shops did later")
    found = choose_rules(
        *given,
        partition=(choice.method, choice.n_segments),
        seed=out.config.seed,
        momentum=momentum,
        before=None if predecessor is None else predecessor.segments.rules,
    )
    split, reason, ari = found.split, found.reason, None
    if split is not None:
        own = split.assign(shops.table)
        if label_summary(own).effective_clusters < n_effective:
            split, reason = None, f"{reason}; yet they tell fewer {SHOP.plural} apart"
        else:
            learning = relearning(split, shops.table, *given[2:])
            refits = agreement(own, refit(*learning, out.config.seed, N_REFITS))
            ari = float(refits["ari"].to_numpy().mean())
    out.facts["rules"] = {
        "reason": reason,
        "ari": ari,
        "evidence": SHOP.named_facts(found.evidence),
    }
    return split


def rules_ari(facts: Mapping[str, Any]) -> float | None:
    """Return how far rules agree with refits, of a stage's facts; None without rules.

    Adjusted Rand index, over refits on 80% of the shops.
    """
    ari: float | None = facts.get("rules", {}).get("ari")
    return ari


def _placing(
    base: ArtifactSet,
    clusterer: DensityClusterer,
    partition: Partition,
    rules: Split | None,
) -> Placing:
    """Return what places any table of shops, by the kind of its clusters."""
    scaler, encoder = load_encoder(base)

    def scaled(table: pl.DataFrame) -> np.ndarray:
        return scaler.transform(feature_matrix(table, list(names)))

    names = base.manifest.facts("prepare")["features"]
    found: dict[SegmentKind, Callable[[pl.DataFrame], np.ndarray]] = {
        "partition": lambda table: partition.assign(scaled(table)).labels,
        "density": lambda table: (
            clusterer.assigner_.assign(encoder.transform(scaled(table))).labels
        ),
    }
    return found if rules is None else found | {"rules": rules.assign}


def _looked_into(
    out: StageWriter,
    shops: TrainingShops,
    tables: Mapping[SegmentKind, SegmentTable],
    labels: Mapping[SegmentKind, np.ndarray],
    placing: Placing,
    predecessor: Model | None,
) -> tuple[dict[SegmentKind, SegmentTable], Splits]:
    """Divide the large segments of every kind that a verdict may publish."""
    assert out.base is not None  # `shops` were read from it
    history, monthly = (out.base.table(name) for name in (HISTORY, MONTHLY))
    found, splits = dict(tables), {}
    for kind, table in tables.items():
        if kind == "density" and table.n_segments < FEWEST_NATURAL:
            continue  # never published
        past = Past(history, monthly, placing[kind])
        given = table, labels[kind], shops.table, shops.features, past, out.config
        found[kind], splits[kind] = look_inside(*given, predecessor)
    return found, splits


def write_segments(out: StageWriter, assigner: SegmentAssigner) -> None:
    """Write ``segment-state.safetensors`` and ``segments.json``, and who is who.

    The facts get ``lineage``, ``version`` and ``events``.
    """
    published = assigner.published
    save_arrays(out.path(SEGMENT_STATE), *assigner.get_state())
    published.write(out.path(SEGMENTS))
    out.facts |= {
        "lineage": published.lineage,
        "version": published.version,
        "events": [event.model_dump(mode="json") for event in published.events],
    }


def _published(
    shops: TrainingShops,
    labels: Mapping[SegmentKind, np.ndarray],
    tables: Mapping[SegmentKind, SegmentTable],
    splits: Splits,
    rules: Split | None,
    verdict: Verdict,
    predecessor: Model | None,
    config: Config,
) -> PublishedSegments:
    """Return what the verdict publishes, of a lineage that begins or goes on."""
    table = publishable(tables, verdict)
    own = labels[table.kind]
    if predecessor is None:
        return first_version(table, verdict, lineage_of(shops.table, own))
    given = (predecessor, shops.table, shops.features, own)
    inside = splits.get(table.kind, {})
    return publish_successor(*given, table, verdict, config.refresh, inside, rules)


def provisional_verdict(
    check: StructureCheck,
    n_clusters: int,
    choice: PartitionChoice,
    stability: dict[str, Any],
    rules: float | None = None,
) -> Verdict:
    """Derive the verdict of a run from its quick check and the partition's refits."""
    return derive_verdict(
        is_structured=check.is_structured,
        n_clusters=n_clusters,
        partition_ari=stability["ari"],
        rules_ari=rules,
        is_certified=False,
        structure_score=check.statistic,
        largest_null_score=max(check.null_statistics),
        p_value=check.p_value,
        n_nulls=len(check.null_statistics),
        partition_method=choice.method,
        partition_segments=choice.n_segments,
        partition_criterion=choice.criterion,
        n_partition_refits=stability["n_refits"],
    )


def _partition_before(
    shops: TrainingShops, predecessor: Model | None
) -> np.ndarray | None:
    """Return where another model's partition has the shops; None without one."""
    if predecessor is None or predecessor.features != shops.features:
        return None
    scaled = predecessor.scaler.transform(shops.X)
    return predecessor.segments.partition.assign(scaled).labels


def _choose(
    base: ArtifactSet,
    shops: TrainingShops,
    config: Config,
    predecessor: Model | None,
) -> PartitionChoice:
    """Choose the partition by the past of the shops, if they have one."""
    before = None
    if predecessor is not None:
        partition = predecessor.segments.partition
        before = partition.method, partition.n_segments
    history, monthly = (base.table(name) for name in (HISTORY, MONTHLY))
    with progress("Choosing a partition by what shops did later") as report:
        given = (shops.X, shops.features, history, monthly, config, SHOP)
        return choose_partition(*given, report, before)


def rules_learning(
    model: Model, base: ArtifactSet, table: pl.DataFrame
) -> tuple[np.ndarray, Recipe] | None:
    """Return what a model's rules are learnt from, and the recipe; None without rules.

    Parameters
    ----------
    model : Model
    base : ArtifactSet
        With the past that they are learnt from.
    table : DataFrame
        The shops to label, with `core.retailers.features.MOMENTUM`.
    """
    if model.segments.rules is None:
        return None
    past = base.table(HISTORY), base.table(MONTHLY)
    return relearning(model.segments.rules, table, *past, model.config, SHOP)


def recipe_of_partition(manifest: Manifest) -> Recipe:
    """Return what learns a model's own partition anew."""
    chosen = manifest.facts("clustering")["partition"]
    return partition_recipe(manifest.config, chosen["method"], chosen["n_segments"])
