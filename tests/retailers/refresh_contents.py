"""The content of a page of a refresh in which everything occurs, made by hand."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from once import Once

from core.evaluation.drift import measure_drift
from core.evaluation.drift_reference import DriftReference
from core.retailers.refresh.worklist import WORKLIST_SCHEMA
from core.retailers.report.movement import Moves
from core.retailers.report.refresh import RefreshContent, write_refresh_page
from core.retailers.report.worklist import told_shops
from core.retailers.states import state_flows
from core.segments.identity import match_segments
from core.segments.ledger import published_block, serving_block
from core.segments.transitions import stock_and_flow

SCRIPT = "<script>alert('name')</script>"
MONTHS = [f"2023-{month:02d}" for month in range(6, 13)] + [
    f"2024-{month:02d}" for month in range(1, 6)
]
NAMES = {
    "-1": "unassigned",
    "0": "Steady sellers with a broad assortment",
    "1": "Summer peak, few products",
    "2": "Growing, irregular",
    "3": "December peak",
    "5": SCRIPT,
}
FEATURES = [
    "sales_trend_per_year",
    "sales_irregularity",
    "assortment_breadth",
    *(f"log_season_month_{month:02d}" for month in range(1, 13)),
]


GATE = [
    {
        "check": "verdict",
        "champion": "natural",
        "challenger": "natural",
        "needed": "natural",
        "is_passed": True,
    },
    {
        "check": "agreement of refits",
        "champion": 0.871,
        "challenger": 0.902,
        "needed": 0.821,
        "is_passed": True,
    },
]


def assigned(labels: np.ndarray, first: int = 0) -> pl.DataFrame:
    """Return shops with their labels, the first of them numbered `first`."""
    shops = [f"S{first + i:04d}" for i in range(len(labels))]
    strength = np.where(labels < 0, 0.0, 0.8)
    return pl.DataFrame(
        {"entity": shops, "segment": labels, "strength": strength},
        schema_overrides={"segment": pl.Int32},
    )


@functools.cache
def made_year() -> dict[str, Any]:
    """Return a year of the ledger and of drift; segment 1 splits in the last month."""
    rng = np.random.default_rng(3)
    labels = rng.choice([-1, 0, 1, 2, 3], 1500, p=[0.12, 0.4, 0.25, 0.15, 0.08])
    centres = rng.normal(size=(5, len(FEATURES)))

    def features() -> np.ndarray:
        return centres[labels] + rng.normal(size=(1500, len(FEATURES)))

    reference = DriftReference.of(features(), FEATURES, labels, seed=0)
    blocks, drift, previous, report = [], [], None, None
    for place, month in enumerate(MONTHS):
        is_moved = rng.random(1500) < 0.02
        labels = np.where(is_moved, rng.choice([-1, 0, 1, 2], 1500), labels)
        # Five shops leave, five come.
        labels = np.concatenate([labels[5:], rng.choice([0, 1], 5)])
        previous = serving_block(assigned(labels, 5 * place), month, 3, previous, 2)
        blocks.append(previous)
        rows = features()
        rows[:, 0] += 0.9 * (place >= len(MONTHS) - 2)
        shares = None if report is None else report.shares
        report = measure_drift(reference, rows, labels, previous_shares=shares)
        drift.append(report.rows.with_columns(month=pl.lit(month)))
    new = labels.copy()
    new[np.flatnonzero(labels == 1)[::2]] = 4
    identity = match_segments(labels, new, next_id=5, known=[0, 1, 2, 3])
    ids = np.array([identity.ids.get(label, -1) for label in new])
    taken = assigned(ids, 5 * (len(MONTHS) - 1))
    return {
        "blocks": [*blocks, published_block(taken, blocks[-1], 4, {}, 2)],
        "drift": pl.concat(drift),
        "alerts": report.alerts,
        "events": [event.model_dump(mode="json") for event in identity.events],
    }


def lives(**shops: str) -> pl.DataFrame:
    """Return the states of shops that are named by letters."""
    rows = [(shop, state) for state, own in shops.items() for shop in own]
    return pl.DataFrame(rows, ["shop_id", "state"], orient="row")


def to_see() -> pl.DataFrame:
    """Return shops of every change, as a refresh finds them."""
    rows = [
        ("S1", "moved", "0", "1", "2024-03", 400.0, 0.72, 9.0),
        ("S2", "moved", "2", "1", None, 100.0, None, None),
        ("S<3>", "changing", "1", "0", "2024-02", 900.0, 1.5, 3.4),
        ("S4", "sells less", "0", None, "2024-01", 80.0, 0.4, 8.0),
        ("S5", "sells more", "0", None, "2024-01", 70.0, 1.8, 5.0),
        ("S6", "lapsed", "3", None, "2024-02", 60.0, None, None),
        ("S7", "came back", None, "-1", None, 50.0, None, None),
        *(
            (f"S{8 + i}", "new", None, "5", None, 40.0 - i, None, None)
            for i in range(12)
        ),
    ]
    return pl.DataFrame(rows, WORKLIST_SCHEMA, orient="row")


def suggested(change: str, to: str | None) -> str:
    """Return a suggestion for shops of a change that go to a segment."""
    return f"Visit shops that are {change}" if to is None else f"Treat them as {to}"


def made_content() -> RefreshContent:
    """Return the content of a refresh that published a new model."""
    year = made_year()
    before, serving, after = year["blocks"][-3:]
    settled = serving.join(before, on="entity", suffix="_before")
    is_moved = pl.col("settled") != pl.col("settled_before")
    facts = {
        "month": MONTHS[-1],
        "decision": "published",
        "reason": "Drift has lasted for 2 months, so a new model was trained.",
        "version": 3,
        "published": 4,
        "n_assigned": after.filter(pl.col("segment") >= 0).height,
        "n_unassigned": after.filter(pl.col("segment") < 0).height,
        "n_not_eligible": 41,
        "n_moved": settled.filter(is_moved).height,
        "n_entered": 5,
        "n_left": 5,
        "n_changing": 0,
        "n_stepped": 0,
        "n_lapsed": 2,
        "state": "steady",
        "alerts": year["alerts"],
        "events": year["events"],
        "gate": GATE,
        "breaches": [],
        "names": NAMES,
    }
    return RefreshContent(
        facts=facts,
        source="new-month.parquet",
        created="5 June 2024",
        shops=told_shops(to_see(), NAMES, suggested),
        sales=20_000.0,
        moves=[
            Moves.of("real", ("April 2024", "May 2024"), before, serving),
            Moves.of("model", ("version 3", "version 4"), serving, after),
            Moves.of("span", ("June 2023", "May 2024"), year["blocks"][0], after),
        ],
        states=state_flows(
            lives(active="abc", lapsed="d", slowing="ef"),
            lives(active="abd", lapsed="ef", slowing="c", new="g"),
        ),
        flow=stock_and_flow(year["blocks"]),
        drift=year["drift"],
        state_since=MONTHS[-1],
        months_running={"share": 1},
        months_needed=2,
        made={"Run": {"seed": 42}},
    )


def shared_content(once: Once) -> tuple[Path, RefreshContent]:
    """Return the page of `made_content`, to be read, and the content."""

    def make(folder: Path) -> RefreshContent:
        content = made_content()
        folder.mkdir()
        write_refresh_page(content, folder / "refresh.html")
        return content

    folder, content = once.made("refresh", make)
    return folder / "refresh.html", content
