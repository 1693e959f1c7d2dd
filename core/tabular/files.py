"""Names of the files and folders of segments of a feature table."""

from __future__ import annotations

from pathlib import Path

from core.artifacts.runs import RunFiles, run_system, store_folder

SEGMENTS = "table_segments.csv"
COLUMNS = "table_columns.csv"
ROWS = "table_rows.parquet"
TABLE_SEGMENTS = run_system("table segments", "fit", (SEGMENTS, COLUMNS))
FILES = RunFiles(TABLE_SEGMENTS)
DEFAULT_STORE = "table"
RFM_STORE = "rfm"
AXIS = "segment"
"""The one way of dividing the rows."""


def fit_folder(artifacts: str | Path, store: str = DEFAULT_STORE) -> Path:
    """Return the folder of one store's segments, see `core.artifacts.runs`."""
    return store_folder(artifacts, FILES.stage, store, DEFAULT_STORE)
