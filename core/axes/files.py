"""Names of the files and folders of the customer axes."""

from __future__ import annotations

from pathlib import Path

from core.artifacts.runs import RunFiles, run_system, store_folder

REPORT = "axes_report.csv"
OVERLAP = "axis_overlap.csv"
CUSTOMER_AXES = run_system("customer axes", "axes", (REPORT, OVERLAP))
FILES = RunFiles(CUSTOMER_AXES)


def axes_folder(artifacts: str | Path, store: str = "default") -> Path:
    """Return the folder of one store's axes, see `core.artifacts.runs.store_folder`."""
    return store_folder(artifacts, FILES.stage, store)
