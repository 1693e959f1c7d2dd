"""Rules as an outline, and on a page."""

from __future__ import annotations

from pathlib import Path

from core.reporting.page import Templates
from core.rules.grammar import read_rules
from core.rules.outline import outline

RULES = """
features:
  orders: {type: integer, from: 0}
  app: {type: flag}
bands:
  - {name: few, when: orders <= 5, description: up to five}
segments:
  - {name: app guests, band: few, when: app and orders > 2}
  - {name: big, when: orders > 5}
  - {name: starters, band: few, when: app and orders <= 2 and app}
  - {name: "<others>", band: few, when: not app}
"""


def told(nodes, depth=0):
    for node in nodes:
        yield "  " * depth + node.condition, node.name, node.n
        yield from told(node.children, depth + 1)


def test_what_segments_share_is_said_once_with_the_sum_of_their_customers():
    counts = {"app guests": 4, "starters": 3, "big": 2}
    assert list(told(outline(read_rules(RULES), counts))) == [
        ("orders <= 5", "few", 7),
        ("  app", "", 7),
        ("    orders > 2", "app guests", 4),
        ("    orders <= 2 and app", "starters", 3),
        ("  not app", "<others>", 0),
        ("orders > 5", "big", 2),
    ]


def test_where_the_first_rule_decides_the_order_stays():
    lines = list(told(outline(read_rules("match: first\n" + RULES))))
    names = [name for _, name, _ in lines if name]
    assert names == ["few", "app guests", "big", "few", "starters", "<others>"]
    assert {n for *_, n in lines} == {None}


def test_every_segment_of_the_shipped_rules_is_in_the_outline_once():
    rules = read_rules("order-bands")
    counts = {segment.name: i for i, segment in enumerate(rules.segments)}
    nodes = outline(rules, counts)
    names = [name for _, name, _ in told(nodes) if name]
    wanted = [part.name for part in (*rules.segments, *rules.bands)]
    assert sorted(names) == sorted(wanted)
    assert sum(node.n for node in nodes) == sum(counts.values())


def test_a_page_shows_it_without_scripts(tmp_path):
    (tmp_path / "p.html.j2").write_text(
        '{% from "macros.html.j2" import rule_outline %}{{ rule_outline(nodes) }}',
        encoding="utf-8",
    )
    nodes = outline(read_rules(RULES), {"big": 1200})
    page = Templates(Path(tmp_path)).page("p.html.j2", nodes=nodes)
    assert "<code>orders &gt; 5</code> <b>big</b>" in page
    assert "1,200" in page
    assert "<b>&lt;others&gt;</b>" in page
    assert page.count("<details open>") == 2
