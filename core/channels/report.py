"""What a run of the channels tells: its summary of segments, its page, its messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.runs import block_name
from core.channels.files import RULES, SEGMENTS, SUMMARY
from core.channels.model import ChannelsModel
from core.channels.page import TEMPLATES, write_page
from core.lifecycle.rule_runs import (
    headline,
    keep_contract,
    most_moves,
    proof_line,
    row_notes,
)
from core.lifecycle.segmentation import Tables
from core.models.centroids import NOWHERE
from core.rules.check import check_rules
from core.segments.rule_axis import SEGMENT

Facts = Mapping[str, Any]


def summary_table(
    model: ChannelsModel, sizes: pl.DataFrame, profiles: pl.DataFrame
) -> pl.DataFrame:
    """Return a row per rule segment, in the order of the rules.

    Returns
    -------
    DataFrame
        ``band`` (null: none), ``segment_id``, ``segment``, ``customers``, ``share``,
        ``orders`` in the home channel, ``orders_per_customer``, ``avg_order_value``
        (over all channels, of the customers), ``description`` and ``rule``. Last, with
        id -1, who meets no rule, if anybody.
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
            pl.col("why").alias("description"),
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
    keep_contract(out.config.channels.contract, tables.sizes)
    out.path(RULES).write_text(model.rules.to_yaml(), encoding="utf-8")
    tables.profiles.select(
        "customer_id",
        pl.col("segment_memberships").struct.field(SEGMENT).alias("Segment"),
    ).write_parquet(out.path(SEGMENTS), compression="zstd")
    summary = summary_table(model, tables.sizes, tables.profiles)
    out.write_csv(SUMMARY, summary, float_precision=4)
    facts["bands"] = band_table(summary).to_dicts()
    facts["n_unplaced"] = int(summary.filter(segment_id=NOWHERE)["customers"].sum())
    facts["items"] = [_item_facts(row, model, tables) for row in _item_rows(model)]
    block = out.path(block_name(facts["run"]))
    # A name that is given later writes the page again, and not the ledger.
    facts["moves"] = most_moves(block) if block.exists() else facts.get("moves", [])
    facts["proof"] = proof_line(check_rules(model.rules), facts["n_unplaced"])
    notes = [*facts["notes"], *row_notes(TEMPLATES, facts)]
    told = headline(TEMPLATES, facts), notes
    write_page(out, tables, facts, summary, told)


def _item_rows(model: ChannelsModel) -> list[Facts]:
    """Return the report of every item of the plan."""
    return [row for row in model.report if row["axis"] != SEGMENT]


def _item_facts(row: Facts, model: ChannelsModel, tables: Tables) -> dict[str, Any]:
    """Return how an item divides its customers in this run."""
    own = tables.sizes.filter(axis=row["axis"])
    return {
        "axis": row["axis"],
        "sources": list(model.context["sources"].get(row["axis"], ())),
        "kind": row["kind"],
        "n_segments": row["n_segments"],
        "stability": row.get("stability") if row["n_segments"] > 1 else None,
        "n_customers": int(own["n_customers"].sum()),
        "verdict": row["verdict"],
    }
