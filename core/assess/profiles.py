"""Profiles of a standing model's segments: what a training run takes no time for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from core.artifacts import Artifacts, ArtifactSet, StageWriter
from core.config import Config
from core.errors import ArtifactError
from core.evaluation.effects import effects_against_rest
from core.evaluation.later import MIN_SHOPS, LaterEffects, Past, later_effects
from core.evaluation.partition_choice import partition_recipe
from core.evaluation.profile import later_facts, profile_table, strongest
from core.evaluation.quality import IntArray
from core.evaluation.stability import Recipe, whole_pipeline
from core.features.history import HISTORY, LATER, MONTHLY
from core.features.retailer import VOLUME
from core.inference import Model, feature_matrix
from core.logging import progress
from core.months import month_index
from core.pipelines import StageResult
from core.pipelines.publishing import refresh_report
from core.reporting.curves import plot_curves
from core.reporting.summary import profile_lines
from core.segments.surrogate import Surrogate, fit_surrogate, rule_table
from core.segments.typical import monthly_curves, typical_shops

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
        How typical each is; see `core.segments.typical.typical_shops`.
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
    ``segment_rules.csv``, ``segment_curves.csv`` and ``segment-curves.png``; the facts
    of ``inference`` get ``profiles``.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    """
    published = Artifacts(artifacts).serving()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{artifacts}` holds no complete run. Run the four pipelines first."
        )
    config: Config = published.manifest.config
    with Artifacts(artifacts).stage("inference", config, is_serving=True) as out:
        base = out.base
        assert base is not None  # `published`, opened again under the lock
        model = Model.from_set(base)
        shops = _published_shops(base, model)
        tested, why_not = _test(base, model, shops)
        features = [*model.features, *(feature.name for feature in VOLUME)]
        today = effects_against_rest(shops.table, shops.segments, features, False)
        names = model.segments.published.names
        profiles = profile_table(today, tested, why_not, names)
        profiles.write_csv(out.path("segment_profiles.csv"))
        exemplars = _exemplars(shops, model)
        exemplars.write_csv(out.path("segment_exemplars.csv"))
        rules = fit_surrogate(shops.table, shops.segments, model.features, config.seed)
        texts = _write_rules(out, rules, shops, model)
        _write_curves(out, base, shops, model)
        out.facts |= base.manifest.facts("inference")
        out.facts["profiles"] = {
            "segment_kind": model.segments.published.kind,
            "test": later_facts(tested, why_not),
            "strongest": strongest(profiles, model.features),
            "surrogate": rules.facts() if rules is not None else None,
            "rules": texts,
        }
        refresh_report(out)
    folder = Path(artifacts)
    lines = profile_lines(out.facts["profiles"], names)
    lines.append(f"Profiles: {folder / 'segment_profiles.csv'}")
    lines.append(f"Rules: {folder / 'segment_rules.txt'}")
    return StageResult("inference", folder, out.facts, lines)


def _published_shops(base: ArtifactSet, model: Model) -> _Shops:
    """Return the shops to describe, with their published segments."""
    table = pl.read_parquet(base.path("features.parquet"), memory_map=False)
    n_all = table.height
    if n_all > MAX_SHOPS:
        table = table.sample(MAX_SHOPS, seed=model.config.seed).sort("shop_id")
    placed = model.assign(table)
    closeness = placed["latent_cluster_strength"].to_numpy()
    scaled = model.scaler.transform(feature_matrix(table, model.features))
    if model.segments.published.kind == "partition":
        closeness = -model.segments.partition.assign(scaled).distances
    segments = placed["segment"].cast(pl.Int64).to_numpy()
    return _Shops(table, scaled, segments, closeness, n_all)


def _test(
    base: ArtifactSet, model: Model, shops: _Shops
) -> tuple[LaterEffects | None, str | None]:
    """Test what sets the segments apart, or say why that cannot be done."""
    cuts = base.manifest.facts("prepare").get("cuts", [])
    if not cuts:
        return None, "no earlier month at which shops were eligible"
    history, later, monthly = (
        pl.read_parquet(base.path(name), memory_map=False)
        for name in (HISTORY, LATER, MONTHLY)
    )
    past = Past(history.filter(as_of=min(cuts)), later, monthly, model.as_of)
    is_sampled = shops.table["shop_id"].is_in(monthly["shop_id"].unique().implode())
    table, segments = shops.table.filter(is_sampled), shops.segments[is_sampled]
    n_known = table.join(past.at_cut, on="shop_id", how="semi").height
    if table.height < MIN_SHOPS or not n_known:
        return None, "too few shops with a past"
    recipe = _recipe(base, model, table.height / 2 / shops.n_all)
    given = (table, segments, past, model.features, recipe, model.config.seed)
    with progress("Learning the segments anew, from half of the shops twice") as report:
        return later_effects(*given, on_step=report), None


def _recipe(base: ArtifactSet, model: Model, share: float) -> Recipe:
    """Return what made the published segments, for a share of the shops."""
    config = model.config
    if model.segments.published.kind == "partition":
        chosen = base.manifest.facts("clustering")["partition"]
        return partition_recipe(config, chosen["method"], chosen["n_segments"])
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
    chosen = typical_shops(table, shops.closeness, shops.scaled)
    return chosen.insert_column(1, chosen.select(segment_name=names).to_series())


def _write_rules(
    out: StageWriter, rules: Surrogate | None, shops: _Shops, model: Model
) -> list[str]:
    """Write the rules as sentences and as a table; return the sentences."""
    if rules is None:
        return []
    names = model.segments.published.names
    has_unknown = {n: shops.table[n].null_count() > 0 for n in model.features}
    texts = [rule.text(names, has_unknown) for rule in rules.rules]
    out.path("segment_rules.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    rule_table(rules, names).write_csv(out.path("segment_rules.csv"))
    return texts


def _write_curves(
    out: StageWriter, base: ArtifactSet, shops: _Shops, model: Model
) -> None:
    """Write and draw the months of every segment."""
    monthly = pl.read_parquet(base.path(MONTHLY), memory_map=False)
    segments = shops.table.select("shop_id", segment=pl.Series(shops.segments))
    curves = monthly_curves(monthly, segments, month_index(model.as_of))
    names = model.segments.published.names
    named = pl.col("segment").replace_strict(names, return_dtype=pl.String)
    curves.insert_column(1, curves.select(segment_name=named).to_series()).write_csv(
        out.path("segment_curves.csv")
    )
    plot_curves(curves, names, out.path("segment-curves.png"))
