"""Names of the files and folders of grocery baskets."""

from __future__ import annotations

from pathlib import Path

from core.artifacts.runs import RunFiles, run_system, store_folder
from core.baskets import experiment
from core.baskets.documents import DOCUMENTS

CUSTOMERS = "customer_features.parquet"
LEFT_OUT = "customers_left_out.parquet"
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
MONITORING = "monitoring.csv"
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
    experiment.SIZES,
    experiment.BALANCE,
    MONITORING,
)
"""Tables of what a run finds out, which the documents tell where they are there."""
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
