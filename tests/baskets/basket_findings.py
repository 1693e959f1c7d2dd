"""Findings of a small sample, for the documents and the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import polars as pl

from core.baskets.features import customer_features
from core.baskets.parts import SEGMENTS, Parts
from core.baskets.playbook import read_playbook
from core.baskets.readiness import assess_readiness
from core.baskets.sample import catalogue, generate_baskets
from core.rules.grammar import read_rules
from core.segments.rule_axis import segment_names

FACTS = {
    "n_customers": 300,
    "n_orders": 4321,
    "proof": "Proven: every customer falls in exactly one segment.",
}


@dataclass(frozen=True)
class Studied:
    """A study as its tables have it."""

    candidates: pl.DataFrame
    verdict: str
    recommendation: tuple[str, ...]
    spaces: pl.DataFrame = field(default_factory=pl.DataFrame)


@cache
def sample_features(customers: int = 300) -> pl.DataFrame:
    """Return the features of the customers of a sample, and their orders."""
    sample, known = generate_baskets(customers, 7), catalogue()
    features = customer_features(
        sample.orders.lazy(), sample.items.lazy(), known.products, known.aisles
    )
    n = sample.orders.group_by("customer_id").agg(n_orders=pl.len().cast(pl.Int64))
    made = features.join(n, on="customer_id", how="left", maintain_order="left")
    return made.filter(pl.col("n_orders") >= 5)


def parts_of(features: pl.DataFrame, **given: object) -> Parts:
    """Return the parts of a run on these features, with some segments renamed."""
    renamed = dict(given.pop("renamed", {}))  # type: ignore[call-overload]
    rules = read_rules("basket-quadrants").settle(features)
    placed = segment_names(rules, features).replace(renamed)
    table = features.with_columns(segment=placed)
    sums = table.group_by("segment").agg(
        customers=pl.len().cast(pl.Int64), orders=pl.col("n_orders").sum()
    )
    rows = [
        {
            "segment_id": place,
            "segment": renamed.get(s.name, s.name),
            "rule_name": s.name,
            "description": s.description,
            "rule": rules.condition(s).text(),
        }
        for place, s in enumerate(rules.segments)
    ]
    segments = (
        pl.DataFrame(rows)
        .join(sums, on="segment", how="left", maintain_order="left")
        .with_columns(
            share=pl.col("customers") / table.height,
            orders_share=pl.col("orders") / table["n_orders"].sum(),
        )
        .select(list(SEGMENTS))
    )
    customers = features.select("customer_id", "n_orders")
    ready = assess_readiness(features, customers, 12_000, 5)
    book = read_playbook(None, features.columns)
    return Parts(segments, table, rules, book, readiness=ready, **given)  # type: ignore[arg-type]
