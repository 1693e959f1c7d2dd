"""The page that `quality.py` renders from its results: tables, and met or not met."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]


class Target(NamedTuple):
    """What has to be reached on planted data of one difficulty."""

    ari: float
    noise: float


TARGETS = {
    "easy": Target(0.95, 0.05),
    "medium": Target(0.92, 0.10),
    "hard": Target(0.75, 0.25),
}
WORST_BELOW = 0.05
EFFECTIVE_WITHIN = 1.0
STABILITY = 0.90
HELD_OUT_WITHIN = 0.02
FALSE_ALARMS = 0.05
DETECTED = 0.95
GAINED = 0.10
LARGEST_LEAF = 1 / 3
OURS = "ours"

INTRODUCTION = """# Quality

How good the segments are, measured by `python benchmarks/quality.py` and rendered
from its results; [benchmarks/README.md](../benchmarks/README.md) says how. Every
option is the default, for every data set; seeds and settings were fixed before. A
target is *met* or *not met*; what was not measured says so.
"""
PLANTED = """## Planted archetypes

The built-in generator plants archetypes that the pipelines never see. Adjusted Rand
index (ARI) over archetype shops, noise as a class of its own; medians over the
generator's seeds, and the seed with the lowest ARI. *Noise* is of all shops, shops
between two archetypes included; *in-between as noise* is the share of those found as
noise. *Effective* is the effective number of clusters (exp of the entropy of their
sizes), beside that of the truth. *Seconds*: training and labelling once on one
processor core, with another such process at the same time. KMeans and the mixture get
the true number of archetypes, which is unknown in practice. The reference recipe is
the published one on its 29 features.
"""
STABLE = """## Refits and held-out shops

The whole pipeline (scaler, encoder, clusters) refitted, medium difficulty: on 80% of
the shops, and on all of them with other training seeds. *Held out*: the ARI with the
truth on the 20% that a refit has not seen, beside that on the 80% that it was trained
on.
"""
NOTHING = """## Data without structure, and with

*Certificate*: the whole pipeline against 19 refits on Gaussian-copula data with the
same marginals and rank correlations, stopped early if p <= 0.05 cannot be reached.
*Quick check*: what a default run does, principal components only. Called natural
means that the report would offer the clusters as groups that exist.
"""
INSIDE = """### Inside a segment

The same data sets as if each were one large segment: how often its parts are called
natural, which requires that the structure check finds density inside.
"""
CONTINUUM = """## Segments within segments

Steady, growing and fading shops on a continuum of trends, nine archetypes with a
season beside them, months with a coefficient of variation of 0.8 and a shock to the
whole market (`python benchmarks/continuum.py`, which says what is planted). Adjusted
Rand index with the archetypes of the segments alone, and of the *flat view*, in which
a divided segment counts as its sub-segments; beside a mixture with the true number of
archetypes, and a forest that was trained on other shops with their true archetypes.
*Trends*: among steady, growing and fading shops alone.
"""
REAL = """## Real data

Default runs on the data sets beside the repository. *Provisional* is the verdict of
the run, *certified* that of the certificate (19 nulls) with the clusters' refits, but
without those of the partition: natural or not. *Clusters* to *refit ARI* are those of
the latent space; *partition* is what is published where the verdict is not natural,
and *its ARI* how well it comes back. *Out of time*: share of the variance of what
shops did later that the published kind of segments explains beyond size, with its
standard error. *AMI*: adjusted mutual information of the published segments with
known groups of shops, which no run has seen; the names of the Iowa stores, and so
their chains, are not in the data.
"""


def render(results: Sequence[Row]) -> str:
    """Return the page.

    Parameters
    ----------
    results : sequence of dict
        ``judge``, ``arguments``, ``result`` and ``version``, as the runner writes them.
    """
    parts = [INTRODUCTION, PLANTED]
    by_judge: dict[str, list[Row]] = {}
    for row in results:
        flat = row["arguments"] | row["result"]
        by_judge.setdefault(row["judge"], []).append(flat)
    planted = by_judge.get("planted", [])
    for family in _distinct(planted, "family"):
        parts += _planted(_where(planted, family=family), family)
    parts += [] if planted else ["Not measured.\n"]
    parts += [STABLE, _stability(by_judge.get("stability", []))]
    parts += [NOTHING, _structureless(by_judge)]
    parts += [INSIDE, _inside(by_judge.get("inside", []))]
    parts += [CONTINUUM, _continuum(by_judge.get("continuum", []))]
    parts += [REAL, _real(by_judge.get("real", []))]
    parts.append(versions(results))
    return "\n".join(parts)


def _planted(rows: list[Row], family: str) -> list[str]:
    """Return targets and tables of one family of archetypes."""
    parts = [f"### Archetypes of `{family}`\n"]
    lines, tables = [], []
    for n_shops in sorted(_distinct(rows, "n_shops")):
        for difficulty in (
            name for name in TARGETS if name in _all(rows, "difficulty")
        ):
            found = _where(rows, n_shops=n_shops, difficulty=difficulty)
            if not found:
                continue
            title = f"{difficulty}, {n_shops:,} shops"
            ours = _where(found, method=OURS)
            lines += _against_target(title, difficulty, ours) if ours else []
            tables.append(_methods_table(title, found))
    head = ("", "figure", "target", "found", "")
    return [*parts, table(head, lines, "llrrl"), *tables]


def _against_target(title: str, difficulty: str, ours: list[Row]) -> list[list[str]]:
    """Return what was asked of our pipeline, and what it reached."""
    target = TARGETS[difficulty]
    ari, worst = _median(ours, "ari"), min(row["ari"] for row in ours)
    noise = _median(ours, "noise")
    off = statistics.median(abs(r["effective"] - r["true_effective"]) for r in ours)
    least = target.ari - WORST_BELOW
    rows = [
        ("ARI", f">= {target.ari:.2f}", f"{ari:.3f}", ari >= target.ari),
        ("lowest ARI", f">= {least:.2f}", f"{worst:.3f}", worst >= least),
        ("noise", f"<= {target.noise:.0%}", f"{noise:.1%}", noise <= target.noise),
        ("effective clusters off by", "<= 1", f"{off:.2f}", off <= EFFECTIVE_WITHIN),
    ]
    return [
        [title if n == 0 else "", *row[:3], met(row[3])] for n, row in enumerate(rows)
    ]


def _methods_table(title: str, rows: list[Row]) -> str:
    """Return the methods side by side on one kind of data."""
    lines = []
    for method in _distinct(rows, "method"):
        own = _where(rows, method=method)
        lines.append(
            [
                method,
                f"{_median(own, 'ari'):.2f}",
                f"{min(row['ari'] for row in own):.2f}",
                f"{_median(own, 'noise'):.1%}",
                f"{_median(own, 'clusters'):.0f}",
                f"{_median(own, 'effective'):.1f}",
                f"{_median(own, 'true_effective'):.1f}",
                f"{_median(own, 'between_noise'):.0%}",
                f"{_median(own, 'seconds'):.1f}",
                str(len(own)),
            ]
        )
    head = ("method", "ARI", "lowest", "noise", "clusters", "effective")
    head += ("of the truth", "in-between as noise", "seconds", "seeds")
    return f"**{title}**\n\n{table(head, lines, 'l' + 9 * 'r')}"


def _stability(rows: list[Row]) -> str:
    """Return refits, training seeds and held-out shops against their targets."""
    if not rows:
        return "Not measured.\n"
    lines = []
    for family in _distinct(rows, "family"):
        own = _where(rows, family=family)
        refits = [value for row in own for value in row["refit_ari"]]
        seeds = [value for row in own for value in row["seed_ari"]]
        fitted = statistics.mean(v for row in own for v in row["fitted_ari"])
        held = statistics.mean(v for row in own for v in row["held_out_ari"])
        where = f"`{family}`, {own[0]['n_shops']:,} shops, {len(own)} seeds"
        for name, values in (
            ("ARI with refits on 80%", refits),
            ("ARI between training seeds", seeds),
        ):
            mean = statistics.mean(values)
            found = f"{mean:.3f} (lowest {min(values):.3f})"
            is_met = met(mean >= STABILITY)
            lines.append([where, name, f">= {STABILITY:.2f}", found, is_met])
        off = fitted - held
        found = f"{held:.3f} beside {fitted:.3f}"
        asked, is_met = f"within {HELD_OUT_WITHIN}", met(off <= HELD_OUT_WITHIN)
        lines.append([where, "ARI with the truth, held out", asked, found, is_met])
    return table(("", "figure", "target", "found", ""), lines, "llrrl")


def _structureless(by_judge: dict[str, list[Row]]) -> str:
    """Return how many data sets each check calls natural."""
    nothing, planted = by_judge.get("structureless", []), by_judge.get("natural", [])
    lines = [
        _called(kind, _where(nothing, kind=kind)) for kind in _distinct(nothing, "kind")
    ]
    if nothing:
        asked = f"at most {FALSE_ALARMS:.0%}"
        lines.append(
            _called("**all without**", nothing, asked, lambda s: s <= FALSE_ALARMS)
        )
    for family in _distinct(planted, "family"):
        own = _where(planted, family=family)
        for difficulty in _distinct(own, "difficulty"):
            name = f"planted `{family}`, {difficulty}"
            lines.append(_called(name, _where(own, difficulty=difficulty)))
        asked, name = f"at least {DETECTED:.0%}", f"**all of `{family}`**"
        lines.append(_called(name, own, asked, lambda share: share >= DETECTED))
    if not lines:
        return "Not measured.\n"
    head = ("data", "data sets", "called natural by certificate", "by quick check")
    head += ("nulls made", "target", "")
    return table(head, lines, "lrrrrrl")


def _inside(rows: list[Row]) -> str:
    """Return how many data sets have natural parts."""
    if not rows:
        return "Not measured.\n"
    n = sum(row["is_natural"] for row in rows)
    line = [str(len(rows)), str(n), "none", met(n == 0)]
    return table(("data sets", "with natural parts", "target", ""), [line], "rrll")


def _continuum(rows: list[Row]) -> str:
    """Return the figures of the continuum of trends, and what was asked of them."""
    if not rows:
        return "Not measured.\n"
    gained = statistics.mean(row["flat"] - row["published"] for row in rows)
    leaf = max(row["largest leaf"] for row in rows)
    asked = {
        "flat": (f"segments + {GAINED:.2f}", met(gained >= GAINED)),
        "largest leaf": ("at most a third, always", met(leaf <= LARGEST_LEAF)),
    }
    lines = []
    for name in rows[0]:
        if name not in ("n_shops", "seed"):
            values = [row[name] for row in rows]
            cells = (statistics.mean(values), min(values), max(values))
            said = [f"{value:.3g}" for value in cells]
            lines.append([name, *said, *asked.get(name, ("", ""))])
    head = (f"{len(rows)} seeds", "mean", "lowest", "highest", "target", "")
    return table(head, lines, "lrrrll")


def _called(
    name: str,
    rows: list[Row],
    target: str = "",
    is_met: Callable[[float], bool] | None = None,
) -> list[str]:
    """Return one row: how many of some data sets are called natural."""
    n = sum(row["is_natural"] for row in rows)
    return [
        name,
        str(len(rows)),
        str(n),
        str(sum(row["is_quick_natural"] for row in rows)),
        f"{statistics.mean(row['n_nulls'] for row in rows):.1f}",
        target,
        "" if is_met is None else met(is_met(n / len(rows))),
    ]


def _real(rows: list[Row]) -> str:
    """Return what the default run says of each real data set."""
    if not rows:
        return "Not measured.\n"
    lines = [
        [
            row["name"],
            f"{row['n_eligible']:,}",
            row["verdict"],
            "natural" if row["certified"] == "natural" else "not natural",
            f"{row['p_value']:.2f}",
            str(row["n_clusters"]),
            f"{row['noise_ratio']:.0%}",
            f"{row['effective_clusters']:.1f}",
            _or_dash(row["largest_share"], ".0%"),
            f"{row['refit_ari']:.2f}" if row["n_clusters"] else "-",
            row["partition"],
            f"{row['partition_ari']:.2f}",
            _or_dash(row["out_of_time"], "+.1%")
            + _or_dash(row["out_of_time_se"], ".1%", " +- ", ""),
            _or_dash(row["ami"], ".2f", f"{row['groups']}: "),
        ]
        for row in rows
    ]
    head = ("data", "shops", "provisional", "certified", "p", "clusters", "noise")
    head += ("effective", "largest", "refit ARI", "partition", "its ARI")
    head += ("out of time", "AMI")
    return table(head, lines, "lrll" + 6 * "r" + "lrrr")


def versions(results: Sequence[Row]) -> str:
    """Say which commits were measured."""
    versions = sorted({str(row["version"]) for row in results})
    named = ", ".join(f"`{version}`" for version in versions) or "none"
    return f"Commits measured: {named}.\n"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], sides: str) -> str:
    """Return a Markdown table; `sides` has `l` or `r` for each column."""
    rules = ["---:" if side == "r" else "---" for side in sides]
    rows = [list(head), rules, *(list(line) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _where(rows: list[Row], **values: Any) -> list[Row]:
    """Return the rows that have these values."""
    return [row for row in rows if all(row[k] == v for k, v in values.items())]


def _all(rows: list[Row], key: str) -> set[Any]:
    return {row[key] for row in rows}


def _distinct(rows: list[Row], key: str) -> list[Any]:
    """Return the different values, in the order in which they first come."""
    return list(dict.fromkeys(row[key] for row in rows))


def _median(rows: list[Row], key: str) -> float:
    return float(statistics.median(row[key] for row in rows))


def met(is_met: bool) -> str:
    """Return the word for a target that was reached or not."""
    return "met" if is_met else "**not met**"


def _or_dash(value: float | None, form: str, before: str = "", none: str = "-") -> str:
    return none if value is None else f"{before}{value:{form}}"
