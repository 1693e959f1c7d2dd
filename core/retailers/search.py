"""Choosing the options of the clustering for the features of a model that stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts.folder import Artifacts, ArtifactSet
from core.artifacts.manifest import library_versions
from core.config import Config
from core.errors import ArtifactError
from core.evaluation.search import (
    CLUSTER_SIZES,
    EFFORTS,
    LARGEST_SHARE,
    MAX_SHOPS,
    Plan,
    Selection,
    candidate_latent_sizes,
    candidate_of,
    select,
)
from core.evaluation.stability import FitStore
from core.logging import get_logger, progress
from core.models.density import SMOOTHING
from core.retailers.model import Model
from core.retailers.publish import refresh_report
from core.retailers.training import StageResult, training_table

TABLE = "selection.csv"
UNFINISHED = ".selection"
"""Folder of the models learnt so far, until the search is done."""
N_SHOWN = 8


def select_options(
    artifacts: str | Path,
    budget_minutes: float = 10.0,
    *,
    latent_sizes: Sequence[int] | None = None,
    n_refits: int | None = None,
    n_nulls: int | None = None,
    n_workers: int | None = None,
    write: Path | None = None,
) -> StageResult:
    """Search the options of the clustering, and the latent size, for a complete run.

    Writes ``selection.csv`` beside the model: one row per options, the best first; see
    `core.evaluation.search`. The model itself stays as it is. An interrupted search
    goes on where it was when it is started again.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    budget_minutes : float
        What the search may take; it is made smaller until it fits.
    latent_sizes, n_refits, n_nulls : optional
        Given any of them, the search is not cut to the budget, and the others are the
        widest. The standing latent size is always among those tried.
    n_workers : int, optional
        Processes; 0 for this one alone, None for one per core.
    write : Path, optional
        File for the configuration with the chosen options, ready for ``--config``.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    ModelError
        For fewer than 2 refits or nulls, no time, or too few shops.
    """
    published = Artifacts(artifacts).serving()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{artifacts}` holds no complete run. Run the four pipelines first."
        )
    config: Config = published.manifest.config
    with Artifacts(artifacts).stage("inference", config, is_serving=True) as out:
        assert out.base is not None  # `published`, opened again under the lock
        _, X = training_table(out)
        plan = _given_plan(config, X.shape[1], latent_sizes, n_refits, n_nulls)
        store = FitStore(Path(artifacts) / UNFINISHED, _store_key(out.base))
        with progress("Learning models to choose the options by") as report:
            found = select(
                X,
                _settled(config, out.base),
                budget_minutes,
                plan,
                n_workers=n_workers,
                store=store,
                on_plan=_announce,
                on_step=report,
            )
        found.table.write_csv(out.path(TABLE))
        out.facts |= out.base.manifest.facts("inference")
        out.facts["selection"] = _facts(found)
        refresh_report(out)
    store.discard()
    if write is not None:
        chosen = with_options(config, _chosen(found))
        write.write_text(chosen.to_yaml(), encoding="utf-8")
    lines = _lines(found, config, Path(artifacts), write)
    return StageResult("inference", Path(artifacts), out.facts, lines, _rows(found))


def _settled(config: Config, base: ArtifactSet) -> Config:
    """Return a configuration with the clustering options that its model settled on."""
    latent = Model.from_set(base).latent
    settled = {
        "min_cluster_size": latent.min_cluster_size,
        "min_samples": latent.min_samples,
    }
    clustering = config.clustering.model_copy(update=settled)
    return config.model_copy(update={"clustering": clustering})


def _store_key(base: ArtifactSet) -> str:
    """Return what the models of a search depend on."""
    manifest = base.manifest
    sections = {"seed", "scaling", "autoencoder", "clustering"}
    return json.dumps(
        {
            "features": manifest.files["features.parquet"].sha256,
            "config": manifest.config.model_dump(include=sections),
            "tried": [MAX_SHOPS, LARGEST_SHARE, CLUSTER_SIZES, SMOOTHING],
            "versions": library_versions(),
        },
        sort_keys=True,
    )


def with_options(config: Config, row: dict[str, Any]) -> Config:
    """Return a configuration with the options of a row of the search."""
    if row["is_standing"]:
        return config  # its sizes may have been cut to what a subsample holds
    found = candidate_of(row)
    return config.model_copy(
        update={
            "clustering": config.clustering.model_copy(update=found.options._asdict()),
            "autoencoder": config.autoencoder.model_copy(
                update={"latent_size": found.latent_size}
            ),
        }
    )


def _given_plan(
    config: Config,
    n_features: int,
    latent_sizes: Sequence[int] | None,
    n_refits: int | None,
    n_nulls: int | None,
) -> Plan | None:
    """Return the plan that a user fixed, or None where time decides."""
    if latent_sizes is None and n_refits is None and n_nulls is None:
        return None
    standing = config.autoencoder.latent_size
    if latent_sizes is None:
        sizes = candidate_latent_sizes(standing, n_features)
    else:
        sizes = (standing, *dict.fromkeys(s for s in latent_sizes if s != standing))
    widest_refits, widest_nulls = EFFORTS[0]
    return Plan(
        sizes,
        widest_refits if n_refits is None else n_refits,
        widest_nulls if n_nulls is None else n_nulls,
    )


def _announce(plan: Plan, seconds: float) -> None:
    """Say what was planned once the first models show how long one takes."""
    get_logger().info("%s: about %.1f more minutes", _in_words(plan), seconds / 60)


def _in_words(plan: Plan) -> str:
    sizes = ", ".join(str(size) for size in plan.latent_sizes)
    return (
        f"{plan.n_models} models (latent sizes {sizes}; {plan.n_refits} refits; "
        f"{plan.n_nulls} data sets without structure)"
    )


def _chosen(found: Selection) -> dict[str, Any]:
    return found.table.filter("is_chosen").row(0, named=True)


def _standing(found: Selection) -> dict[str, Any]:
    return found.table.filter("is_standing").row(0, named=True)


def _facts(found: Selection) -> dict[str, Any]:
    """Return what the manifest keeps of a search."""
    return {
        **found.plan._asdict(),
        "n_searched": found.n_searched,
        "is_beyond_null": found.is_beyond_null,
        "best": found.table.row(0, named=True),
        "chosen": _chosen(found),
        "standing": _standing(found),
    }


def _lines(
    found: Selection, config: Config, folder: Path, write: Path | None
) -> list[str]:
    """Say what was chosen, why, and how to use it."""
    best, chosen = found.table.row(0, named=True), _chosen(found)
    standing = _standing(found)
    lines = [
        "Options: min_cluster_size/min_samples/selection_method/latent_size. "
        "Criterion: refit ARI x coverage x ln(effective clusters), less that of nulls.",
        f"Compared {found.table.height:,} of them by {_in_words(found.plan)}.",
    ]
    if found.n_searched < found.n_shops:
        lines.append(
            f"Searched on {found.n_searched:,} of {found.n_shops:,} shops; cluster "
            "sizes are given for all of them, at the same share. The method `eom` "
            "may merge in all shops what it keeps apart in a sample: check the new "
            "run with `segments stability`."
        )
    if not found.is_beyond_null:
        lines.append(
            "No options find clearly more than the best of them do in data without "
            f"structure ({_figure(best)}): the standing options are kept."
        )
    elif chosen["is_standing"]:
        lines.append(
            f"The standing options ({_figure(standing)}) are within one standard error "
            f"of the best ({_figure(best)}): keep them."
        )
    else:
        lines += _advice(config, chosen, standing, folder)
    lines.append(f"Every option: {folder / TABLE}")
    if write is not None:
        lines.append(f"Configuration with the chosen options: {write}")
    return lines


def _advice(
    config: Config, chosen: dict[str, Any], standing: dict[str, Any], folder: Path
) -> list[str]:
    """Name the options that differ from the standing ones, and the command."""
    old, new = config.model_dump(), with_options(config, chosen).model_dump()
    sets = [
        f"--set {section}.{key}={new[section][key]}"
        for section in ("autoencoder", "clustering")
        for key in new[section]
        if new[section][key] != old[section][key]
    ]
    file = str(folder / "config.yaml")
    file = f'"{file}"' if " " in file else file
    command = f"python -m core run --config {file} {' '.join(sets)}"
    return [
        f"Better than the standing options: {_figure(chosen)} against "
        f"{_figure(standing)}. To use them:",
        f"  {command}",
    ]


def _figure(row: dict[str, Any]) -> str:
    return f"{row['criterion']:.2f} +- {row['standard_error']:.2f}"


def _rows(found: Selection) -> list[dict[str, str]]:
    """Return the closing table: the best rows, and those chosen and standing."""
    table = found.table.with_row_index("rank")
    is_shown = (pl.col("rank") < N_SHOWN) | pl.col("is_chosen", "is_standing")
    shown = table.filter(pl.any_horizontal(is_shown))
    return [_shown(row) for row in shown.iter_rows(named=True)]


def _shown(row: dict[str, Any]) -> dict[str, str]:
    """Return one row of the closing table; the noise with its companions."""
    keys = ("min_cluster_size", "min_samples", "selection_method", "latent_size")
    marks = [name for name in ("chosen", "standing") if row[f"is_{name}"]]
    return {
        "options": " ".join(["/".join(str(row[key]) for key in keys), *marks]),
        "effective": f"{row['effective_clusters']:.1f}",
        "noise": f"{1 - row['coverage']:.0%}",
        "refit ARI": f"{row['refit_ari']:.2f}",
        "null": f"{row['null_value']:.2f}",
        "criterion": f"{row['criterion']:.2f}",
    }
