"""The page of the channels: who is in which segment, by which rules, and how sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from core.artifacts.folder import StageWriter
from core.channels.files import FILES
from core.channels.model import ChannelsModel
from core.channels.words import condition_words
from core.lifecycle.page import page_content
from core.lifecycle.segmentation import Tables
from core.reporting.changes import change_lines, changes_part, moves_table
from core.reporting.page import Part, Table, Templates
from core.reporting.text import MISSING, count, decimal, percent, plural
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
    n_micro = sum(i["n_segments"] for i in facts["items"] if i["n_segments"] > 1)
    tiles = {
        "customers": facts["n_customers"],
        "orders": facts["n_orders"],
        "channels": len(facts["channels"]) or None,
        "rule segments": len(model.rules.segments),
        "micro-segments": n_micro,
    }
    changes = changes_part(
        change_lines(facts, is_short=False), facts["n_moved"], tables.drift
    )
    if changes is not None and facts["moves"]:
        table = moves_table(facts["moves"], model.names[SEGMENT])
        changes = replace(changes, tables=[table, *changes.tables])
    source = ", ".join(facts["channels"]) or "customer features"
    headline, notes = told[0], [facts["proof"], *told[1]]
    page = TEMPLATES.page(
        "channels.html.j2",
        heading="Channel segments",
        content=page_content(out, facts, source, headline, notes, _STEPS),
        told=_found(facts, len(model.rules.segments), n_micro),
        tiles=[(name, count(n)) for name, n in tiles.items() if n is not None],
        pictures=[],
        parts=[part for part in (changes, _sizes_part(model, facts, summary)) if part],
        rules=rule_tree(model, summary),
        micro=_micro_part(facts),
        items=[(i, _item_table(i, tables)) for i in facts["items"] if i["n_segments"]],
        sure=_sure_part(facts),
        rows=facts["account"],
    )
    out.path(FILES.page).write_text(page, encoding="utf-8", newline="\n")


def _found(facts: Facts, n_rules: int, n_micro: int) -> tuple[str, str]:
    """Return the tone of the page, and how many segments there are."""
    told = f"{count(facts['n_customers'])} customers in {n_rules} segments"
    if n_micro:
        told += f", some divided further into {n_micro} micro-segments"
    elif facts["items"]:
        told += ", none of them divided further"
    return ("care" if facts["n_unplaced"] else "good"), told


def _sizes_part(model: ChannelsModel, facts: Facts, summary: pl.DataFrame) -> Part:
    """Return customers and orders by band, and by segment within each."""
    described = {band.name: band.description for band in model.rules.bands}
    largest = max((band["share"] for band in facts["bands"]), default=1.0) or 1.0
    bands = Table(
        "By band.",
        [
            {
                "band": band["band"] or MISSING,
                "who": described.get(band["band"] or "", "") or MISSING,
                "segments": count(band["segments"]),
                "customers": count(band["customers"]),
                "share": percent(band["share"]),
                "orders": count(band["orders"]),
                "orders per customer": _per(band["orders"], band["customers"]),
            }
            for band in facts["bands"]
        ],
        frozenset({"band", "who"}),
        {"share": [band["share"] / largest for band in facts["bands"]]},
    )
    features = {feature.name: feature for feature in model.rules.features}
    without = {s.name for s in model.rules.segments if not s.description}
    bare = [s.id for s in model.axes[SEGMENT].segments if s.rule_name in without]
    told = summary.with_columns(
        pl.when(pl.col("segment_id").is_in(bare))
        .then(
            pl.col("description").map_elements(
                lambda text: condition_words(text, features), return_dtype=pl.String
            )
        )
        .otherwise("description")
        .alias("description")
    )
    # One scale for all tables, so that bars can be compared across bands.
    most = summary["share"].max() or 1.0
    return Part(
        "Customers and orders by segment",
        [
            f"Orders are those in {facts['home']}. The order value is the mean of the "
            "customers' own averages, over all channels."
        ],
        tables=[
            bands,
            *(
                _band_table(own, described, float(str(most)))
                for own in told.partition_by("band", maintain_order=True)
            ),
        ],
    )


def _band_table(own: pl.DataFrame, described: Mapping[str, str], most: float) -> Table:
    """Return the segments of a band."""
    band = own["band"][0]
    said = described.get(band or "", "")
    caption = f"{band}{f': {said}' if said else ''}." if band else "Segments."
    rows = own.to_dicts()
    return Table(
        caption,
        [
            {
                "segment": row["segment"],
                "who": row["description"],
                "customers": count(row["customers"]),
                "share": percent(row["share"]),
                "orders": count(row["orders"]),
                "orders per customer": decimal(row["orders_per_customer"]),
                "order value": count(row["avg_order_value"]),
                "id": str(row["segment_id"]) if row["segment_id"] >= 0 else MISSING,
            }
            for row in rows
        ],
        frozenset({"segment", "who"}),
        {"share": [row["share"] / most for row in rows]},
    )


def _per(orders: int, customers: int) -> str:
    return decimal(orders / customers) if customers else MISSING


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
        "segments, by what they order. Groups are parted by valleys in the density and "
        "come back in two halves of the customers (stability, adjusted Rand index, at "
        "most 1). Where there are none, the customers stay together; with a number "
        "given (`k`) they are cut all the same, and it is called a cut."
    )
    table = Table("By item of the plan.", rows, frozenset({"item", "found", "finding"}))
    return Part("Micro-segments", [said], tables=[table])


def _item_table(item: Facts, tables: Tables) -> Table | None:
    """Return the micro-segments of an item, and what sets them apart."""
    if item["n_segments"] < 2:
        return None
    own = tables.sizes.filter(axis=item["axis"]).to_dicts()
    own = [row for row in own if row["segment_id"] >= 0 or row["n_customers"]]
    rows = [
        {
            "micro-segment": row["segment"],
            "what sets it apart": row["why"],
            "customers": count(row["n_customers"]),
            "share": percent(row["share"]),
            "id": str(row["segment_id"]) if row["segment_id"] >= 0 else MISSING,
        }
        for row in own
    ]
    whose = "the rule segment" if len(item["sources"]) == 1 else "the rule segments"
    return Table(
        f"{plural(item['n_customers'], 'customer')} of {whose} "
        f"{', '.join(item['sources'])}. z: distance from the others' mean in standard "
        "deviations.",
        rows,
        frozenset({"micro-segment", "what sets it apart"}),
        {"share": [row["share"] for row in own]},
    )


def _sure_part(facts: Facts) -> Part:
    """Return how far segments can be trusted."""
    said = [
        f"{facts['proof']} A rule segment is certain: a customer changes it only by "
        "ordering otherwise, or with the rules.",
        "Whether rule segments differ beyond what they were cut by, and whether acting "
        "on them pays, is not shown here. Test on some customers first.",
    ]
    if facts["items"]:
        said.insert(
            1,
            "A micro-segment describes what customers have ordered. Its strength, from "
            "0 at the border to the next one to 1 at its centre, stands with every "
            "customer in the profiles; customers near a border often switch.",
        )
    return Part("How sure this is", said)
