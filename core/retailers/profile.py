"""The published segments described: profiles and contract."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from core.artifacts.folder import Artifacts, StageResult, StageWriter
from core.artifacts.reading import ArtifactSet
from core.errors import PROGRAM, ConfigError
from core.evaluation import effects
from core.evaluation.quality import IntArray
from core.evaluation.stability import Recipe, whole_pipeline
from core.logging import progress
from core.models.centroids import means_of
from core.models.scaling import feature_matrix
from core.retailers.features import SHOP, UNCLUSTERED, VOLUME
from core.retailers.files import RETAILERS
from core.retailers.history import HISTORY, LATER, MONTHLY
from core.retailers.judge import STABILITY
from core.retailers.model import (
    Model,
    features_of,
    published_segments,
)
from core.retailers.publish import judging, write_exact_rules
from core.retailers.report.evidence import profile_lines
from core.retailers.training import recipe_of_partition
from core.rules.surrogate import Surrogate, fit_surrogate, rule_table
from core.segments.contract import (
    Breach,
    SegmentFacts,
    check_contract,
    contract_facts,
    contract_text,
    draft_contract,
    read_contract,
)
from core.segments.profiles import typical_members
from core.segments.published import UNASSIGNED

# Drawn at random where there are more: nothing here gets sharper with a million.
MAX_SHOPS = 50_000
# A refit on fewer shops looks for clusters of the same share, but not for fewer shops.
LEAST_CLUSTER = 10


@dataclass(frozen=True)
class _Shops:
    """The shops of a run, row by row the same in all of it.

    Attributes
    ----------
    table : DataFrame
        ``shop_id``, features and volume.
    scaled : ndarray of float, shape (n_shops, n_features)
    segments : ndarray of int
        Published segment; -1 is none.
    closeness : ndarray of float
        How typical each is; see `core.segments.profiles.typical_members`.
    n_all : int
        Shops that the model was trained on.
    """

    table: pl.DataFrame
    scaled: np.ndarray
    segments: IntArray
    closeness: np.ndarray
    n_all: int


def profile_segments(artifacts: str | Path) -> StageResult:
    """Describe the published segments, and test what sets them apart.

    Writes ``segment_profiles.csv``, ``segment_exemplars.csv``, ``segment_rules.txt``,
    ``segment_rules.csv``; the facts of ``inference`` get ``profiles``.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    """
    with judging(artifacts) as (out, base):
        model = Model.from_set(base)
        shops = _published_shops(base, model)
        tested, why_not = _test(base, model, shops)
        features = [*model.features, *UNCLUSTERED]
        today = effects.effects_against_rest(
            shops.table, shops.segments, features, False
        )
        names = model.segments.published.names
        profiles = effects.profile_table(today, tested, why_not, names, SHOP)
        out.write_csv("segment_profiles.csv", profiles)
        out.write_csv("segment_exemplars.csv", _exemplars(shops, model))
        rules, texts = _rules(out, shops, model)
        out.facts["profiles"] = {
            "segment_kind": model.segments.published.kind,
            "test": SHOP.named_facts(effects.holdout_facts(tested, why_not)),
            "strongest": effects.strongest(profiles, model.features),
            "surrogate": SHOP.named_facts(rules.facts()) if rules else None,
            "rules": texts,
        }
    folder = Path(artifacts)
    lines = profile_lines(out.facts["profiles"], names)
    lines.append(f"Profiles: {folder / 'segment_profiles.csv'}")
    lines.append(f"Rules: {folder / 'segment_rules.txt'}")
    return StageResult("inference", folder, out.facts, lines)


def _published_shops(base: ArtifactSet, model: Model) -> _Shops:
    """Return the shops to describe, with their published segments."""
    table = features_of(base)
    n_all = table.height
    if n_all > MAX_SHOPS:
        table = table.sample(MAX_SHOPS, seed=model.config.seed).sort("shop_id")
    placed = model.assign(table)
    closeness = placed["latent_cluster_strength"].to_numpy()
    scaled = model.scaler.transform(feature_matrix(table, model.features))
    segments = placed["segment"].cast(pl.Int64).to_numpy()
    if model.segments.published.kind == "partition":
        closeness = -model.segments.partition.assign(scaled).distances
    elif model.segments.published.kind == "rules":
        closeness = -_distances_to_means(scaled, segments)
    return _Shops(table, scaled, segments, closeness, n_all)


def _distances_to_means(rows: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Return how far each row is from the mean of its segment, shape (n_rows,)."""
    places = np.unique(segments, return_inverse=True)[1]
    return np.asarray(np.linalg.norm(rows - means_of(rows, places)[places], axis=1))


def labelled_shops(base: ArtifactSet) -> pl.DataFrame:
    """Return the features of a run's shops beside their published segment.

    Parameters
    ----------
    base : ArtifactSet
        Of a complete run.

    Returns
    -------
    DataFrame
        ``segment``, its name (null: in none), the model's features and the volume.
    """
    model, table = Model.from_set(base), features_of(base)
    segments = model.assign(table)["segment"].cast(pl.Int64)
    names = {i: n for i, n in model.segments.published.names.items() if i != UNASSIGNED}
    named = segments.replace_strict(names, default=None, return_dtype=pl.String)
    return table.select(named.alias("segment"), *model.features, SHOP.size_column)


def _test(
    base: ArtifactSet, model: Model, shops: _Shops
) -> tuple[effects.HoldoutEffects | None, str | None]:
    """Test what sets the segments apart, or say why that cannot be done."""
    cuts = base.manifest.facts("prepare").get("cuts", [])
    if model.segments.published.kind == "rules":
        return None, "rules follow from what is looked at; see what they tell of later"
    if not cuts:
        return None, "no earlier month at which shops were eligible"
    history, later, monthly = (base.table(name) for name in (HISTORY, LATER, MONTHLY))
    at_cut = history.filter(as_of=min(cuts))
    past = effects.HoldoutData(at_cut, later, monthly, model.as_of, SHOP)
    is_sampled = shops.table["shop_id"].is_in(monthly["shop_id"].unique().implode())
    table, segments = shops.table.filter(is_sampled), shops.segments[is_sampled]
    n_known = table.join(past.at_cut, on="shop_id", how="semi").height
    if table.height < effects.MIN_ENTITIES or not n_known:
        return None, "too few shops with a past"
    recipe = _recipe(base, model, table.height / 2 / shops.n_all)
    given = (table, segments, past, model.features, recipe, model.config.seed)
    with progress("Refitting the segments on two halves of the shops") as report:
        return effects.holdout_effects(*given, on_step=report), None


def _recipe(base: ArtifactSet, model: Model, share: float) -> Recipe:
    """Return what made the published segments, for a share of the shops."""
    config = model.config
    if model.segments.published.kind == "partition":
        return recipe_of_partition(base.manifest)
    size = config.clustering.min_cluster_size
    if size is None:
        return whole_pipeline(config)  # it follows the number of shops by itself
    size = max(min(size, LEAST_CLUSTER), round(size * share))
    clustering = config.clustering.model_copy(update={"min_cluster_size": size})
    return whole_pipeline(config.model_copy(update={"clustering": clustering}))


def _exemplars(shops: _Shops, model: Model) -> pl.DataFrame:
    """Return the most typical shops of every segment, with how typical and volume."""
    published = model.segments.published
    is_density = published.kind == "density"
    closeness = pl.Series(shops.closeness if is_density else -shops.closeness)
    table = shops.table.select(
        "shop_id",
        pl.Series("segment", shops.segments),
        closeness.alias("strength" if is_density else "distance_to_centre"),
        *(feature.name for feature in VOLUME),
    )
    names = pl.col("segment").replace_strict(published.names, return_dtype=pl.String)
    chosen = typical_members(table, shops.closeness, shops.scaled, "shop_id")
    return chosen.insert_column(1, chosen.select(segment_name=names).to_series())


def _rules(
    out: StageWriter, shops: _Shops, model: Model
) -> tuple[Surrogate | None, list[str]]:
    """Write the rules: those that segments are, or plain ones that imitate them."""
    if model.segments.published.kind == "rules":
        return None, write_exact_rules(out, model)
    given = (shops.table, shops.segments, model.features, out.config.seed)
    rules = fit_surrogate(*given)
    return rules, _write_rules(out, rules, shops, model)


def _write_rules(
    out: StageWriter, rules: Surrogate | None, shops: _Shops, model: Model
) -> list[str]:
    """Write the rules as sentences and as a table; return the sentences."""
    if rules is None:
        return []
    names = model.segments.published.names
    has_unknown = {n: shops.table[n].null_count() > 0 for n in model.features}
    texts = [rule.text(names, has_unknown, SHOP) for rule in rules.rules]
    out.path("segment_rules.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    table = SHOP.named_table(rule_table(rules, names))
    out.write_csv("segment_rules.csv", table)
    return texts


def draft_for(artifacts: str | Path, owner: str, expires: date) -> str:
    """Return the text of a contract with bands around the published segments.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run. Stability floors are drafted where `segments
        stability` (or `certify`) has been run.
    owner : str
        Who answers for it.
    expires : date
        Its last day.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    """
    facts, unassigned = Artifacts(artifacts, RETAILERS).read_complete(_facts)
    return contract_text(draft_contract(facts, unassigned, owner, expires))


def breaches_of(
    artifacts: str | Path, contract: str | Path | None, today: date
) -> list[Breach]:
    """Hold a contract against the published segments.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    contract : path or None
        See `core.segments.contract.read_contract`; None: what ``refresh.contract`` of
        the published model names.
    today : date
        What `expires` is compared with.

    Raises
    ------
    ConfigError
        If the contract cannot be read, or none is named.
    ArtifactError
        If there is no complete run.
    """
    found = Artifacts(artifacts, RETAILERS)
    path = contract or found.complete().manifest.config.refresh.contract
    if path is None:
        raise ConfigError(
            "no contract is named, neither here nor as `refresh.contract` of the "
            f"published model. Pass its file; `{PROGRAM} contract draft` writes one."
        )
    facts, unassigned = found.read_complete(_facts)
    return check_contract(read_contract(path), facts, unassigned, today)


def _facts(published: ArtifactSet) -> tuple[list[SegmentFacts], float]:
    """Return the published segments, and the share in none of them."""
    table = published_segments(published)
    stability = _stability(published, table.kind)
    return contract_facts(table, stability), table.unassigned_share


def _stability(published: ArtifactSet, kind: str) -> dict[int, float]:
    """Return the clusterwise Jaccard by segment id, as far as it was measured."""
    text = published.output(STABILITY)
    if text is None:
        return {}
    table = pl.read_csv(text, glob=False).filter(kind=kind)
    return dict(table.select("segment", "jaccard").iter_rows())
