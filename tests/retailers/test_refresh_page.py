"""The page of a refresh: what it says, that it is whole, that its pictures read."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest
from once import Once
from refresh_contents import (
    GATE,
    NAMES,
    SCRIPT,
    assigned,
    lives,
    made_year,
    shared_content,
    suggested,
    to_see,
)
from seen import is_clipped, unscripted

from core.config import Config
from core.reporting.text import MISSING
from core.retailers.playbook import shop_playbook
from core.retailers.refresh.month import ScoredMonth
from core.retailers.refresh.worklist import shops_to_see
from core.retailers.report.decision import announcement, event_lines, refresh_lines
from core.retailers.report.drift import drift_ratios, plot_drift
from core.retailers.report.life import flows_part
from core.retailers.report.movement import (
    largest_moves,
    matrix_of,
    plot_movement,
    plot_sizes_over_time,
    size_table,
)
from core.retailers.report.refresh import RefreshContent, write_refresh_page
from core.retailers.report.worklist import (
    WORKLIST,
    suggestions,
    told_shops,
    way_lines,
    ways_of,
)
from core.retailers.shop_files import WORKBOOK
from core.retailers.states import n_lapsed_and_back
from core.segments.ledger import serving_block
from core.segments.transitions import stock_and_flow, transitions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def year() -> dict[str, Any]:
    """Return a year of the ledger and of drift."""
    return made_year()


@pytest.fixture(scope="module")
def published(once: Once) -> RefreshContent:
    """Return the content of a refresh that published a new model."""
    return shared_content(once)[1]


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
                assert value.startswith(("data:", "#")) or value in (WORKLIST, WORKBOOK)

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


def test_a_page_opens_with_who_moved_and_needs_nothing_else(tmp_path, published):
    files = write_refresh_page(published, tmp_path / "refresh.html")
    page, parser = read(files[0])
    assert all(file.is_file() for file in files)
    assert len(files) == 6
    assert parser.headings[0] == announcement(published.facts).shops
    assert "<script" not in unscripted(page)
    assert "&lt;script&gt;" in page
    wanted = [
        "The model",
        "Moved to another segment (2 shops)",
        "Changing, not confirmed yet (1 shop)",
        "New in a segment (12 shops)",
        "What version 4 changed",
        "Segment sizes over time",
        "Next steps",
        "For analysts: labels, states, drift, when to retrain",
        "The new model against the one in use",
        "States of shops",
        "Real movement",
        "Change of the model",
        "Over a longer time",
        "Drift",
        "When to retrain",
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
    assert "this is the first month on record" in parser.headings[0]
    assert "What version" not in page
    content = replace(content, flow=content.flow.clear())
    assert len(write_refresh_page(content, tmp_path / "empty.html")) == 1


@pytest.mark.parametrize(
    ("changes", "badge", "ending"),
    [
        (
            {"decision": "kept", "n_moved": 0, "n_lapsed": 0},
            "Nothing to do",
            "none of 1,285 shops moved to another segment. No drift; the model stays.",
        ),
        (
            {"decision": "kept", "n_moved": 4, "n_changing": 7, "n_stepped": 1},
            "Look at the shops",
            "4 of 1,285 shops moved to another segment, 7 are changing, "
            "1 sells lastingly more or less, 2 lapsed. No drift; the model stays.",
        ),
        (
            {"decision": "kept", "state": "watching", "alerts": ["x"]},
            "Wait for next month",
            "2 lapsed. 1 alert; wait for next month.",
        ),
        (
            {"decision": "kept", "state": "recalibrate"},
            "Retraining recommended",
            "retraining is recommended.",
        ),
        ({"decision": "recommended"}, "Retraining recommended", "is recommended."),
        ({"decision": "refused"}, "New model refused", "refused; version 3 stays."),
        (
            {"decision": "published", "events": []},
            "New model",
            "Version 4 is published; all segments kept.",
        ),
        ({"decision": "unchanged"}, "Already on record", "nothing was done."),
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


def test_the_first_table_says_who_moved_what_to_do_and_how_sure(published, tmp_path):
    write_refresh_page(published, tmp_path / "refresh.html")
    page, _ = read(tmp_path / "refresh.html")
    assert "S&lt;3&gt;" in page
    assert "S<3>" not in page
    ways = {way.anchor: way for way in published.ways}
    moved = ways["moved"]
    assert (moved.what, moved.who) == (f"Moved to 1 {NAMES['1']}", "S1 and S2")
    assert (moved.shops, moved.sales, moved.action) == ("2", "2.5%", "Treat them as 1")
    assert moved.against_past == "\N{MINUS SIGN}28%"
    assert ways["changing"].how_sure == (
        "Unsure: chance alone gives about 2 such shops; watch another month"
    )
    assert ways["lapsed"].action == "Visit shops that are lapsed"
    assert ways["new"].who.startswith("S8, S9, S10 and 9 more; all in 5")
    for way in published.ways:
        assert f'href="#{way.anchor}"' in page
        assert f'<section id="{way.anchor}">' in page
    lines = refresh_lines(published.facts, way_lines(published.ways))
    assert lines[1] == (
        f"Moved to 1 {NAMES['1']}: 2 (2.5% of all sales). Suggestion: Treat them as 1."
    )


def test_everybody_to_look_at_is_listed_with_what_changed():
    def block(month, previous, **segments):
        labels = pl.DataFrame(
            [(shop, segment, 0.9) for segment, own in segments.items() for shop in own],
            {"entity": pl.String, "segment": pl.String, "strength": pl.Float64},
            orient="row",
        ).with_columns(pl.col("segment").str.slice(1).cast(pl.Int32))
        return serving_block(labels.sort("entity"), month, 1, previous, 1)

    before = block("2024-04", None, s0="abcl", s1="d")
    now = block("2024-05", before, s0="bcr", s1="adn")
    changing = pl.DataFrame(
        {
            "entity": ["a", "b", "c"],
            "segment": [0, 0, 0],
            "changing": ["segment", "segment", "down"],
            "candidate": [1, 1, None],
            "since": ["2024-02"] * 3,
            "against_past": [1.2, 0.9, 0.4],
            "evidence": [12.0, 4.0, 5.0],
            "has_moved": [True, False, False],
        },
        schema_overrides={"candidate": pl.Int32},
    )
    none = pl.DataFrame()
    scored = ScoredMonth(
        month="2024-05",
        features=none,
        labels=none,
        exclusions=pl.DataFrame({"shop_id": ["l"], "last_month": ["2024-01"]}),
        states=lives(active="abcdn", reviving="r", lapsed="l"),
        states_before=lives(active="abcd", slowing="l", lapsed="r"),
        months=None,
        sales=pl.DataFrame(
            {"shop_id": list("abcr"), "sales_12_months": [9.0, 8, 7, 6]}
        ),
    )
    found = shops_to_see(scored, [before, now], changing, 3)
    assert found.rows() == [
        ("a", "moved", "0", "1", "2024-02", 9.0, 1.2, 12.0),
        ("b", "changing", "0", "1", "2024-02", 8.0, 0.9, 4.0),
        ("c", "sells less", "0", None, "2024-02", 7.0, 0.4, 5.0),
        ("l", "lapsed", "0", None, "2024-01", 0.0, None, None),
        ("r", "came back", None, "0", None, 6.0, None, None),
        ("n", "new", None, "1", None, 0.0, None, None),
    ]
    first = shops_to_see(scored, [now], None, 3)
    assert first["change"].to_list() == ["lapsed", "came back"]


def test_what_to_do_is_what_the_playbook_says_of_the_change_or_the_segment():
    book = shop_playbook(Config())
    suggest = suggestions(book, {"1": ["Seaside", "Summer peak"], "-1": ["unassigned"]})
    peak = book.segments["Summer peak"].actions[0]
    assert suggest("moved", "1") == peak
    assert suggest("changing", "1") == f"If confirmed: {peak[0].lower()}{peak[1:]}"
    assert suggest("sells less", None) == book.changes["down"].actions[0]
    assert suggest("lapsed", None) == book.states["lapsed"].actions[0]
    assert suggest("new", "-1") == book.segments["unassigned"].actions[0]
    assert suggest("moved", "9") == book.general.actions[0]


def test_moves_to_many_segments_are_summed_up_and_named_in_the_file(published):
    many = pl.concat(
        to_see().filter(change="moved").head(1).with_columns(to=pl.lit(str(to)))
        for to in (1, 1, 2, 3, 5)
    )
    told = told_shops(many, NAMES, suggested)
    ways = ways_of(told, 1500, 20_000.0)
    assert [way.shops for way in ways] == ["2", "1", "2"]
    assert ways[-1].what == "Moved to other segments"
    assert "`what_to_do`" in ways[-1].action
    assert told["what_to_do"].to_list()[-1] == "Treat them as 5"
    assert sum(int(way.shops) for way in ways) == told.height


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
