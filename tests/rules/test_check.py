"""The proof: exact, and whatever it finds comes with a customer who shows it."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rules import Z3, random_features, random_test, random_tree

from core.errors import ConfigError, ContractError
from core.rules.boxes import Space
from core.rules.check import check_rules, require_proven
from core.rules.conditions import And, IsMissing, Not, OneOf, Or, Range
from core.rules.grammar import RuleSegment, RuleSet, read_rules, rule_set_names


@pytest.mark.parametrize("name", rule_set_names())
def test_shipped_rules_are_proven(name):
    proof = check_rules(read_rules(name))
    assert proof.findings == ()
    assert "Proven: every possible customer is in" in proof.lines()[1]


def segments_of(rules, customer):
    return [s.name for s in rules.segments if rules.condition(s).holds(customer)]


def is_possible(rules, customer):
    declared = [f.domain() for f in rules.features]
    assumed = [rules.filled(node) for node in rules.assume]
    return all(node.holds(customer) for node in (*declared, *assumed))


def assert_true_witnesses(proof):
    """Every example is a possible customer who is where the finding says."""
    for finding in proof.findings:
        if finding.customer is None:
            continue
        rules = proof.rules
        found = segments_of(rules, finding.customer)
        assert is_possible(rules, finding.customer)
        assert finding.where.holds(finding.customer)
        if finding.kind == "gap":
            assert found == []
        else:
            assert set(finding.segments) <= set(found)


def changed(rules, number, when):
    segments = list(rules.segments)
    segments[number] = replace(segments[number], when=when)
    return replace(rules, segments=tuple(segments))


def flipped(rng, rules):
    """Return rules of which one asks the opposite of one thing."""
    while True:
        number = int(rng.integers(len(rules.segments)))
        parts = list(rules.segments[number].when.parts())
        flags = [
            i for i, part in enumerate(parts)
            if isinstance(part.part if isinstance(part, Not) else part, OneOf)
        ]  # fmt: skip
        if flags:
            at = int(rng.choice(flags))
            part = parts[at]
            parts[at] = part.part if isinstance(part, Not) else Not(part)
            return changed(rules, number, And(tuple(parts)))


def moved(rng, rules):
    """Return rules of which one has a bound that is one off."""
    numbers = [
        i for i, s in enumerate(rules.segments)
        if any(isinstance(leaf, Range) for leaf in s.when.leaves())
    ]  # fmt: skip
    number, step = int(rng.choice(numbers)), float(rng.choice([-1, 1]))

    def off(leaf):
        if not isinstance(leaf, Range):
            return leaf
        return replace(leaf, low=leaf.low + step, high=leaf.high + step)

    when = rules.segments[number].when
    return changed(rules, number, when.with_leaves(off))


def dropped(rng, rules):
    number = int(rng.integers(len(rules.segments)))
    rest = rules.segments[:number] + rules.segments[number + 1 :]
    return replace(rules, segments=rest)


def doubled(rng, rules):
    """Return rules with one more, for a part of the customers of another."""
    base = rules.segments[int(rng.integers(len(rules.segments)))]
    more = replace(base, name="one more")
    return replace(rules, segments=(*rules.segments, more))


def with_advice(proof):
    """Return the rules with every segment added that the proof says to add."""
    lines = [a for f in proof.findings for a in f.advice if a.startswith("Add `- {")]
    pasted = proof.rules.to_yaml()
    for number, line in enumerate(lines):
        added = line.removeprefix("Add `").removesuffix("`.")
        pasted += added.replace("new segment", f"new segment {number}") + "\n"
    assert lines
    return read_rules(pasted)


def test_each_of_200_faults_is_found_with_a_true_witness():
    rng = np.random.default_rng(0)
    shipped = read_rules("order-bands")
    faults = [
        (flipped, moved, dropped, doubled)[i % 4](rng, shipped) for i in range(120)
    ]
    trees = [random_tree(rng, 20, 8) for _ in range(10)]
    faults += [(dropped, doubled)[i % 2](rng, trees[i // 8]) for i in range(80)]
    for number, rules in enumerate(faults):
        proof = check_rules(rules)
        assert not proof.is_proven
        assert_true_witnesses(proof)
        if number % 10 in {0, 2}:
            with pytest.raises(ContractError, match="For example"):
                require_proven(rules)
            assert "gap" not in kinds(check_rules(with_advice(proof)))


def rewritten(node):
    """Return the same condition written in another way."""
    if isinstance(node, And):
        return Not(Or(tuple(Not(rewritten(part)) for part in reversed(node.all))))
    if isinstance(node, Range) and np.isfinite(node.low) and np.isfinite(node.high):
        low = replace(node, high=np.inf)
        return And((replace(node, low=-np.inf), low))
    return Not(Not(node)) if isinstance(node, OneOf) else node


def test_nothing_is_found_in_200_sound_variants():
    rng = np.random.default_rng(1)
    shipped = read_rules("order-bands")
    trees = [random_tree(rng, 20, 8) for _ in range(20)]
    for i in range(200):
        base = shipped if i % 2 else trees[i // 10]
        segments = [
            replace(s, when=rewritten(s.when)) if rng.random() < 0.5 else s
            for s in base.segments
        ]
        order = rng.permutation(len(segments))
        rules = replace(base, segments=tuple(segments[j] for j in order))
        assert check_rules(rules).findings == ()


def random_condition(rng, features, depth=2):
    if depth == 0 or rng.random() < 0.3:
        node = random_test(rng, features[int(rng.integers(len(features)))])
        return Not(node) if rng.random() < 0.4 else node
    parts = [
        random_condition(rng, features, depth - 1) for _ in range(rng.integers(2, 4))
    ]
    return (And if rng.random() < 0.5 else Or)(tuple(parts))


def random_rules(rng, n_features=4):
    """Return rules of nested conditions, mostly with gaps and overlaps.

    Half of them are sound pairs, of a condition and its opposite.
    """
    features = random_features(rng, n_features)
    first = random_condition(rng, features)
    if rng.random() < 0.5:
        second = random_condition(rng, features, 1)
        whens = [And((first, second)), And((first, Not(second))), rewritten(Not(first))]
    else:
        whens = [
            first,
            random_condition(rng, features),
            random_condition(rng, features),
        ]
    segments = tuple(RuleSegment(f"s{i}", when) for i, when in enumerate(whens))
    assume = (random_condition(rng, features, 1),) if rng.random() < 0.5 else ()
    return RuleSet("random", features, segments, assume=assume)


def everyone(rules):
    """Yield a customer of every kind that the rules can tell apart, found plainly."""
    values = []
    for feature in rules.features:
        bounds = [
            bound
            for node in (*(s.when for s in rules.segments), *rules.assume)
            for leaf in node.leaves()
            if isinstance(leaf, Range) and leaf.feature == feature.name
            for bound in (leaf.low, leaf.high)
            if np.isfinite(bound)
        ]
        own = {
            "integer": [float(value) for value in range(31)],
            "number": sorted({b + d for b in [0.0, *bounds] for d in (-1e-7, 0, 1e-7)}),
            "flag": [False, True],
            "text": list(feature.levels or ("a", "b", "c", "d", "e")),
        }[feature.type]
        if feature.type == "integer":
            near = {float(np.floor(b)) + d for b in bounds for d in (-1, 0, 1)}
            own = sorted(v for v in {0.0, 30.0} | near if 0 <= v <= 30)
        values.append([*own, *([None] if feature.missing is not None else [])])
    names = [feature.name for feature in rules.features]
    for customer in itertools.product(*values):
        yield dict(zip(names, customer, strict=True))


def kinds(proof):
    return {finding.kind for finding in proof.findings}


def test_the_proof_agrees_with_every_possible_customer_tried():
    rng = np.random.default_rng(2)
    met = set()
    for _ in range(30):
        rules = random_rules(rng)
        possible = [c for c in everyone(rules) if is_possible(rules, c)]
        if not possible:
            with pytest.raises(ConfigError, match="`assume`"):
                check_rules(rules)
            continue
        proof = check_rules(rules)
        held = [segments_of(rules, customer) for customer in possible]
        found = {f.segments for f in proof.findings if f.kind == "never"}
        assert ("gap" in kinds(proof)) == any(not names for names in held)
        assert ("overlap" in kinds(proof)) == any(len(names) > 1 for names in held)
        assert found == {(s.name,) for s in rules.segments} - {
            (name,) for names in held for name in names
        }
        assert_true_witnesses(proof)
        met |= {frozenset(kinds(proof))}
    assert frozenset() in met
    assert len(met) > 3


def test_the_proof_agrees_with_z3():
    rng = np.random.default_rng(3)
    for _ in range(25):
        rules = random_rules(rng, 8)
        theirs = Z3(rules)
        if not theirs.is_possible():
            continue
        found = kinds(check_rules(rules))
        assert ("gap" in found) == theirs.has_gap()
        assert ("overlap" in found) == theirs.has_overlap()
    shipped = Z3(read_rules("order-bands"))
    assert not shipped.has_gap()
    assert not shipped.has_overlap()


def test_the_boxes_of_a_formula_are_disjoint_and_hold_all_who_meet_it():
    rng = np.random.default_rng(4)
    for _ in range(20):
        rules = random_rules(rng, 3)
        space = Space(rules)
        for formula, segment in zip(space.segments, rules.segments, strict=True):
            boxes = [space.condition(box) for box in space.boxes(formula)]
            for customer in everyone(rules):
                if all(f.domain().holds(customer) for f in rules.features):
                    n_in = sum(box.holds(customer) for box in boxes)
                    assert n_in == segment.when.holds(customer)


HEAD = """
features:
  n: {type: integer, from: 0, to: 9}
  x: {type: number, missing: not measured}
  w: {type: flag}
  k: {type: text, missing: by phone}
"""


def told(text):
    return "\n".join(check_rules(read_rules(HEAD + text)).lines())


@pytest.mark.parametrize(
    ("rules", "lines"),
    [
        (
            "  - {name: a, when: n < 3}\n  - {name: b, when: n > 3}\n",
            [
                "in no segment: every customer with n = 3.",
                'For example: n 3, x 0, w no, k "(any other text)".',
                "Change `a`: `n < 3` to `n <= 3`.",
                "Add `- {name: new segment, when: n = 3}`.",
            ],
        ),
        (
            "  - {name: a, when: x < 0.5}\n  - {name: b, when: x >= 0.5}\n",
            [
                "every customer with x is missing.",
                "Change `a`: `x < 0.5` to `x < 0.5 or",
            ],
        ),
        (
            "  - {name: a, when: k = web}\n  - {name: b, when: k = app}\n"
            "  - {name: c, when: k is missing}\n",
            ['with not (k in {"web", "app"}) and k is not missing', "(any other text)"],
        ),
        (
            "  - {name: a, when: n <= 4}\n  - {name: b, when: n >= 4}\n",
            [
                "in both `a` and `b`: every customer with n = 4.",
                "Change `a`: `n <= 4` to `n < 4`.",
                "Change `b`: `n >= 4` to `n > 4`.",
            ],
        ),
        (
            "  - {name: a, when: w}\n  - {name: b, when: everyone}\n",
            [
                "Remove `a`, which is a part of the other.",
                "Change `b`: add `and not w`.",
            ],
        ),
        (
            "  - {name: a, when: n <= 9}\n  - {name: b, when: n > 9.5}\n",
            ["no customer can be in `b`.", "Proven:"],
        ),
    ],
)
def test_a_finding_says_who_and_what_to_change(rules, lines):
    said = told(f"segments:\n{rules}")
    for line in lines:
        assert line in said


def test_bands_that_overlap_are_mended_as_bands():
    said = told(
        "bands:\n  - {name: low, when: n <= 5}\n  - {name: high, when: n >= 5}\n"
        "segments:\n"
        "  - {name: a, band: low, when: w}\n  - {name: b, band: low, when: not w}\n"
        "  - {name: c, band: high, when: w}\n  - {name: d, band: high, when: not w}\n"
    )
    assert said.count("in both") == 1
    assert "Change band `low`: `n <= 5` to `n < 5`." in said


def test_what_nobody_can_be_is_no_gap():
    text = "segments:\n  - {name: a, when: w}\n  - {name: b, when: n > 5 and not w}\n"
    assert "in no segment" in told(text)
    assert "Proven" in told("assume: [n > 5 or w]\n" + text)
    with pytest.raises(ConfigError, match="meets all of `assume`"):
        told("assume: [n > 5, n < 5]\n" + text)


def test_where_the_first_rule_decides_nothing_overlaps():
    text = (
        "match: first\nsegments:\n  - {name: a, when: n <= 5}\n  - {name: b, when: w}\n"
    )
    rest = "  - {name: c, when: everyone}\n"
    assert "in no segment: every customer with n > 5 and not w" in told(text)
    assert "Proven" in told(text + rest)
    late = "  - {name: d, when: n = 2}\n"
    assert "no customer can be in `d`" in told(text + late + rest)


def test_thresholds_to_be_learnt_are_proven_in_their_order():
    cuts = (
        "segments:\n  - {name: a, when: n < p20}\n  - {name: b, when: p20 <= n < p80}\n"
    )
    assert "Proven" in told(cuts + "  - {name: c, when: n >= p80}\n")
    assert "in no segment: every customer with n = n_p80" in told(
        cuts + "  - {name: c, when: n > p80}\n"
    )
    for mixed in ("n >= 7", "n = 7", "n >= p80 and n != 7"):
        with pytest.raises(ConfigError, match="order is not known"):
            told(cuts + f"  - {{name: c, when: {mixed}}}\n")


def test_who_is_equal_to_a_threshold_to_be_learnt_is_not_forgotten():
    rules = "segments:\n  - {name: a, when: m < p50}\n  - {name: b, when: m > p50}\n"
    feature = "features:\n  m: {type: integer, from: 0, to: 3}\n"
    [gap] = check_rules(read_rules(feature + rules)).findings
    assert gap.where.text() == "m = m_p50"


def test_many_faults_are_told_in_part():
    segments = "".join(f"  - {{name: s{i}, when: n <= {i}}}\n" for i in range(9))
    proof = check_rules(read_rules(HEAD + "segments:\n" + segments))
    assert len(proof.findings) == 11  # a gap and ten of 36 overlaps
    assert "There is more; mend these first." in proof.lines()[-2]


def test_a_tree_of_many_rules_needs_no_grid():
    rules = random_tree(np.random.default_rng(5), 150, 40)
    assert check_rules(rules).findings == ()
    assert check_rules(replace(rules, segments=rules.segments[1:])).findings


def test_missing_where_it_cannot_be_is_left_out():
    rules = read_rules(HEAD + "segments:\n  - {name: a, when: n is missing}\n")
    never = check_rules(rules).findings[-1]
    assert (never.kind, never.where) == ("never", IsMissing("n"))


def test_the_example_of_the_documentation_is_what_it_says():
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]
    said = re.search(r"```\n(visits: .*?)```", page, re.DOTALL)[1]
    assert check_rules(read_rules(example)).findings == ()
    faulty = read_rules(example.replace("orders <= 5", "orders < 5"))
    assert "\n".join(check_rules(faulty).lines()) == said.strip()


def test_numbers_that_have_no_double_between_them_are_no_gap():
    value = 0.1
    after = float(np.nextafter(value, 1))
    for low, is_gap in ((after, False), (float(np.nextafter(after, 1)), True)):
        rules = f"segments:\n  - {{name: a, when: y <= {value!r}}}\n"
        rules += f"  - {{name: b, when: y >= {low!r}}}\n"
        found = check_rules(read_rules("features:\n  y: {type: number}\n" + rules))
        assert [f.customer for f in found.findings] == (
            [{"y": after}] if is_gap else []
        )


@pytest.mark.parametrize(
    ("asked", "instead", "advice"),
    [
        (
            "unique_cat_base_count <= 2.5 and not Weekend_flag",
            "unique_cat_base_count <= 1.5 and not Weekend_flag",
            "`Seg1_5_1`: `unique_cat_base_count <= 1.5` to "
            "`unique_cat_base_count <= 2.5`",
        ),
        (
            "unique_cat_base_count <= 6.5 and not Weekend_flag",
            "unique_cat_base_count <= 6.5 and Weekend_flag",
            "`Seg_6_15_01`: `Weekend_flag` to `not Weekend_flag`",
        ),
        (
            "ownapp_order_count <= 5",
            "ownapp_order_count <= 4",
            "band `1_5`: `ownapp_order_count <= 4` to `ownapp_order_count <= 5`",
        ),
    ],
)
def test_the_advice_undoes_a_fault(asked, instead, advice):
    shipped = read_rules("order-bands").to_yaml()
    proof = check_rules(read_rules(shipped.replace(asked, instead, 1)))
    assert f"Change {advice}." in proof.findings[0].advice
