"""The command line: ``run.sh VERB`` in a checkout, ``segments VERB`` where installed.

Each module here adds its verbs to the application when it is imported.
"""

from __future__ import annotations

# In the order in which `--help` lists the verbs.
from core.cli import retailers  # isort: skip
from core.cli import fit  # isort: skip
from core.cli import axes  # isort: skip
from core.cli import channels  # isort: skip
from core.cli import baskets  # isort: skip
from core.cli import rules  # isort: skip
from core.cli import export  # isort: skip
from core.cli import serve  # isort: skip
from core.cli import dashboard  # isort: skip
from core.cli import validate  # isort: skip
from core.cli import experiment  # isort: skip
from core.cli.app import app, guarded, put_in_groups
from core.errors import PROGRAM

__all__ = [
    "app",
    "axes",
    "baskets",
    "channels",
    "dashboard",
    "experiment",
    "export",
    "fit",
    "retailers",
    "rules",
    "run",
    "serve",
    "validate",
]

put_in_groups()


def run(script: str | None = None) -> None:
    """Run the command line, or one verb as the only command of a script."""
    if script is None:
        guarded(app, PROGRAM)
    else:
        guarded(retailers.alone(script), None)
