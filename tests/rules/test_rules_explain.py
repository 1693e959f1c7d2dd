"""A customer's way into a segment, and the smallest change to every other one."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, SchemaError
from core.rules.explain import explain_customer
from core.rules.grammar import RuleSegment, RuleSet, read_rules
from core.rules.syntax import Feature, Syntax

FEATURES = (
    Feature("orders", "integer", 0.0, 3.0),
    Feature("spend", "number", 0.0, 2.0, missing="not billed yet"),
    Feature("app", "flag", missing="not asked"),
    Feature("city", "text", levels=("Rome", "Oslo", "Lima")),
)
SYNTAX = Syntax({feature.name: feature for feature in FEATURES})
LEAVES = (
    "orders <= 1", "orders > 2", "orders = 2", "1 < orders <= 2", "spend > 0.5",
    "spend < 1", "0.5 <= spend <= 1.5", "spend is missing", "app", "app is missing",
    "city = Rome", "city in {Rome, Oslo}", "city != Lima",
)  # fmt: skip
CONDITIONS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: "({} {} {})".format(*parts)
        ),
        inner.map("not ({})".format),
    ),
    max_leaves=5,
)
# The nearest number that meets a rule is the own one, a bound, or next to a bound.
BOUNDS = (0.0, 0.5, 1.0, 1.5, 2.0)
SPENDS = sorted(
    {math.nextafter(b, to) for b in BOUNDS for to in (-9, b, 9)}
    | {0.25, 0.75, 1.25, 1.75}
)
VALUES = {
    "orders": range(4),
    "spend": [None, *(s for s in SPENDS if 0 <= s <= 2)],
    "app": [None, True, False],
    "city": ["Rome", "Oslo", "Lima"],
}
UNITS = {"orders": 3, "spend": 2, "app": 1, "city": 1}
CUSTOMERS = st.fixed_dictionaries(
    {
        "orders": st.integers(0, 3),
        "spend": st.sampled_from([None, 0.25, 0.5, 1.25, 2.0]),
        "app": st.sampled_from(VALUES["app"]),
        "city": st.sampled_from(VALUES["city"]),
    }
)


def cost(own: dict, other: dict) -> tuple[float, float]:
    """How many features differ, and by how much; infinite where none may."""
    changed = [name for name in own if own[name] != other[name]]
    if any(other[name] is None for name in changed):
        return math.inf, math.inf
    distance = sum(
        abs(other[name] - own[name]) / UNITS[name]
        if name in {"orders", "spend"} and own[name] is not None
        else 1
        for name in changed
    )
    return len(changed), distance


@given(
    conditions=st.lists(CONDITIONS, min_size=2, max_size=3),
    assume=st.lists(st.sampled_from(LEAVES), max_size=1),
    fixed=st.sets(st.sampled_from(list(VALUES)), max_size=1),
    match=st.sampled_from(["first", "exactly one"]),
    own=CUSTOMERS,
)
@settings(max_examples=60, deadline=None)
def test_the_smallest_change_is_the_one_that_trying_everything_finds(
    conditions, assume, fixed, match, own
):
    rules = RuleSet(
        "random",
        tuple(
            Feature(**{**vars(feature), "is_fixed": feature.name in fixed})
            for feature in FEATURES
        ),
        tuple(
            RuleSegment(f"s{i}", SYNTAX.condition(c)) for i, c in enumerate(conditions)
        ),
        assume=tuple(map(SYNTAX.condition, assume)),
        match=match,
    )
    names = list(VALUES)
    possible = [
        dict(zip(names, values, strict=True))
        for values in itertools.product(*VALUES.values())
    ]
    possible = [
        p
        for p in possible
        if all(p[name] == own[name] for name in fixed)
        and all(node.holds(p) for node in rules.assume)
    ]
    explained = explain_customer(rules, own)
    assert explained.segment == rules.assign(own)
    segments = {segment.name: segment for segment in rules.segments}
    for other in explained.others:
        rule = rules.condition(segments[other.segment])
        there = [
            cost(own, p)
            for p in possible
            if rule.holds(p) and (match != "first" or rules.assign(p) == other.segment)
        ]
        least = min(there, default=(math.inf, math.inf))
        if math.isinf(least[0]):
            assert other.changes is None
            continue
        assert (len(other.changes), other.distance) == pytest.approx(least)
        moved = own | {change.feature: change.after for change in other.changes}
        assert rule.holds(moved)
        assert cost(own, moved) == pytest.approx(least)


BANDS = """
name: coffee shop
features:
  orders: {type: integer, from: 1, to: 100}
  kinds: {type: integer, from: 0}
  weekend: {type: flag, missing: no weekend order was counted}
  tenure: {type: number, from: 0, fixed: true}
assume: [weekend or orders > 1]
bands:
  - {name: few, when: orders <= 5}
  - {name: many, when: orders > 5}
segments:
  - {name: tasters, band: few, when: kinds > 2.5}
  - {name: creatures of habit, band: few, when: kinds <= 2.5 and not weekend}
  - {name: weekend guests, band: few, when: kinds <= 2.5 and weekend}
  - {name: old friends, band: many, when: tenure >= 365}
  - {name: new regulars, band: many, when: tenure < 365}
"""
GUEST = {"orders": 3, "kinds": 2, "weekend": None, "tenure": 30.5}


def test_the_path_says_each_condition_with_the_customers_own_value():
    explained = explain_customer(read_rules(BANDS), GUEST)
    assert (explained.segment, explained.band) == ("creatures of habit", "few")
    assert [step.text() for step in explained.path] == [
        "orders <= 5 (orders is 3)",
        "kinds <= 2.5 (kinds is 2)",
        "not weekend (weekend is missing)",
    ]
    assert explained.broken == ()


def test_the_change_is_told_in_words_and_what_is_fixed_stays():
    explained = explain_customer(read_rules(BANDS), GUEST)
    assert [other.text() for other in explained.others] == [
        "new regulars: orders is 6 (now 3).",
        "tasters: kinds is 3 (now 2).",
        "weekend guests: weekend is yes (now missing).",
        "old friends: cannot be reached.",
    ]
    # 3 of 99 possible orders; of kinds the rules name 0 to 2.5.
    distances = [other.distance for other in explained.others]
    assert distances == pytest.approx([3 / 99, 1 / 2.5, 1, None], nan_ok=True)


def test_where_the_first_rule_decides_the_path_says_that_none_above_holds():
    rules = read_rules("match: first\n" + BANDS.replace("band: few, ", ""))
    explained = explain_customer(rules, GUEST)
    assert explained.path[-1].text() == "no rule above it holds"
    # Kinds above 2.5 would lead to the rule above, which decides first.
    guest = explain_customer(rules, GUEST | {"kinds": 3})
    assert (guest.segment, guest.also) == ("tasters", ())
    assert "no rule above it holds" not in [step.text() for step in guest.path]


def test_a_change_keeps_the_assumptions():
    guest = GUEST | {"orders": 1, "weekend": 1}
    explained = explain_customer(read_rules(BANDS), guest)
    habit = next(o for o in explained.others if o.segment == "creatures of habit")
    assert [(c.feature, c.after) for c in habit.changes] == [
        ("orders", 2),
        ("weekend", False),
    ]


def test_a_number_has_to_pass_a_bound_that_is_not_included():
    text = """
features: {spend: {type: number, from: 0, to: 100}}
segments:
  - {name: low, when: spend <= 40}
  - {name: high, when: spend > 40}
"""
    explained = explain_customer(read_rules(text), {"spend": 10})
    [change] = explained.others[0].changes
    assert change.text == "is above 40"
    assert 40 < change.after < 40.0001
    assert explained.others[0].distance == pytest.approx(0.3)


def test_who_falls_through_or_is_matched_twice_is_told_so():
    text = """
features:
  spend: {type: number, from: 0}
  city: {type: text}
segments:
  - {name: low, when: spend <= 40}
  - {name: middle, when: 30 < spend <= 60 and city = Rome}
"""
    rules = read_rules(text)
    lost = explain_customer(rules, {"spend": 50, "city": "Oslo"})
    assert lost.segment is None
    assert lost.lines()[0] == "No rule holds for this customer."
    assert [other.segment for other in lost.others] == ["low", "middle"]
    twice = explain_customer(rules, {"spend": 35, "city": "Rome"})
    assert (twice.segment, twice.also) == ("low", ("middle",))
    assert twice.others[0].text() == "middle: its rule holds already."
    broken = explain_customer(rules, {"spend": -5, "city": None})
    assert broken.broken == ("spend >= 0", "city is not missing")
    json.dumps(broken.facts(), allow_nan=False)


def test_values_of_another_type_and_open_thresholds_are_refused():
    with pytest.raises(SchemaError, match="`orders` is 'many'; expected an integer"):
        explain_customer(read_rules(BANDS), GUEST | {"orders": "many"})
    with pytest.raises(ConfigError, match="threshold `often`"):
        explain_customer(read_rules("basket-quadrants"), {"freq_score": 0.5})


def test_the_shipped_rules_agree_with_an_optimiser():
    z3 = pytest.importorskip("z3")
    rules = read_rules("order-bands")
    own = {f.name: 0 for f in rules.features}
    own |= {"ownapp_order_count": 8, "unique_cat_base_count": 9, "channel_count": 2}
    own |= {"Weekend_flag": 1, "Lunch_flag": 1}
    explained = explain_customer(rules, own)
    unknowns = {f.name: z3.Int(f.name) for f in rules.features}

    def said(node):
        kind = type(node).__name__
        if kind in {"And", "Or", "Not"}:
            return getattr(z3, kind)(*map(said, node.parts()))
        value = unknowns[node.feature]
        if kind == "OneOf":
            return z3.Or(*(value == int(v) for v in node.values))
        assert kind == "Range"
        bounds = [value > math.floor(node.low)] if node.low > -math.inf else []
        if node.high < math.inf:
            bounds.append(value <= math.floor(node.high))
        return z3.And(*bounds)

    numbers = {
        "ownapp_order_count": 99,
        "unique_cat_base_count": 16.5,
        "channel_count": 1,
    }
    for other in explained.others:
        solver = z3.Optimize()
        segment = next(s for s in rules.segments if s.name == other.segment)
        solver.add(said(rules.condition(segment)), *map(said, rules.assume))
        for name, value in unknowns.items():
            solver.add(value >= 0, value <= (1000 if name in numbers else 1))
        n_changes = z3.Sum(*(z3.If(v == own[n], 0, 1) for n, v in unknowns.items()))
        distance = z3.Sum(
            *(
                z3.ToReal(z3.Abs(v - own[n])) / numbers.get(n, 1)
                for n, v in unknowns.items()
            )
        )
        solver.minimize(n_changes)
        least = solver.minimize(distance)
        assert solver.check() == z3.sat
        assert solver.model().eval(n_changes).as_long() == len(other.changes)
        assert other.distance == pytest.approx(float(Fraction(str(least.value()))))
