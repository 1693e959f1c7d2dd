"""What a run of baskets has found, as its documents and its page tell it.

Whatever was not made is None, and the documents say so. All of it is frames, sentences
and plain values, so that a run can save it and a later rename can read it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from core.baskets.readiness import Readiness
from core.reporting.playbook import Playbook
from core.rules.grammar import RuleSet

SEGMENTS: dict[str, Any] = {
    "segment_id": pl.Int64,
    "segment": pl.String,
    "rule_name": pl.String,
    "customers": pl.Int64,
    "share": pl.Float64,
    "orders": pl.Int64,
    "orders_share": pl.Float64,
    "description": pl.String,
    "rule": pl.String,
}
"""Columns of the table of segments; shares are 0 to 1."""


class Study(Protocol):
    """What clustering found.

    Attributes
    ----------
    spaces, candidates : DataFrame
        Facts of every space, and a row per space, method and k with the figures of the
        data beside those of data without structure.
    chosen : Any
        The candidate that was chosen, if any.
    verdict : str
        ``none``, ``weak`` or ``clear``.
    recommendation : sequence of str
        Sentences that follow from the numbers.
    """

    @property
    def spaces(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def candidates(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def chosen(self) -> Any: ...  # noqa: D102
    @property
    def verdict(self) -> str: ...  # noqa: D102
    @property
    def recommendation(self) -> Sequence[str]: ...  # noqa: D102


class Validation(Protocol):
    """How far the segments differ in what they were not made from.

    Attributes
    ----------
    metrics, definition_checks : DataFrame
        Columns `core.evaluation.separation.SEPARATION`.
    split_gaps : DataFrame
        Columns `core.evaluation.separation.GAPS`.
    lines : sequence of str
    """

    @property
    def metrics(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def definition_checks(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def split_gaps(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def lines(self) -> Sequence[str]: ...  # noqa: D102


class Tells(Protocol):
    """A table and what it says in sentences."""

    @property
    def table(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def lines(self) -> Sequence[str]: ...  # noqa: D102


@dataclass(frozen=True)
class Told:
    """A table and what it says in sentences.

    Attributes
    ----------
    table : DataFrame
    lines : sequence of str
    """

    table: pl.DataFrame
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Parts:
    """What a run has found.

    Attributes
    ----------
    segments : DataFrame
        Columns `SEGMENTS`, in the order of the rules; id -1, if there, holds who has no
        segment.
    features : DataFrame
        A row per customer: `segment` (the name as in `segments`), `freq_score`,
        `loyalty_score` and the features.
    rules : RuleSet
        With the numbers of all thresholds.
    playbook : Playbook
    readiness : Readiness, optional
    study : Study, optional
        None: no study was made.
    validation : Validation, optional
    out_of_time : Tells, optional
        Table: `cut`, `outcome`, `scheme`, `over` (null, or the scheme that it is held
        against), `r2`, `low`, `high` and `n`.
    experiment : Tells, optional
        Table: columns `core.evaluation.experiment_plan.SIZES`, with `guardrail` and
        `weeks_in_all`.
    monitoring : Tells, optional
        Table: `trigger`, `value`, `threshold`, `months_running`, `status` and `action`.
    """

    segments: pl.DataFrame
    features: pl.DataFrame
    rules: RuleSet
    playbook: Playbook
    readiness: Readiness | None = None
    study: Study | None = None
    validation: Validation | None = None
    out_of_time: Tells | None = None
    experiment: Tells | None = None
    monitoring: Tells | None = None


Facts = Mapping[str, Any]
