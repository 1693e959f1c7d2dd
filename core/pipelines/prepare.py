"""Stage 1: from sales rows to the features of the eligible shops."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from core.artifacts import Artifacts
from core.config import Config
from core.data.eligibility import require_eligible
from core.data.sources import Sales
from core.features.archive import ARCHIVE, write_archive
from core.features.history import HISTORY, LATER, MONTHLY, write_history
from core.features.preparation import Prepared, prepare
from core.features.retailer import feature_set
from core.inference import write_batches
from core.pipelines.common import StageResult, stage_result
from core.reporting.summary import eligibility_line


def prepare_features(config: Config, frame: Any = None) -> StageResult:
    """Stage 1: from sales rows to the features of the eligible shops.

    Writes ``features.parquet``, ``rejected_rows.parquet``, ``exclusions.csv``; for
    looking back ``history.parquet``, ``later.parquet`` and ``monthly.parquet``; for
    monthly refreshes ``sales.parquet``; for the built-in sample ``sample_truth.csv``.

    Parameters
    ----------
    config : Config
        What to read and compute.
    frame : pandas, Polars, DuckDB or Arrow table, or Sales, optional
        Rows to use instead of the configured source.

    Raises
    ------
    SourceError, SchemaError, EligibilityError, ConfigError
        If the rows cannot be had, used, or are too few for clustering.
    """
    chosen = feature_set(config.features.name)
    with (
        tempfile.TemporaryDirectory() as work,
        Artifacts(config.artifacts).stage("prepare", config) as out,
    ):
        prepared = prepare(config, Path(work), frame)
        _check_enough(prepared, config)
        batches = prepared.batches(config.clustering.batch_size)
        write_batches(batches, out.path("features.parquet"))
        prepared.sales.rejected.write_parquet(out.path("rejected_rows.parquet"))
        prepared.exclusions.write_csv(out.path("exclusions.csv"))
        if prepared.sales.truth is not None:
            prepared.sales.truth.write_csv(out.path("sample_truth.csv"))
        write_archive(prepared.sales, out.path(ARCHIVE))
        paths = {name: out.path(name) for name in (HISTORY, LATER, MONTHLY)}
        cuts = write_history(prepared, paths)
        reasons = prepared.exclusions["reason"].value_counts(sort=True, name="n")
        out.facts |= {
            "feature_set": chosen.name,
            "features": chosen.names,
            "as_of": prepared.as_of,
            "notes": [*prepared.sales.intake.notes, *prepared.notes],
            "intake": prepared.sales.intake.to_dict(),
            "from_frame": frame is not None and not isinstance(frame, Sales),
            "from_archive": isinstance(frame, Sales),
            "fingerprint": prepared.sales.fingerprint,
            "n_shops": prepared.shops.height,
            "n_eligible": len(prepared.eligible),
            "cuts": cuts,
            "exclusions": {row["reason"]: row["n"] for row in reasons.to_dicts()},
        }
    lines = [
        *prepared.sales.intake.summary(),
        *prepared.notes,
        eligibility_line(out.facts),
        f"{len(chosen.names)} `{chosen.name}` features as of {prepared.as_of}.",
    ]
    return stage_result("prepare", config, out.facts, lines)


def _check_enough(prepared: Prepared, config: Config) -> None:
    """Raise unless there are shops enough for one cluster and for its density."""
    needed = config.clustering.n_needed
    require_eligible(prepared.shops, config.eligibility, needed)
