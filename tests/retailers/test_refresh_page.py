"""The page of a refresh: what it says, that it is whole, that its pictures read."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest
from seen import is_clipped, unscripted

from core.evaluation.drift import measure_drift
from core.evaluation.drift_reference import DriftReference
from core.reporting.text import MISSING
from core.retailers.report.decision import announcement, event_lines, refresh_lines
from core.retailers.report.life import flows_part
from core.retailers.report.movement import (
    Moves,
    largest_moves,
    matrix_of,
    plot_movement,
    plot_sizes_over_time,
    size_table,
)
from core.retailers.report.refresh import (
    RefreshContent,
    drift_ratios,
    plot_drift,
    write_refresh_page,
)
from core.retailers.states import n_lapsed_and_back, state_flows
from core.segments.identity import match_segments
from core.segments.ledger import published_block, serving_block
from core.segments.transitions import stock_and_flow, transitions

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def year() -> dict[str, Any]:
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


@pytest.fixture(scope="module")
def published(year) -> RefreshContent:
    """Return the content of a refresh that published a new model."""
    before, serving, after = year["blocks"][-3:]
    settled = serving.join(before, on="entity", suffix="_before")
    is_moved = pl.col("settled") != pl.col("settled_before")
    facts = {
        "month": MONTHS[-1],
        "decision": "published",
        "reason": "Drift has lasted for 2 months, so a new model was learnt.",
        "version": 3,
        "published": 4,
        "n_assigned": after.filter(pl.col("segment") >= 0).height,
        "n_unassigned": after.filter(pl.col("segment") < 0).height,
        "n_not_eligible": 41,
        "n_moved": settled.filter(is_moved).height,
        "n_entered": 5,
        "n_left": 5,
        "n_changing": 0,
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
        changing=None,
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


def told(content: RefreshContent, **changes: Any) -> RefreshContent:
    """Return a page of other facts, with one picture only, for the sake of time."""
    facts = {**content.facts, **changes}
    return replace(content, facts=facts, moves=[], drift=content.drift.clear())


class Whole(HTMLParser):
    """Checks that every element is closed, and gathers texts by heading."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.headings: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "href"}:
                assert value.startswith("data:")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in {"h1", "h2"}:
            self.headings.append(data)


def read(path) -> tuple[str, Whole]:
    page = path.read_text(encoding="utf-8")
    parser = Whole()
    parser.feed(page)
    assert parser.open == []
    return page, parser


def test_a_page_opens_with_the_decision_and_needs_nothing_else(tmp_path, published):
    files = write_refresh_page(published, tmp_path / "refresh.html")
    page, parser = read(files[0])
    assert all(file.is_file() for file in files)
    assert len(files) == 6
    assert parser.headings[0] == announcement(published.facts).headline
    assert "<script" not in unscripted(page)
    assert "&lt;script&gt;" in page
    wanted = [
        "What version 4 changed",
        "The new model against the one that serves",
        "Real movement",
        "Change of the model",
        "Over a longer time",
        "Segment sizes over time",
        "Drift",
        "The trigger",
        "How to go on",
        "How it was made",
    ]
    assert [title for title in parser.headings if title in wanted] == wanted
    assert "./run.sh rollback" in page


def test_equal_refreshes_give_equal_files(tmp_path, published):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        content = replace(published, moves=published.moves[:1])
        write_refresh_page(content, tmp_path / name / "refresh.html")
    first, second = (sorted((tmp_path / n).iterdir()) for n in ("first", "second"))
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in second]


def test_a_first_month_has_a_page_without_moves_and_drift(tmp_path, published, year):
    content = replace(
        told(published, decision="kept", published=None, n_moved=None, gate=[]),
        flow=stock_and_flow(year["blocks"][:1]),
        made={},
    )
    files = write_refresh_page(content, tmp_path / "refresh.html")
    page, parser = read(files[0])
    assert [file.name for file in files] == ["refresh.html", "refresh-sizes.png"]
    assert "the first month that is recorded" in parser.headings[0]
    assert "What version" not in page
    content = replace(content, flow=content.flow.clear())
    assert len(write_refresh_page(content, tmp_path / "empty.html")) == 1


@pytest.mark.parametrize(
    ("changes", "badge", "ending"),
    [
        ({"decision": "kept"}, "Nothing to do", "no drift; nothing to do."),
        (
            {"decision": "kept", "n_changing": 7},
            "Shops are changing",
            "7 changing; no drift; the segments hold.",
        ),
        ({"decision": "kept", "state": "watching"}, "Watching", "wait for next month."),
        (
            {"decision": "kept", "state": "recalibrate"},
            "Retraining recommended",
            "retraining is recommended.",
        ),
        ({"decision": "recommended"}, "Retraining recommended", "is recommended."),
        ({"decision": "refused"}, "New model refused", "refused, version 3 stays."),
        (
            {"decision": "published", "events": []},
            "New model",
            "version 4 published, all segments kept.",
        ),
        ({"decision": "unchanged"}, "Known already", "nothing was done."),
    ],
)
def test_every_decision_has_words_of_its_own(published, changes, badge, ending):
    facts = {**published.facts, "alerts": [], **changes}
    words = announcement(facts)
    assert words.badge == badge
    assert words.headline.startswith("May 2024")
    assert words.headline.endswith(ending)
    assert words.advice
    assert refresh_lines(facts)[0] == words.headline


def test_a_refusal_says_which_check_failed_and_what_the_contract_lacks(
    tmp_path, published
):
    failed = {**GATE[1], "challenger": 0.412, "is_passed": False}
    breach = "segment 2 has 12 shops, the contract of `assortment` wants 100"
    content = told(
        published,
        decision="refused",
        published=None,
        gate=[GATE[0], failed],
        breaches=[breach],
    )
    lines = refresh_lines(content.facts)
    assert any("agreement of refits: 0.41, needed 0.82" in line for line in lines)
    assert breach in lines
    content = replace(content, artifacts="my models")
    page, _ = read(write_refresh_page(content, tmp_path / "refresh.html")[0])
    assert "It has not passed." in page
    assert "the contract of <code>assortment</code> wants 100" in page
    assert "contract check --artifacts &#34;my models&#34;" in page


def test_a_recommendation_names_the_command_that_follows_it(tmp_path, published):
    content = told(published, decision="kept", published=None, state="recalibrate")
    page, _ = read(write_refresh_page(content, tmp_path / "refresh.html")[0])
    assert "refresh --retrain always" in page
    assert "rollback" not in page


def test_a_terminal_is_not_flooded_with_alerts(published):
    alerts = [f"feature {place} moved" for place in range(40)]
    lines = refresh_lines({**published.facts, "alerts": alerts})
    assert "And 35 more alerts." in lines
    assert len(lines) < 12


def test_every_kind_of_event_is_told_with_its_counts():
    names = {"0": "Broad", "1": "Summer", "4": "Winter"}

    def event(kind: str, old: list[int], new: list[int]) -> dict[str, Any]:
        counts = {"n_old": 300, "n_new": 210, "n_shared": 180, "jaccard": 0.5}
        return {"kind": kind, "old": old, "new": new, **counts}

    events = [
        event("survived", [0], [0]),
        event("split", [1], [1, 4]),
        event("merged", [0, 1], [0]),
        event("born", [-1], [4]),
        event("died", [4], [0]),
        event("died", [4], []),
    ]
    assert event_lines(events, names) == [
        "Split: “1 Summer” (300 shops) became “1 Summer” and “4 Winter” (210 shops).",
        "Merged: “0 Broad” and “1 Summer” (300 shops) became “0 Broad” (210 shops).",
        "New: “4 Winter” (210 shops, 180 of them from the unassigned).",
        "Gone: “4 Winter” (300 shops, 180 of them now in “0 Broad”).",
        "Gone: “4 Winter” (300 shops).",
        "1 other segment keeps its id and its name.",
    ]


def test_a_split_is_a_change_of_the_model_and_no_real_movement(published):
    real, model, _ = (moves.table for moves in published.moves)
    rows = largest_moves(model, NAMES)
    assert [(row["from"], row["to"]) for row in rows] == [
        (f"1 {NAMES['1']}", f"5 {SCRIPT}")
    ]
    assert all(not row["to"].startswith("5") for row in largest_moves(real, NAMES))


def test_every_line_of_the_size_table_adds_up(published):
    def number(text: str) -> int:
        text = text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "0")
        return int(text.replace(",", ""))

    rows = size_table(published.flow, NAMES)
    changes = ("entered", "left", "moved in", "moved out", "by the new model")
    for row in rows:
        parts = sum(number(row[name]) for name in ("before", *changes))
        assert parts == number(row["now"])
    assert sum(number(row["now"]) for row in rows) == 1500
    assert rows[-1]["segment"] == "unassigned"


def test_a_matrix_keeps_its_order_and_counts_whom_it_leaves_out(year):
    table = transitions(year["blocks"][0], year["blocks"][1])
    matrix = matrix_of(table)
    assert matrix.counts.sum() == table["n"].sum()
    assert matrix.before[-2:] == (-1, None)
    shuffled = matrix_of(table.sample(fraction=1, shuffle=True, seed=1))
    assert shuffled.before == matrix.before
    assert np.array_equal(shuffled.counts, matrix.counts)
    many = pl.DataFrame(
        {"from": [*range(20), 19], "to": [*range(20), 0], "n": [*range(1, 21), 5]}
    )
    matrix = matrix_of(many)
    assert matrix.n_hidden == many["n"].sum() - matrix.counts.sum() > 0
    assert matrix.totals[matrix.before.index(19)] == 25


def test_of_two_statistics_the_one_nearer_to_its_threshold_is_shown():
    rows = pl.DataFrame(
        {
            "month": ["2024-05"] * 4,
            "kind": ["feature", "feature", "feature", "unassigned"],
            "name": ["trend", "trend", "gaps", "unassigned"],
            "statistic": ["psi", "ks", "psi", "difference"],
            "value": [0.1, 0.04, float("nan"), -0.1],
            "threshold": [0.05, 0.08, 0.05, 0.05],
            "is_alert": [True, False, False, True],
        }
    )
    found = {row["name"]: row for row in drift_ratios(rows).to_dicts()}
    assert found["trend"]["ratio"] == pytest.approx(2.0)
    assert found["trend"]["is_alert"]
    assert found["gaps"]["ratio"] is None
    assert found["unassigned"]["ratio"] == pytest.approx(2.0)


@pytest.mark.parametrize("n", [0, 1, 30])
def test_pictures_of_no_one_and_many_segments_are_whole(tmp_path, n):
    rng = np.random.default_rng(0)
    names = {str(i): f"Segment with quite a long name, number {i}" for i in range(n)}
    labels = rng.integers(-1, n, 2000)
    other = np.where(rng.random(2000) < 0.1, rng.integers(-1, n, 2000), labels)
    first = serving_block(assigned(labels), "2024-01", 1, None, 2)
    second = serving_block(assigned(other, 7), "2024-02", 1, first, 2)
    path = tmp_path / "picture.png"
    plot_movement(transitions(first, second), names, "Moves", ("old", "new"), path)
    assert not is_clipped(path)
    for blocks in ([first], [first, second]):
        plot_sizes_over_time(stock_and_flow(blocks), names, path)
        assert not is_clipped(path)


@pytest.mark.parametrize(("n_features", "n_months"), [(1, 1), (60, 40)])
def test_drift_is_drawn_for_little_and_for_much(tmp_path, n_features, n_months):
    rng = np.random.default_rng(0)
    values = rng.exponential(0.05, n_features * n_months)
    values[0] = float("nan")
    rows = pl.DataFrame(
        {
            "month": [
                f"{2020 + m // 12}-{m % 12 + 1:02d}"
                for m in range(n_months)
                for _ in range(n_features)
            ],
            "kind": ["feature"] * len(values),
            "name": [f"a_feature_number_{i}" for i in range(n_features)] * n_months,
            "statistic": ["psi"] * len(values),
            "value": values,
            "threshold": [0.1] * len(values),
            "is_alert": np.nan_to_num(values) > 0.1,
        }
    )
    plot_drift(rows, {}, tmp_path / "drift.png")
    assert not is_clipped(tmp_path / "drift.png")


def test_who_is_changing_comes_before_everything_else(published, tmp_path):
    changing = pl.DataFrame(
        {
            "entity": ["S<1>", "S2", "S3"],
            "segment": [0, 0, 1],
            "changing": ["segment", "down", "segment"],
            "candidate": [1, None, 0],
            "since": ["2024-03", "2024-01", "2024-02"],
            "against_past": [0.72, 1.5, None],
            "evidence": [9.0, 7.0, 5.0],
            "has_moved": [True, False, False],
        }
    )
    content = replace(told(published, n_changing=3, alerts=[]), changing=changing)
    write_refresh_page(content, tmp_path / "refresh.html")
    page, whole = read(tmp_path / "refresh.html")
    assert whole.headings.index("Shops that are changing") == 2
    assert "S&lt;1&gt;" in page
    assert "S<1>" not in page
    assert "\N{MINUS SIGN}28%" in page
    assert "March 2024" in page
    assert "fewer sales" in page
    assert "1 of them moved to it" in page


def test_who_has_lapsed_and_who_came_back_are_told(published):
    assert n_lapsed_and_back(published.states) == (2, 1)
    part = flows_part(published.states)
    assert "2 shops lapsed since last month, and 1 came back." in part.sentences[0]
    (table,) = part.tables
    shown = {row["last month"]: row for row in table.rows}
    assert shown["slowing"]["lapsed"] == "2"
    assert shown["lapsed"]["active"] == "1"
    assert shown["no sale yet"]["new"] == "1"
    assert shown["active"]["lapsed"] == MISSING
    assert flows_part(published.states.clear()) is None
