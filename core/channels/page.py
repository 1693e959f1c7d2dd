"""The page of the channels: who is in which segment, what to do, and how sure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from core.artifacts.folder import StageWriter
from core.channels.files import FILES
from core.channels.model import ChannelsModel
from core.channels.told import told_axes
from core.channels.words import condition_words, feature_words
from core.lifecycle.page import (
    NO_PROOF,
    Found,
    page_content,
    rules_badge,
    segment_rows,
    who_could,
    who_could_not,
)
from core.lifecycle.playbook import run_playbook
from core.lifecycle.segmentation import Tables
from core.lifecycle.told import placed
from core.reporting.board import BoardAxis, BoardSegment
from core.reporting.changes import change_lines, changes_part, drift_part, moves_table
from core.reporting.page import Part, Table, Templates
from core.reporting.playbook import Play, Playbook
from core.reporting.text import MISSING, count, decimal, plural, rounded, share
from core.rules.outline import OutlineNode, outline
from core.segments.rule_axis import SEGMENT

TEMPLATES = Templates(Path(__file__).parent / "templates")
Facts = Mapping[str, Any]
KINDS = {"natural": "groups", "cut": "a cut", "single": "none", "skipped": "nobody"}
_STEPS: Final = (
    ("serve", "starts the HTTP API over the profiles"),
    ("channels --config channels.yaml", "takes in next month's orders"),
    ('channels rename AXIS ID "NAME"', "gives a segment a name that stays"),
    ("channels rollback", "brings the version before back"),
)


def write_page(
    out: StageWriter,
    tables: Tables,
    facts: Facts,
    summary: pl.DataFrame,
    told: tuple[str, Sequence[str]],
) -> None:
    """Write ``channels.html``.

    Parameters
    ----------
    out : StageWriter
    tables : Tables
        See `core.lifecycle.segmentation`.
    facts : mapping
        Of the run, with ``bands`` and ``items``.
    summary : DataFrame
        Of `core.channels.report.summary_table`.
    told : (str, sequence of str)
        Headline and notes, as the terminal has them.
    """
    model = tables.assigner.model
    assert isinstance(model, ChannelsModel)  # of a channels' assigner
    playbook = run_playbook(out, out.config.channels.playbook, "channels")
    rules, *items = told_axes(model, tables.profiles, playbook)
    told_changes = change_lines(facts, is_short=False)
    drift = tables.drift, feature_words
    changes = changes_part(told_changes, facts["n_moved"], *drift)
    if changes is not None and facts["moves"]:
        table = moves_table(facts["moves"], model.names[SEGMENT])
        changes = replace(changes, tables=[table, *changes.tables])
    source = ", ".join(facts["channels"]) or "customer features"
    bands = list(_bands(model, rules, playbook))
    page = TEMPLATES.page(
        "channels.html.j2",
        heading="Channel segments",
        content=page_content(out, facts, source, *told, _STEPS),
        found=_found(facts, len(placed(rules)), items),
        parts=[] if changes is None else [changes],
        account=facts["account"],
        home=facts["home"],
        segments=segment_rows(_within(model, rules, bands)),
        items=[
            (item, *segment_rows(item.segments))
            for item in items
            if len(placed(item)) > 1
        ],
        rules=rule_tree(model, summary),
        drift=drift_part(*drift),
        micro=_micro_part(facts),
        figures=_figures_part(model, summary),
    )
    out.path(FILES.page).write_text(page, encoding="utf-8", newline="\n")


def _found(facts: Facts, n_rules: int, items: Sequence[BoardAxis]) -> Found:
    """Return who could be segmented, and how sure that is."""
    n_micro = sum(len(placed(item)) for item in items if len(placed(item)) > 1)
    divided = f"{plural(n_rules, 'segment')} by rules"
    if n_micro:
        divided += f", some divided further into {n_micro} micro-segments"
    elif facts["items"]:
        divided += ", none of them divided further"
    return Found(
        "care" if facts["n_unplaced"] else "good",
        who_could(facts),
        rules_badge(facts),
        [f"{divided}. {facts['proof']} {who_could_not(facts)}", NO_PROOF],
    )


def _bands(
    model: ChannelsModel, rules: BoardAxis, playbook: Playbook[Play]
) -> Iterator[BoardSegment]:
    """Yield the bands of the rules as segments; their ids are their names."""
    band_of = _band_of(model)
    for band in model.rules.bands:
        own = [s for s in placed(rules) if band_of.get(s.id) == band.name]
        values = [s.value_share for s in own if s.value_share is not None]
        said = [plural(len(own), "segment")]
        if largest := max(own, key=lambda s: s.n, default=None):
            said.append(
                f"the largest, {largest.name}: {largest.apart[0].lower()} "
                f"({share(largest.share)} of customers)"
            )
        yield BoardSegment(
            id=band.name,
            name=f"{band.name}: {band.description}" if band.description else band.name,
            n=sum(s.n for s in own),
            share=sum(s.share for s in own),
            value_share=sum(values) if values else None,
            apart=said,
            actions=list(playbook.play(band.name).actions),
        )


def _band_of(model: ChannelsModel) -> dict[str, str | None]:
    """Return the band of every rule segment by its id."""
    bands = {rule.name: rule.band for rule in model.rules.segments}
    own = model.axes[SEGMENT].segments
    return {str(s.id): bands.get(s.rule_name) for s in own}


def _within(
    model: ChannelsModel, rules: BoardAxis, bands: Sequence[BoardSegment]
) -> list[BoardSegment]:
    """Return the rule segments below their bands, in the order of the rules."""
    band_of = _band_of(model)
    order = {str(s.id): s.cluster for s in model.axes[SEGMENT].segments}
    own = sorted(rules.segments, key=lambda s: (s.id == "-1", order[s.id]))
    if not bands:
        return own
    found: list[BoardSegment] = []
    for band in bands:
        found.append(replace(band, id=""))
        found += [
            # What is suggested for a whole band is said once.
            replace(
                s,
                parent=band.id,
                actions=[] if s.actions == band.actions else s.actions,
            )
            for s in own
            if band_of.get(s.id) == band.id
        ]
    return [*found, *(s for s in own if band_of.get(s.id) is None)]


def _figures_part(model: ChannelsModel, summary: pl.DataFrame) -> Part:
    """Return customers and orders of every rule segment."""
    rows = summary.to_dicts()
    most = summary["share"].max() or 1.0
    band = {"band"} if model.rules.bands else set()
    return Part(
        "Customers and orders by rule segment",
        [
            "Orders are those in the home channel. The order value is the mean of the "
            "customers' own averages, over all channels."
        ],
        tables=[
            Table(
                "In the order of the rules.",
                [
                    {
                        "segment": row["segment"],
                        **{name: row[name] or MISSING for name in band},
                        "customers": count(row["customers"]),
                        "share": share(row["share"]),
                        "orders": count(row["orders"]),
                        "orders per customer": rounded(row["orders_per_customer"]),
                        "order value": rounded(row["avg_order_value"]),
                    }
                    for row in rows
                ],
                frozenset({"segment", "band"}),
                {"share": [row["share"] / float(str(most)) for row in rows]},
            )
        ],
    )


def rule_tree(model: ChannelsModel, summary: pl.DataFrame) -> list[OutlineNode]:
    """Return the rules in words, with the customers who come as far as each.

    Parameters
    ----------
    model : ChannelsModel
    summary : DataFrame
        Of `core.channels.report.summary_table`.
    """
    segments = model.axes[SEGMENT].segments
    ids = {s.id: s.rule_name for s in segments}
    called = {s.rule_name: s.name for s in segments}
    n = dict(summary.select("segment_id", "customers").iter_rows())
    features = {feature.name: feature for feature in model.rules.features}

    def told(node: OutlineNode) -> OutlineNode:
        children = tuple(told(child) for child in node.children)
        words = condition_words(node.condition, features)
        name = node.name if children else called.get(node.name, node.name)
        return replace(node, condition=words, name=name, children=children)

    counts = {name: n.get(id_, 0) for id_, name in ids.items()}
    return [told(node) for node in outline(model.rules, counts)]


def _micro_part(facts: Facts) -> Part | None:
    """Return what was found within the rule segments."""
    if not facts["items"]:
        return None
    rows = [
        {
            "item": item["axis"],
            "customers": count(item["n_customers"]),
            "found": KINDS[item["kind"]],
            "micro-segments": count(item["n_segments"])
            if item["n_segments"] > 1
            else MISSING,
            "stability": decimal(item["stability"]),
            "finding": item["verdict"],
        }
        for item in facts["items"]
    ]
    said = (
        "Each item of the plan looks for groups among the customers of its rule "
        "segments, by what they order. Groups have gaps in density between them, and "
        "two random halves of the customers give the same ones (stability: adjusted "
        "Rand index, at most 1). Where there are none, the customers stay together; "
        "with a number given (`k`) they are cut all the same, and it is called a cut."
    )
    table = Table("By item of the plan.", rows, frozenset({"item", "found", "finding"}))
    return Part("How micro-segments were found", [said], tables=[table])
