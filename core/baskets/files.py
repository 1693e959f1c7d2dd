"""Names of the files and folders of grocery baskets."""

from __future__ import annotations

from pathlib import Path

from core.artifacts.runs import RunFiles, run_system, store_folder

CUSTOMERS = "customer_features.parquet"
SEGMENTS = "segments.parquet"
RULES = "rules.yaml"
SUMMARY = "baskets_report.csv"
QUANTILES = "score_quantiles.csv"
READINESS = "readiness.csv"
SIZES_AT = "readiness_min_orders.csv"
SPACES = "study_spaces.csv"
STUDY = "study.csv"
VALIDATION = "validation.csv"
DEFINITION_CHECKS = "definition_checks.csv"
SPLIT_GAPS = "split_gaps.csv"
OUT_OF_TIME = "out_of_time.csv"
CUTS = "out_of_time_cuts.csv"
DESIGN = "experiment.yaml"
EXPERIMENT = "experiment_plan.csv"
ARMS = "experiment_arms.parquet"
BALANCE = "experiment_balance.csv"
MONITORING = "monitoring.csv"
HISTORY = "monitoring_history.csv"
PLAYBOOK = "playbook.yaml"

FOUND = (
    READINESS,
    SIZES_AT,
    SPACES,
    STUDY,
    VALIDATION,
    DEFINITION_CHECKS,
    SPLIT_GAPS,
    OUT_OF_TIME,
    CUTS,
    EXPERIMENT,
    BALANCE,
    MONITORING,
    HISTORY,
)
"""Tables of what a run finds out, which the documents tell where they are there."""
DOCUMENTS = (
    "executive_summary.md",
    "decision_memo.md",
    "playbook.md",
    "experiment_plan.md",
    "monitoring_plan.md",
)
BASKET_SEGMENTS = run_system(
    "basket segments", "baskets", (SUMMARY, QUANTILES, *FOUND, *DOCUMENTS)
)
FILES = RunFiles(BASKET_SEGMENTS)
DEFAULT_STORE = "baskets"


def baskets_folder(artifacts: str | Path, store: str = DEFAULT_STORE) -> Path:
    """Return the folder of one store's basket segments.

    See `core.artifacts.runs.store_folder`.
    """
    return store_folder(artifacts, FILES.stage, store, DEFAULT_STORE)
