"""What a run of baskets has found, as its documents and its page tell it.

Whatever was not made is None, and the documents say so. All of it is frames, sentences
and plain values, so that a run can save it and a later rename can read it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from core.baskets.playbook import BasketPlaybook
from core.baskets.readiness import Readiness
from core.baskets.study import Study
from core.baskets.validation import Validation
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


@dataclass(frozen=True)
class Finding:
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
    playbook : BasketPlaybook
    readiness : Readiness, optional
    study : Study, optional
        None: no study was made.
    validation : Validation, optional
    out_of_time : Finding, optional
        Table: `cut`, `outcome`, `scheme`, `over` (null, or the scheme that it is held
        against), `r2`, `low`, `high` and `n`.
    experiment : Finding, optional
        Table: columns `core.evaluation.experiment_plan.SIZES`, with `guardrail` and
        `weeks_in_all`.
    monitoring : Finding, optional
        Table: `trigger`, `value`, `threshold`, `months_running`, `status` and `action`.
    """

    segments: pl.DataFrame
    features: pl.DataFrame
    rules: RuleSet
    playbook: BasketPlaybook
    readiness: Readiness | None = None
    study: Study | None = None
    validation: Validation | None = None
    out_of_time: Finding | None = None
    experiment: Finding | None = None
    monitoring: Finding | None = None


Facts = Mapping[str, Any]
