"""Proof, explanation and compilation of rules, beside z3 and a recipe in pandas.

Prints seconds: the proof of the shipped rules and of a random tree of 600 rules over 40
features, beside z3; the explanation of one customer; and the 27 rules on a million
customers, beside the recipe written plainly with pandas:
``python benchmarks/rules.py --customers 1000000``.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.rules.check import check_rules
from core.rules.compile import assign_expr, to_sql
from core.rules.conditions import And, IsMissing, Node, Not, OneOf, Or, Range
from core.rules.explain import explain_customer
from core.rules.grammar import Feature, RuleSegment, RuleSet, read_rules


def random_features(rng: np.random.Generator, n: int) -> tuple[Feature, ...]:
    """Return features of all types, some with missing values."""
    kinds = ("integer", "number", "flag", "text")
    features = []
    for number in range(n):
        kind: Any = kinds[number % 4]
        missing = "not known" if rng.random() < 0.3 else None
        low, high = (0.0, 30.0) if kind == "integer" else (-np.inf, np.inf)
        levels = ("a", "b", "c", "d") if kind == "text" and rng.random() < 0.5 else ()
        features.append(Feature(f"f{number}", kind, low, high, levels, missing))
    return tuple(features)


def random_test(rng: np.random.Generator, feature: Feature) -> Node:
    """Return a condition on one feature that customers on both sides can meet."""
    if feature.missing is not None and rng.random() < 0.15:
        return IsMissing(feature.name)
    if feature.type == "flag":
        return OneOf(feature.name, (True,))
    if feature.type == "text":
        levels = rng.permutation(["a", "b", "c", "d"])[: rng.integers(1, 3)]
        return OneOf(feature.name, tuple(map(str, levels)))
    cut = float(rng.integers(1, 29)) + float(rng.choice([0.0, 0.5]))
    if feature.type == "number":
        cut = round(float(rng.normal(scale=20)), 3)
    if rng.random() < 0.3:
        return Range(feature.name, low=cut, low_included=bool(rng.random() < 0.5))
    return Range(feature.name, high=cut, high_included=bool(rng.random() < 0.5))


def random_tree(rng: np.random.Generator, n_rules: int, n_features: int) -> RuleSet:
    """Return rules that are the leaves of a random tree: everyone is in exactly one.

    A branch that nobody can take is not grown, so that every segment has customers.
    """
    features = random_features(rng, n_features)
    leaves: list[tuple[Node, ...]] = [()]
    while len(leaves) < n_rules:
        at = int(rng.integers(len(leaves)))
        path = leaves[at]
        test = random_test(rng, features[int(rng.integers(n_features))])
        [here] = test.leaves()
        known = RuleSet(
            "path",
            tuple(f for f in features if f.name == here.feature),
            tuple(
                RuleSegment(side, And((*_about(path, here.feature), node)))
                for side, node in (("yes", test), ("no", Not(test)))
            ),
        )
        if any(finding.kind == "never" for finding in check_rules(known).findings):
            continue
        leaves[at] = (*path, test)
        leaves.append((*path, Not(test)))
    segments = [RuleSegment(f"s{i}", And(path)) for i, path in enumerate(leaves)]
    order = rng.permutation(n_rules)
    return RuleSet("tree", features, tuple(segments[i] for i in order))


def _about(path: tuple[Node, ...], feature: str) -> list[Node]:
    return [node for node in path if next(node.leaves()).feature == feature]


class Z3:
    """The same questions put to z3: missing is a flag beside each value."""

    def __init__(self, rules: RuleSet) -> None:
        import z3

        self.z3, self.rules = z3, rules
        self.value: dict[str, Any] = {}
        self.missing = {f.name: z3.Bool(f"{f.name}?") for f in rules.features}
        makers = {
            "integer": z3.Int,
            "number": z3.Real,
            "flag": z3.Bool,
            "text": z3.String,
        }
        self.domain: list[Any] = []
        for f in rules.features:
            value = self.value[f.name] = makers[f.type](f.name)
            if f.missing is None:
                self.domain.append(z3.Not(self.missing[f.name]))
            if f.levels:
                self.domain.append(z3.Or([value == level for level in f.levels]))
            if np.isfinite(f.low):
                self.domain.append(value >= f.low)
            if np.isfinite(f.high):
                self.domain.append(value <= f.high)
        self.domain += [self.node(rules.filled(node)) for node in rules.assume]
        self.rule = [self.node(rules.condition(s)) for s in rules.segments]

    def node(self, node: Node) -> Any:
        """Return a condition for z3."""
        z3 = self.z3
        match node:
            case And():
                return z3.And([self.node(part) for part in node.all])
            case Or():
                return z3.Or([self.node(part) for part in node.any])
            case Not():
                return z3.Not(self.node(node.part))
            case IsMissing():
                return self.missing[node.feature]
        assert isinstance(node, Range | OneOf)
        value = self.value[node.feature]
        asked = [z3.Not(self.missing[node.feature])]
        if isinstance(node, OneOf):
            asked.append(z3.Or([value == v for v in node.values]))
        else:
            low, high = node.numbers()
            if np.isfinite(low):
                low = z3.RealVal(repr(low))
                asked.append(value >= low if node.low_included else value > low)
            if np.isfinite(high):
                high = z3.RealVal(repr(high))
                asked.append(value <= high if node.high_included else value < high)
        return z3.And(asked)

    def is_possible(self, *asked: Any) -> bool:
        """Whether some customer meets all that is asked."""
        solver = self.z3.Solver()
        solver.add(*self.domain, *asked)
        return bool(solver.check() == self.z3.sat)

    def has_gap(self) -> bool:
        """Whether a customer can be in no segment."""
        return self.is_possible(*[self.z3.Not(rule) for rule in self.rule])

    def has_overlap(self) -> bool:
        """Whether a customer can be in two segments."""
        pairs = [(rule, 1) for rule in self.rule]
        return self.is_possible(self.z3.Not(self.z3.PbLe(pairs, 1)))


FLAGS = ("Weekend", "Weekday", "Premium_price", "Breakfast", "Lunch", "Evening")
FLAGS = (*FLAGS, "Late_Night")


def random_guests(rng: np.random.Generator, n: int) -> pl.DataFrame:
    """Return guests with what the 27 rules ask, null in 2% of each column."""
    made = {
        "ownapp_order_count": rng.integers(1, 101, n),
        "unique_cat_base_count": rng.integers(0, 25, n),
        "channel_count": rng.integers(1, 4, n),
    } | {f"{flag}_flag": rng.integers(0, 2, n) for flag in FLAGS}
    gone = {name: rng.random(n) < 0.02 for name in made}
    return pl.DataFrame({"customer_id": np.arange(n)} | made).with_columns(
        pl.when(~pl.Series(gone[name])).then(pl.col(name)).alias(name) for name in made
    )


def plain_recipe(guests: Any) -> np.ndarray:
    """Return the segments of a pandas table by the rules written out in code.

    A flag is set where its count is above 0; no other value is replaced.
    """
    n, c = guests["ownapp_order_count"], guests["unique_cat_base_count"]
    ch = guests["channel_count"]
    we, wd, p, b, lu, e, ln = (guests[f"{flag}_flag"] > 0 for flag in FLAGS)
    few, some, many = (n <= 5), (n > 5) & (n <= 15), (n > 15)
    rules = {
        "Seg1_5_1": few & (c <= 2.5) & ~we,
        "Seg1_5_2": few & (c <= 2.5) & we & ~wd,
        "Seg1_5_3": few & (c <= 2.5) & we & wd,
        "Seg1_5_4": few & (c > 2.5) & (ch <= 1.5) & ~wd,
        "Seg1_5_5": few & (c > 2.5) & (ch <= 1.5) & wd,
        "Seg1_5_6": few & (c > 2.5) & (ch > 1.5) & p,
        "Seg1_5_7": few & (c > 2.5) & (ch > 1.5) & ~p & ~we,
        "Seg1_5_8": few & (c > 2.5) & (ch > 1.5) & ~p & we,
        "Seg_6_15_01": some & (c <= 6.5) & ~we,
        "Seg_6_15_02": some & (c <= 6.5) & we & ~lu,
        "Seg_6_15_03": some & (c <= 6.5) & we & lu,
        "Seg_6_15_04": some & (c > 6.5) & ~p & ~lu,
        "Seg_6_15_05": some & (c > 6.5) & ~p & lu & ~ln,
        "Seg_6_15_06": some & (c > 6.5) & ~p & lu & ln,
        "Seg_6_15_07": some & (c > 6.5) & p & (ch <= 1.5) & ~lu,
        "Seg_6_15_08": some & (c > 6.5) & p & (ch <= 1.5) & lu,
        "Seg_6_15_09": some & (c > 6.5) & p & (ch > 1.5) & ~ln,
        "Seg_6_15_10": some & (c > 6.5) & p & (ch > 1.5) & ln,
        "Seg15_plus_1": many & (c <= 11.5) & ~b & ~ln,
        "Seg15_plus_2": many & (c <= 11.5) & ~b & ln & ~e,
        "Seg15_plus_3": many & (c > 8.5) & (c <= 11.5) & ~b & ln & e,
        "Seg15_plus_4": many & (c <= 8.5) & ~b & ln & e,
        "Seg15_plus_5": many & (c <= 11.5) & b,
        "Seg15_plus_6": many & (c > 11.5) & (c <= 16.5) & ~b & ~ln,
        "Seg15_plus_7": many & (c > 16.5) & ~b & ~ln,
        "Seg15_plus_8": many & (c > 11.5) & ~b & ln,
        "Seg15_plus_9": many & (c > 11.5) & b,
    }
    return np.select(list(rules.values()), list(rules), default="")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and the result."""
    start = time.perf_counter()
    done = work()
    return time.perf_counter() - start, done


def compare_proofs(seed: int) -> None:
    """Print the seconds of each proof, ours and z3's."""
    tree = random_tree(np.random.default_rng(seed), 600, 40)
    faulty = replace(tree, segments=tree.segments[1:])
    rows = [
        ("27 rules over 10 features", read_rules("order-bands"), False),
        ("600 rules over 40 features", tree, False),
        ("the same, one rule dropped", faulty, True),
    ]
    print(f"{'proof':34}{'ours':>10}{'z3':>10}")
    for name, rules, is_faulty in rows:
        ours, proof = timed(lambda rules=rules: check_rules(rules))
        assert proof.is_proven is not is_faulty
        theirs, found = timed(lambda rules=rules: Z3(rules).has_gap())
        more, _ = timed(lambda rules=rules: Z3(rules).has_overlap())
        assert found is is_faulty
        print(f"{name:34}{ours:>9.3f}s{theirs + more:>9.3f}s")


def time_explanations(seed: int) -> None:
    """Print the seconds to explain one customer, the change to every segment found."""
    rng = np.random.default_rng(seed)
    guest = random_guests(rng, 1).row(0, named=True)
    other = {"integer": 3, "number": 0.5, "flag": 1, "text": "a"}
    tree = random_tree(np.random.default_rng(seed), 600, 40)
    customer = {feature.name: other[feature.type] for feature in tree.features}
    print(f"\n{'explanation of one customer':34}{'ours':>10}")
    for rules, own in ((read_rules("order-bands"), guest), (tree, customer)):
        seconds, found = timed(
            lambda rules=rules, own=own: explain_customer(rules, own)
        )
        assert len(found.others) == len(rules.segments) - 1
        print(f"{f'{len(rules.segments)} rules':34}{seconds:>9.3f}s")


def compare_assignments(n: int, seed: int) -> None:
    """Print the seconds of 27 rules on `n` customers by each road; all agree."""
    import duckdb
    import narwhals as nw

    rules = read_rules("order-bands")
    guests = random_guests(np.random.default_rng(seed), n)
    frame = guests.to_pandas()
    expr = assign_expr(rules)
    database = duckdb.connect()
    database.register("guests", guests)
    query = to_sql(rules, "duckdb", "guests")

    def of(table: Any) -> pl.Series:
        done = nw.from_native(table).with_columns(expr).to_native()
        done = done.collect() if isinstance(done, pl.LazyFrame) else done
        return pl.Series(done["segment"], dtype=pl.String)

    roads: dict[str, Callable[[], pl.Series]] = {
        "Polars": functools.partial(of, guests.lazy()),
        "pandas": functools.partial(of, frame),
        "DuckDB": lambda: database.sql(query).pl().sort("customer_id")["segment"],
        "plain pandas recipe": lambda: pl.Series(plain_recipe(frame)).replace("", None),
    }
    print(f"\n27 rules on {n:,} customers")
    said = []
    for name, road in roads.items():
        seconds, segments = timed(road)
        said.append(segments)
        print(f"{name:34}{seconds:>9.3f}s")
    assert all(said[0].equals(other) for other in said)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    compare_proofs(options.seed)
    time_explanations(options.seed)
    compare_assignments(options.customers, options.seed)


if __name__ == "__main__":
    main()
