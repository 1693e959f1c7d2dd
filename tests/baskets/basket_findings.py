"""Findings of a small sample, for the documents and the page."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import polars as pl

from core.baskets.experiment import plan_experiment
from core.baskets.features import customer_features
from core.baskets.page import write_page
from core.baskets.parts import SEGMENTS, Finding, Parts
from core.baskets.playbook import read_playbook
from core.baskets.readiness import assess_readiness
from core.baskets.sample import catalogue, generate_baskets
from core.baskets.study import CANDIDATES, Study
from core.baskets.validation import validate_segments
from core.config import Config, ExperimentOptions
from core.rules.grammar import read_rules
from core.segments.rule_axis import segment_names

FACTS = {
    "n_customers": 238,
    "n_orders": 4452,
    "run": 1,
    "version": 1,
    "version_before": None,
    "store": "baskets",
    "reference_date": "2026-05-01T00:00:00",
    "left_out": {"fewer than 5 orders": 62},
    "n_moved": {},
    "moves": [],
    "events": {},
    "proof": "Proven: every customer falls in exactly one segment.",
    "account": {"notes": ["A note of the rows."]},
}


@cache
def sample(customers=300):
    """Return orders, items and the features of customers with 5 orders or more."""
    made, known = generate_baskets(customers, 7), catalogue()
    features = customer_features(
        made.orders.lazy(), made.items.lazy(), known.products, known.aisles
    )
    n = made.orders.group_by("customer_id").agg(n_orders=pl.len().cast(pl.Int64))
    features = features.join(n, on="customer_id", maintain_order="left")
    features = features.filter(pl.col("n_orders") >= 5)
    orders = made.orders.with_columns(order_day=pl.lit(None, pl.Int32))
    own = orders.join(features, on="customer_id", how="semi")
    return own.lazy(), made.items.lazy(), features


def a_study(verdict, *recommendation, silhouette=0.191, null=0.182):
    """Return a study with one candidate."""
    row = dict.fromkeys(CANDIDATES, 0.5) | {
        "space": "behaviour",
        "method": "kmeans",
        "k": 2,
        "n_customers": 238,
        "silhouette": silhouette,
        "silhouette_null": null,
        "fault": "",
        "is_chosen": True,
    }
    spaces = {
        "space": "behaviour",
        "features": 15,
        "columns": 15,
        "components": None,
        "explained_variance": None,
        "pruned": "",
    }
    return Study(
        pl.DataFrame([spaces]),
        pl.DataFrame([row], schema=CANDIDATES),
        row,
        verdict,
        recommendation,
        {},
    )


def parts_of(features, called=None, **given):
    """Return the parts of a run on these features; `called` gives segments names."""
    called = called or {}
    rules = read_rules("basket-quadrants").settle(features)
    table = features.with_columns(
        segment=segment_names(rules, features).replace(called)
    )
    sums = table.group_by("segment").agg(
        customers=pl.len().cast(pl.Int64), orders=pl.col("n_orders").sum()
    )
    rows = [
        {
            "segment_id": place,
            "segment": called.get(s.name, s.name),
            "rule_name": s.name,
            "description": s.description,
            "rule": s.when.text(),
        }
        for place, s in enumerate(rules.segments)
    ]
    segments = (
        pl.DataFrame(rows)
        .join(sums, on="segment", how="left", maintain_order="left")
        .with_columns(pl.col("customers", "orders").fill_null(0))
        .with_columns(
            share=pl.col("customers") / table.height,
            orders_share=pl.col("orders") / table["n_orders"].sum(),
        )
        .select(list(SEGMENTS))
    )
    ready = assess_readiness(features, features["customer_id", "n_orders"], 12_000, 5)
    book = read_playbook(None, features.columns)
    return Parts(segments, table, rules, book, readiness=ready, **given)


@cache
def whole(called=()):
    """Return the parts of a run with everything but what takes long."""
    orders, items, features = sample()
    names = dict(called)
    first = parts_of(features, names)
    book, segment = first.playbook, first.features["segment"]
    plays = {
        row["segment"]: book.play(row["rule_name"])
        for row in first.segments.iter_rows(named=True)
    }
    plan = plan_experiment(
        features,
        segment,
        orders,
        items,
        {name: (play.primary, play.guardrail) for name, play in plays.items()},
        ExperimentOptions(),
        name="baskets-1",
        horizon_days=60,
    )
    behaviour = features.drop("n_orders")
    watched = pl.DataFrame(
        {
            "trigger": ["Share of a segment, month over month"],
            "value": [0.021],
            "threshold": [0.05],
            "months_running": [0],
            "status": ["steady"],
            "action": ["none"],
        }
    )
    return parts_of(
        features,
        names,
        study=a_study(
            "none",
            "Use the rules. Clustering found no groups in these customers.",
            "It explains 2.1% of the variance; without structure at most 5.1%.",
        ),
        validation=validate_segments(behaviour, segment, first.rules),
        experiment=plan,
        monitoring=Finding(watched, ["Keep the thresholds: no alert."]),
    )


def write_basket_page(folder, parts):
    """Write the page of these parts, and return it."""
    out = SimpleNamespace(
        path=folder.joinpath, root=folder / "artifacts" / "baskets", config=Config()
    )
    told = "238 customers with 4,452 orders.", ["62 customers are not segmented."]
    write_page(out, parts, FACTS, told, pl.DataFrame())
    return (folder / "baskets.html").read_text("utf-8")
