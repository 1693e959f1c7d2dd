"""The page of the axes: groups first, and what it says when there is nothing."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
from seen import shown

from core.axes.output import axis_lines, run_lines, same_customers
from core.axes.report import AxesContent, redundant_lines, write_axes_page
from core.config import Config
from core.lifecycle.page import PageContent
from core.reporting.board import BoardAxis, BoardSegment
from core.reporting.changes import event_lines
from core.reporting.page import NextStep
from core.reporting.text import spoken
from core.tables.orders import purchases_from_frames

VALUE, DEALS, TIMES = "purchase_value", "price_sensitivity", "purchase_cadence"


def axis(name, kind="natural", n_segments=2, skipped="", **figures):
    shown = {"silhouette": 0.41, "valley": 0.5, "stability": 0.93, "n_not_placed": 0}
    if kind in {"single", "skipped"}:
        shown |= {"silhouette": None, "valley": None, "stability": None}
    return {
        "axis": name,
        "group": "marketing",
        "description": f"About {name}",
        "kind": kind,
        "n_segments": n_segments,
        "smallest_share": 0.1 if n_segments > 1 else None,
        "largest_share": 0.9 if n_segments > 1 else None,
        "verdict": f"verdict on {name}",
        "skipped": skipped,
        **shown,
        **figures,
    }


def segment(name, segment_id, said, n_customers, **other):
    return {
        "axis": name,
        "segment_id": segment_id,
        "segment": said,
        "n_customers": n_customers,
        "share": n_customers / 100,
        "is_edited": False,
        "rule_name": said,
        "why": "`lifetime_value` 900 (very high)",
        **other,
    }


def told(axes, segments):
    return [
        BoardAxis(
            one["axis"],
            spoken(one["axis"]).capitalize(),
            [
                BoardSegment(
                    str(row["segment_id"]),
                    row["segment"],
                    row["n_customers"],
                    row["share"],
                    value_share=row["share"] ** 2,
                    apart=["900 spent so far (all: 100)"],
                    actions=["Call them", "Write to them"],
                    how_sure="clear",
                )
                for row in segments
                if row["axis"] == one["axis"]
            ],
            verdict=f"verdict on {one['axis']}",
            note=one["description"],
        )
        for one in axes
        if one["kind"] != "skipped"
    ]


def content(axes, segments, **other):
    options = {
        "changes": [],
        "moved": {},
        "drift": pl.DataFrame(schema={"is_alert": pl.Boolean}),
        "overlap": pl.DataFrame(
            [(VALUE, DEALS, 0.62)], schema=["axis", "other", "ami"], orient="row"
        ),
        "same": ["Whale and full price are nearly the same customers."],
    }
    page = PageContent(
        source="orders.parquet",
        created="2026-07-01 06:00 UTC",
        headline="100 customers",
        notes=["2 rows were set aside."],
        next_steps=[NextStep("./run.sh serve", "starts the API")],
        made={},
    )
    return AxesContent(
        page=page,
        n_customers=100,
        told=told(axes, segments),
        axes=pl.DataFrame(axes, infer_schema_length=None),
        segments=pl.DataFrame(segments, infer_schema_length=None),
        **{**options, **other},
    )


TWO_AXES = [
    axis(VALUE),
    axis(DEALS),
    axis(TIMES, "single", 1),
    axis("return_behavior", "skipped", 0, skipped="refund_rate (no `refund_amount`)"),
]
SEGMENTS = [
    segment(VALUE, 0, "regular", 90),
    segment(VALUE, 1, "whale", 10, rule_name="big_spender"),
    segment(DEALS, 0, "full_price", 60),
    segment(DEALS, 1, "Jäger <b>", 40, is_edited=True),
    segment(TIMES, 0, "everyone", 95),
    segment(TIMES, -1, "not_enough_orders", 5),
]


def test_groups_their_shares_and_what_to_do_come_first(tmp_path):
    files = write_axes_page(content(TWO_AXES, SEGMENTS), tmp_path / "axes.html")
    assert [path.name for path in files] == ["axes.html", "axes-overlap.png"]
    page = files[0].read_text(encoding="utf-8")
    text = shown(page)
    said = [
        "100 customers: segments on 2 of 3 axes",
        "clear segments",
        "Test on some customers first",
        "regular 90% (81%), whale 10% (1%)",
        "whale : 900 spent so far (all: 100) Call them clear",
        "No segments, all customers are one group: purchase cadence",
        "verdict on purchase_value",
        "2 rows were set aside.",
        "For analysts",
        "0.41",
    ]
    places = [text.index(part) for part in said]
    assert places == sorted(places)
    assert "keeps its name; by the rules big spender" in page
    assert "Jäger &lt;b&gt;" in page
    assert "(named by a user)" in page
    assert "because the data lack what they need: return behavior" in text
    assert "Whale and full price are nearly the same customers." in text
    assert "Since the run before" not in page


def test_without_segments_there_is_nothing_to_draw(tmp_path):
    only = content([axis(TIMES, "single", 1)], [SEGMENTS[4]])
    files = write_axes_page(only, tmp_path / "axes.html")
    assert [path.name for path in files] == ["axes.html"]
    page = files[0].read_text(encoding="utf-8")
    assert "segments on 0 of 1 axis" in page
    assert "No axis divides the customers." in page


def test_changes_are_told_with_moves_and_alerts(tmp_path):
    drift = pl.DataFrame(
        {
            "axis": ["features", "purchase_value"],
            "name": ["lifetime_value", "whale"],
            "statistic": ["psi", "difference"],
            "value": [0.31, 0.02],
            "threshold": [0.04, 0.05],
            "is_alert": [True, False],
        }
    )
    changed = content(
        TWO_AXES,
        SEGMENTS,
        changes=["3 customers are new, 1 have gone."],
        moved={VALUE: {"behaviour": 7}},
        drift=drift,
    )
    write_axes_page(changed, tmp_path / "axes.html")
    page = (tmp_path / "axes.html").read_text(encoding="utf-8")
    part = page[page.index("Since the run before") : page.index('id="axis-')]
    assert "3 customers are new" in part
    assert "they behave differently" in part
    assert "by more than chance explains: lifetime value." in part
    assert "whale" not in part, "it did not alert"
    assert "population stability index" in page


def test_axes_that_tell_the_same_are_named():
    overlap = pl.DataFrame(
        {"axis": [VALUE, VALUE], "other": [DEALS, TIMES], "ami": [0.62, 0.2]}
    )
    (line,) = redundant_lines(overlap)
    assert line.startswith("Purchase value and price sensitivity divide")
    assert "0.62" in line


def test_segments_of_two_axes_with_the_same_customers_are_told_once():
    labels = np.repeat([0, 1], [80, 20])
    other = labels.copy()
    other[:2] = 1
    names = {VALUE: {0: "mid_tier", 1: "whale"}, DEALS: {0: "full", 1: "deal_hunter"}}
    (line,) = same_customers({VALUE: labels, DEALS: other}, names)
    assert line == (
        "Whale (purchase value) and deal hunter (price sensitivity) are nearly the "
        "same customers: 100% of the smaller segment are in both."
    )
    shuffled = np.random.default_rng(0).permutation(labels)
    assert same_customers({VALUE: labels, DEALS: shuffled}, names) == []


def test_an_axis_is_one_line_for_the_terminal():
    own = axis(VALUE, skipped="value_trend (too few)", n_not_placed=1200)
    line = axis_lines([own], SEGMENTS)[0]
    assert line == (
        "Purchase value: regular 90%, whale 10%; without value trend (too few); 1,200 "
        "not placed."
    )
    assert (
        axis_lines([TWO_AXES[2]], SEGMENTS)[0] == "Purchase cadence: no segments here."
    )
    tiers = axis_lines([axis(DEALS, "cut")], SEGMENTS)[0]
    assert tiers.endswith("(a convenient cut, no groups).")


def test_events_are_told_by_the_names_of_their_time():
    events = [
        {"kind": "survived", "old": (0,), "new": (0,), "n_new": 50},
        {"kind": "split", "old": (1,), "new": (1, 2), "n_new": 30},
        {"kind": "died", "old": (3,), "new": (0,), "n_old": 9, "n_shared": 8},
        {"kind": "born", "old": (), "new": (4,), "n_new": 5, "n_shared": 0},
    ]
    before = {0: "regular", 1: "whale", 3: "rare"}
    now = {0: "regular", 1: "big", 2: "huge", 4: "late"}
    assert event_lines(VALUE, events, before, now) == [
        "Purchase value: whale split into big and huge (30 customers).",
        "Purchase value: rare has ended (9 customers, 8 of them now in regular).",
        "Purchase value: late is new (5 customers).",
    ]


def test_many_alerts_are_counted_in_the_terminal(tmp_path):
    orders = pl.DataFrame(
        {
            "customer_id": ["anna", "bert"],
            "order_id": ["1", "2"],
            "order_date": [dt.datetime(2026, 6, 1), dt.datetime(2026, 6, 30)],
            "total_price": [10.0, 20.0],
        }
    )
    facts = {
        "n_customers": 100,
        "n_orders": 900,
        "n_items": None,
        "reference_date": "2026-06-30T12:00:00",
        "is_learnt": False,
        "version": 1,
        "version_before": 1,
        "notes": [],
        "intake": purchases_from_frames(orders, None, Config(), tmp_path).intake,
        "n_rejected": 0,
        "axes": TWO_AXES[:1],
        "segments": SEGMENTS,
        "n_entered": 3,
        "n_left": 1,
        "n_moved": {VALUE: {"behaviour": 7}},
        "drift": [f"`feature {i}` moved" for i in range(8)],
        "events": {},
        "names_before": {},
    }
    lines = run_lines(facts, tmp_path)
    assert lines[0] == (
        "100 customers, 900 orders up to 2026-06-30: placed by version 1 of the axes."
    )
    assert "Moved because they behave differently: 7 on purchase value." in lines
    assert sum(line.startswith("Drift: ") for line in lines) == 5
    assert "And 3 more drift alerts." in lines
    assert lines[-1] == f"Page: {tmp_path / 'axes.html'}"
