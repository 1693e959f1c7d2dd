"""The scorecard in words: answers, a sentence per outcome, rows of its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from core.evaluation.scorecard import ALL
from core.reporting.text import MISSING, enumerated, rounded, share
from core.retailers.report.evidence import report_lines
from core.retailers.scorecard import SELLING

OUTCOME_TITLES = {
    "segments": "segments",
    "sub_segments": "sub-segments",
    "states": "states",
    "segments and states": "segments and states",
    "latent": "latent clusters, fitted at the oldest date",
    "partition": "partition, fitted at the oldest date",
    "raw": "raw clusters, fitted at the oldest date",
}
_QUESTIONS = {
    "volume": "Volume, sales in the {months} after",
    "growth": "Growth, these sales against the same months a year before",
    "activity": "Activity, the share of these months with sales",
    "churn": "Churn, no sale in any of them",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
_ANSWERS = ("yes", "slightly", "no", "unknown")


def scorecard_answers(facts: Mapping[str, Any]) -> list[str]:
    """Say in a sentence per population what labels tell of the months after.

    Parameters
    ----------
    facts : mapping
        `core.retailers.scorecard.scorecard_facts`, or ``why_not`` there is none.
    """
    answers = {}
    for population in (ALL, SELLING):
        rows = _by_outcome(facts, population)
        told = {
            name: rows[name]["answer"] if name in rows else "unknown"
            for name in _QUESTIONS
        }
        parts = [
            f"{one} for {enumerated(names)}"
            for one in _ANSWERS
            if (names := [name for name, own in told.items() if own == one])
        ]
        answers[population] = ", ".join(parts)
    return report_lines(
        "scorecard_answers",
        why_not=facts["why_not"],
        labels=facts.get("labels"),
        months=month_count(facts.get("horizon_months", 0)),
        everyone=answers[ALL],
        selling=answers[SELLING],
    )


def scorecard_lines(facts: Mapping[str, Any]) -> list[str]:
    """Say what labels tell of the months after, a sentence per outcome.

    Parameters
    ----------
    facts : mapping
        As for `scorecard_answers`.
    """
    months = month_count(facts.get("horizon_months", 0))
    everyone, selling = (_by_outcome(facts, name) for name in (ALL, SELLING))
    questions = [
        (
            question.format(months=months),
            _told(everyone.get(outcome)),
            _told(selling.get(outcome)),
        )
        for outcome, question in _QUESTIONS.items()
    ]
    return report_lines(
        "scorecard", **{**facts, "months": months, "questions": questions}
    )


def _by_outcome(facts: Mapping[str, Any], population: str) -> dict[str, Any]:
    """Return the rows of one population by outcome."""
    rows = facts.get("outcomes", [])
    return {row["outcome"]: row for row in rows if row["population"] == population}


def _told(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a row with its figures as text."""
    if row is None:
        return None
    ends = {"added": "", "low": "_low", "high": "_high"}
    figures = {name: points(row, end) for name, end in ends.items()}
    return {**row, **figures, "size": max(row["size"], 0.0)}


def choice_remark(kind: str, criterion: str) -> list[str]:
    """Say that what divides the shops was chosen by the same outcomes, where it was.

    Parameters
    ----------
    kind : str
        Of the published segments.
    criterion : str
        What the partition was chosen by.
    """
    is_chosen = kind == "partition" and criterion == "out_of_time"
    return report_lines("scorecard_choice") if is_chosen or kind == "rules" else []


def scorecard_rows(outcomes: pl.DataFrame) -> list[dict[str, str]]:
    """Return the averages over the cuts as text.

    What labels add, and its interval, are in percentage points; ``p`` is there where
    labels were permuted.
    """
    is_permuted = outcomes["p_value"].count() > 0
    rows = []
    for row in outcomes.filter(pl.col("cut") == ALL).to_dicts():
        shown = {
            "labels": row["labels"],
            "shops": row["population"],
            "outcome": row["outcome"],
            "usual sales alone": share(max(row["size"], 0.0)),
            "labels add": points(row),
            "95% interval": " to ".join(points(row, end) for end in ("_low", "_high")),
        }
        if is_permuted:
            p_value = row["p_value"]
            shown["p"] = MISSING if p_value is None else f"{p_value:.3f}"
        rows.append(shown)
    return rows


def month_count(n: int) -> str:
    """Return a number of months in words: six months, one month, 9 months."""
    number = _NUMBERS[n] if n < len(_NUMBERS) else str(n)
    return f"{number} month{'' if n == 1 else 's'}"


def points(row: dict[str, Any], end: str = "") -> str:
    """Return what labels add in percentage points: two digits, one decimal at most."""
    return rounded(round(100 * row[f"beyond{end}"], 1))
