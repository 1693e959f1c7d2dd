"""The command line: ``segments``, or ``python -m core``.

Each module here adds its verbs to the application when it is imported.
"""

from __future__ import annotations

# In the order in which `--help` lists the verbs.
from core.cli import stages  # isort: skip
from core.cli import assess  # isort: skip
from core.cli import select  # isort: skip
from core.cli import compare  # isort: skip
from core.cli import profile  # isort: skip
from core.cli import explain  # isort: skip
from core.cli import scorecard  # isort: skip
from core.cli import refresh  # isort: skip
from core.cli import rename  # isort: skip
from core.cli import axes  # isort: skip
from core.cli import serve  # isort: skip
from core.cli import store  # isort: skip
from core.cli import keys  # isort: skip
from core.cli import contract  # isort: skip
from core.cli import inspect  # isort: skip
from core.cli.app import app, guarded
from core.cli.stages import run_script

__all__ = [
    "app",
    "assess",
    "axes",
    "compare",
    "contract",
    "explain",
    "inspect",
    "keys",
    "main",
    "profile",
    "refresh",
    "rename",
    "run_script",
    "scorecard",
    "select",
    "serve",
    "stages",
    "store",
]


def main() -> None:
    """Run ``segments``, or ``python -m core``."""
    guarded(app)
