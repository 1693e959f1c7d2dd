"""The command line: ``segments``, or ``python -m core``.

Each module here adds its verbs to the application when it is imported.
"""

from __future__ import annotations

# In the order in which `--help` lists the verbs.
from core.cli import retailers  # isort: skip
from core.cli import axes  # isort: skip
from core.cli import serve  # isort: skip
from core.cli.app import app, guarded
from core.cli.retailers import run_script

__all__ = ["app", "axes", "main", "retailers", "run_script", "serve"]


def main() -> None:
    """Run ``segments``, or ``python -m core``."""
    guarded(app)
