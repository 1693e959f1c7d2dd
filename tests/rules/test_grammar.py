"""Rule sets are read as they are meant, and every mistake is told in one line."""

from __future__ import annotations

import polars as pl
import pytest

from core.errors import ConfigError, SchemaError
from core.rules.conditions import And, IsMissing, Not, OneOf, Or, Range
from core.rules.grammar import read_rules, rule_set_names
from core.rules.syntax import Feature, Syntax, Threshold

FEATURES = {
    "orders": Feature("orders", "integer", 0),
    "spend": Feature("spend", "number"),
    "weekend": Feature("weekend", "flag"),
    "channel": Feature("channel", "text", levels=("web", "app", "no")),
    "days since": Feature("days since", "number"),
}


def parsed(text):
    thresholds = {"half": Threshold("half", "spend", 0.5)}
    return Syntax(dict(FEATURES), thresholds).condition(text)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("orders <= 5", Range("orders", high=5.0)),
        ("5 > orders", Range("orders", high=5.0, high_included=False)),
        ("2 < orders <= 5", Range("orders", 2.0, 5.0)),
        ("5 >= orders > 2", Range("orders", 2.0, 5.0)),
        ("orders == 3", OneOf("orders", (3.0,))),
        ("spend >= half", Range("spend", "half", low_included=True)),
        ("`days since` < -1e-3", Range("days since", high=-1e-3, high_included=False)),
        ("weekend = no", OneOf("weekend", (False,))),
        ("channel in {web, no, 'app'}", OneOf("channel", ("web", "no", "app"))),
        ('channel != "web"', Not(OneOf("channel", ("web",)))),
        ("spend IS NOT missing", Not(IsMissing("spend"))),
        ("everyone", And(())),
        (
            "not weekend and orders < 2 or weekend",
            Or(
                (
                    And(
                        (
                            Not(OneOf("weekend", (True,))),
                            Range("orders", high=2.0, high_included=False),
                        )
                    ),
                    OneOf("weekend", (True,)),
                )
            ),
        ),
    ],
)
def test_a_condition_is_read_and_written_back(text, node):
    assert parsed(text) == node
    assert parsed(node.text()) == node


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("order <= 5", "`order` is an unknown feature; .* Did you mean `orders`"),
        ("orders => 5", "met `>` after `orders =`; expected .* Did you mean `>=`"),
        ("orders < 5 && weekend", "met `&&` after `orders < 5`; .* mean `and`"),
        ("orders <", "met the end after `orders <`; expected a feature, a number"),
        ("(weekend", "met the end after `.weekend`; expected `.`"),
        ("and weekend", "met `and` at the start; expected a feature"),
        ("orders", "`orders` is of type `integer` and no condition"),
        ("weekend < 1", "`weekend` is of type `flag`, which has no order"),
        ("channel in {wep}", "`wep` is no level of `channel`; .* mean `web`"),
        ("channel = 5", "`channel` is of type `text` and compared with `5`"),
        ("orders < spend", "compares two features"),
        ("1 < 2", "speaks of no feature"),
        ("1 < orders > 3", "expected a range such as `2 < orders <= 5`"),
        ("spend > hlaf", "compared with `hlaf`; .* Did you mean `half`"),
        ("orders > half", "the threshold `half` is one of `spend`"),
        ("spend > 1e999", "too large a number"),
        ("(" * 99 + "weekend" + ")" * 99, None),
        ("not " * 99 + "weekend", "nested more than 60 levels deep"),
    ],
)
def test_a_mistake_is_told_in_one_line(text, told):
    if told is None:
        assert parsed(text) == OneOf("weekend", (True,))
        return
    with pytest.raises(ConfigError, match=told) as error:
        parsed(text)
    assert "\n" not in str(error.value)


HEAD = "features:\n  x: {type: number}\n  w: {type: flag}\n"
SEGMENT = "segments:\n  - {name: all, when: everyone}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("features: [\n", "the rules, line 3: expected"),
        (HEAD + "  x: {type: flag}\n", "line 4: `x` appears twice"),
        (HEAD + "segment: []\n", "unknown key `segment`; .* mean `segments`"),
        (HEAD, "`segments` is empty"),
        (SEGMENT, "`features` is empty"),
        ("features:\n  x: {typ: flag}\n" + SEGMENT, "feature `x`: unknown key `typ`"),
        ("features:\n  x: {type: int}\n" + SEGMENT, "`int`; .* mean `integer`"),
        ("features:\n  x: {type: flag, from: 1}\n" + SEGMENT, "`from` goes with"),
        ("features:\n  x: {type: number, from: a}\n" + SEGMENT, "expected a number"),
        (
            "features:\n  x: {type: number, from: 2, to: 1}\n" + SEGMENT,
            "`from` 2 is above `to` 1",
        ),
        ("features:\n  x: {type: integer, to: 0.5}\n" + SEGMENT, "expected integers"),
        (
            "features:\n  x: {type: number}\n  x_p5: {type: flag}\n"
            "segments:\n  - {name: a, when: x > p5}\n",
            "`x_p5` would have the name of a feature",
        ),
        (
            HEAD + "segments:\n  - {name: a, when: w}\n  - {name: a, when: w}\n",
            "`a` appears twice",
        ),
        (HEAD + "segments:\n  - {name: a}\n", r"`segments\[0\]`: `when` is missing"),
        (
            HEAD + "segments:\n  - {name: a, band: b, when: w}\n",
            "segment `a`: unknown band `b`",
        ),
        (HEAD + "assume: w\n" + SEGMENT, "`assume` is 'w'; expected a list"),
        (HEAD + "assume: [v]\n" + SEGMENT, r"`assume\[0\]`: `v` is an unknown"),
        (
            HEAD + "thresholds: {t: {quantile: 2, of: x}}\n" + SEGMENT,
            "threshold `t`: `quantile` is `2`; expected 0 to 1",
        ),
        (
            HEAD + "thresholds: {t: {quantile: 0.5, of: w}}\n" + SEGMENT,
            "threshold `t`: `w` is of type `flag`",
        ),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place(text, told):
    with pytest.raises(ConfigError, match=told) as error:
        read_rules(text + "\n")
    assert "\n" not in str(error.value)


def test_a_rule_set_that_is_not_there_names_those_that_are():
    with pytest.raises(ConfigError, match="Did you mean `order-bands`"):
        read_rules("orders-bands")


@pytest.mark.parametrize("name", rule_set_names())
def test_shipped_rules_are_written_back_as_they_were_read(name):
    rules = read_rules(name)
    assert read_rules(rules.to_yaml()) == rules
    assert all(segment.description for segment in rules.segments)


LEARNT = """
features:
  spend: {type: number, missing: never bought}
  w: {type: flag}
thresholds:
  half: {quantile: 0.5, of: spend, among: w}
segments:
  - {name: top, when: spend > p80}
  - {name: upper, when: half <= spend <= p80}
  - {name: lower, when: spend < half}
  - {name: none, when: spend is missing}
"""


def test_thresholds_are_learnt_kept_and_keep_ties_together():
    rules = read_rules(LEARNT)
    spend = [1.0, 2.0, 2.0, 2.0, 9.0, None, float("nan")]
    table = pl.DataFrame({"spend": spend, "w": [1, 1, 0, 0, 1, 1, 1]})
    settled = rules.settle(table)
    assert rules.unlearnt == ("half", "spend_p80")
    assert [t.value for t in settled.thresholds] == [2.0, pytest.approx(3.4)]
    assert [settled.assign({"spend": v, "w": 1}) for v in spend] == [
        "lower", "upper", "upper", "upper", "top", "none", "none",
    ]  # fmt: skip
    assert read_rules(settled.to_yaml()) == settled
    assert settled.settle(table[:1]) == settled


def test_thresholds_that_cannot_be_learnt_are_told():
    rules = read_rules(LEARNT)
    with pytest.raises(SchemaError, match="lacks `w`"):
        rules.settle(pl.DataFrame({"spend": [1.0]}))
    with pytest.raises(SchemaError, match="`half`: no customer"):
        rules.settle(pl.DataFrame({"spend": [1.0], "w": [0]}))
    with pytest.raises(ConfigError, match="`spend_p80` of `spend` has no number yet"):
        rules.assign({"spend": 1.0})
