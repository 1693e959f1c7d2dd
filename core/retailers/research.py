"""The published model beside others: scorecard over time, other spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from core.artifacts.folder import Artifacts, StageResult
from core.artifacts.reading import ArtifactSet
from core.errors import (
    ArtifactError,
    ConfigError,
    SegmentsError,
    did_you_mean,
    listed,
)
from core.evaluation.comparison import (
    CLUSTERERS,
    SPACES,
    ComparisonEffort,
    FeatureTable,
    SpaceName,
    compare_recipes,
    recipe_of,
)
from core.evaluation.out_of_time import (
    MIN_ENTITIES_AT_CUT,
    backtest_cuts,
)
from core.evaluation.outcomes import IntArray
from core.evaluation.scorecard import N_PERMUTATIONS
from core.evaluation.stability import Recipe, whole_pipeline
from core.evaluation.workers import Workers
from core.logging import get_logger, progress
from core.models.scaling import feature_matrix
from core.models.umap import HOW_TO_INSTALL, has_umap
from core.retailers.features import FEATURE_SETS, SHOP, feature_set
from core.retailers.files import RETAILERS
from core.retailers.history import HISTORY, MONTHLY, write_history
from core.retailers.model import (
    Model,
    SegmentAssigner,
    features_of,
)
from core.retailers.monthly import ARCHIVE, archived_sales
from core.retailers.prepare import prepare
from core.retailers.publish import judging
from core.retailers.report.scorecard_words import (
    choice_remark,
    scorecard_answers,
    scorecard_lines,
    scorecard_rows,
)
from core.retailers.scorecard import (
    SCORECARD_TABLE,
    Past,
    past_of,
    published_labels,
    score_decay,
    score_labels,
    scorecard_facts,
)
from core.retailers.training import recipe_of_partition
from core.scratch import temporary_folder

DECAY = "scorecard-decay.csv"
SCORECARD_PICTURE = "scorecard.png"


def measure_scorecard(
    artifacts: str | Path, n_permutations: int = N_PERMUTATIONS
) -> StageResult:
    """Ask what shops did after earlier months, and what labels told of it.

    What `core.retailers.scorecard.write_scorecard` does in every run, with permuted
    labels, month by month, and beside the published labels those of the model's recipes
    (latent clusters, raw clusters, partition), learnt anew on the features of the
    oldest cut and frozen. Writes beside the model ``scorecard.csv``,
    ``scorecard-decay.csv`` and ``scorecard.png``.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    n_permutations : int
        Permuted labels, at least 19.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    EligibilityError
        If the data does not reach back far enough for any cut.
    """
    from core.retailers.report.plots import plot_scorecard

    with judging(artifacts) as (out, base):
        past, model = past_of(base), Model.from_set(base)
        config = model.config
        criterion = base.manifest.facts("clustering")["partition"]["criterion"]
        relearnt = _relearnt(past, model, _recipes(base))
        labels = published_labels(model, past)
        with progress(f"Scoring, with {n_permutations} permutations") as report:
            own = score_labels(past, labels, config, n_permutations, report)
        table = pl.concat([score_labels(past, relearnt, config), own])
        decay = score_decay(past, relearnt | labels, config)
        table.write_csv(out.path(SCORECARD_TABLE))
        decay.write_csv(out.path(DECAY))
        kind = model.segments.published.kind
        shown = [*labels][-1]
        facts = scorecard_facts(model, past, own, shown, n_permutations)
        out.facts["scorecard"] = facts
        months = decay.filter(pl.col("labels").is_in(list(labels)))
        plot_scorecard(own, months, facts, out.path(SCORECARD_PICTURE))
    folder = Path(artifacts)
    lines = [*scorecard_lines(facts), *choice_remark(kind, criterion)]
    lines += scorecard_answers(facts)
    lines.append(f"Tables: {folder / SCORECARD_TABLE}, {folder / DECAY}")
    lines.append(f"Picture: {folder / SCORECARD_PICTURE}")
    return StageResult("inference", folder, out.facts, lines, scorecard_rows(table))


def _recipes(base: ArtifactSet) -> dict[str, Recipe]:
    """Return how each set of labels of the model is learnt."""
    config = base.manifest.config
    return {
        "latent": whole_pipeline(config),
        "partition": recipe_of_partition(base.manifest),
        "raw": recipe_of("raw", "hdbscan", config),
    }


def _relearnt(
    past: Past, model: Model, recipes: Mapping[str, Recipe]
) -> dict[str, list[IntArray]]:
    """Learn every recipe at the oldest cut, and label the shops of all."""
    labels = {}
    X = feature_matrix(past.table, model.features)
    is_oldest = (past.table["as_of"] == past.months[0]).to_numpy()
    for name, recipe in recipes.items():
        get_logger().info("Learning the %s labels as of %s", name, past.months[0])
        labels[name] = past.everyone(recipe(X[is_oldest], model.config.seed)(X))
    return labels


COMPARISON_TABLE = "comparison-spaces.csv"
COMPARISON_PICTURE = "comparison-spaces.png"


@dataclass(frozen=True)
class _Known:
    """The features of one set, as of the run and as of earlier months."""

    now: pl.DataFrame
    history: pl.DataFrame


def compare(
    artifacts: str | Path,
    *,
    spaces: Sequence[str] | None = None,
    effort: ComparisonEffort | None = None,
    max_shops: int = 2000,
    k: int | None = None,
    n_workers: int | None = None,
) -> StageResult:
    """Judge the published model's shops in every space, by every clusterer.

    Writes ``comparison-spaces.csv`` (one row per feature set, space and clusterer; see
    `core.evaluation.comparison.compare_recipes`) and ``comparison-spaces.png`` beside
    the model.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    spaces : sequence of str, optional
        Of `SPACES`; default: all that can be had. `umap` needs
        the optional library of that name, and is left out with a line without it.
    effort : ComparisonEffort, optional
        Refits, nulls, time.
    max_shops : int
        Shops looked at, drawn at random where there are more; at least 100. What a
        smallest cluster is, is settled by the number of *these* shops.
    k : int, optional
        Parts of KMeans and of the mixture; default: as many as the run's own
        partition has.
    n_workers : int, optional
        Processes that make the nulls; 0: this one alone, None: one per core. The
        result does not depend on it.

    Raises
    ------
    ArtifactError
        If there is no complete run, or another model was published meanwhile.
    ConfigError
        For an unknown space, or too few shops or parts.
    """
    from core.retailers.report.plots import (
        comparison_lines,
        comparison_table,
        plot_comparison,
    )

    chosen, notes = _chosen_spaces(spaces)
    if max_shops < 100:
        raise ConfigError(f"`max_shops` is {max_shops}; expected at least 100.")
    published, (shops, more), own = Artifacts(artifacts, RETAILERS).read_complete(
        lambda found: (found, _shops_of(found, max_shops), _parts_of(found))
    )
    parts = own if k is None else k
    # The artifacts are free meanwhile; they are locked only to write.
    with (
        progress("Judging spaces and clusterers") as report,
        Workers(n_workers) as workers,
    ):
        config = published.manifest.config
        given = (
            shops,
            config,
            parts,
            chosen,
            effort or ComparisonEffort(),
            workers,
            report,
        )
        table = SHOP.named_table(compare_recipes(*given))
    with judging(artifacts, published.manifest) as (out, _):
        table.write_csv(out.path(COMPARISON_TABLE))
        plot_comparison(table, SPACES, CLUSTERERS, out.path(COMPARISON_PICTURE))
    notes += more
    folder = Path(artifacts)
    lines = [*notes, *comparison_lines(table), f"Table: {folder / COMPARISON_TABLE}"]
    lines.append(f"Picture: {folder / COMPARISON_PICTURE}")
    return StageResult("inference", folder, out.facts, lines, comparison_table(table))


def _chosen_spaces(wanted: Sequence[str] | None) -> tuple[list[SpaceName], list[str]]:
    """Return the spaces that can be had, and what is to be said of the others."""
    unknown = [name for name in wanted or [] if name not in SPACES]
    if unknown:
        raise ConfigError(
            f"unknown space {listed(unknown)}; expected {listed(list(SPACES))}."
            f"{did_you_mean(unknown[0], SPACES)}"
        )
    chosen = [name for name in SPACES if wanted is None or name in wanted]
    if "umap" in chosen and not has_umap():
        chosen.remove("umap")
        return chosen, [f"UMAP is left out, it is not installed: {HOW_TO_INSTALL}."]
    return chosen, []


def _shops_of(
    base: ArtifactSet, max_shops: int
) -> tuple[dict[str, FeatureTable], list[str]]:
    """Return the same shops in every feature set that can be had."""
    config = base.manifest.config
    known, notes = _known_of(base)
    now = _in_common([part.now for part in known.values()], ["shop_id"])
    then = _in_common([part.history for part in known.values()], ["as_of", "shop_id"])
    rows = _drawn(now["shop_id"], max_shops, config.seed)
    past = _drawn(then["shop_id"].unique(), max_shops, config.seed)
    asked = then.join(past.to_frame(), on="shop_id", how="semi")
    monthly = base.table(MONTHLY)
    needed = max(MIN_ENTITIES_AT_CUT, config.clustering.n_needed)
    shops = {}
    for name, part in known.items():
        names = feature_set(name).names
        table = rows.to_frame().join(
            part.now, on="shop_id", how="left", maintain_order="left"
        )
        cuts = backtest_cuts(
            part.history.join(asked, on=["as_of", "shop_id"], how="semi"),
            monthly,
            names,
            config.evaluation.horizon_months,
            SHOP,
            needed,
        )
        shops[name] = FeatureTable(feature_matrix(table, names), cuts)
    return shops, notes


def _known_of(base: ArtifactSet) -> tuple[dict[str, _Known], list[str]]:
    """Return the features of every set, and why some cannot be had."""
    facts = base.manifest.facts("prepare")
    own = _Known(
        features_of(base),
        base.table(HISTORY),
    )
    known, notes = {facts["feature_set"]: own}, []
    for name in FEATURE_SETS:
        if name not in known:
            try:
                known[name] = _computed_anew(base, name)
            except SegmentsError as error:
                notes.append(f"The `{name}` features are left out: {error}")
    return known, notes


def _in_common(tables: Sequence[pl.DataFrame], keys: list[str]) -> pl.DataFrame:
    """Return the keys that every table holds."""
    first, *others = tables
    found = first.select(keys)
    for table in others:
        found = found.join(table, on=keys, how="semi")
    return found


def _drawn(shop_ids: pl.Series, n: int, seed: int) -> pl.Series:
    """Draw at most n shops, ascending; the order given does not matter."""
    return shop_ids.sort().sample(min(n, len(shop_ids)), seed=seed).sort()


def _computed_anew(base: ArtifactSet, name: str) -> _Known:
    """Compute another feature set of the same rows, as of the same months."""
    facts, saved = base.manifest.facts("prepare"), base.manifest.config
    get_logger().info("Computing the `%s` features of the same rows", name)
    features = saved.features.model_copy(update={"name": name, "as_of": facts["as_of"]})
    seed = base.manifest.stages["prepare"].seed
    config = saved.model_copy(update={"features": features, "seed": seed})
    with temporary_folder() as work:
        sales = archived_sales(base.path(ARCHIVE), config)
        prepared = prepare(config, work / "prepared", sales)
        batches = list(prepared.batches(config.clustering.batch_size))
        if not batches:
            raise ArtifactError("no shop is eligible for them.")
        write_history(prepared, work)
        history = pl.read_parquet(work / HISTORY, glob=False, memory_map=False)
    return _Known(pl.concat(batches), history)


def _parts_of(base: ArtifactSet) -> int:
    """Return the number of segments in the run's own partition, at least 2."""
    return max(2, SegmentAssigner.from_set(base).partition.n_segments)
