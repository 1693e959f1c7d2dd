"""Rules learnt from a table, and what they are worth."""

from __future__ import annotations

import narwhals as nw
import numpy as np
import polars as pl
import pytest

from core.errors import EligibilityError, SchemaError
from core.rules.check import check_rules
from core.rules.compile import assign_expr
from core.rules.fidelity import scores
from core.rules.grammar import read_rules
from core.rules.learn import learn_rules
from core.rules.matrix import columns_of
from core.rules.tree import TreeLimits, grow_tree, leaves_of, plain_cut, smallest_size


def guests(n: int = 2000, seed: int = 0) -> pl.DataFrame:
    """Guests whose spend and group follow from their orders, app, city, recency."""
    rng = np.random.default_rng(seed)
    orders, app = rng.integers(1, 40, n), rng.random(n) < 0.3
    city = rng.choice(["Rome", "Oslo", "Lima"], n)
    recency = pl.Series(rng.exponential(50, n).round(1)).set(
        pl.Series(rng.random(n) < 0.15), None
    )
    is_lost = recency.is_null().to_numpy()
    spend = 10.0 * (orders > 20) + 20 * (city == "Rome") + 15 * is_lost
    group = np.where(is_lost, "lost", np.where(orders > 20, "regular", "guest"))
    group = np.where(~is_lost & (orders > 20) & app, "app regular", group)
    return pl.DataFrame(
        {
            "orders": orders,
            "app": app,
            "city": city,
            "recency": recency,
            "noise": rng.normal(size=n),
            "spend": spend + rng.normal(size=n),
            "group": group,
        }
    )


def assigned(rules, table):
    return nw.from_native(table).select(assign_expr(rules)).to_native()["segment"]


def test_planted_groups_are_found_again_as_one_rule_each():
    table = guests()
    learnt = learn_rules(table.drop("spend"), "group", size="orders")
    assert learnt.report.scores["rules"].value == 1.0
    assert learnt.report.scores["majority"].value == pytest.approx(1 / 4)
    assert learnt.report.scores["size"].high < 0.6
    assert {s.name: s.when.text() for s in learnt.rules.segments} == {
        "lost": "recency is missing",
        "guest": "orders <= 20 and recency is not missing",
        "regular": "orders > 20 and app = no and recency is not missing",
        "app regular": "orders > 20 and app and recency is not missing",
    }
    assert assigned(learnt.rules, table).to_list() == table["group"].to_list()


def test_rules_towards_a_number_are_segments_by_their_mean():
    table = guests()
    learnt = learn_rules(table.drop("group"), "spend")
    assert learnt.report.scores["rules"].low > 0.97
    assert learnt.report.scores["majority"].value == pytest.approx(0, abs=0.01)
    named = table.with_columns(assigned(learnt.rules, table))
    means = named.group_by("segment").agg(pl.col("spend").mean()).sort("spend")
    names = [f"spend_{i}" for i in range(len(means), 0, -1)]
    assert means["segment"].to_list() == names
    asked = {leaf.feature for s in learnt.rules.segments for leaf in s.when.leaves()}
    assert asked == {"orders", "city", "recency"}


@pytest.mark.parametrize("target", ["group", "spend", "app", "noise"])
def test_what_is_learnt_is_proven_and_read_again(target):
    learnt = learn_rules(guests(600, seed=3), target)
    assert check_rules(learnt.rules).is_proven
    assert read_rules(learnt.rules.to_yaml()) == learnt.rules
    fresh = guests(400, seed=4)
    assert assigned(learnt.rules, fresh).null_count() == 0


TEXTS = [
    "",
    " a ",
    "yes",
    "is",
    "1",
    "a\nb",
    'q"uo\\te',
    "null",
    "missing",
    "a, {x}",
    "#c",
]
NAMES = ["a b", "not", "1x", "x-y", "MISSING", "a\nb", " lead", "segment", "#n", "p80"]


def odd_table(seed: int) -> pl.DataFrame:
    """Columns of all kinds under odd names, with values missing, beside a target."""
    rng = np.random.default_rng(seed)
    n, columns = int(rng.integers(120, 300)), []
    for name in rng.choice(NAMES, 3, replace=False):
        made = [
            pl.Series(rng.normal(size=n)),
            pl.Series(rng.integers(-5, 5, n)),
            pl.Series(rng.choice(TEXTS, n)),
            pl.Series(rng.choice([0.0, 1.0, np.nan], n)),
            pl.Series(rng.integers(0, 2**62, n)),
            pl.Series(1e9 + rng.integers(0, 5, n) * 1e-7),
        ][rng.integers(6)]
        columns.append(made.set(pl.Series(rng.random(n) < 0.2), None).alias(str(name)))
    rank = columns[0].rank().fill_null(-n / 3) + pl.Series(rng.normal(size=n))
    text = pl.Series(np.array(TEXTS[1:])[(rank.to_numpy() > n / 2).astype(int)])
    return pl.DataFrame([*columns, (rank if seed % 2 else text).alias("target")])


@pytest.mark.parametrize("seed", range(20))
def test_odd_names_texts_and_missing_values_end_in_rules_that_hold_for_all(seed):
    table = odd_table(seed)
    learnt = learn_rules(table, "target")
    assert read_rules(learnt.rules.to_yaml()) == learnt.rules
    assert check_rules(learnt.rules).is_proven
    assert assigned(learnt.rules, table).null_count() == 0


def test_rows_without_a_target_and_names_that_no_rule_can_spell_are_told():
    table = guests(300).with_columns(
        pl.when(pl.int_range(300) < 9)
        .then(pl.lit(" "))
        .otherwise("group")
        .alias("group"),
        pl.when(pl.int_range(300) < 5).then(None).otherwise("orders").alias("orders"),
        pl.col("noise").alias("no`ise"),
    )
    learnt = learn_rules(table.drop("spend"), "group")
    lines = learnt.report.lines()
    assert "9 customers without `group` were left out." in lines
    assert "Left out: `no`ise`; a name with a backtick." in lines
    # Nobody learnt from lacks orders, but five others do.
    assert assigned(learnt.rules, table).null_count() == 0


def test_noise_gets_no_rule_and_a_score_of_nothing():
    table = guests().select("orders", "city", "recency", "noise")
    learnt = learn_rules(table, "noise", size="orders")
    assert [s.when.text() for s in learnt.rules.segments] == ["everyone"]
    score = learnt.report.scores["rules"]
    assert score.low < 0.005
    assert score.value == pytest.approx(0, abs=0.01)


def test_neither_the_order_of_rows_nor_a_second_run_changes_the_rules():
    table = guests(500)
    first = learn_rules(table, "group")
    again = learn_rules(table.sample(fraction=1, shuffle=True, seed=9), "group")
    assert again.rules.to_yaml() == first.rules.to_yaml()
    assert again.report == first.report


def test_columns_that_no_rule_can_ask_about_are_named():
    table = guests(300).with_columns(
        id=pl.int_range(300).cast(pl.String),
        day=pl.date(2024, 1, 1) + pl.duration(days=pl.int_range(300)),
        one=pl.lit(1),
        huge=pl.Series([1e300, 1.0] * 150),
        flag=pl.Series([0.0, 1.0, float("nan")] * 100),
    )
    found = columns_of(table.drop("group"))
    assert found.left_out == {
        "id": "300 different texts, more than 20",
        "day": "Date is no number, flag or text",
        "one": "one value only",
        "huge": "numbers that are too large",
    }
    assert found.features["flag"].type == "flag"
    assert found.features["flag"].missing == "not known of 100 of 300"


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({}, {"target": "spent"}, SchemaError, "no column `spent`.*mean `spend`"),
        ({}, {"target": "spend", "size": "city"}, SchemaError, "a size is a number"),
        ({"spend": 1.5}, {"target": "spend"}, EligibilityError, "has one value only"),
        ({"spend": None}, {"target": "spend"}, EligibilityError, "^0 customers have"),
        ({"spend": float("inf")}, {"target": "spend"}, SchemaError, "infinite"),
        (
            {},
            {"target": "spend", "features": []},
            EligibilityError,
            "no column is left",
        ),
    ],
)
def test_what_cannot_be_learnt_is_refused(change, options, error, message):
    table = guests(300)
    for name, value in change.items():
        is_few = pl.int_range(300) < (3 if value == float("inf") else 300)
        column = pl.when(is_few).then(pl.lit(value)).otherwise(pl.col(name))
        table = table.with_columns(column.alias(name))
    with pytest.raises(error, match=message):
        learn_rules(table, **options)


def test_the_trees_of_all_sizes_are_read_from_one():
    table = guests(800)
    X = columns_of(table.drop("spend", "group")).matrix(table)
    y = table["spend"].to_numpy()
    limits = TreeLimits(8, None, 10)
    assert smallest_size(X, y, limits, seed=0) == 8
    for n_leaves in (2, 5):
        small = grow_tree(X, y, TreeLimits(n_leaves, None, 10), 0)
        whole = grow_tree(X, y, limits, 0)
        n_nodes = 2 * n_leaves - 1
        assert (whole.tree_.value[:n_nodes] == small.tree_.value).all()


def test_branches_say_what_the_tree_says_though_their_cuts_are_rounded():
    rng = np.random.default_rng(5)
    X = np.column_stack(
        [rng.normal(size=500), rng.integers(0, 9, 500), rng.random(500)]
    )
    X[rng.random(X.shape) < 0.1] = np.nan
    y = np.nan_to_num(X).sum(axis=1)
    tree = grow_tree(X, y, TreeLimits(12), 0)
    names = ["a", "b", "c"]
    branches = leaves_of(tree, X, names)
    said = sum(np.where(b.holds(X, names), b.value, 0.0) for b in branches)
    assert said == pytest.approx(tree.predict(X))
    whole = [c for b in branches for c in b.conditions if c.feature == "b"]
    assert all(c.high == np.inf or c.high.is_integer() for c in whole)
    assert plain_cut(0.1234, np.nextafter(0.1234, 1)) == 0.1234


def test_scores_are_what_their_formulas_say():
    truth = np.array([0, 0, 0, 1])
    found = scores({"zero": np.zeros(4, int), "exact": truth}, truth, seed=0)
    assert found["zero"].value == 0.5
    assert (found["exact"].low, found["exact"].high) == (1.0, 1.0)
    numbers = np.array([1.0, 2.0, 3.0, 6.0])
    assert scores({"mean": np.full(4, 3.0)}, numbers, 0)["mean"].value == 0.0
    assert scores({"any": truth}, np.ones(4, int), seed=0) is None
