"""The page of the channels: everybody counted once, in words, without scripts."""

from __future__ import annotations

import re

import pytest
from guest_runs import ITEM, config, guests, published, run
from seen import shown, unscripted

from core.channels.run import Channels
from core.channels.words import condition_words, feature_words
from core.lifecycle.versions import rename_segment
from core.rules.grammar import read_rules
from core.rules.outline import outline
from core.segments.rule_axis import SEGMENT


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "artifacts"
    run(folder, guests())
    return published(folder).path("channels.html").read_text("utf-8")


def test_the_page_says_first_who_and_how_sure(page):
    text = shown(page)
    start = text.index("300 of 300 customers could be segmented")
    assert start < text.index("Proven: every customer falls in exactly one segment.")
    assert start < text.index("Share of revenue")
    assert "Test on some customers first" in text


def test_the_tree_tells_rules_in_words_and_counts_everybody(page):
    tree = page[page.index('<div class="rules">') :].partition("</section>")[0]
    text = shown(f"</style>{tree}")
    assert "at most 3 ownapp orders few" in text
    assert "no weekend orders workday" in text
    counts = re.findall(r"<b>\w+</b> <span class=\"figure\">([0-9,]+)</span>", tree)
    assert sum(int(n.replace(",", "")) for n in counts) == 300


def test_micro_segments_are_told_by_what_sets_them_apart(page):
    text = shown(page)
    assert f" {ITEM} " in text
    assert "many breakfast orders" in text
    assert "many dinner orders" in text
    assert "(the others: " in text
    assert "2 segments with gaps in density between them" in text


def test_names_of_features_are_no_code_in_sentences(page):
    text = shown(page)
    assert not re.findall(r"\b\w+_(?:flag|count|share)\b", text)
    assert "<script" not in unscripted(page)


def test_moves_are_told_from_where_to_where_and_stay_when_a_name_is_given(tmp_path):
    folder = tmp_path / "artifacts"
    run(folder, guests())
    run(folder, guests(later=True))
    path = published(folder).path("channels.html")
    rows = re.search(r"most customers moved.*?</table>", path.read_text("utf-8"), re.S)
    assert "few weekend they behave differently" in shown(f"</style>{rows[0]}")
    rename_segment(Channels(config(folder)), SEGMENT, 0, "Newcomers")
    page = published(folder).path("channels.html").read_text("utf-8")
    rows = re.search(r"most customers moved.*?</table>", page, re.S)
    assert "Newcomers weekend they behave differently" in shown(f"</style>{rows[0]}")


@pytest.mark.parametrize("name", ["order-bands", "basket-quadrants"])
def test_every_condition_of_shipped_rules_is_told_in_words(name):
    rules = read_rules(name)
    features = {feature.name: feature for feature in rules.features}
    waiting = list(outline(rules))
    while waiting:
        node = waiting.pop()
        waiting += node.children
        said = condition_words(node.condition, features)
        assert said
        if name == "order-bands":
            assert "_" not in said


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("orders <= 5", "at most 5 orders"),
        ("5 < orders <= 15", "6 to 15 orders"),
        ("orders > 15.5", "at least 16 orders"),
        ("orders < 2", "1 orders"),
        ("value >= 0.5", "value at least 0.5"),
        ("0.25 < value <= 2", "value above 0.25 and at most 2"),
        ("not late_flag and orders <= 5", "no late orders and at most 5 orders"),
        ("city in {X, Y} or late_flag", "city in {X, Y} or late_flag"),
        ("orders is missing", "orders is missing"),
    ],
)
def test_a_condition_is_told_as_it_is_meant(condition, said):
    rules = read_rules(
        "features:\n"
        "  orders: {type: integer, from: 1}\n"
        "  value: {type: number}\n"
        "  late_flag: {type: flag}\n"
        "segments: [{name: all, when: orders > 0}]\n"
    )
    features = {feature.name: feature for feature in rules.features}
    assert condition_words(condition, features) == said.replace("1 orders", "1 order")


def test_names_of_features_become_words():
    assert (
        feature_words("ownapp_categ_dri_sides_count") == "orders with sides in ownapp"
    )
    assert feature_words("categ_dri_sides_share") == "share of orders with sides"
    assert feature_words("omnichannel_Late_Night_order_count") == "late night orders"
    assert feature_words("unique_cat_base_count") == "base categories"
