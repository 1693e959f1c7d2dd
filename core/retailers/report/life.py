"""States of shops on pages: how many there are, in which segment, and who changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from core.months import month_index
from core.reporting.page import Part, Table
from core.reporting.text import MISSING, count, share
from core.retailers.report.decision import refresh_sentences
from core.retailers.report.evidence import Evidence, report_line, report_lines
from core.retailers.states import n_lapsed_and_back, state_mix
from core.segments.published import UNASSIGNED, UNASSIGNED_NAME
from core.segments.states import LAPSED, STATES


def mix_part(evidence: Evidence, scored: Path) -> Part | None:
    """Return how many shops are in which state, and of which states segments are.

    Parameters
    ----------
    evidence : Evidence
    scored : Path
        Parquet file of the training data's labels: ``segment`` and ``state``.
    """
    facts = evidence.manifest.facts("prepare")
    counts: Mapping[str, int] = facts.get("states", {})
    n_shops = sum(counts.values())
    if not n_shops:
        return None
    oldest = month_index(facts["intake"]["oldest_month"])
    return Part(
        "States of shops",
        report_lines(
            "states",
            n_lapsed=counts[LAPSED],
            n_months=month_index(facts["as_of"]) - oldest + 1,
        ),
        tables=[
            Table(
                report_line("states_table"),
                [_mix_row(row, evidence.titles) for row in state_mix(scored).to_dicts()]
                + [_all_row(counts, n_shops)],
                frozenset({"segment"}),
            )
        ],
    )


def _mix_row(row: Mapping[str, Any], titles: Mapping[int, str]) -> dict[str, str]:
    segment = row["segment"]
    name = UNASSIGNED_NAME if segment == UNASSIGNED else titles.get(segment, "")
    shares = {state: _rough(row[f"share_{state}"]) for state in STATES}
    return {"segment": name, "shops": count(row["n_shops"]), **shares}


def _all_row(counts: Mapping[str, int], n_shops: int) -> dict[str, str]:
    shares = {state: _rough(n / n_shops) for state, n in counts.items()}
    return {"segment": "all shops, segmented or not", "shops": count(n_shops), **shares}


def _rough(part: float | None) -> str:
    """Return a share; what is nearly nobody or everybody without false precision."""
    if part is None or part in {0, 1} or 0.01 <= part <= 0.99:
        return share(part)
    return "under 1%" if part < 0.5 else "over 99%"


def flows_part(flows: pl.DataFrame) -> Part | None:
    """Return from which state of their life shops went to which in a month.

    Parameters
    ----------
    flows : DataFrame
        `core.retailers.states.state_flows`; None is returned of an empty one.
    """
    if flows.is_empty():
        return None
    lapsed, back = n_lapsed_and_back(flows)
    return Part(
        "States of shops",
        refresh_sentences("states", lapsed=lapsed, back=back),
        tables=[
            Table(
                "From which state, a row each, to which, a column each.",
                [
                    {"last month": name or "no sale yet"}
                    | {state: count(n) if n else MISSING for state, n in row.items()}
                    for name, row in _flow_rows(flows)
                ],
                frozenset({"last month"}),
            )
        ],
    )


def _flow_rows(flows: pl.DataFrame) -> Iterator[tuple[str | None, dict[str, int]]]:
    """Yield where shops were, and how many are in each state now."""
    for name in (*STATES, None):
        own = flows.filter(pl.col("from").eq_missing(pl.lit(name, flows["from"].dtype)))
        if own.height:
            found = dict(own.select("to", "n_shops").iter_rows())
            yield name, {state: found.get(state, 0) for state in STATES}
