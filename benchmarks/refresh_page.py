"""The page that `refresh.py` renders from its results: tables, and met or not met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from quality_page import met, table

Row = dict[str, Any]

KEPT = 0.98
SAME_LABELS = 0.95
CALM_MONTHS = 0.95

INTRODUCTION = """# Month after month

How `./run.sh refresh` keeps ids and finds drift, measured by `python
benchmarks/refresh.py` and rendered from its results;
[benchmarks/README.md](../benchmarks/README.md) says how. Data, seeds and settings
were fixed before. A target is *met* or *not met*; what was not measured says so.
"""
SCENARIO = """## A year with four events

The rolling generator (`benchmarks/rolling.py`): 2,500 shops, 24 months to learn from,
then 12 refreshes, each with a refit that has to pass the gate. One archetype splits,
one is born, two merge, one dies; the month of each follows from how the rows are
made. *Kept*: shops without an event that have one confirmed segment in all months in
which they are open; *raw*: the same by the labels of each month. What confirms a
segment (`refresh.confirm_strength`, `confirm_months`) was chosen on other seeds.
"""
REPEAT = """## The same data again

The whole pipeline on the same rows, shuffled, with another seed, in the folder of the
first run: *anew*, trained from scratch, or as a *refit*, from the weights and near
the clusters of the model before, as in a refresh. *Renamed*: segments that kept their
id and not their name. *Agreement*: adjusted Rand index between the published labels
of both runs, the unassigned as one more group; *both assigned*: the same over the
shops that have a segment in both. Medians, and the lowest of all runs.
"""
REAL = """## Iowa liquor stores, month by month

The last months of the data kept beside the repository, one refresh with a refit each,
beside training runs on the same months without a model before them, whose ids are
numbers by size. *Churn*: share of the shops with another id than the month before.
"""
DRIFT = """## Drift

Refreshes without refits, 1,500 shops, features of 36 months after 48 of warm-up. In
*calm* years shops only enter, leave and change slowly one by one; a shift changes all
shops, or the mix of shops, from one month on.
"""


def render(results: Sequence[Row]) -> str:
    """Return the page.

    Parameters
    ----------
    results : sequence of dict
        ``judge``, ``arguments``, ``result`` and ``version``, as the runner writes them.
    """
    by_judge: dict[str, list[Row]] = {}
    for row in results:
        flat = row["arguments"] | row["result"]
        by_judge.setdefault(row["judge"], []).append(flat)
    parts = [INTRODUCTION]
    for judge, title, rendered in (
        ("scenario", SCENARIO, _scenario),
        ("repeat", REPEAT, _repeat),
        ("real", REAL, _real),
        ("drift", DRIFT, _drift),
    ):
        rows = by_judge.get(judge, [])
        parts += [title, rendered(rows) if rows else "Not measured.\n"]
    versions = sorted({str(row["version"]) for row in results})
    named = ", ".join(f"`{version}`" for version in versions) or "none"
    return "\n".join([*parts, f"Commits measured: {named}.\n"])


def _scenario(rows: list[Row]) -> str:
    """Return the events of every seed, and who kept the segment."""
    events, shares = [], []
    for row in rows:
        for planted, month in zip(row["planted"], row["found"], strict=True):
            named = month or "not found"
            events.append(
                [str(row["seed"]), planted["kind"], planted["month"], named, met(month)]
            )
        others = ", ".join(row["others"]) or "none"
        events.append([str(row["seed"]), "others", "", others, met(not row["others"])])
        kept = row["kept"]
        decisions = [month["decision"] for month in row["months"]]
        shares.append(
            [
                str(row["seed"]),
                f"{kept['n']:,}",
                f"{kept['settled']:.1%}",
                f"{kept['archetype']:.1%}",
                f"{kept['raw']:.1%}",
                f"{min(row['ari']):.2f}",
                f"{decisions.count('published')} / {decisions.count('refused')}",
                met(kept["settled"] >= KEPT),
            ]
        )
    head = ("seed", "event", "planted", "found", "")
    columns = ("seed", "unchanged shops", "kept", "kept, no in-between shops", "raw")
    columns += ("lowest ARI with the truth", "refits published / refused")
    target = f"Kept: at least {KEPT:.0%} of the unchanged shops.\n"
    body = table((*columns, f">= {KEPT:.0%}"), shares, "lrrrrrrl")
    return "\n".join([table(head, events, "lllll"), target, body])


def _repeat(rows: list[Row]) -> str:
    """Return what training again does to names and labels, by data set and way."""
    lines = []
    for key in dict.fromkeys((row["data"], row["way"]) for row in rows):
        own = [row for row in rows if (row["data"], row["way"]) == key]
        natural = [row["ari"] for row in own if row["verdict"] == "natural"]
        lowest = min(natural, default=None)
        lines.append(
            [
                *key,
                str(len(own)),
                str(len(natural)),
                str(sum(row["n_renamed"] for row in own)),
                str(sum(bool(row["events"]) for row in own)),
                f"{statistics.mean(row['same_id'] for row in own):.1%}",
                "-" if lowest is None else f"{statistics.median(natural):.3f}",
                "-" if lowest is None else f"{lowest:.3f}",
                f"{min(row['ari_both'] for row in own):.3f}",
                met(not any(row["n_renamed"] for row in own)),
                "-" if lowest is None else met(lowest >= SAME_LABELS),
            ]
        )
    head = ("data", "way", "runs", "natural", "renamed", "runs with events")
    head += ("shops of one id", "agreement", "lowest", "both assigned, lowest")
    head += ("none renamed", f"lowest >= {SAME_LABELS}")
    return table(head, lines, "ll" + 8 * "r" + "ll")


def _real(rows: list[Row]) -> str:
    """Return identities on real stores beside refits without them."""
    lines = []
    for row in rows:
        months = str(row["n_months"])
        shops = f"{row['n_shops'][0]:,}"
        decided = f"{row['published']} / {row['refused']}"
        for name, suffix, done in (
            ("refreshes", "", decided),
            ("ordinary refits", "_refits", "-"),
        ):
            kept, churn = row[f"kept_throughout{suffix}"], row[f"churn{suffix}"]
            lines.append([months, shops, name, done, f"{kept:.1%}", f"{churn:.1%}"])
    head = ("months", "shops", "", "published / refused", "kept their id throughout")
    events = ", ".join(event for row in rows for event in row["events"]) or "none"
    body = table((*head, "churn a month"), lines, "rrlrrr")
    return f"{body}\nEvents reported: {events}.\n"


def _drift(rows: list[Row]) -> str:
    """Return the calm months without alert, and the months until a shift alerted."""
    calm = [n for row in rows if row["shift"] is None for n in row["n_alerts"]]
    lines = []
    if calm:
        share = sum(n == 0 for n in calm) / len(calm)
        found = f"{share:.1%} of {len(calm)} months without alert"
        target = f">= {CALM_MONTHS:.0%}"
        lines.append(["calm", target, found, met(share >= CALM_MONTHS)])
    for shift in dict.fromkeys(row["shift"] for row in rows if row["shift"]):
        own = [row for row in rows if row["shift"] == shift]
        # The last two months of the result are that of the shift and the next.
        seen = sum(any(row["n_alerts"][-2:]) for row in own)
        found = f"{seen} of {len(own)} seen within a month"
        lines.append([f"`{shift}`", "all", found, met(seen == len(own))])
    return table(("data", "target", "found", ""), lines, "lrrl")
