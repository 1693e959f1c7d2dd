"""The findings of a run as sentences and tables, for its documents and its page.

Figures are rounded here, and nowhere else: a document and the page say the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import polars as pl

from core.baskets.parts import Finding, Parts
from core.baskets.validation import Validation
from core.evaluation.separation import SEPARATION
from core.lifecycle.told import BY_RULE, how_sure
from core.models.centroids import NOWHERE
from core.reporting.board import BoardAxis, BoardSegment
from core.reporting.page import Table
from core.reporting.playbook import MeasuredPlay, behaviour
from core.reporting.text import MISSING, count, decimal, prose, rounded, share
from core.segments.rule_axis import SEGMENT

ALPHA: Final = 0.05
QUANTILES: Final = {"p20": 0.2, "p50": 0.5, "p80": 0.8}
AISLES_SHOWN: Final = 10
"""Aisles that the page shows, of those whose share differs most between segments."""
NO_STUDY: Final = (
    "No study was made, so it is not known whether clusters would do better. The rule "
    "segments are published because they can be explained and applied to every "
    "customer."
)
CHECKS: Final = {
    "mean_gap": "mean days between orders",
    "median_gap_cv": "median variation of the days between orders",
    "mean_hour": "mean hour of the order",
    "hour_deviation": "variation of the hour of the order",
}
"""Checks of readiness whose names are no words."""
_AISLE = re.compile(r"aisle_(?:[^_]*_)?(.+)")
METHODS: Final = {
    "kmeans": "KMeans",
    "mixture": "Gaussian mixture",
    "ward": "Ward",
    "dbscan": "DBSCAN",
    "hdbscan": "HDBSCAN",
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LONG_NUMBER = re.compile(r"\d+\.\d{5,}")
_STUDY_FIGURES = {
    "explained_variance": "variance explained",
    "silhouette": "silhouette",
    "calinski_harabasz": "Calinski-Harabasz",
    "davies_bouldin": "Davies-Bouldin",
    "smallest_cluster": "smallest cluster",
    "seed_ari": "same with another seed",
    "bootstrap_ari": "same with other customers",
}
_STUDY_SHOWN: Final = {
    "explained_variance": share,
    "calinski_harabasz": count,
    "smallest_cluster": share,
}


@dataclass(frozen=True)
class Story:
    """What is told of a segment.

    Attributes
    ----------
    id : int
        -1: in no segment.
    name : str
    customers, orders : int
    share, orders_share : float
        Of all segmented customers, and of their orders.
    description, rule : str
    apart : tuple of str
        In what its medians differ from those of all, the largest difference first.
    play : MeasuredPlay or None
        None for who has no segment.
    primary, guardrail : str
        The KPIs in words.
    """

    id: int
    name: str
    customers: int
    orders: int
    share: float
    orders_share: float
    description: str
    rule: str
    apart: tuple[str, ...]
    play: MeasuredPlay | None
    primary: str
    guardrail: str

    @property
    def behaviour(self) -> str:
        """What sets it apart, as a sentence."""
        if not self.apart:
            return "Its medians hardly differ from those of all customers."
        told = ", ".join(self.apart)
        return f"{told[:1].upper()}{told[1:]}."


class Content:
    """Sentences and tables of the parts of a run.

    Parameters
    ----------
    parts : Parts
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def words(self, name: str) -> str:
        """Return what a feature, an outcome or a check is called."""
        if name in CHECKS:
            return CHECKS[name]
        aisle = _AISLE.fullmatch(name)
        if aisle and name not in self.parts.playbook.metrics:
            return f"share of {aisle[1]}"
        return self.parts.playbook.words(name)

    def prose(self, lines: Iterable[str]) -> list[str]:
        """Return sentences with names of columns in words."""
        names = self.parts.segments["segment"].to_list()
        told = []
        for line in lines:
            text = prose(line, self.words, names)
            begins_as_named = text.startswith(tuple(names))
            told.append(text if begins_as_named else text[:1].upper() + text[1:])
        return told

    @cached_property
    def stories(self) -> list[Story]:
        """The segments, in the order of the rules."""
        said = behaviour(self.parts.features, "segment", self.parts.playbook)
        return [self._story(row, said) for row in self.parts.segments.to_dicts()]

    def _story(self, row: Mapping[str, Any], said: Mapping[str, list[str]]) -> Story:
        play = None
        primary = guardrail = MISSING
        if row["segment_id"] != NOWHERE:
            play = self.parts.playbook.play(row["rule_name"])
            way = "more" if play.primary.better == "higher" else "less"
            primary = f"{self.words(play.primary.name)} ({way} is better)"
            way = "fall" if play.guardrail.better == "higher" else "rise"
            guardrail = (
                f"{self.words(play.guardrail.name)} (must not {way} by more than "
                f"{share(play.guardrail.margin)})"
            )
        return Story(
            row["segment_id"],
            row["segment"],
            row["customers"],
            row["orders"],
            row["share"],
            row["orders_share"],
            # Rules without a description are described by their condition.
            "" if row["description"] in {None, row["rule"]} else row["description"],
            self._rules.get(row["rule_name"], ""),
            tuple(said.get(row["segment"], [])),
            play,
            primary,
            guardrail,
        )

    @cached_property
    def told(self) -> BoardAxis:
        """The segments in words, without shares of sales, which orders do not tell."""
        return BoardAxis(
            name=SEGMENT,
            title="Basket segments",
            segments=[
                BoardSegment(
                    id=str(story.id),
                    name=story.name,
                    n=story.customers,
                    share=story.share,
                    kind="rule",
                    apart=list(story.apart),
                    actions=list(story.play.actions) if story.play else [],
                    how_sure=BY_RULE if story.play else "",
                )
                for story in self.stories
            ],
            verdict=how_sure({"kind": "rule"}, 0.0)[1],
            note=self.parts.rules.description,
        )

    @cached_property
    def _rules(self) -> dict[str, str]:
        """Rules by name, with the numbers of their thresholds."""
        rules = self.parts.rules
        return {
            segment.name: self._rule(rules.condition(segment).text())
            for segment in rules.segments
        }

    def _rule(self, text: str) -> str:
        """Return a rule with features in words and four digits of its thresholds."""
        short = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.4g}", text)
        short = short.replace(">=", "\N{GREATER-THAN OR EQUAL TO}")
        return prose(short.replace("<=", "\N{LESS-THAN OR EQUAL TO}"), self.words)

    @cached_property
    def placed(self) -> list[Story]:
        """The segments without who has none."""
        return [story for story in self.stories if story.play]

    @cached_property
    def segments(self) -> Table:
        """Customers and orders by segment."""
        most = max(
            (max(s.share, s.orders_share or 0.0) for s in self.stories), default=1.0
        )
        return Table(
            "Segmented customers and their orders.",
            [
                {
                    "segment": s.name,
                    "customers": count(s.customers),
                    "share": share(s.share),
                    "orders": count(s.orders),
                    "share of orders": share(s.orders_share),
                }
                for s in self.stories
            ],
            frozenset({"segment"}),
            {
                "share": [s.share / (most or 1.0) for s in self.stories],
                "share of orders": [
                    (s.orders_share or 0.0) / (most or 1.0) for s in self.stories
                ],
            },
        )

    @cached_property
    def quantiles(self) -> pl.DataFrame:
        """``score``, `QUANTILES` and ``threshold`` of the scores that are divided."""
        rows = [
            (t.feature, *_quantiles(self.parts.features[t.feature]), t.value)
            for t in self.parts.rules.thresholds
            if t.feature in self.parts.features.columns
        ]
        names = ["score", *QUANTILES, "threshold"]
        schema = dict.fromkeys(names, pl.Float64) | {"score": pl.String}
        return pl.DataFrame(rows, schema=schema, orient="row")

    @cached_property
    def thresholds(self) -> Table:
        """Scores, their quantiles and the saved thresholds, to the fourth decimal."""
        meaning = {f.name: f.description for f in self.parts.rules.features}
        return Table(
            "A value equal to a threshold counts as high. p20: 20% of the customers "
            "have less.",
            [
                {"score": self.words(row["score"]), "is": meaning[row["score"]]}
                | {
                    name: MISSING if row[name] is None else f"{row[name]:.4f}"
                    for name in (*QUANTILES, "threshold")
                }
                for row in self.quantiles.to_dicts()
            ],
            frozenset({"score", "is"}),
        )

    @cached_property
    def readiness(self) -> list[Table]:
        """Checks of readiness, and customers by fewest orders."""
        found = self.parts.readiness
        if found is None:
            return []
        checks = [
            {
                "check": _check_words(row["check"]),
                "value": _with_unit(row["value"], row["unit"]),
                "expected": _expected(row["threshold"], row["unit"]),
                "status": row["status"],
                "what to do": (row["advice"] or MISSING).replace("`", ""),
            }
            for row in found.checks.to_dicts()
        ]
        kept = [
            {
                "fewest orders": count(row["min_orders"]),
                "customers": count(row["customers"]),
                "customers lost": share(row["customers_lost"]),
                "orders kept": share(row["orders_kept"]),
                "status": row["status"],
            }
            for row in found.thresholds.to_dicts()
        ]
        texts = frozenset({"check", "expected", "status", "what to do"})
        return [
            Table(
                "Checks of the orders. A fact has no threshold.",
                checks,
                texts,
            ),
            Table(
                "Who is left at each fewest number of orders.",
                kept,
                texts | {"fewest orders"},
            ),
        ]

    @cached_property
    def evidence(self) -> pl.DataFrame:
        """Effects on what took no part in the assignment, the largest first."""
        found = self.parts.validation
        if found is None:
            return pl.DataFrame(schema=SEPARATION)
        return found.metrics.filter(role="evidence").drop_nulls("eta_squared")

    @cached_property
    def validation(self) -> list[Table]:
        """Evidence, aisles, definition checks apart, and halves of the customers."""
        found = self.parts.validation
        if found is None:
            return []
        explored = found.metrics.filter(role="exploration").head(AISLES_SHOWN)
        tables = [
            self._effects(
                "Features that took no part in the assignment.", self.evidence
            ),
            self._effects(
                "Aisles, explored: the largest effects. p is adjusted for the number "
                "of aisles (false discovery rate).",
                explored,
            ),
            self._effects(
                "Definition checks: what the segments were made from, or follows from "
                "it. It differs by construction and proves nothing.",
                found.definition_checks,
            ),
            self._gaps(found.split_gaps),
        ]
        return [table for table in tables if table.rows]

    def _effects(self, caption: str, table: pl.DataFrame) -> Table:
        rows = table.to_dicts()
        return Table(
            caption,
            [
                {
                    "feature": self.words(row["metric"]),
                    "eta squared": rounded(row["eta_squared"]),
                    "95% interval": _interval(row, rounded),
                    "effect": row["effect"] or MISSING,
                    "p": _p_value(row["adjusted_p"]),
                    "customers": count(row["n"]),
                }
                for row in rows
            ],
            frozenset({"feature", "effect"}),
            {"eta squared": [min(row["eta_squared"] or 0.0, 1.0) for row in rows]},
        )

    def _gaps(self, gaps: pl.DataFrame) -> Table:
        medians = (
            gaps.group_by("metric")
            .agg(pl.median("relative_gap").alias("middle"), pl.max("relative_gap"))
            .drop_nulls()
            .sort("middle", "metric", descending=[True, False])
        )
        return Table(
            "Two random halves of every segment: the gap between their means, relative "
            "to the first.",
            [
                {
                    "feature": self.words(row["metric"]),
                    "median gap": share(row["middle"]),
                    "largest gap": share(row["relative_gap"]),
                }
                for row in medians.to_dicts()
            ],
            frozenset({"feature"}),
        )

    def study(self, *, is_short: bool = False) -> Table | None:
        """Candidates of the study beside data without structure, the chosen one first.

        The short table has, beside it, the best of each set of features.
        """
        found = self.parts.study
        if found is None or not found.candidates.height:
            return None
        is_whole = pl.col("fault").fill_null("") == ""
        own = found.candidates.sort(
            "is_chosen", is_whole, "excess", descending=True, nulls_last=True
        )
        if is_short:
            best = own.filter(pl.col("k") > 1).unique(
                "space", keep="first", maintain_order=True
            )
            chosen = own.filter("is_chosen")
            own = pl.concat([chosen, best]).unique(maintain_order=True)
        return Table(
            f"{'The best clusters of each set of features' if is_short else 'Clusters'}"
            ": the one chosen (*), then by what they explain beyond data without "
            "structure. Before the slash: these customers; behind it: data without "
            "structure.",
            [
                {
                    "features": f"{row['space']}{' *' if row['is_chosen'] else ''}",
                    "method": METHODS.get(row["method"], row["method"]),
                    "clusters": count(row["k"]),
                }
                | {
                    told: _beside_null(row, name)
                    for name, told in _STUDY_FIGURES.items()
                    if name in row
                }
                | ({} if is_short else {"note": row["fault"] or MISSING})
                for row in own.to_dicts()
            ],
            frozenset({"features", "method", "note"}),
        )

    @property
    def spaces(self) -> Table | None:
        """The spaces of the study, with what their components keep."""
        found = self.parts.study
        if found is None or not found.spaces.height:
            return None
        return Table(
            "Features that clusters were looked for in.",
            [
                {
                    "features": row["space"],
                    "number": count(row["features"]),
                    "columns": count(row["columns"]),
                    "principal components": count(row["components"]),
                    "variance that they keep": share(row["explained_variance"]),
                }
                for row in found.spaces.to_dicts()
            ],
            frozenset({"features"}),
        )

    @cached_property
    def out_of_time(self) -> Table | None:
        """What each scheme explains of the time after a cut."""
        found = self.parts.out_of_time
        if found is None or not found.table.height:
            return None
        rows: dict[str, dict[str, str]] = {}
        for row in found.table.filter(cut="all").to_dicts():
            scheme = row["scheme"].replace(" and recency-frequency", " and")
            name = scheme if row["over"] is None else f"{scheme} less {row['over']}"
            own = rows.setdefault(name, {"what is known": name})
            told = f"{_points(row['r2'])} ({_interval(row, _points)})"
            own[self.words(row["outcome"])] = told
        return Table(
            "Share of the variance explained, out of fold, over all cuts, with a 95% "
            "interval; and differences between such shares.",
            list(rows.values()),
            frozenset({"what is known"}),
        )

    @cached_property
    def experiment(self) -> Table | None:
        """What each segment needs for an experiment of its own."""
        found = self.parts.experiment
        if found is None or not found.table.height:
            return None
        order = {story.name: place for place, story in enumerate(self.stories)}
        rows = sorted(
            found.table.to_dicts(),
            key=lambda row: order.get(row["segment"], len(order)),
        )
        return Table(
            "Customers needed in both arms together, for each segment alone.",
            [
                {
                    "segment": row["segment"],
                    "primary KPI": self.words(row["metric"]),
                    "now": rounded(row["baseline"]),
                    "customers": count(row["n_users"]),
                    "needed": count(row["needed"]),
                    "weeks": count(row.get("weeks_in_all", row["weeks"])),
                    "detectable change": share(row["smallest_effect"]),
                    "guardrail": MISSING
                    if row.get("guardrail") is None
                    else self.words(row["guardrail"]),
                    "can be tested": "yes" if row["can_be_tested"] else "no",
                }
                for row in rows
            ],
            frozenset({"segment", "primary KPI", "guardrail", "can be tested"}),
        )

    @cached_property
    def monitoring(self) -> Table | None:
        """What is watched, and what is to be done."""
        found = self.parts.monitoring
        if found is None or not found.table.height:
            return None
        return Table(
            "What is watched from run to run.",
            [
                {
                    "trigger": self.prose([row["trigger"]])[0],
                    "now": rounded(row["value"]),
                    "limit": rounded(row["threshold"]),
                    "months running": count(row["months_running"]),
                    "status": row["status"],
                    "action": row["action"] or MISSING,
                }
                for row in found.table.to_dicts()
            ],
            frozenset({"trigger", "status", "action"}),
        )

    @cached_property
    def ready(self) -> str:
        """Whether the orders carry a segmentation."""
        found = self.parts.readiness
        if found is None:
            return "Whether the orders carry a segmentation was not examined."
        return self.prose([found.verdict])[0]

    @cached_property
    def sure(self) -> list[str]:
        """On differences between the segments, and on the time after, a sentence."""
        after = self.parts.out_of_time
        told = list(after.lines)[:1] if after else []
        missing = "Whether segments tell what comes next was not examined."
        return self.prose([self._differs(), *(told or [missing])])

    def _differs(self) -> str:
        """Return in how much segments differ that they were not made from."""
        shown = self.evidence.filter(pl.col("adjusted_p") < ALPHA)
        if self.parts.validation is None:
            return "Whether segments differ was not examined."
        if not shown.height:
            return (
                f"In none of {self.evidence.height} features that they were not made "
                "from do the segments differ by more than chance."
            )
        first = shown.row(0, named=True)
        return (
            f"Segments differ by more than chance in {shown.height} of "
            f"{self.evidence.height} features that they were not made from; most in "
            f"`{first['metric']}` ({first['effect']} effect)."
        )

    @cached_property
    def decision(self) -> str:
        """What follows from the study, in a sentence or two."""
        study = self.parts.study
        if study is None:
            return NO_STUDY
        first = self.prose(study.recommendation[:1])[0]
        published = " The segments of this run are those of the rules."
        return first + (published if study.verdict == "clear" else "")

    def lines(self, part: Finding | Validation | None, missing: str) -> list[str]:
        """Return the sentences of a part, or that it was not made."""
        return [missing] if part is None else self.prose(part.lines)


def _beside_null(row: Mapping[str, Any], name: str) -> str:
    """Return a figure of the study, and that of data without structure."""
    shown = _STUDY_SHOWN.get(name, decimal)
    null = row.get(f"{name}_null")
    return f"{shown(row[name])} / {shown(null)}"


def _quantiles(values: pl.Series) -> list[float | None]:
    return [values.quantile(q, "linear") for q in QUANTILES.values()]


def _check_words(name: str) -> str:
    return CHECKS.get(name, name.replace("_", " "))


def _with_unit(value: float | None, unit: str | None) -> str:
    """Return a value as its unit is told: shares in percent, counts in full."""
    if value is None:
        return MISSING
    if unit == "share":
        return share(value)
    shown = count(value) if value >= 100 and value == int(value) else rounded(value)
    return f"{shown} {unit}" if unit not in {None, "", "ratio"} else shown


def _interval(row: Mapping[str, Any], shown: Callable[[float | None], str]) -> str:
    if row["low"] is None or row["high"] is None:
        return MISSING
    return f"{shown(row['low'])} to {shown(row['high'])}"


def _points(value: float | None) -> str:
    """Return a share of variance in percent; it may be negative."""
    return MISSING if value is None else f"{rounded(100 * value)}%"


def _expected(text: str | None, unit: str | None) -> str:
    """Return the bounds of a check in the unit of its value."""
    if text is None:
        return MISSING
    shown = share if unit == "share" else _plain
    return _NUMBER.sub(lambda number: shown(float(number[0])), text)


def _plain(value: float) -> str:
    return count(value) if value >= 100 else rounded(value)


def _p_value(p: float | None) -> str:
    if p is None:
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}"
