"""Names of the files and folders of the channel segments."""

from __future__ import annotations

from pathlib import Path

from core.artifacts.runs import RunFiles, run_system, store_folder

CUSTOMERS = "customer_features.parquet"
SEGMENTS = "segments.parquet"
MICRO_SEGMENTS = "micro_segments.parquet"
RULES = "rules.yaml"
RULE_FEATURES = "rule_features.parquet"
SUMMARY = "channels_report.csv"
CHANNEL_SEGMENTS = run_system("channel segments", "channels", (SUMMARY,))
FILES = RunFiles(CHANNEL_SEGMENTS)
DEFAULT_STORE = "channels"


def channels_folder(artifacts: str | Path, store: str = DEFAULT_STORE) -> Path:
    """Return the folder of one store's channel segments.

    See `core.artifacts.runs.store_folder`.
    """
    return store_folder(artifacts, FILES.stage, store, DEFAULT_STORE)


def order_features_file(channel: str) -> str:
    """Return the file of the order features of a channel."""
    return f"order_features_{channel}.parquet"
