"""Customers on behavioural axes: learnt, named, placed, written and kept.

`run_axes` is what ``run.sh axes`` runs. `AxesAssigner` places customers by a model
that was learnt, a batch, one person or a request alike; who only places does not wait
for what only learning needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.axes.assign import AxesAssigner, CustomerProfile
from core.axes.files import axes_folder

if TYPE_CHECKING:
    from core.axes.run import run_axes

__all__ = ["AxesAssigner", "CustomerProfile", "axes_folder", "run_axes"]


def __getattr__(name: str) -> Any:
    if name == "run_axes":
        from core.axes.run import run_axes

        return run_axes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
