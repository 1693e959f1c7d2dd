"""The page of the baskets: verdicts first, figures of the tables, safe to show."""

import re

import pytest
from basket_findings import parts_of, sample, whole, write_basket_page
from seen import shown, unscripted


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_basket_page(tmp_path_factory.mktemp("page"), whole())


def test_verdicts_stand_before_everything_else(page):
    text = shown(page)
    order = [
        "238 of 300 customers could be segmented",
        "Not segmented: 62 customers, fewer than 5 orders.",
        "Ready, with caution on",
        "Segments differ by more than chance in",
        "Share of orders",
        "The segments and what to do",
        "Experiment plan",
        "For analysts",
        "Where customers lie",
        "Do the orders carry a segmentation?",
        "Do the segments differ?",
        "Monitoring",
        "Rules or clusters?",
        "Use the rules. Clustering found no groups",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_each_segment_has_its_figures_and_its_actions(page):
    cards = re.findall(r"<article.*?</article>", page, re.S)
    rows = whole().segments.to_dicts()
    assert len(cards) == len(rows)
    for card, row in zip(cards, rows, strict=True):
        assert f"<h3>{row['segment']}</h3>" in card
        assert f"{row['customers']:,} customers" in card
        play = whole().playbook.play(row["rule_name"])
        assert all(action in card for action in play.actions)
        assert "(all: " in card


def test_the_page_is_self_contained_small_and_without_scripts(page):
    assert len(page.encode()) < 1_000_000
    assert "<script" not in unscripted(page)
    assert not re.findall(r"(?:src|href)=\"(?!data:|#segment-)", page)
    assert page.count('src="data:image/png;base64,') == 2
    assert "default-src 'none'" in page


def test_definition_checks_stand_apart_from_evidence(page):
    tables = re.findall(r"<table>.*?</table>", page, re.S)
    evidence = next(t for t in tables if "took no part in the assignment" in t)
    checks = next(t for t in tables if "Definition checks" in t)
    assert "loyalty score" in checks
    assert "loyalty score" not in evidence
    largest = whole().validation.metrics["eta_squared"][0]
    assert f">{largest:.2g}" in evidence


def test_no_name_of_a_column_stands_in_sentences(page):
    text = re.sub(r"<code>.*?</code>", "", page.partition("</style>")[2], flags=re.S)
    files = {"customer_profiles.parquet"}
    found = set(re.findall(r"\b[a-z0-9]+_[a-z_.]+\b", shown(f"</style>{text}")))
    assert found <= files


def test_odd_names_are_escaped(tmp_path):
    page = write_basket_page(
        tmp_path, whole((("At Risk", "a|b `c` <script>x</script>"),))
    )
    assert "<script" not in unscripted(page)
    assert "a|b `c` &lt;script&gt;" in page


def test_what_was_not_made_is_told_and_not_drawn(tmp_path):
    text = write_basket_page(tmp_path, parts_of(sample()[2]))
    assert "No study was made" in shown(text)
    assert "No experiment was planned." in shown(text)
    assert "No monitoring was planned." in shown(text)
    assert text.count("data:image/png") == 1


def test_a_customer_alone_has_a_page(tmp_path):
    page = write_basket_page(tmp_path, parts_of(sample()[2].head(1)))
    assert "1 customers" in shown(page)
