"""What a folder of retailers' artifacts holds: stages, files, and options used up."""

from __future__ import annotations

from typing import Literal

from core.artifacts.manifest import Manifest, System
from core.config import Config
from core.errors import PROGRAM, ConfigError

Stage = Literal["prepare", "autoencoder", "clustering", "inference", "refresh"]
SCORED_REJECTED = "scored_rejected_rows.parquet"
_SALES = {"year": "number", "month": "number", "sales_qty": "number"}
RETAILERS = System(
    name="segments of retailers",
    stages={
        "prepare": "prepare",
        "autoencoder": "train-autoencoder",
        "clustering": "train-clusters",
        "inference": "infer",
    },
    command="run",
    model_stage="clustering",
    later={"refresh": "refresh"},
    outputs=frozenset(
        {
            "certificate.json",
            "cluster_insights.csv",
            "cluster_predictions.csv",
            "comparison-spaces.csv",
            "model-card.md",
            "playbook.yaml",
            "sample_truth.csv",
            "refresh_shops.csv",
            SCORED_REJECTED,  # earlier versions published it
            "scorecard-decay.csv",
            "scorecard.csv",
            "segment_curves.csv",
            "segment_exemplars.csv",
            "segment_insights.csv",
            "segment_moves.csv",
            "segment_profiles.csv",
            "segment_rules.csv",
            "segment_rules.txt",
            "segment_tree.csv",
            "segments",  # the folder of files of shops
            "selection.csv",  # of `select`, which models of before may have
            "stability.csv",
            "state_moves.csv",
        }
    ),
    # Written month after month by refreshes; the sales by a training run, too.
    records=(
        "drift.parquet",
        "refresh.json",
        "sales.parquet",
        "state-flows.parquet",
        "ledger-*",
    ),
    columns={
        "features.parquet": {"shop_id": "text"},
        "history.parquet": {"shop_id": "text", "as_of": "text"},
        "later.parquet": {"shop_id": "text"},
        "shops.parquet": {"shop_id": "text", "segment": "number"},
        "monthly.parquet": {"shop_id": "text", "t": "number", "quantity": "number"},
        "state-history.parquet": {"shop_id": "text", "as_of": "text"},
        "sales.parquet": {"shop_id": "text", "product_id": "text"} | _SALES,
    },
    filled=frozenset({"features.parquet", "monthly.parquet", "sales.parquet"}),
)
# Sections and options of the configuration that a finished stage has used up.
_SETTLED: dict[str, tuple[str, ...]] = {
    "prepare": ("data", "sample", "eligibility", "features", "states", "evaluation"),
    "autoencoder": ("scaling", "autoencoder", "clustering.fit_shops"),
    "clustering": ("clustering",),
}


def refuse_late_changes(manifest: Manifest, config: Config, stage: Stage) -> None:
    """Raise if an option was changed that an earlier, finished stage depends on.

    Other data (and another `as_of`) is free in ``inference``: that is scoring.

    Raises
    ------
    ConfigError
        Naming the option, both values and the verb to run again.
    ArtifactError
        If an earlier stage has not run.
    """
    for earlier in RETAILERS.before(stage):
        manifest.facts(earlier)
        for settled in _SETTLED[earlier]:
            section, _, option = settled.partition(".")
            if stage == "inference" and section in {"data", "sample"}:
                continue
            own = {option} if option else None
            old = getattr(manifest.config, section).model_dump(mode="json", include=own)
            new = getattr(config, section).model_dump(mode="json", include=own)
            if stage == "inference":
                for free in ("as_of", "engine"):
                    old.pop(free, None), new.pop(free, None)
            changed = [key for key in old if old[key] != new[key]]
            if changed:
                key = changed[0]
                raise ConfigError(
                    f"`{section}.{key}` is {new[key]!r}, but the artifacts in "
                    f"`{config.artifacts}` were made with {old[key]!r}. Run "
                    f"`{PROGRAM} {RETAILERS.stages[earlier]}` again with the new "
                    "value, or leave it out."
                )
