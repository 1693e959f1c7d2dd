"""The page that `scale.py` renders from its results: tables, and advice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quality_page import table, versions
from results import Row

STEPS = {
    "prepare": "prepare",
    "train": "autoencoder",
    "cluster": "clusters",
    "infer": "inference",
}
# The wish: four times the shops take at most this times as long.
LINEAR_ENOUGH = 4.5 / 4

INTRODUCTION = """# Scale

How much is too big, and which setting when: measured by `python benchmarks/scale.py`
and rendered from its results with `--render`. Sales are of the built-in generator, in
Parquet files of about 1.3 million rows: *three years* of a shop are some 134 rows, a
*short* history is 15 months and some 25 rows. Every command runs as a user runs it, in
a process of its own: starting Python is part of the time. *GB* is the peak of resident
memory, summed over all processes of a command.
"""
PIPELINES = """## Four pipelines on one machine

From rows to the published report, with the default options. *Growth* compares a size
with the one above it: seconds times as many, divided by shops times as many; 1 is
linear, below 1 is better. *CPU s* are processor seconds of all cores together, and the
last columns the cost of a thousand shops and of a million rows.
"""
SCORE = """## Scoring with a saved model

`clustering-inference-pipeline.py --input FOLDER --output FILE`: every row is checked
and every shop gets a label, or a reason why it has none.
"""


def render(results: Sequence[Row]) -> str:
    """Return the page.

    Parameters
    ----------
    results : sequence of dict
        Lines of the cache file: judge, arguments, version, result.
    """
    rows: dict[str, list[Row]] = {"pipelines": [], "score": []}
    for result in results:
        rows[result["judge"]].append(result["arguments"] | result["result"])
    sections = [
        INTRODUCTION,
        PIPELINES,
        _or_none(_pipelines, rows["pipelines"]),
        SCORE,
        _or_none(_score, rows["score"]),
    ]
    return "\n".join([*sections, versions(results)])


def _pipelines(rows: list[Row]) -> str:
    """Return seconds and memory of each step, and how the whole grows."""
    lines, before = [], None
    for row in sorted(rows, key=lambda row: int(row["n_shops"])):
        steps = [row["steps"][name] for name in STEPS]
        seconds = sum(step["seconds"] for step in steps)
        cpu_s = sum(step["cpu_s"] for step in steps)
        growth = "-"
        if before is not None:
            growth = f"{seconds / before[1] / (row['n_shops'] / before[0]):.2f}"
        before = row["n_shops"], seconds
        lines.append(
            [
                f"{row['n_shops']:,}",
                _millions(row["rows"]),
                *(f"{step['seconds']:.0f}" for step in steps),
                f"{seconds:.0f}",
                growth,
                *(_gb(step["peak_mb"]) for step in steps),
                f"{cpu_s:.0f}",
                f"{1000 * cpu_s / row['n_shops']:.2f}",
                f"{1e6 * cpu_s / row['rows']:.1f}",
            ]
        )
    head = ["shops", "rows", *(f"{name} s" for name in STEPS.values()), "all s"]
    head += ["growth", *(f"{name} GB" for name in STEPS.values()), "CPU s"]
    head += ["CPU s per 1,000 shops", "CPU s per million rows"]
    return table(head, lines, "r" * len(head))


def _score(rows: list[Row]) -> str:
    """Return what scoring takes."""
    lines = []
    for row in rows:
        cost = row["steps"]["score"]
        lines.append(
            [
                row["kind"].replace("-", " "),
                f"{row['n_shops']:,}",
                _millions(row["rows"]),
                f"{row['disk_mb'] / 1000:.2f}",
                f"{cost['seconds']:.0f}",
                _gb(cost["peak_mb"]),
                f"{cost['cpu_s']:.0f}",
                f"{1000 * cost['cpu_s'] / row['n_shops']:.2f}",
                f"{row['n_shops'] / cost['seconds']:,.0f}",
            ]
        )
    head = ("history", "shops", "rows", "GB on disk", "s", "GB", "CPU s")
    head += ("CPU s per 1,000 shops", "shops per second")
    return table(head, lines, "l" + "r" * (len(head) - 1))


def _or_none(section: Any, rows: list[Row]) -> str:
    return section(rows) if rows else "Not measured.\n"


def _millions(n: int) -> str:
    return f"{n / 1e6:,.1f}M"


def _gb(megabytes: float) -> str:
    return f"{megabytes / 1000:.2f}"
