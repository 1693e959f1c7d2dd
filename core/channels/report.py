"""What a run of the channels tells: its summary of segments, its page, its messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.manifest import library_versions
from core.artifacts.runs import REJECTED
from core.channels.files import FILES, LEFT_OUT, RULES, SEGMENTS, SUMMARY
from core.channels.model import SEGMENT, ChannelsModel
from core.config import Config
from core.lifecycle import Tables
from core.models.centroids import NOWHERE
from core.reporting.changes import change_lines, changes_part
from core.reporting.page import NextStep, Part, Table, Templates
from core.reporting.text import MISSING, command, count, decimal, percent
from core.rules.outline import OutlineNode, outline
from core.segments.contract import (
    SegmentFacts,
    check_contract,
    read_contract,
    require_kept,
)

TEMPLATES = Templates(Path(__file__).parent / "templates")
TEMPLATE = "run.txt.j2"
Facts = Mapping[str, Any]
# Pages keep it, unlike spaces at the beginning of a line.
_EM_SPACE = "\N{EM SPACE}"


@dataclass(frozen=True)
class PageContent:
    """All that the page tells, as plain data.

    Attributes
    ----------
    source, created, headline : str
    notes : sequence of str
        What the reader should know of the rows.
    next_steps : sequence of NextStep
    made : mapping of str to mapping
        How it was made, by group.
    """

    source: str
    created: str
    headline: str
    notes: Sequence[str]
    next_steps: Sequence[NextStep]
    made: Mapping[str, Mapping[str, Any]]


def summary_table(
    model: ChannelsModel, sizes: pl.DataFrame, profiles: pl.DataFrame
) -> pl.DataFrame:
    """Return a row per rule segment, in the order of the rules.

    Returns
    -------
    DataFrame
        ``band`` (null: none), ``segment_id``, ``segment``, ``customers``, ``share``,
        ``orders`` in the home channel, ``orders_per_customer``, ``avg_order_value``
        (over all channels, of the customers) and ``rule``. Last, with id -1, who meets
        no rule, if anybody.
    """
    ids = pl.col("segment_ids").struct.field(SEGMENT).cast(pl.Int64)
    figures = profiles.group_by(ids.alias("segment_id")).agg(
        orders=pl.col("home_orders").sum(),
        orders_per_customer=pl.col("home_orders").mean(),
        avg_order_value=pl.col("avg_order_value").mean(),
    )
    rules = {segment.name: segment for segment in model.rules.segments}
    own = model.axes[SEGMENT].segments
    order = pl.DataFrame(
        [
            (
                s.id,
                s.cluster if s.id != NOWHERE else len(own),
                rules[s.rule_name].band if s.id != NOWHERE else None,
                rules[s.rule_name].when.text() if s.id != NOWHERE else s.why,
            )
            for s in own
        ],
        schema={
            "segment_id": pl.Int64,
            "place": pl.Int64,
            "band": pl.String,
            "rule": pl.String,
        },
        orient="row",
    )
    return (
        sizes.filter(axis=SEGMENT)
        .join(order, on="segment_id")
        .join(figures, on="segment_id", how="left")
        .sort("place")
        .select(
            "band",
            "segment_id",
            "segment",
            pl.col("n_customers").alias("customers"),
            "share",
            pl.col("orders").fill_null(0).cast(pl.Int64),
            "orders_per_customer",
            "avg_order_value",
            "rule",
        )
    )


def band_table(summary: pl.DataFrame) -> pl.DataFrame:
    """Return a row per band: ``band, segments, customers, share, orders``."""
    placed = summary.filter(pl.col("segment_id") != NOWHERE)
    return placed.group_by("band", maintain_order=True).agg(
        segments=pl.len(),
        customers=pl.col("customers").sum(),
        share=pl.col("share").sum(),
        orders=pl.col("orders").sum(),
    )


def write_report(out: StageWriter, tables: Tables, facts: dict[str, Any]) -> None:
    """Write the rules, who is in which segment, the summary and ``channels.html``.

    Adds ``bands`` and ``items``, a row per band and per item of the plan, to `facts`.

    Raises
    ------
    ContractError
        If the rule segments break the contract.
    """
    model = tables.assigner.model
    assert isinstance(model, ChannelsModel)  # of a channels' assigner
    _keep_contract(out.config, tables.sizes.filter(axis=SEGMENT))
    out.path(RULES).write_text(model.rules.to_yaml(), encoding="utf-8")
    tables.profiles.select(
        "customer_id",
        pl.col("segment_memberships").struct.field(SEGMENT).alias("Segment"),
    ).write_parquet(out.path(SEGMENTS), compression="zstd")
    summary = summary_table(model, tables.sizes, tables.profiles)
    out.write_csv(SUMMARY, summary, float_precision=4)
    facts["bands"] = band_table(summary).to_dicts()
    facts["n_unplaced"] = int(summary.filter(segment_id=NOWHERE)["customers"].sum())
    facts["items"] = [_item_facts(row, tables) for row in _item_rows(model)]
    page = TEMPLATES.page(
        "run.html.j2",
        heading="Channel segments",
        content=_content(out, facts),
        told=_found(facts),
        tiles=[
            ("customers", count(facts["n_customers"])),
            ("orders", count(facts["n_orders"])),
            ("channels", count(len(facts["channels"]))),
            ("rule segments", count(len(model.rules.segments))),
            ("micro-segments", count(sum(i["n_segments"] for i in facts["items"]))),
        ],
        pictures=[],
        parts=_parts(facts, summary, tables),
        axes=[
            (item, _item_table(item, tables))
            for item in facts["items"]
            if item["n_segments"] > 1
        ],
    )
    out.path(FILES.page).write_text(page, encoding="utf-8", newline="\n")


def _keep_contract(config: Config, sizes: pl.DataFrame) -> None:
    """Refuse rule segments that break the contract of a configuration."""
    path = config.channels.contract
    if path is None:
        return
    is_placed = pl.col("segment_id") != NOWHERE
    columns = ("segment_id", "segment", "n_customers", "share")
    rows = sizes.filter(is_placed).select(columns).rows()
    nowhere = float(sizes.filter(~is_placed)["share"].sum())
    facts = [SegmentFacts(*row) for row in rows]
    today = datetime.now(UTC).date()
    breaches = check_contract(read_contract(path), facts, nowhere, today)
    require_kept(breaches, "the rule segments of this run")


def _item_rows(model: ChannelsModel) -> list[Facts]:
    """Return the report of every item of the plan."""
    return [row for row in model.report if row["axis"] != SEGMENT]


def _item_facts(row: Facts, tables: Tables) -> dict[str, Any]:
    """Return how an item divides its customers in this run."""
    own = tables.sizes.filter(axis=row["axis"])
    return {
        "axis": row["axis"],
        "n_segments": row["n_segments"],
        "n_customers": int(own["n_customers"].sum()),
        "verdict": row["verdict"],
    }


def _content(out: StageWriter, facts: Facts) -> PageContent:
    folder = str(out.root.parent)
    steps = (
        ("serve", "starts the HTTP API over the profiles"),
        ("channels --config channels.yaml", "takes in next month's orders"),
        ('channels rename AXIS ID "NAME"', "gives a segment a name that stays"),
        ("channels rollback", "brings the version before back"),
    )
    return PageContent(
        source=", ".join(facts["channels"]) or "customer features",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        headline=headline(facts),
        notes=[*facts["notes"], *row_notes(facts)],
        next_steps=[NextStep(command(verb, folder), adds) for verb, adds in steps],
        made={
            "Run": {
                "run": facts["run"],
                "version": facts["version"],
                "store": facts["store"],
                "orders before": facts["reference_date"][:10],
                "seed": out.config.seed,
            },
            "Versions": library_versions(),
        },
    )


def _found(facts: Facts) -> tuple[str, str]:
    """Return the tone of the page, and how many segments there are."""
    n_rules = sum(band["segments"] for band in facts["bands"])
    n_divided = sum(item["n_segments"] > 1 for item in facts["items"])
    told = f"{n_rules} rule segments"
    if facts["items"]:
        told += f"; {n_divided} of {len(facts['items'])} items have micro-segments"
    return "good", told


def _parts(facts: Facts, summary: pl.DataFrame, tables: Tables) -> list[Part]:
    """Return what stands before the micro-segments."""
    changes = change_lines(facts, is_short=False)
    bands = [
        {
            "band": band["band"] or MISSING,
            "segments": count(band["segments"]),
            "customers": count(band["customers"]),
            "share": percent(band["share"]),
            "orders": count(band["orders"]),
            "orders per customer": decimal(band["orders"] / max(band["customers"], 1)),
        }
        for band in facts["bands"]
    ]
    model = tables.assigner.model
    assert isinstance(model, ChannelsModel)  # of a channels' assigner
    called = {s.rule_name: s for s in model.axes[SEGMENT].segments}
    counts = dict(summary.select("segment_id", "customers").iter_rows())
    nodes = outline(model.rules, {n: counts.get(s.id, 0) for n, s in called.items()})
    names = {name: segment.name for name, segment in called.items()}
    parts = [
        changes_part(changes, facts["n_moved"], tables.drift),
        Part(
            "Rule segments",
            [f"Orders are those in {facts['home']}; values are over all channels."],
            tables=[
                Table("By band.", bands, frozenset({"band"})),
                Table(
                    "By segment, in the order of the rules.",
                    [_segment_row(row) for row in summary.to_dicts()],
                    frozenset({"segment"}),
                ),
                Table(
                    "The rules, with the customers who come so far.",
                    list(_outline_rows(nodes, names)),
                    frozenset({"asked", "segment", "in words"}),
                ),
            ],
        ),
        _undivided_part(facts),
        Part("What became of the rows", facts["account"]),
    ]
    return [part for part in parts if part is not None]


def _segment_row(row: Facts) -> dict[str, str]:
    return {
        "segment": row["segment"],
        "id": str(row["segment_id"]) if row["segment_id"] >= 0 else MISSING,
        "customers": count(row["customers"]),
        "share": percent(row["share"]),
        "orders": count(row["orders"]),
        "orders per customer": decimal(row["orders_per_customer"]),
        "order value": decimal(row["avg_order_value"]),
    }


def _outline_rows(
    nodes: Sequence[OutlineNode], names: Mapping[str, str], depth: int = 0
) -> Iterator[dict[str, str]]:
    """Yield a row per line of an outline, what is asked moved in by its depth."""
    for node in nodes:
        yield {
            "asked": f"{_EM_SPACE * depth}{node.condition}",
            "segment": names.get(node.name, node.name),
            "customers": count(node.n),
            "in words": node.description,
        }
        yield from _outline_rows(node.children, names, depth + 1)


def _undivided_part(facts: Facts) -> Part | None:
    """Return why items have no micro-segments."""
    rows = [
        {"item": item["axis"], "finding": item["verdict"]}
        for item in facts["items"]
        if item["n_segments"] < 2
    ]
    if not rows:
        return None
    said = (
        "A number can be asked for all the same (`k` of the item); what comes then is "
        "a cut, not groups."
    )
    table = Table("The best that was tried.", rows, frozenset({"item", "finding"}))
    return Part("Items without micro-segments", [said], tables=[table])


def _item_table(item: Facts, tables: Tables) -> Table:
    """Return the micro-segments of an item, and what sets them apart."""
    rows = [
        {
            "micro-segment": row["segment"],
            "id": str(row["segment_id"]) if row["segment_id"] >= 0 else MISSING,
            "customers": count(row["n_customers"]),
            "share": percent(row["share"]),
            "what sets it apart": row["why"],
        }
        for row in tables.sizes.filter(axis=item["axis"]).to_dicts()
    ]
    texts = frozenset({"micro-segment", "what sets it apart"})
    return Table(f"Of {item['n_customers']:,} customers.", rows, texts)


def headline(facts: Facts) -> str:
    """Return who was segmented, by what."""
    return " ".join(TEMPLATES.sentences(TEMPLATE, "headline", **facts))


def row_notes(facts: Facts) -> list[str]:
    """Return how many rows were set aside, and who is not segmented."""
    n = facts["n_rejected"]
    told = [f"{n:,} rows were set aside; by reason on the page and in {REJECTED}."]
    left = TEMPLATES.sentences(TEMPLATE, "left_out", **facts)
    where = [f"Who is not segmented: {LEFT_OUT}."] if left else []
    return [*(told if n else []), *left, *where]


def run_lines(facts: Facts, folder: Path) -> list[str]:
    """Return what a run did: the customers, the segments, changes, and where it is.

    Parameters
    ----------
    facts : mapping
        Of `core.lifecycle.run`.
    folder : path
        Of the published set.
    """
    if not facts["is_changed"]:
        return TEMPLATES.sentences(TEMPLATE, "unchanged", **facts)
    lines = [headline(facts), *facts["notes"], *row_notes(facts)]
    for topic in ("rules", "micro"):
        lines += TEMPLATES.sentences(TEMPLATE, topic, **facts)
    return [*lines, *change_lines(facts), f"Page: {folder / FILES.page}"]
