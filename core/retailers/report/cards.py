"""Cards: what a reader has to know of each published segment, and may do with it.

A run alone fills all of a card but the tested differences, the typical shops and the
rules that imitate a segment: ``profile`` adds those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from core.months import month_index
from core.reporting.text import share
from core.retailers.apart import apart, trend_words
from core.retailers.features import SHOP
from core.retailers.names import first_words
from core.retailers.playbook import ShopPlaybook
from core.retailers.report.differences import Difference, differences, rule_texts
from core.retailers.report.evidence import Evidence, report_line
from core.retailers.report.tree import Contrasts
from core.retailers.shop_files import segment_file
from core.retailers.states import state_mix
from core.segments.profiles import monthly_curves
from core.segments.published import UNASSIGNED, PublishedSegments, Segment
from core.segments.states import STATES
from core.segments.within import SubSegment

CARDS = 24
CURVES = "segment_curves.csv"


@dataclass(frozen=True)
class Curve:
    """Months as a picture of 320 x 96 units.

    Attributes
    ----------
    line, band : str
        Points of the mean, and of the area of the middle half of the shops.
    average : float
        Height of a shop's own average month.
    ticks : list of (float, str)
        Places of Januaries, and their years.
    words : str
        The same for who cannot see it.
    """

    line: str
    band: str
    average: float
    ticks: list[tuple[float, str]]
    words: str


@dataclass(frozen=True)
class Card:
    """One published segment, or a part of one.

    Attributes
    ----------
    id : str
        Such as ``2``, or ``2a`` of a sub-segment.
    name : str
    title : str
        Both.
    parent : str or None
        Id of the segment that a sub-segment is part of.
    kind : {'density', 'partition', 'rules'}
    size : int
        Shops of the training data; `share` of all of them, 0 to 1.
    sales_share : float or None
        Of the sales of all of them in the last 12 months, 0 to 1; None without sales.
    curve : Curve or None
        Monthly sales of its shops; None of a single month.
    trend : str
        Of its typical shop; empty where it is not known.
    states : list of (str, float)
        States of life and the share of its shops in each, 0 to 1, in the order of a
        life, without those of less than 1%; empty where no state is known.
    apart : list of str
        The two things that set it apart most, in words.
    differences : list of Difference
        The same and more, with the figures of the other shops; the clearest first.
    actions : list of str
        What the playbook suggests, the first most.
    how_sure, how_sure_why : str
        Whether it is a group of its own, in short and as a sentence.
    members : list of str
        The most typical shops, the most typical first.
    rules : list of str
        Plain rules that imitate the segment, the widest first; of a segment by rules
        the rule itself.
    file : str
        Where its shops are listed; of a sub-segment, those of its segment.
    """

    id: str
    name: str
    title: str
    parent: str | None
    kind: str
    size: int
    share: float
    sales_share: float | None
    curve: Curve | None
    trend: str
    states: list[tuple[str, float]]
    apart: list[str]
    differences: list[Difference]
    actions: list[str]
    how_sure: str
    how_sure_why: str
    members: list[str]
    rules: list[str]
    file: str


def segment_cards(
    evidence: Evidence,
    playbook: ShopPlaybook,
    contrasts: Contrasts,
    tree: pl.DataFrame,
    curves: pl.DataFrame,
    scored: Path,
) -> list[Card]:
    """Return a card for each of the 24 largest published segments, the largest first.

    The cards of its sub-segments follow that of a segment, the largest first.

    Parameters
    ----------
    evidence : Evidence
    playbook : Playbook
    contrasts : mapping of str to sequence of mapping
        `core.retailers.report.tree.contrasts_by_id`.
    tree : DataFrame
        `core.retailers.report.tree.segment_tree`.
    curves : DataFrame
        `curve_table`.
    scored : Path
        Parquet file of the training data's labels.
    """
    segments = [s for s in evidence.published.segments if s.id != UNASSIGNED]
    segments.sort(key=lambda segment: (-segment.size, segment.id))
    known = _Known(
        evidence,
        playbook,
        contrasts,
        dict(tree.select("id", "sales_share").iter_rows()),
        curves,
        _mixes(scored, has_parts=bool(evidence.published.parts)),
        *_profiled(evidence),
    )
    cards = []
    for segment in segments[:CARDS]:
        cards.append(known.card(segment))
        parts = sorted(segment.parts, key=lambda part: (-part.size, part.number))
        cards += [known.card(part, segment) for part in parts]
    return cards


@dataclass(frozen=True)
class _Known:
    """What cards are made of, by id of segments and sub-segments."""

    evidence: Evidence
    playbook: ShopPlaybook
    contrasts: Contrasts
    sales: Mapping[str, float | None]
    curves: pl.DataFrame
    states: Mapping[str, list[tuple[str, float]]]
    tested: Mapping[str, Sequence[Mapping[str, Any]]]
    shops: pl.DataFrame | None
    rules: pl.DataFrame | None

    def card(self, own: Segment | SubSegment, parent: Segment | None = None) -> Card:
        """Return the card of a segment, or of a part of `parent`."""
        key, segment = str(own.id), parent or own
        assert isinstance(segment, Segment)
        rows = self.contrasts.get(key, ())
        sure, why = how_sure(self.evidence, own)
        names = [own.name, first_words(rows)] if own.is_edited else [own.name]
        rules = self.rules if parent is None else None
        return Card(
            id=key,
            name=own.name,
            title=f"{key} {own.name}",
            parent=None if parent is None else str(parent.id),
            kind=own.kind,
            size=own.size,
            share=own.share,
            sales_share=self.sales.get(key),
            curve=curve_of(self.curves, key),
            trend=trend_words(rows),
            states=self.states.get(key, []),
            apart=apart(rows),
            differences=differences(self.tested.get(key, rows)),
            actions=list(self.playbook.play(*names).actions),
            how_sure=sure,
            how_sure_why=why,
            members=_shops_of(self.shops, key),
            rules=[] if rules is None else rule_texts(rules, int(key)),
            file=segment_file(segment.id, segment.name),
        )


def _profiled(
    evidence: Evidence,
) -> tuple[
    Mapping[str, Sequence[Mapping[str, Any]]], pl.DataFrame | None, pl.DataFrame | None
]:
    """Return what profiling has left: tested differences, typical shops, rules."""
    profiles = evidence.judged("profiles")
    rules = None
    if profiles or evidence.published.kind == "rules":
        types = {"above": pl.Float64, "up_to": pl.Float64}
        rules = evidence.table("segment_rules.csv", **types)
    if profiles is None:
        return {}, None, rules
    shops = evidence.table("segment_exemplars.csv", shop_id=pl.String)
    return profiles["strongest"], shops, rules


# A smaller share of a state is left out.
_TOLD = 0.01


def _mixes(scored: Path, has_parts: bool) -> dict[str, list[tuple[str, float]]]:
    """Return the shares of states by id."""
    mixes = {}
    for column in ("segment", "sub_segment") if has_parts else ("segment",):
        for row in state_mix(scored, column).drop_nulls(column).to_dicts():
            shares = [(state, row[f"share_{state}"]) for state in STATES]
            mixes[str(row[column])] = [(n, s) for n, s in shares if (s or 0) >= _TOLD]
    return mixes


# Hennig (2007): from here on a cluster is stable, and below that it is not.
_STABLE, _UNSTABLE = 0.75, 0.6


def how_sure(evidence: Evidence, own: Segment | SubSegment) -> tuple[str, str]:
    """Say how sure it is that something is a group of its own, shortly and why.

    The unassigned are none, so nothing is said of them.
    """
    if own.id == UNASSIGNED:
        return "", ""
    case = _standing(evidence, own)
    is_stable = isinstance(own, Segment) and own.id in evidence.jaccards
    why = report_line("how_sure_why", case=case, is_stable=is_stable)
    return report_line("how_sure", case=case), why


def _standing(evidence: Evidence, own: Segment | SubSegment) -> str:
    """Return how sure it is that something is a group of its own, as one word.

    One answer from all evidence at hand: where the verdict is a convenient cut, no
    figure of a single segment makes it more.
    """
    verdict = evidence.published.verdict
    if own.kind == "rules":
        return "rule"
    if isinstance(own, SubSegment) or verdict.kind == "constructive":
        return "looks_clear" if own.kind == "density" else "cut"
    jaccard = evidence.jaccards.get(own.id)
    if jaccard is not None and jaccard < _STABLE:
        return "unstable" if jaccard < _UNSTABLE else "blurred"
    found = "clear" if verdict.is_certified else "looks_clear"
    if not evidence.stands_alone.get(own.id, True):
        found = "not_alone"
    return "repeatable" if verdict.kind == "reproducible" else found


def curve_table(
    scored: Path, monthly: pl.DataFrame, as_of: str, published: PublishedSegments
) -> pl.DataFrame:
    """Average the months of the shops of every segment and sub-segment.

    Parameters
    ----------
    scored : Path
        Parquet file of the training data's labels.
    monthly : DataFrame
        ``shop_id, t, quantity`` of active months.
    as_of : str
        Last month looked at, YYYY-MM.
    published : PublishedSegments

    Returns
    -------
    DataFrame
        ``id``, then as `core.segments.profiles.monthly_curves`.
    """
    ids = {
        "segment": [str(s.id) for s in published.segments if s.id != UNASSIGNED],
        "sub_segment": [*published.parts],
    }
    known = monthly.lazy().select(pl.col("shop_id").unique())
    labels = (
        pl.scan_parquet(scored, glob=False)
        .select("shop_id", *ids)
        .join(known, on="shop_id", how="semi", maintain_order="left")
        .collect(engine="streaming")
    )
    tables = []
    for column, own in ids.items():
        if own:
            place = (
                pl.col(column)
                .cast(pl.String)
                .replace_strict(
                    own, range(len(own)), default=UNASSIGNED, return_dtype=pl.Int64
                )
            )
            placed = labels.select("shop_id", segment=place)
            found = monthly_curves(monthly, placed, month_index(as_of), "shop_id")
            named = pl.col("segment").replace_strict(
                range(len(own)), own, return_dtype=pl.String
            )
            tables.append(found.select(named.alias("id"), pl.exclude("segment")))
    return pl.concat(tables)


def segment_curves(curves: pl.DataFrame, published: PublishedSegments) -> pl.DataFrame:
    """Return the rows of ``segment_curves.csv``: segments alone, with their names."""
    named = {str(segment): name for segment, name in published.names.items()}
    own = SHOP.named_table(curves.filter(pl.col("id").is_in([*named])))
    name = pl.col("id").replace_strict(named, return_dtype=pl.String)
    segment = pl.col("id").cast(pl.Int64).alias("segment")
    return own.select(segment, name.alias("segment_name"), *own.columns[1:])


def curve_of(curves: pl.DataFrame, segment: str) -> Curve | None:
    """Lay out the months of one segment; all segments share the scale.

    Parameters
    ----------
    curves : DataFrame
        `curve_table`.
    segment : str
        Its id.
    """
    own = curves.filter(id=segment).sort("month")
    if own.height < 2:
        return None
    months = curves["month"].unique().sort().to_list()
    top = float(max(curves["mean"].max(), curves["high"].max(), 1.0))  # type: ignore[arg-type,type-var]  # not empty
    step = 320 / (len(months) - 1)
    across = {month: round(place * step, 1) for place, month in enumerate(months)}

    def points(column: str) -> list[str]:
        return [
            f"{across[month]},{_height(value, top)}"
            for month, value in own.select("month", column).iter_rows()
        ]

    best = own.row(own["mean"].arg_max() or 0, named=True)
    return Curve(
        line=" ".join(points("mean")),
        band=" ".join([*points("low"), *reversed(points("high"))]),
        average=_height(1.0, top),
        ticks=[(across[m], m[:4]) for m in months if m.endswith("-01")][:6],
        words=(
            f"Monthly sales from {months[0]} to {months[-1]}, highest in "
            f"{best['month']}: {share(best['mean'])} of a shop's own average month."
        ),
    )


def _height(value: float, top: float) -> float:
    """Return where a value lies in a picture of 96 units, counted from its top."""
    return round(92 - 88 * value / top, 1)


def _shops_of(shops: pl.DataFrame | None, segment: str) -> list[str]:
    if shops is None:
        return []
    own = shops.filter(pl.col("segment").cast(pl.String) == segment).sort("place")
    return [str(shop) for shop in own["shop_id"]]
