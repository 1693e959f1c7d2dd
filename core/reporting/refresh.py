"""The page of a monthly refresh: one self-contained HTML file, the decision first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from core.reporting.decision import RefreshFacts


@dataclass(frozen=True)
class Moves:
    """Who went where between two labellings.

    Attributes
    ----------
    kind : {'real', 'model', 'span'}
        ``real``: from the month before to this one, both by the old model. ``model``:
        the same month by the old and by the new model. ``span``: from an earlier month
        to this one, whatever models served.
    before, after : str
        What is compared, such as ``"April 2024"`` or ``"version 3"``.
    table : polars.DataFrame
        `core.segments.movement.transitions`: ``from``, ``to`` (segment, -1 unassigned,
        null not there), ``n`` and ``n_settled``.
    """

    kind: str
    before: str
    after: str
    table: pl.DataFrame


@dataclass(frozen=True)
class RefreshContent:
    """All that the page of a refresh tells, as plain data.

    Attributes
    ----------
    facts : RefreshFacts
        What was found and decided.
    source : str
        Where the rows came from, as the user would name it.
    created : str
        When, as text; given from outside so that equal refreshes give equal files.
    moves : sequence of Moves
        In the order in which they are shown; may be empty in a first month.
    flow : polars.DataFrame
        `core.segments.movement.stock_and_flow` of the last months, this one included.
    drift : polars.DataFrame
        `core.evaluation.drift.DriftReport.rows` of the last months, with ``month``:
        ``month``, ``kind``, ``name``, ``statistic``, ``value``, ``threshold``,
        ``is_alert``.
    state_since : str or None
        Month since which the trigger is in its state.
    months_running : mapping of str to int
        Kind of alert to the months that it has been running.
    months_needed : int
        Months running after which retraining is recommended.
    artifacts : str
        The folder, for the commands that the page names.
    made : mapping of str to mapping
        How it was made, by group, such as ``{"Run": {"seed": 42}}``.
    """

    facts: RefreshFacts
    source: str
    created: str
    moves: Sequence[Moves]
    flow: pl.DataFrame
    drift: pl.DataFrame
    state_since: str | None
    months_running: Mapping[str, int]
    months_needed: int
    artifacts: str = "artifacts"
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_refresh_page(content: RefreshContent, path: Path) -> list[Path]:
    """Write the page (UTF-8) and, beside it, its pictures.

    Parameters
    ----------
    content : RefreshContent
    path : Path
        HTML file to write.

    Returns
    -------
    list of Path
        All files written: `path`, ``refresh-sizes.png`` and, where there is something
        to draw, ``refresh-movement.png`` and ``refresh-drift.png``. The page holds its
        own copies of the pictures and needs none of them.
    """
    raise NotImplementedError
