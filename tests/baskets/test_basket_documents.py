"""Documents of baskets: figures of the run's tables, in words, and nothing else."""

import re

import polars as pl
import pytest
from basket_findings import a_study, parts_of, sample, whole

from core.baskets.content import Content
from core.baskets.documents import write_documents
from core.baskets.files import DOCUMENTS
from core.baskets.parts import Parts
from core.baskets.playbook import playbook_text, read_playbook
from core.errors import ConfigError
from core.reporting.playbook import behaviour
from core.reporting.text import literal, marked, prose, rounded

FACTS = {
    "n_customers": 238,
    "n_orders": 4452,
    "proof": "Proven: every customer falls in exactly one segment.",
}
EXECUTIVE_SUMMARY, DECISION_MEMO, PLAYBOOK, EXPERIMENT_PLAN, MONITORING_PLAN = DOCUMENTS
ODD = "a|b `c` <b>*x*</b>"


class Folder:
    """Stands for what a run writes to."""

    def __init__(self, path):
        self.path = path.joinpath


def written(folder, parts, facts=FACTS):
    write_documents(Folder(folder), parts, facts)
    return {name: (folder / name).read_text("utf-8") for name in DOCUMENTS}


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    return written(tmp_path_factory.mktemp("documents"), whole())


def test_every_segment_is_told_with_the_figures_of_its_row(documents):
    for row in whole().segments.to_dicts():
        share, of_orders = (
            f"{rounded(100 * row[name])}%" for name in ("share", "orders_share")
        )
        line = (
            f"| {row['segment']} | {row['customers']:,} | {share} | {row['orders']:,} "
            f"| {of_orders} |"
        )
        assert line in documents[EXECUTIVE_SUMMARY]
        told = (
            f"{row['customers']:,} customers ({share}) with {of_orders} of the orders"
        )
        assert told in documents[PLAYBOOK]


def test_behaviour_follows_from_medians_and_changes_with_them(tmp_path):
    features = sample()[2]
    told = written(tmp_path, parts_of(features))[PLAYBOOK]
    rows = parts_of(features).features.filter(segment="Champions")
    days, of_all = (
        rounded(frame["mean_days_between_orders"].median())
        for frame in (rows, features)
    )
    assert f"rders every {days} days (all: {of_all})" in told
    # Twice as long between orders, and the same segments: half the frequency.
    slower = features.with_columns(pl.col("mean_days_between_orders") * 2)
    told = written(tmp_path, parts_of(slower))[PLAYBOOK]
    days = rounded(2 * rows["mean_days_between_orders"].median())
    assert f"rders every {days} days" in told


def test_the_memo_tells_rules_or_clusters_as_the_study_found(tmp_path):
    features = sample()[2]
    none = a_study("none", "Use the rules. Nothing found.", "It explains 2.1%.")
    memo = written(tmp_path, parts_of(features, study=none))[DECISION_MEMO]
    assert "**Decision.** Use the rules. Nothing found.\n" in memo
    assert "- It explains 2.1%." in memo
    assert "| behaviour \\* | KMeans | 2 | " in memo
    assert "0.19 / 0.18" in memo
    clear = a_study("clear", "2 groups stand apart. Use KMeans.", silhouette=0.62)
    memo = written(tmp_path, parts_of(features, study=clear))[DECISION_MEMO]
    assert "Use KMeans. The segments of this run are those of the rules." in memo
    assert "0.62 / 0.18" in memo
    assert "0.19" not in memo


def test_what_was_not_made_is_told(tmp_path):
    bare = parts_of(sample()[2])
    bare = Parts(bare.segments, bare.features, bare.rules, bare.playbook)
    told = written(tmp_path, bare, {"n_customers": 238})
    assert "No study was made" in told[DECISION_MEMO]
    assert "No study was made" in told[EXECUTIVE_SUMMARY]
    assert "Whether segments differ was not examined" in told[EXECUTIVE_SUMMARY]
    assert told[EXPERIMENT_PLAN] == "# Experiment plan\n\nNo experiment was planned.\n"
    assert told[MONITORING_PLAN] == "# Monitoring plan\n\nNo monitoring was planned.\n"


def test_thresholds_and_effects_are_those_of_rules_and_validation(documents):
    parts, memo = whole(), documents[DECISION_MEMO]
    for threshold in parts.rules.thresholds:
        assert f"| {threshold.value:.4f} |\n" in memo
    rows = parts.validation.metrics.filter(role="evidence").to_dicts()
    assert len(rows) == 13
    for row in rows:
        value, low, high = (rounded(row[n]) for n in ("eta_squared", "low", "high"))
        figures = f"| {value} | {low} to {high} |"
        assert figures in memo
    evidence = memo.partition("took no part in the assignment.\n\n|")[2]
    assert "loyalty score" not in evidence.partition("\n\n")[0]


def test_the_experiment_is_told_in_the_order_of_the_rules(documents):
    table = whole().experiment.table
    told = documents[EXPERIMENT_PLAN]
    places = [told.index(f"| {name} |") for name in whole().segments["segment"]]
    assert places == sorted(places)
    for row in table.filter(pl.col("needed").is_not_null()).to_dicts():
        assert f"| {row['needed']:,} |" in told
    assert "| yes |" in told or "| no |" in told
    assert "items bought again per customer" in told


def test_prose_has_no_names_of_columns(documents):
    for text in documents.values():
        prose_only = re.sub(r"`[^`]*`|```.*?```", "", text, flags=re.S)
        assert not re.findall(r"\w+\\?_\w+", prose_only)


def test_odd_names_stay_in_their_cells(tmp_path):
    told = written(tmp_path, whole((("At Risk", ODD),)))
    for name in (EXECUTIVE_SUMMARY, EXPERIMENT_PLAN):
        rows = [line for line in told[name].splitlines() if line.startswith("| a")]
        assert rows
        before = told[name][: told[name].index(rows[0])].splitlines()
        rule = [line for line in before if line.startswith("|---")][-1]
        for row in rows:
            assert len(re.split(r"(?<!\\)\|", row)) == len(rule.split("|"))
    assert "<b>" not in told[PLAYBOOK].replace(r"\<b\>", "")
    assert f"## {literal(ODD)}" in told[PLAYBOOK]


def test_a_segment_without_customers_is_told(tmp_path):
    features = sample()[2].with_columns(loyalty_score=pl.lit(0.5))
    parts = parts_of(features)
    told = written(tmp_path, parts)
    assert 0 in parts.segments["customers"].to_list()
    assert "| At Risk | 0 | 0% | 0 | 0% |" in told[EXECUTIVE_SUMMARY]


def test_features_are_called_by_words_and_aisles_by_their_names():
    content = Content(whole())
    assert content.words("aisle_24_fresh fruits") == "share of fresh fruits"
    assert content.words("aisle_BREAD") == "share of BREAD"
    assert content.words("aisle_entropy") == "variety of aisles"
    assert content.words("avg_basket_size") == "items per order"
    assert content.words("something_else") == "something else"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            {"name: items": "name: itms"},
            "the KPI `itms` of `general` is not computed",
        ),
        ({"primary: {": "primry: {"}, "Did you mean `primary`?"),
        ({"general:": "generel:"}, "`general` is missing. Add it."),
        (
            {'days between orders, says: "orders every {} days"': "d, says: every"},
            "`{}`",
        ),
        ({"segments:": "segments: ["}, "is not YAML: line"),
        ({"general:\n  actions:": "general:\n  actions: x\n  a:"}, "expected a list"),
        ({"margin: 0.05": "margin: 2"}, "margin`: input should be less than 1"),
    ],
)
def test_a_wrong_playbook_is_refused_with_its_key(tmp_path, edit, said):
    text = playbook_text(None)
    for old, new in edit.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_playbook(path, ["orders", "items", "reordered_items"])
    assert said in str(error.value)
    assert "mine.yaml" in str(error.value)


def test_a_missing_playbook_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"does not exist\. Copy"):
        read_playbook(tmp_path / "none.yaml", [])


def test_own_playbook_keeps_words_and_serves_unknown_names(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "general:\n  actions: [Call them]\n  primary: {name: orders}\n"
        "  guardrail: {name: items, margin: 0.1}\n"
        "metrics:\n  orders: {words: orders in a quarter}\n",
        encoding="utf-8",
    )
    book = read_playbook(path, ["orders", "items"])
    assert book.play("anything").actions == ("Call them",)
    assert book.words("orders") == "orders in a quarter"
    assert book.words("avg_basket_size") == "items per order"


def test_equal_medians_say_nothing_and_units_are_kept():
    book = read_playbook(None, [])
    table = pl.DataFrame(
        {
            "segment": ["a"] * 4 + ["b"] * 4,
            "avg_basket_size": [1, 2, 3, 4] * 2,
            "reorder_ratio": [0.1, 0.1, 0.2, 0.2, 0.8, 0.8, 0.9, 0.9],
        }
    )
    assert behaviour(table, "segment", book) == {
        "a": ["15% of items bought before (all: 50%)"],
        "b": ["85% of items bought before (all: 50%)"],
    }


def test_sentences_keep_options_as_code_and_turn_columns_into_words():
    words = {"n_days": "days"}.get
    text = "`n_days` of `At Risk`: set `baskets.min_orders` in a_b.csv."
    told = prose(text, lambda name: words(name, name), ["At Risk"])
    assert told == "days of At Risk: set `baskets.min_orders` in a_b.csv."
    assert marked(told).startswith("days of At Risk: set `baskets.min_orders` in a\\_b")
    assert prose("`a`b` moved", str.upper, ["a`b"]) == "a'b moved"
