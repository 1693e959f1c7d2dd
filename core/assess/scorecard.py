"""What the standing model's segments tell of the months after, as a scorecard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from core.artifacts import Artifacts, ArtifactSet
from core.config import Config
from core.errors import ArtifactError, EligibilityError
from core.evaluation.lookback import (
    MIN_SHOPS_AT_CUT,
    Cut,
    labels_over_time,
    looking_back,
)
from core.evaluation.partition_choice import partition_recipe
from core.evaluation.scorecard import N_PERMUTATIONS, Scorecard, Scorer
from core.evaluation.spaces import recipe_of
from core.evaluation.stability import Recipe, whole_pipeline
from core.features.history import HISTORY, MONTHLY
from core.inference.segments import SEGMENTS
from core.logging import get_logger, progress
from core.months import month_index
from core.pipelines import StageResult
from core.pipelines.publishing import refresh_report
from core.segments.published import PublishedSegments

TABLE = "scorecard.csv"
DECAY = "scorecard-decay.csv"
PICTURE = "scorecard.png"


def measure_scorecard(
    artifacts: str | Path, n_permutations: int = N_PERMUTATIONS
) -> StageResult:
    """Ask what shops did after earlier months, and what their segments told of it.

    The model's recipes (latent clusters, raw clusters, partition) are learnt anew on
    the features of the oldest cut, frozen, and label the shops of every cut. Writes
    beside the model ``scorecard.csv`` and ``scorecard-decay.csv`` (the two tables of
    `core.evaluation.scorecard.Scorecard`, with ``labels``: latent, raw or partition,
    and ``is_published``) and ``scorecard.png``.

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
    from core.reporting.scorecard import (
        choice_remark,
        plot_scorecard,
        scorecard_lines,
        scorecard_rows,
    )

    published = Artifacts(artifacts).serving()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{artifacts}` holds no complete run. Run the four pipelines first."
        )
    config = published.manifest.config
    with Artifacts(artifacts).stage("inference", config, is_serving=True) as out:
        assert out.base is not None  # `published`, opened again under the lock
        cuts = cuts_of(out.base)
        shown = _published_labels(out.base)
        criterion = out.base.manifest.facts("clustering")["partition"]["criterion"]
        cards = _scored(cuts, _recipes(out.base), config, n_permutations)
        outcomes, decay = (
            _joined({name: getattr(card, part) for name, card in cards.items()}, shown)
            for part in ("outcomes", "decay")
        )
        outcomes.write_csv(out.path(TABLE))
        decay.write_csv(out.path(DECAY))
        months = config.evaluation.horizon_months
        cut_months = [cut.as_of for cut in cuts]
        plot_scorecard(outcomes, decay, months, cut_months, out.path(PICTURE))
        out.facts |= out.base.manifest.facts("inference")
        out.facts["scorecard"] = {
            "cuts": cut_months,
            "horizon_months": months,
            "labels": shown,
            "outcomes": outcomes.filter(
                pl.col("is_published") & (pl.col("cut") == "all")
            ).to_dicts(),
        }
        refresh_report(out)
    folder = Path(artifacts)
    lines = [
        *scorecard_lines(outcomes, months, cut_months),
        *choice_remark(shown, criterion),
    ]
    lines.append(f"Tables: {folder / TABLE}, {folder / DECAY}")
    lines.append(f"Picture: {folder / PICTURE}")
    rows = scorecard_rows(outcomes)
    return StageResult("inference", folder, out.facts, lines, rows)


def cuts_of(base: ArtifactSet) -> list[Cut]:
    """Return the cuts of a run's history, oldest first.

    Raises
    ------
    EligibilityError
        If it has none; the message says how many months it takes.
    """
    config, facts = base.manifest.config, base.manifest.facts("prepare")
    monthly = pl.read_parquet(base.path(MONTHLY), memory_map=False)
    needed = max(MIN_SHOPS_AT_CUT, config.clustering.n_needed)
    cuts = looking_back(
        pl.read_parquet(base.path(HISTORY), memory_map=False),
        monthly,
        facts["features"],
        config.evaluation.horizon_months,
        needed,
    )
    if not cuts:
        raise EligibilityError(_too_short(config, facts["as_of"], monthly, needed))
    return cuts


def _too_short(config: Config, as_of: str, monthly: pl.DataFrame, n_shops: int) -> str:
    """Say how much history there is, and how much a look back needs."""
    first = monthly["t"].min()
    found = 0 if monthly.is_empty() else month_index(as_of) - int(str(first)) + 1
    options = config.evaluation
    before = round(12 * config.eligibility.min_tenure_years)
    one = before + options.horizon_months
    every = one + (options.n_cuts - 1) * options.cut_step_months
    return (
        f"nothing can be looked back on: {found} months of sales up to {as_of} leave "
        f"no month at which {n_shops:,} shops were eligible. It takes {before} active "
        f"months up to such a month and {options.horizon_months} after it, so at least "
        f"{one} months of history, and {every} for all {options.n_cuts} cuts. Give "
        "more months, or prepare again with a smaller `evaluation.horizon_months`."
    )


def _published_labels(base: ArtifactSet) -> str:
    """Return the name of the labels that are published."""
    kind = PublishedSegments.read(base.path(SEGMENTS)).kind
    return "latent" if kind == "density" else kind


def _recipes(base: ArtifactSet) -> dict[str, Recipe]:
    """Return how each set of labels of the model is learnt."""
    config = base.manifest.config
    chosen = base.manifest.facts("clustering")["partition"]
    return {
        "latent": whole_pipeline(config),
        "partition": partition_recipe(config, chosen["method"], chosen["n_segments"]),
        "raw": recipe_of("raw", "hdbscan", config),
    }


def _scored(
    cuts: Sequence[Cut],
    recipes: Mapping[str, Recipe],
    config: Config,
    n_permutations: int,
) -> dict[str, Scorecard]:
    """Learn every recipe at the oldest cut, and score its labels at all."""
    scorer = Scorer(cuts, config.seed, n_permutations)
    cards = {}
    for name, recipe in recipes.items():
        get_logger().info("Learning the %s labels as of %s", name, cuts[0].as_of)
        labels = labels_over_time(cuts, recipe, config.seed)
        with progress(f"Scoring them, and {n_permutations} permutations") as report:
            cards[name] = scorer.score(labels, report)
    return cards


def _joined(tables: Mapping[str, pl.DataFrame], shown: str) -> pl.DataFrame:
    """Put the tables of several labels below one another, the published first."""
    names = sorted(tables, key=lambda name: name != shown)
    return pl.concat(
        [
            tables[name].select(
                pl.lit(name).alias("labels"),
                pl.lit(name == shown).alias("is_published"),
                pl.all(),
            )
            for name in names
        ]
    )
