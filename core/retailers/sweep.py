"""Raw against latent noise ratios over seeds, presets and options.

A noise ratio alone says little: one cluster that holds everybody has none of it, data
without structure has its own, and another seed may find other clusters at the same
ratio. So every run is made twice, on the shops and on data without structure drawn by
the run's seed (`core.evaluation.null`), and beside each ratio stand its companions and
how well labels agree from seed to seed.

What is learnt is kept in ``fits/`` beside the table, by what it was learnt from and
with which options: a sweep that was stopped, or one that asks for more, learns only
what is not there yet.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from sklearn.metrics import adjusted_rand_score

from core.artifacts.manifest import library_versions
from core.config import AutoencoderConfig, ClusteringConfig, Config, ScalingConfig
from core.errors import ConfigError
from core.evaluation.null import fit_gaussian_copula
from core.evaluation.quality import LabelSummary, label_summary
from core.evaluation.stability import Fit, FitStore, run_fits
from core.evaluation.workers import Workers
from core.logging import get_logger, progress
from core.models.autoencoder.estimator import Autoencoder
from core.models.density import fit_density
from core.models.preprocessing import FeatureScaler
from core.models.scaling import feature_matrix
from core.models.seeding import derived_seed
from core.resolve import resolve_config
from core.retailers.features import feature_set
from core.retailers.prepare import Prepared, prepare, require_eligible
from core.retailers.presets import preset_assignments, settings_of
from core.scratch import temporary_folder
from core.tables.sales import Sales

TABLE = "sweep.csv"
PICTURE = "sweep.png"
FITS = "fits"
SPACES = ("raw", "latent")
LEARNT = ("scaling", "autoencoder")
MAX_RUNS = 10_000


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes
    ----------
    preset : str
    seed : int
        Of the encoder, of samples and of the data without structure. What is read, and
        the built-in sample, do not depend on it.
    varied : dict of str to str
        The options that the sweep varies, by dotted key.
    config : Config
        All options.
    """

    preset: str
    seed: int
    varied: dict[str, str]
    config: Config

    @property
    def table(self) -> str:
        """Name what its features depend on."""
        return _digest(self._sections(("eligibility", "features")))

    @property
    def spaces(self) -> str:
        """Name what its two spaces depend on."""
        return _digest([self.table, self._sections(LEARNT), self.seed])

    def _sections(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: getattr(self.config, name).model_dump() for name in names}


def seeds_of(text: str) -> list[int]:
    """Return the seeds that a text such as ``1..10`` or ``1,2,7`` names.

    Raises
    ------
    ConfigError
        For another text, or a seed below 0.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        try:
            start = int(first)
            seeds += range(start, (int(last) if dots else start) + 1)
        except ValueError:
            seeds = []
            break
    if not seeds or min(seeds) < 0:
        raise ConfigError(
            f"`--seed {text}`: expected seeds from 0 as `1..10`, or as `1,2,7`."
        )
    return list(dict.fromkeys(seeds))


def grid_of(assignments: Sequence[str]) -> dict[str, list[str]]:
    """Return the values that each option takes, from ``key=value,value,...`` texts.

    A value in brackets, such as a list, is one value.
    """
    grid = {}
    for text in assignments:
        key, _, values = text.partition("=")
        is_one = values.lstrip().startswith(("[", "{"))
        parts = [values] if is_one else [part.strip() for part in values.split(",")]
        grid[key.strip()] = list(dict.fromkeys(parts))
    return grid


def plan_sweep(
    seeds: Sequence[int],
    presets: Sequence[str],
    assignments: Sequence[str],
    file: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
) -> list[SweepRun]:
    """Return a run for every preset, combination of values, and seed.

    Parameters
    ----------
    seeds : sequence of int
    presets : sequence of str
        Names of `core.retailers.presets`.
    assignments : sequence of str
        Options as ``key=value``, or ``key=value,value`` for one that is varied. They
        go before those of a preset.
    file, flags
        As of `core.resolve.resolve_config`.

    Raises
    ------
    ConfigError
        For an unknown preset or option, and a value that an option does not take.
    """
    grid = grid_of(assignments)
    runs = []
    for preset in presets:
        fixed = preset_assignments(preset)
        for values in itertools.product(*grid.values()):
            varied = dict(zip(grid, values, strict=True))
            given = [f"{key}={value}" for key, value in varied.items()]
            config = resolve_config(file, flags, [*fixed, *given])
            runs += [SweepRun(preset, seed, varied, config) for seed in seeds]
    return runs


def sweep(
    runs: Sequence[SweepRun], output: Path, n_workers: int | None = None
) -> pl.DataFrame:
    """Make every run on the shops and on data without structure; write what came out.

    Parameters
    ----------
    runs : sequence of SweepRun
        All of the same rows.
    output : Path
        Folder that gets ``sweep.csv``, ``sweep.png`` and ``fits/``.
    n_workers : int, optional
        Processes; 0: this one alone, None: one per core. The result is the same.

    Returns
    -------
    DataFrame
        A row per run and space (raw, latent):

        ``preset, seed, space``, the options of `core.retailers.presets.settings_of`;
        ``n_shops, clusters, noise_ratio, effective_clusters, largest_share`` and
        ``structure_score``
            See `core.evaluation.quality.LabelSummary`.
        ``null_clusters, null_noise_ratio, null_structure_score``
            The same of data without structure, which the same recipe has learnt.
        ``seed_ari``
            Mean adjusted Rand index with the labels of the other seeds; null for one
            seed.
        ``truth_ari``
            The same with the sample's planted groups, over the shops of one; null for
            other data.

    Raises
    ------
    SourceError, SchemaError, EligibilityError
        If the rows cannot be had, used, or are too few.
    ConfigError
        For no run, or too many.
    """
    from core.retailers.report.sweep import plot_sweep

    if not 0 < len(runs) <= MAX_RUNS:
        raise ConfigError(
            f"{len(runs):,} runs were requested; expected 1 to {MAX_RUNS:,}."
        )
    output.mkdir(parents=True, exist_ok=True)
    with temporary_folder() as work:
        tables, fingerprint = _tables(runs, work)
    store = FitStore(output / FITS, _key(fingerprint))
    labels = _labels(runs, tables, store, n_workers)
    rows = [
        row
        for run, found in zip(runs, labels, strict=True)
        for row in _rows(run, found, tables[run.table].truth)
    ]
    table = _with_seed_ari(rows, runs, [found.own for found in labels])
    table.write_csv(output / TABLE)
    plot_sweep(table, _varied(runs), output / PICTURE)
    return table


@dataclass(frozen=True)
class _Table:
    """Shops as one set of features sees them; planted groups, -1 for none."""

    X: np.ndarray
    truth: np.ndarray | None


def _tables(runs: Sequence[SweepRun], work: Path) -> tuple[dict[str, _Table], str]:
    """Return the features by what they depend on, and what the rows are known by."""
    tables: dict[str, _Table] = {}
    sales: Sales | None = None
    for number, run in enumerate(runs):
        if run.table in tables:
            continue
        prepared = prepare(run.config, work / str(number), sales)
        sales = prepared.sales
        needed = max(r.config.clustering.n_needed for r in runs if r.table == run.table)
        require_eligible(prepared.shops, run.config.eligibility, needed)
        tables[run.table] = _table_of(prepared, run.config)
    assert sales is not None  # there is a run
    get_logger().info("%s", " ".join(sales.intake.summary()[:1]))
    return tables, sales.fingerprint


def _table_of(prepared: Prepared, config: Config) -> _Table:
    shops = pl.concat(list(prepared.batches(config.clustering.batch_size)))
    X = feature_matrix(shops, feature_set(config.features.name).names)
    if prepared.sales.truth is None:
        return _Table(X, None)
    known = shops.select("shop_id").join(
        prepared.sales.truth, on="shop_id", how="left", maintain_order="left"
    )
    planted = pl.when(pl.col("kind") == "archetype").then("archetype")
    groups = known.select(planted.rank("dense").cast(pl.Int64)).to_series()
    return _Table(X, groups.fill_null(-1).to_numpy())


def _key(fingerprint: str) -> str:
    return json.dumps({"rows": fingerprint, "versions": library_versions()})


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class _Labels(NamedTuple):
    """Clusters of one run, shape (2, n_shops): raw space, latent space."""

    own: np.ndarray
    null: np.ndarray


def _labels(
    runs: Sequence[SweepRun],
    tables: Mapping[str, _Table],
    store: FitStore,
    n_workers: int | None,
) -> list[_Labels]:
    """Learn what is not kept; return the labels of every run.

    Runs that differ in their clustering alone share their spaces.
    """
    together: dict[str, list[SweepRun]] = {}
    for run in runs:
        together.setdefault(run.spaces, []).append(run)
    tasks = {}
    for name, group in together.items():
        options = [run.config.clustering for run in group]
        first, given = group[0], _digest([o.model_dump() for o in options])
        for kind in _Labels._fields:
            shared = tables[first.table].X, first.seed, first.config.scaling
            learnt = partial(_fit, *shared, first.config.autoencoder, options)
            tasks[f"{name}-{given}-{kind}"] = partial(learnt, is_null=kind == "null")
    fits: dict[str, np.ndarray] = {}
    with (
        progress("Learning spaces and clusters") as report,
        Workers(n_workers) as workers,
    ):
        for name, fit in run_fits(tasks, workers, store):
            fits[name] = fit.labels
            report(len(fits), len(tasks))
    found: dict[tuple[str, int], _Labels] = {}
    for (name, group), own, null in zip(
        together.items(), *(list(tasks)[start::2] for start in (0, 1)), strict=True
    ):
        shape = len(group), len(SPACES), -1
        pairs = zip(fits[own].reshape(shape), fits[null].reshape(shape), strict=True)
        found |= {(name, place): _Labels(*pair) for place, pair in enumerate(pairs)}
    places = {name: iter(range(len(group))) for name, group in together.items()}
    return [found[run.spaces, next(places[run.spaces])] for run in runs]


def _fit(
    X: np.ndarray,
    seed: int,
    scaling: ScalingConfig,
    autoencoder: AutoencoderConfig,
    clusterings: Sequence[ClusteringConfig],
    *,
    is_null: bool,
) -> Fit:
    """Learn the spaces and cluster them in several ways, each: raw, then latent."""
    if is_null:
        rng = np.random.default_rng(derived_seed(seed, 1))
        X = fit_gaussian_copula(X, rng).sample(rng)
    scaled = FeatureScaler(**scaling.model_dump()).fit_transform(X)
    latent = Autoencoder(**autoencoder.model_dump(), seed=seed).fit_transform(scaled)
    labels = [
        fit_density(Z, clustering, seed).labels_
        for clustering in clusterings
        for Z in (scaled, latent)
    ]
    return Fit(np.concatenate(labels))


def _rows(
    run: SweepRun, labels: _Labels, truth: np.ndarray | None
) -> list[dict[str, Any]]:
    """Return the rows of one run, without what compares seeds."""
    rows = []
    for space, own, null in zip(SPACES, labels.own, labels.null, strict=True):
        figures = _figures(label_summary(own))
        nothing = _figures(label_summary(null))
        compared = ("clusters", "noise_ratio", "structure_score")
        rows.append(
            {"preset": run.preset, "seed": run.seed, "space": space}
            | settings_of(run.config)
            | {"n_shops": len(own), **figures}
            | {f"null_{name}": nothing[name] for name in compared}
            | {"truth_ari": _truth_ari(own, truth)}
        )
    return rows


def _figures(summary: LabelSummary) -> dict[str, float | None]:
    return {
        "clusters": summary.n_clusters,
        "noise_ratio": summary.noise_ratio,
        "effective_clusters": summary.effective_clusters,
        "largest_share": summary.largest_share,
        "structure_score": summary.structure_score,
    }


def _truth_ari(labels: np.ndarray, truth: np.ndarray | None) -> float | None:
    if truth is None or not (truth >= 0).any():
        return None
    is_planted = truth >= 0
    return float(adjusted_rand_score(truth[is_planted], labels[is_planted]))


def _with_seed_ari(
    rows: list[dict[str, Any]], runs: Sequence[SweepRun], labels: Sequence[np.ndarray]
) -> pl.DataFrame:
    """Return the table with how well the labels of each seed agree with the others'."""
    alike: dict[tuple[str, str], list[int]] = {}
    for place, run in enumerate(runs):
        key = run.preset, json.dumps(run.varied)
        alike.setdefault(key, []).append(place)
    found = np.full((len(runs), len(SPACES)), np.nan)
    for places in alike.values():
        for space in range(len(SPACES)):
            own = [labels[place][space] for place in places]
            pairs = np.full((len(own), len(own)), np.nan)
            for one, other in itertools.combinations(range(len(own)), 2):
                ari = adjusted_rand_score(own[one], own[other])
                pairs[one, other] = pairs[other, one] = ari
            if len(own) > 1:
                found[places, space] = np.nanmean(pairs, axis=1)
    table = pl.DataFrame(rows, infer_schema_length=None)
    seed_ari = pl.Series("seed_ari", found.ravel()).fill_nan(None)
    return table.insert_column(table.columns.index("truth_ari"), seed_ari)


def _varied(runs: Sequence[SweepRun]) -> list[str]:
    """Return the options that differ between runs of one preset."""
    return [key for key in runs[0].varied if len({run.varied[key] for run in runs}) > 1]


def closing_rows(table: pl.DataFrame, runs: Sequence[SweepRun]) -> list[dict[str, str]]:
    """Return the means over seeds, a row per preset, varied options and space.

    In brackets: on data without structure.
    """
    varied = _varied(runs)
    compared = {"noise": "noise_ratio", "score": "structure_score"}
    figures = [*compared.values(), *(f"null_{name}" for name in compared.values())]
    figures += ["seed_ari", "truth_ari"]
    means = table.group_by("preset", *varied, "space", maintain_order=True).agg(
        pl.col("clusters").median().cast(pl.Int64), pl.col(figures).mean()
    )
    return [
        {
            "preset": row["preset"],
            **{key.rpartition(".")[2]: str(row[key]) for key in varied},
            "space": row["space"],
            "clusters": str(row["clusters"]),
            **{
                title: f"{row[name]:.2f} ({row[f'null_{name}']:.2f})"
                for title, name in compared.items()
            },
            "seeds": _cell(row["seed_ari"]),
            "truth": _cell(row["truth_ari"]),
        }
        for row in means.to_dicts()
    ]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
