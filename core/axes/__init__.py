"""Customers on behavioural axes: learnt, named, placed, written and kept.

`run_axes` is what ``segments axes`` runs. `AxesAssigner` places customers by a model
that was learnt, a batch, one person or a request alike.
"""

from __future__ import annotations

from core.axes.assigner import AxesAssigner, CustomerProfile
from core.axes.files import axes_folder
from core.axes.run import AxesRun, run_axes

__all__ = ["AxesAssigner", "AxesRun", "CustomerProfile", "axes_folder", "run_axes"]
